"""Runs that are stopped or run short of something, in one process: what they say, and that they go on."""

import errno
import math
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch
from tiny_training import ROOT, largest_file, make_smaller, train

from segpipe.data.augment import Augment
from segpipe.interrupt import Interruption, interruptible
from segpipe.stage import run_stage, told_once
from segpipe.state import FOLDER
from segpipe.training.learner import Learner
from segpipe.training.shortage import short_of_memory_in_words


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_smaller(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def uninterrupted(tiny, tmp_path_factory):
    """The score and all files of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        return train(tiny, folder / "out")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where the state of a run lies
    return tmp_path


# What asks a run to stop


def test_signals_become_a_wish_and_a_second_one_ends_the_process():
    before = signal.getsignal(signal.SIGTERM)
    with interruptible() as interruption:
        assert interruption.reason is None
        os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.reason == "stopped by SIGTERM"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_that_the_process_was_started_to_ignore_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with interruptible() as interruption:
            os.kill(os.getpid(), signal.SIGHUP)
            assert interruption.reason is None
    finally:
        signal.signal(signal.SIGHUP, before)


ORPHAN = """
import sys, time
from pathlib import Path
from segpipe.interrupt import Interruption
interruption, said = Interruption(), Path(sys.argv[1])
assert interruption.reason is None
said.touch()
deadline = time.monotonic() + 60
while interruption.reason is None and time.monotonic() < deadline:
    time.sleep(0.01)
said.write_text(str(interruption.reason))
"""
# starts a stage as DVC does (dvc/stage/run.py)
DVC = "import os, subprocess, sys; subprocess.run([os.environ['SHELL'], '-c', sys.argv[1]])"


@pytest.mark.parametrize("shell", ["sh", "dash", "bash", "zsh"])
def test_the_death_of_dvc_is_noticed_behind_any_shell(tmp_path, shell):
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"there is no {shell}")
    (tmp_path / "orphan.py").write_text(ORPHAN, encoding="utf-8")
    said = tmp_path / "said"
    environment = os.environ | {"SHELL": path, "DVC_ROOT": str(tmp_path)}
    stage = f"PYTHONPATH={ROOT}/src {sys.executable} {tmp_path}/orphan.py {said}"
    parent = subprocess.Popen([sys.executable, "-c", DVC, stage], env=environment)
    deadline = time.monotonic() + 60
    while not said.exists():
        assert time.monotonic() < deadline and parent.poll() is None
        time.sleep(0.01)
    parent.kill()
    parent.wait()
    while not (text := said.read_text(encoding="utf-8")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert text == "the process that started this stage is gone"


# A run that is stopped, and goes on


def test_a_run_stopped_again_and_again_ends_as_one_that_was_not(tiny, folder, uninterrupted, monkeypatch):
    """Run i is stopped when it asks for the i-th time: between all kinds of updates, and between scored images."""
    asked, stopped = 0, []
    monkeypatch.setattr(Interruption, "reason", property(lambda self: _reason()))

    def _reason() -> str | None:
        nonlocal asked
        asked += 1
        return "stopped" if asked > len(stopped) else None

    while True:
        asked = 0
        try:
            result = train(tiny, folder / "out")
            break
        except SystemExit as told:
            stopped.append(str(told))
            assert not list(folder.glob("out/**/*.safetensors")), "outputs are written when all is done"
    assert result == uninterrupted
    assert len(stopped) > 5 and stopped[0].startswith("stopped; saved after update 1 of 8: the same command goes on")
    assert any("after update 8 of 8" in told for told in stopped), "while tune images were scored"


def test_listeners_of_a_run_that_goes_on_hear_its_whole_history(tiny, folder, monkeypatch):
    heard = []
    listener = SimpleNamespace(
        name="ear",
        images=0,
        start=lambda run: heard.clear(),
        log=lambda row: heard.append(row["epoch"]),
        finish=lambda *, failed: None,
    )

    def stop(self) -> str | None:
        return "stopped" if len(heard) == 2 else None

    with monkeypatch.context() as patched:
        patched.setattr(Interruption, "reason", property(stop))
        with pytest.raises(SystemExit):
            train(tiny, folder / "out", [listener], epochs=3)
    assert heard == [1, 2]
    train(tiny, folder / "out", [listener], epochs=3)
    assert heard == [1, 2, 3]


def test_a_finished_run_is_taken_as_it_is(tiny, folder, uninterrupted, monkeypatch, capsys):
    assert train(tiny, folder / "out") == uninterrupted
    shutil.rmtree(folder / "out")  # as DVC does, which had not yet taken it in
    monkeypatch.setattr(Learner, "update", None)
    assert train(tiny, folder / "out") == uninterrupted
    assert "this run was finished before" in capsys.readouterr().out


def test_a_changed_parameter_starts_afresh_and_the_old_value_goes_on(tiny, folder, uninterrupted, monkeypatch, capsys):
    with monkeypatch.context() as patched:
        patched.setattr(Interruption, "reason", "stopped")
        with pytest.raises(SystemExit):
            train(tiny, folder / "out")
        with pytest.raises(SystemExit):
            train(tiny, folder / "out", clip_norm=0.5)
    said = capsys.readouterr().out
    assert "going on" not in said
    assert train(tiny, folder / "out") == uninterrupted
    assert "going on after update 1 of 8" in capsys.readouterr().out


# What goes wrong


def test_a_lack_of_memory_is_told_in_words_and_the_state_is_intact(tiny, folder, uninterrupted, monkeypatch):
    losses = Learner._losses

    def greedy(self, images, targets):
        if self.updates == 3:
            torch.empty(2**60, dtype=torch.uint8)
        return losses(self, images, targets)

    with monkeypatch.context() as patched:
        patched.setattr(Learner, "_losses", greedy)
        with pytest.raises(ValueError, match=r"out of memory \(.*\)\. If other work .* raise train\.accumulate"):
            train(tiny, folder / "out", save_seconds=0)
    (path,) = folder.glob(f"{FOLDER}/*/state.pt")
    assert torch.load(path, weights_only=True)["learner"]["updates"] == 3
    assert train(tiny, folder / "out") == uninterrupted


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_every_form_of_a_lack_of_memory_is_known(error):
    with (
        pytest.raises(ValueError, match="baseline@main-0: out of memory"),
        short_of_memory_in_words("baseline@main-0"),
    ):
        raise error


def test_other_errors_keep_their_kind():
    for error in (RuntimeError("shapes differ"), OSError(errno.EACCES, "Permission denied"), SystemExit("stopped")):
        with pytest.raises(type(error)), short_of_memory_in_words("baseline@main-0"):
            raise error


def test_a_killed_loader_process_is_told_between_two_updates(tiny, folder, uninterrupted, monkeypatch):
    update, killed = Learner.update, []

    def kill_worker(self, batches):
        if self.updates == 2 and not killed:
            (worker,) = multiprocessing.active_children()
            worker.kill()
            killed.append(self.updates)
            deadline = time.monotonic() + 0.5
            while time.monotonic() < deadline:  # torch's own handler would raise here, in the middle of an update
                math.sqrt(2)
        update(self, batches)

    with monkeypatch.context() as patched:
        patched.setattr(Learner, "update", kill_worker)
        with pytest.raises(
            ValueError, match=r"a loader process died \(DataLoader worker .* goes on after update"
        ) as told:
            train(tiny, folder / "out", workers=1)
    assert killed
    (path,) = folder.glob(f"{FOLDER}/*/state.pt")
    saved = torch.load(path, weights_only=True)["learner"]["updates"]
    assert saved > 2 and str(told.value).endswith(f"goes on after update {saved}")
    assert train(tiny, folder / "out", workers=1) == uninterrupted


def test_a_mistake_in_a_loader_process_is_not_called_its_death(tiny, folder, monkeypatch):
    def mistaken(*_, **__):
        raise RuntimeError("a mistake")

    monkeypatch.setattr(Augment, "__call__", mistaken)
    with pytest.raises(RuntimeError, match="Caught RuntimeError in DataLoader worker"):
        train(tiny, folder / "out", workers=1)


def test_a_full_disk_under_any_output_is_one_line(capsys, monkeypatch, tmp_path):
    def main() -> None:
        with largest_file(10), (tmp_path / "out").open("wb", buffering=0) as file:
            while True:
                file.write(b"0123456789")

    monkeypatch.delenv("SEGPIPE_TRACEBACK", raising=False)
    monkeypatch.setattr("sys.argv", ["stages/predict.py"])
    with pytest.raises(SystemExit) as ended:
        run_stage(main)
    told = capsys.readouterr().err
    assert ended.value.code == 1
    assert told == "predict.py: an output: File too large; make room on its disk and run the same command again\n"


@pytest.mark.parametrize(("rank", "told"), [("0", "train.py: found 3\n"), ("1", "")])
def test_what_all_processes_meet_alike_is_told_by_the_first_and_ends_each(capsys, monkeypatch, rank, told):
    def main() -> None:
        with told_once():
            raise ValueError("found 3")

    monkeypatch.setattr("segpipe.stage.SPEAKING_SECONDS", 0)
    monkeypatch.setattr("sys.argv", ["stages/train.py"])
    monkeypatch.setenv("RANK", rank)
    with pytest.raises(SystemExit) as ended:
        run_stage(main)
    assert (ended.value.code, capsys.readouterr().err) == (1, told)


def test_what_one_process_alone_meets_it_tells_itself(capsys, monkeypatch):
    def main() -> None:
        raise ValueError("a loader process died")

    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit):
        run_stage(main)
    assert capsys.readouterr().err.endswith(": a loader process died\n")


def test_a_file_that_may_not_be_read_keeps_its_traceback(tmp_path):
    def main() -> None:
        tmp_path.read_text()  # a folder

    with pytest.raises(IsADirectoryError):
        run_stage(main)
