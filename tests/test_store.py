import json
import multiprocessing
import os
import pickle
import re
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from segpipe.data.codecs import Encoded, encode
from segpipe.data.store import PackedArrays, PackedWriter

CODECS = pytest.mark.parametrize("codec", ["raw", "runs"])  # those that change no value
ARRAYS = [
    np.arange(24, dtype=np.uint8).reshape(2, 4, 3),
    np.full((5, 1), 255, np.uint8),
    np.zeros((0, 3), np.uint8),
    np.array([7], np.uint8),
]


def write(path, values, codec="raw", **options):
    with PackedWriter(path, codec, **options) as writer:
        for value in values:
            writer.add(value)
    return PackedArrays(path)


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@CODECS
def test_arrays_of_different_shapes_come_back_at_their_positions(tmp_path, codec):
    store = write(tmp_path / "deep" / "folder" / "images", ARRAYS, codec)
    assert len(store) == 4
    for position in (3, 0, 2, 1):
        assert store[position].dtype == np.uint8
        np.testing.assert_array_equal(store[position], ARRAYS[position], strict=True)
        assert store.shape(position) == ARRAYS[position].shape


@CODECS
@settings(max_examples=20, deadline=None)
@given(
    values=st.lists(arrays(np.uint8, array_shapes(min_dims=1, max_dims=4, max_side=5)), max_size=6),
    shard_bytes=st.sampled_from([1, 30, 1000]),
)
def test_any_arrays_come_back_as_they_were(tmp_path_factory, codec, values, shard_bytes):
    store = write(tmp_path_factory.mktemp("store") / "x", values, codec, shard_bytes=shard_bytes)
    assert [array.tolist() for array in store] == [value.tolist() for value in values]
    assert [array.shape for array in store] == [value.shape for value in values]


def test_positions_count_from_the_end_as_in_a_list(tmp_path):
    store = write(tmp_path / "x", [np.full(2, value, np.uint8) for value in (5, 6, 7)])
    assert [store[-1][0], store[-2][0], store[-3][0]] == [7, 6, 5]
    for position in (3, -4):
        with pytest.raises(IndexError):
            store[position]


def test_an_array_that_is_not_contiguous_is_stored_as_it_reads(tmp_path):
    flipped = ARRAYS[0][::-1, ::2].transpose(2, 1, 0)
    np.testing.assert_array_equal(write(tmp_path / "x", [flipped])[0], flipped)


def test_stored_arrays_cannot_be_changed_by_mistake(tmp_path):
    with pytest.raises(ValueError, match="read-only"):
        write(tmp_path / "x", ARRAYS)[0][0] = 1


@pytest.mark.parametrize("dtype", [np.int64, np.float32, bool])
def test_other_dtypes_are_refused(tmp_path, dtype):
    with pytest.raises(ValueError, match=rf"x: found an array of {np.dtype(dtype)}; packed arrays are uint8"):
        write(tmp_path / "x", [np.zeros((2, 2), dtype)])


def test_arrays_of_more_than_4_dimensions_or_of_another_codec_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"x: found raw of shape \(1, 1, 1, 1, 1\); expected raw of up to 4"):
        write(tmp_path / "x", [np.zeros((1, 1, 1, 1, 1), np.uint8)])
    with (
        pytest.raises(ValueError, match=r"x: found runs of shape \(2,\); expected raw"),
        PackedWriter(tmp_path / "x") as writer,
    ):
        writer.add_encoded(encode(np.zeros(2, np.uint8), "runs"))


@CODECS
def test_an_empty_store_has_length_0_and_no_first_array(tmp_path, codec):
    store = write(tmp_path / "x", [], codec)
    assert len(store) == 0 and list(store) == []


def test_a_jpeg_is_kept_as_it_came_and_decodes_as_opencv_decodes_it(tmp_path):
    encoded = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8))[1]
    with PackedWriter(tmp_path / "x", "jpeg") as writer:
        writer.add_encoded(Encoded.of("jpeg", (9, 7, 3), encoded.tobytes()))
    assert files(tmp_path)["x.000.bin"] == encoded.tobytes()
    np.testing.assert_array_equal(PackedArrays(tmp_path / "x")[0], cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB))


