"""`prepare` by several processes: the same bytes and messages as by one, and a clean end whatever happens."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest
from coco_folder import GLASS, PAPER, Picture, box, data_params, pictures, prepare_folder, write_folder

from segpipe.data.codecs import plain_jpeg
from segpipe.data.prepare import workers
from segpipe.data.prepare.pack import RAW_BYTES, image_codec
from segpipe.data.prepare.workers import in_order, worthwhile_processes
from segpipe.data.prepared import Prepared
from segpipe.data.source.images import ImageFault
from segpipe.data.source.lists import Source
from segpipe.data.source.records import ImageRecord

WINDOW = 5  # rounds that two processes have in hand at most


@pytest.fixture
def root(tmp_path):
    return tmp_path / "raw"


def sources(count, side=1, folder=Path()):
    file = folder / "train.json"
    return [Source("train", file, ImageRecord(number, f"{number}", side, side), ()) for number in range(count)]


def files(out):
    return {path.name: path.read_bytes() for path in out.iterdir()}


# The same for any number of processes


@pytest.mark.parametrize("codec", ["raw", "jpeg"])
def test_one_and_two_processes_write_the_same_bytes(root, codec):
    boxes = [box(GLASS, 0, 0, 4, 2), box(PAPER, 2, 1, 6, 4)]
    many = [Picture(f"{number}.png", 4 + number % 3, 6, boxes[: number % 3]) for number in range(80)]
    write_folder(root, train=many, pool=pictures("p", "q"))
    alone, both = (
        files(prepare_folder(root, codec=codec, unlabeled="pool.json", image_size=[5, 6], processes=processes))
        for processes in (1, 2)
    )
    assert len(alone) == 14 and alone == both


def test_two_processes_find_what_one_finds_in_the_same_words(root):
    many = pictures(*(f"n{number}" for number in range(70)))
    write_folder(root, train=[*many, Picture("copy.png", noise="c.png")])
    for number in (3, 40, 69):
        (root / f"n{number}.png").write_bytes(b"no image")
    Picture("n50.png", 4, 5).write(root)
    said = []
    for processes in (1, 2):
        with pytest.raises(ValueError) as error:
            prepare_folder(root, processes=processes)
        said.append(str(error.value))
    assert said[0] == said[1] and said[0].startswith(f"{root}: 5 problems")
    assert list(root.with_name("raw.prepared").iterdir()) == []


def test_a_fault_comes_back_from_another_process_as_it_was():
    (fault,) = in_order(broken, sources(1), 2)
    assert (fault.found, fault.expected, str(fault)) == ("a", "b", "a; expected b")


def broken(_):
    return ImageFault("a", "b")


def name_of(source):
    time.sleep(0.02 * (source.record.id % 3))
    return source.record.file_name


def test_results_come_in_the_order_of_the_images(monkeypatch):
    monkeypatch.setattr(workers, "ROUND_IMAGES", 2)
    assert list(in_order(name_of, sources(25), 2)) == [str(number) for number in range(25)]


def touch(source):
    (source.file.parent / source.record.file_name).touch()


def test_workers_do_not_run_far_ahead_of_who_takes_their_results(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "ROUND_IMAGES", 3)
    with closing(in_order(touch, sources(300, folder=tmp_path), 2)) as results:
        next(results)
        time.sleep(0.3)
        assert len(list(tmp_path.iterdir())) <= 3 * WINDOW
    assert len(list(tmp_path.iterdir())) <= 3 * WINDOW  # closed early, the rest is not done


def test_large_images_are_handed_over_one_by_one_and_small_ones_together():
    sizes = [len(chunk) for chunk in workers._rounds([*sources(40, 16), *sources(3, 2_000)])]
    assert sizes == [32, 9, 1, 1]


def test_a_few_images_are_prepared_without_starting_processes():
    cores = len(os.sched_getaffinity(0))
    assert worthwhile_processes(sources(500, 128)) == worthwhile_processes([]) == 1
    assert worthwhile_processes(sources(500, 512)) == worthwhile_processes(sources(20, 4_000)) == cores


# How it ends


def kill_itself(_):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_is_told_in_words():
    with pytest.raises(ValueError, match="one of the 2 processes that read images was killed, most likely because mem"):
        list(in_order(kill_itself, sources(3), 2))


def test_an_error_that_is_a_bug_keeps_its_type():
    with pytest.raises(ZeroDivisionError):
        list(in_order(divide_by_zero, sources(3), 2))


def divide_by_zero(_):
    return 1 // 0


SCRIPT = """
import sys
from pathlib import Path
from coco_folder import data_params, split_params
from segpipe.data.prepare.prepare import prepare
if __name__ == "__main__":
    prepare(data_params(Path(sys.argv[1])), split_params(), Path(sys.argv[2]), processes=2)
