"""The state of an interrupted run, in one process: what is saved, who may write it, what goes when."""

import errno
import fcntl
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny_training import largest_file

from segpipe import state
from segpipe.models.checkpoint import save_weights
from segpipe.stage import first_line
from segpipe.state import FOLDER, KEPT, open_state, workspace

DAY = 86_400  # seconds


def opened(root: Path, key: str = "a", stage: str = "baseline@main-0"):
    return open_state(key, stage, writes=True, root=root)


# What is saved


def test_a_full_disk_is_told_with_its_reason_and_leaves_what_was_saved_before(tmp_path):
    network = SimpleNamespace(network=torch.nn.Linear(100, 100))
    with opened(tmp_path) as held:
        held.save({"number": 1})
        with largest_file(20_000):
            with pytest.raises(ValueError, match=r"state\.pt: could not be written \(File too large\); what was saved"):
                held.save({"number": 2, "tensor": torch.zeros(100, 100)})
            with pytest.raises(ValueError, match=r"best\.safetensors: could not be written \(.*File too large"):
                held.write("best.safetensors", lambda path: save_weights(network, path))
        assert held.load() == {"number": 1}
    assert sorted(path.name for path in held.folder.iterdir()) == ["lock", "stage.json", "state.pt"]


def test_a_writer_with_a_mistake_of_its_own_is_not_called_a_full_disk(tmp_path):
    def mistaken(path: Path) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with opened(tmp_path) as held, pytest.raises(RuntimeError, match="mat1"):
        held.write("state.pt", mistaken)


def test_a_damaged_state_is_told_with_the_folder_to_remove(tmp_path):
    with opened(tmp_path) as held:
        held.save({"tensor": torch.zeros(1000)})
        path = held.folder / "state.pt"
        path.write_bytes(path.read_bytes()[:2000])
        with pytest.raises(ValueError, match=rf"cannot be read .* Remove {held.folder} and run the same"):
            held.load()


@pytest.mark.parametrize(
    "said, told", [("no\nyes", "no"), ("\n\n  no\nyes", "no"), (" \n", "OSError"), ("", "OSError")]
)
def test_an_error_is_told_in_one_line(said, told):
    assert first_line(OSError(said)) == told


def test_nothing_is_unpickled(tmp_path):
    with opened(tmp_path) as held:
        held.save({"path": SimpleNamespace(number=1)})
        with pytest.raises(ValueError, match="cannot be read"):
            held.load()


def test_what_a_killed_writer_left_half_written_goes(tmp_path):
    with opened(tmp_path) as held:
        (held.folder / "best-3-raw.safetensors.part").write_bytes(b"half")
    with opened(tmp_path):
        assert not list(held.folder.glob("*.part"))


def test_other_ranks_write_nothing(tmp_path):
    with open_state("a", "baseline@main-0", writes=False, root=tmp_path) as other:
        other.save({"number": 1})
        other.finish({"number": 1})
    assert list(tmp_path.iterdir()) == []


def test_the_state_lies_in_the_users_workspace_where_dvc_works_in_a_copy_of_it(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert workspace() == tmp_path
    monkeypatch.delenv("DVC_ROOT")
    assert workspace() == Path.cwd()


def test_a_workspace_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / FOLDER).write_text("a file in the way", encoding="utf-8")
    with pytest.raises(ValueError, match=r"cannot be made \(.*\); a run keeps there"), opened(tmp_path):
        pass


# Who may write it