# Files of a bounded size


def test_a_file_that_would_outgrow_the_bound_is_followed_by_another(tmp_path):
    values = [np.full(size, size, np.uint8) for size in (4, 4, 4, 25, 1)]
    store = write(tmp_path / "x", values, shard_bytes=10)
    sizes = {path.name: path.stat().st_size for path in tmp_path.glob("*.bin")}
    assert sizes == {"x.000.bin": 8, "x.001.bin": 4, "x.002.bin": 25, "x.003.bin": 1}  # one array is never split
    assert [array.size for array in store] == [4, 4, 4, 25, 1]


def test_more_files_than_are_held_open_at_once_can_be_read(tmp_path, monkeypatch):
    monkeypatch.setattr("segpipe.data.store.MAPS", 2)
    store = write(tmp_path / "x", [np.full(3, value, np.uint8) for value in range(5)], shard_bytes=3)
    held = [store[position] for position in (0, 4, 1, 0, 3, 2)]
    assert [array[0] for array in held] == [0, 4, 1, 0, 3, 2]


def test_writing_anew_leaves_no_file_of_a_longer_store(tmp_path):
    write(tmp_path / "x", ARRAYS, shard_bytes=1)
    write(tmp_path / "other.x", ARRAYS)
    write(tmp_path / "x", ARRAYS[:1])
    ends = {"000.bin", "index", "json"}
    assert set(files(tmp_path)) == {f"{name}.{end}" for name in ("x", "other.x") for end in ends}


def test_the_digest_tells_contents_apart_and_not_how_they_are_cut_into_files(tmp_path):
    whole = write(tmp_path / "x", ARRAYS)
    assert write(tmp_path / "cut", ARRAYS, shard_bytes=1).digest == whole.digest
    others = [ARRAYS[::-1], ARRAYS[:3], [ARRAYS[0].reshape(4, 2, 3), *ARRAYS[1:]], [ARRAYS[0] + 1, *ARRAYS[1:]]]
    assert whole.digest not in {write(tmp_path / "other", values).digest for values in others}


def test_the_same_arrays_make_the_same_bytes(tmp_path):
    for name in ("x", "y"):
        write(tmp_path / name / "store", ARRAYS, "runs")
    assert files(tmp_path / "x") == files(tmp_path / "y")


# Interrupted and damaged