"""


@pytest.fixture(scope="module")
def large_folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("large") / "raw"
    write_folder(root, train=[Picture(f"{number}.png", 300, 400) for number in range(300)])
    return root


@pytest.fixture
def running(large_folder, tmp_path):
    """`prepare` by two processes in a session of its own, which has begun to write images."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    process = subprocess.Popen(
        [sys.executable, script, large_folder, tmp_path / "out"],
        env=os.environ | {"PYTHONPATH": paths},
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    written = tmp_path / "out/images.000.bin"
    deadline = time.monotonic() + 60
    while not (written.exists() and written.stat().st_size):
        assert process.poll() is None and time.monotonic() < deadline, process.stderr.read()
        time.sleep(0.01)
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.stderr.close()


def session_members(session):
    """Processes of the session that have not ended."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, member = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:  # it has just ended
            continue
        if int(member) == session and state != "Z":
            found.append(int(stat.parent.name))
    return found


def wait_until_all_have_ended(session):
    deadline = time.monotonic() + 20
    while left := session_members(session):
        assert time.monotonic() < deadline, f"{left} still run"
        time.sleep(0.05)


def is_deaf_to_ctrl_c_from_birth(_):
    before_its_first_work = signal.pthread_sigmask(signal.SIG_BLOCK, [])  # adds nothing, returns what is in force
    return signal.SIGINT in before_its_first_work


def test_workers_never_hear_a_ctrl_c_not_even_while_they_start():
    with closing(in_order(is_deaf_to_ctrl_c_from_birth, sources(3), processes=2)) as deaf:
        assert all(deaf)
    assert not is_deaf_to_ctrl_c_from_birth(None)  # the parent hears it


def test_ctrl_c_ends_all_processes_and_leaves_no_half_store(running, tmp_path):
    os.killpg(running.pid, signal.SIGINT)  # as a terminal sends it
    said = running.communicate(timeout=30)[1]
    assert running.returncode == -signal.SIGINT and said.count("Traceback") == 1, said
    wait_until_all_have_ended(running.pid)
    assert list((tmp_path / "out").iterdir()) == []


def test_workers_end_with_a_parent_that_was_killed_and_nothing_can_be_opened(running, tmp_path):
    os.kill(running.pid, signal.SIGKILL)
    running.wait(timeout=10)
    wait_until_all_have_ended(running.pid)
    with pytest.raises(FileNotFoundError):
        Prepared(tmp_path / "out", judge=True)


# How images are stored


def write_jpegs(root):
    """The default folder, a.png replaced by a JPEG of 40 x 60 under the same name."""
    write_folder(root, train=[Picture("a.png", 40, 60), Picture("b.png", 40, 60)])
    pixels = cv2.GaussianBlur(Picture("a.png", 40, 60).pixels(), (9, 9), 3)
    encoded = cv2.imencode(".jpg", pixels[..., ::-1])[1].tobytes()
    (root / "a.png").write_bytes(encoded)
    return encoded


def test_a_jpeg_that_keeps_its_size_is_stored_byte_by_byte_and_a_png_becomes_a_jpeg(root):
    encoded = write_jpegs(root)
    out = prepare_folder(root, codec="jpeg")
    prepared = Prepared(out, fold=0)
    stored = (out / "images.000.bin").read_bytes()
    assert stored.startswith(encoded) and plain_jpeg(stored[len(encoded) :])
    np.testing.assert_array_equal(
        prepared.images[0], cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB)
    )


def test_a_jpeg_that_is_resized_is_stored_as_a_new_one(root):
    encoded = write_jpegs(root)
    raw, jpeg = (
        np.array(Prepared(prepare_folder(root, codec=codec, image_size=[20, 30]), fold=0).images[0], int)
        for codec in ("raw", "jpeg")
    )
    assert raw.shape == jpeg.shape == (20, 30, 3) and 0 < np.abs(raw - jpeg).mean() < 2
    assert encoded not in (root.with_name("raw.prepared") / "images.000.bin").read_bytes()


def test_auto_stores_pixels_up_to_20_000_images_of_512_pixels_and_jpegs_beyond(root):
    sized = data_params(root, image_size=[512, 512])
    assert [image_codec(sized, [(4, 6)] * count) for count in (20_000, 20_001)] == ["raw", "jpeg"]
    native = data_params(root)
    assert RAW_BYTES == 3 * 512 * 512 * 20_000
    assert image_codec(native, [(512, 512)] * 20_000) == "raw"
    assert image_codec(native, [(512, 512)] * 20_000 + [(1, 1)]) == "jpeg"
    for codec in ("raw", "jpeg"):
        assert image_codec(data_params(root, codec=codec), [(512, 512)]) == codec