def test_a_second_trainer_is_refused_and_told_who_holds_the_state(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(state, "PATIENCE_SECONDS", 0.3)
    holder = f"process {os.getpid()} on "
    with opened(tmp_path):
        with (
            pytest.raises(ValueError, match=f"{holder}.* works on the same run and holds {tmp_path}"),
            opened(tmp_path),
        ):
            pass
        assert f"waiting for {holder}" in capsys.readouterr().out
        with opened(tmp_path, key="b"):
            pass  # another run is not in its way
    with opened(tmp_path):
        pass


def test_a_killed_process_leaves_no_lock(tmp_path):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with opened(tmp_path):
            os.write(writing, b"x")
            signal.pause()
    assert os.read(reading, 1) == b"x"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with opened(tmp_path) as held:
        assert str(os.getpid()) in (held.folder / "lock").read_text(encoding="utf-8")


def test_who_waited_for_a_folder_that_was_removed_meanwhile_makes_a_new_one(tmp_path, capsys):
    old = tmp_path / FOLDER / "a"
    old.mkdir(parents=True)
    taken = threading.Event()

    def wait() -> None:
        with opened(tmp_path):
            taken.set()

    with (old / "lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = threading.Thread(target=wait)
        waiting.start()
        while "waiting" not in capsys.readouterr().out:
            time.sleep(0.01)
        old.rename(tmp_path / "removed")
        assert not taken.is_set()
    waiting.join(timeout=60)
    assert taken.is_set() and (old / "stage.json").is_file()


def test_a_file_system_without_locks_is_told_and_trained_on(tmp_path, monkeypatch, capsys):
    def flock(*_) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with opened(tmp_path) as held:
        held.save({"number": 1})
    assert "has no locks (No locks available)" in capsys.readouterr().out


# What goes when


def leave(root: Path, key: str, stage: str, *, finished: bool = False, age: float = 0.0) -> None:
    with opened(root, key, stage) as held:
        held.finish({}) if finished else held.save({})
        saved = time.time() - age
        os.utime(held.folder / "state.pt", (saved, saved))


def left(root: Path) -> set[str]:
    return {path.name for path in (root / FOLDER).iterdir()}


def test_a_finished_run_stays_for_its_own_stage_until_that_starts_another(tmp_path):
    leave(tmp_path, "a", "baseline@main-0", finished=True)
    leave(tmp_path, "other", "retrain@main-0")
    leave(tmp_path, "a", "baseline@main-0", finished=True)
    assert left(tmp_path) == {"a", "other"}
    leave(tmp_path, "b", "baseline@main-0")
    assert left(tmp_path) == {"b", "other"}


def test_a_finished_run_of_a_stage_that_never_starts_again_goes_after_an_hour(tmp_path):
    leave(tmp_path, "new", "run@a-0", finished=True, age=3500)
    leave(tmp_path, "old", "run@b-0", finished=True, age=3700)
    leave(tmp_path, "unfinished", "run@c-0", age=3700)
    leave(tmp_path, "d", "run@d-0")
    assert left(tmp_path) == {"new", "unfinished", "d"}


def test_unfinished_runs_stay_for_a_day_and_the_newest_for_good(tmp_path):
    ages = [2 * DAY + number for number in range(KEPT + 2)]
    for number, age in enumerate(ages):
        leave(tmp_path, f"old{number}", "baseline@main-0", age=age)
    with opened(tmp_path, "now"):
        pass
    assert left(tmp_path) == {"now", *(f"old{number}" for number in range(KEPT))}
    for number in range(KEPT + 2):
        leave(tmp_path, f"new{number}", "baseline@main-0", age=DAY / 2)
    assert {f"new{number}" for number in range(KEPT + 2)} <= left(tmp_path)


def test_what_another_stage_removes_first_is_no_error(tmp_path, monkeypatch):
    remove = shutil.rmtree

    def beaten(path: Path, **options: bool) -> None:
        remove(path)  # the other's sweep
        remove(path, **options)

    monkeypatch.setattr(state.shutil, "rmtree", beaten)
    with opened(tmp_path) as held:
        held.save({})
        held.discard()
    assert left(tmp_path) == set()


def test_a_run_that_somebody_holds_is_never_removed(tmp_path):
    with opened(tmp_path, "a") as held:
        held.finish({})
        leave(tmp_path, "b", "baseline@main-0")
        assert left(tmp_path) == {"a", "b"}
    leave(tmp_path, "c", "baseline@main-0")
    assert left(tmp_path) == {"b", "c"}