def test_a_block_that_ends_in_an_error_leaves_nothing_to_open_not_even_an_older_store(tmp_path):
    write(tmp_path / "x", ARRAYS, shard_bytes=1)
    with pytest.raises(RuntimeError, match="power cut"), PackedWriter(tmp_path / "x") as writer:
        writer.add(ARRAYS[0])
        raise RuntimeError("power cut")
    with pytest.raises(FileNotFoundError, match=r"x\.json: not found; the stage that writes it did not finish"):
        PackedArrays(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_a_writer_that_is_killed_leaves_nothing_that_can_be_opened(tmp_path):
    write(tmp_path / "x", ARRAYS)
    script = f"""
import numpy as np, os, signal
from pathlib import Path
from segpipe.data.store import PackedWriter
with PackedWriter(Path({str(tmp_path)!r}) / "x") as writer:
    writer.add(np.zeros(100_000, np.uint8))
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -signal.SIGKILL
    with pytest.raises(FileNotFoundError, match=r"x\.json: not found"):
        PackedArrays(tmp_path / "x")
    np.testing.assert_array_equal(write(tmp_path / "x", ARRAYS)[0], ARRAYS[0])


def test_a_disk_that_is_full_when_the_last_bytes_are_written_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "x", ARRAYS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["x.000.bin", "x.001.bin", "x.index"])
@pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: content + b"\0"])
def test_a_file_cut_short_or_grown_is_noticed_when_the_store_is_opened(tmp_path, name, damage):
    write(tmp_path / "x", [ARRAYS[0], ARRAYS[0]], shard_bytes=24)
    path = tmp_path / name
    expected = path.stat().st_size
    path.write_bytes(damage(path.read_bytes()))
    said = (
        rf"{re.escape(name)}: found {path.stat().st_size} bytes, expected {expected} by its index; the store is damaged"
    )
    with pytest.raises(ValueError, match=said + ": remove its folder and run `dvc checkout`, or `dvc repro`"):
        PackedArrays(tmp_path / "x")


@pytest.mark.parametrize("name", ["x.001.bin", "x.index"])
def test_a_missing_file_is_noticed_when_the_store_is_opened(tmp_path, name):
    write(tmp_path / "x", [ARRAYS[0], ARRAYS[0]], shard_bytes=24)
    (tmp_path / name).unlink()
    with pytest.raises(ValueError, match=rf"{re.escape(name)}: not found; the store is damaged: remove its folder"):
        PackedArrays(tmp_path / "x")


def flip(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


@CODECS
def test_one_flipped_bit_is_noticed_when_its_array_is_read_and_no_other(tmp_path, codec):
    values = [np.full((3, 4), value, np.uint8) for value in range(5)]
    write(tmp_path / "x", values, codec, shard_bytes=1)
    flip(tmp_path / "x.003.bin", 2)
    store = PackedArrays(tmp_path / "x")
    for position in (0, 1, 2, 4):
        np.testing.assert_array_equal(store[position], values[position])
    for _ in range(2):  # it does not pass the second time either
        with pytest.raises(ValueError, match=r"x\.003\.bin: array 3 has the checksum [0-9a-f]{8}, the writer's was"):
            store[3]


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_whatever_bit_is_flipped_in_arrays_or_index_is_noticed(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("store")
    write(folder / "x", ARRAYS)
    path = folder / data.draw(st.sampled_from(["x.000.bin", "x.index"]))
    flip(path, data.draw(st.integers(0, path.stat().st_size - 1)))
    with pytest.raises(ValueError, match=rf"{path.name}: .* the file is damaged: remove its folder"):
        list(PackedArrays(folder / "x"))


def test_a_file_cut_short_after_it_was_opened_is_an_error_and_no_crash(tmp_path):
    store = write(tmp_path / "x", ARRAYS)
    os.truncate(tmp_path / "x.000.bin", 3)
    with pytest.raises(ValueError, match=r"x\.000\.bin: found 3 bytes, expected 30"):
        store[0]


def test_a_store_of_another_version_is_told_so(tmp_path):
    (tmp_path / "x.json").write_text(json.dumps({"codec": "raw", "digest": "", "offsets": [0], "shapes": []}))
    with pytest.raises(ValueError, match=r"x\.json: was written by another version of segpipe; run `dvc repro`"):
        PackedArrays(tmp_path / "x")


# Other processes


@CODECS
def test_a_store_that_is_already_open_can_be_sent_to_a_worker(tmp_path, codec):
    store = write(tmp_path / "x", ARRAYS, codec)
    before = len(pickle.dumps(store))
    np.testing.assert_array_equal(store[0], ARRAYS[0])  # opens the memory map
    sent = pickle.dumps(store)
    assert len(sent) == before  # the map itself does not travel
    np.testing.assert_array_equal(pickle.loads(sent)[1], ARRAYS[1])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_read_a_store_that_their_parent_has_open(tmp_path, method):
    store = write(tmp_path / "x", ARRAYS, "runs")
    np.testing.assert_array_equal(store[0], ARRAYS[0])
    with multiprocessing.get_context(method).Pool(1) as pool:
        for found, value in zip(pool.map(store.__getitem__, range(4)), ARRAYS, strict=True):
            np.testing.assert_array_equal(found, value, strict=True)


def test_each_process_looks_at_checksums_itself(tmp_path):
    store = write(tmp_path / "x", ARRAYS)
    np.testing.assert_array_equal(store[0], ARRAYS[0])
    flip(tmp_path / "x.000.bin", 2)
    with pytest.raises(ValueError, match="array 0 has the checksum"):
        pickle.loads(pickle.dumps(store))[0]
