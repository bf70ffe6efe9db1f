"""The state of an interrupted run, in one process: what is saved, who may write it, what names it, what stops a run."""

import errno
import fcntl
import math
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from dvc.utils.hydra import apply_overrides
from tiny_training import ROOT, job_of, make_tiny, train

import segpipe
from segpipe.data.augment import Augment
from segpipe.models.checkpoint import save_weights
from segpipe.params import load_params
from segpipe.stage import run_stage
from segpipe.training import state
from segpipe.training.interrupt import Interruption, interruptible
from segpipe.training.job import identity
from segpipe.training.learner import Learner
from segpipe.training.shortage import short_of_memory_in_words
from segpipe.training.state import FOLDER, KEPT, open_state, run_key, workspace

CPU = SimpleNamespace(device=torch.device("cpu"), world_size=1)
DAY = 86_400  # seconds


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The recipe `tiny` with a network of 0.1 million weights, and a moving average of them."""
    folder = tmp_path_factory.mktemp("tiny")
    _, prepared = make_tiny(folder)
    smaller = ["model.encoder=test_efficientnet", "model.decoder_channels=16", "train.ema=0.9"]
    apply_overrides(str(folder / "params.yaml"), smaller)
    return load_params(folder / "params.yaml"), prepared


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


@contextmanager
def largest_file(size: int):
    """Within the block a file of this process cannot grow beyond `size` bytes, as on a disk with no more room."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


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
    with pytest.raises(ValueError, match=r"cannot be made \(.*\); training keeps there"), opened(tmp_path):
        pass


# Who may write it


def test_a_second_trainer_is_refused_and_told_who_holds_the_state(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(state, "PATIENCE_SECONDS", 0.3)
    holder = f"process {os.getpid()} on "
    with opened(tmp_path):
        with pytest.raises(ValueError, match=f"{holder}.* trains the same run and holds {tmp_path}"), opened(tmp_path):
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


def test_a_run_that_somebody_holds_is_never_removed(tmp_path):
    with opened(tmp_path, "a") as held:
        held.finish({})
        leave(tmp_path, "b", "baseline@main-0")
        assert left(tmp_path) == {"a", "b"}
    leave(tmp_path, "c", "baseline@main-0")
    assert left(tmp_path) == {"b", "c"}


# What names it


def key_of(job) -> str:
    return run_key(identity(job, CPU))


def changed(job, section: str, **changes):
    part = getattr(job.params, section).model_copy(update=changes)
    return replace(job, params=job.params.model_copy(update={section: part}))


def retraining(job, folder: Path):
    """The job as a retraining, with a baseline's weights in `folder` and pseudo labels without content."""
    folder.mkdir(exist_ok=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    labels = SimpleNamespace(labels=SimpleNamespace(digest="d"), indices=(3, 4))
    return replace(job, round="retrain", pseudo=labels, baseline=folder)


@pytest.mark.parametrize(
    "section, changes",
    [
        ("model", {"decoder_channels": 24}),
        ("loss", {"dice": 0.25}),
        ("optimizer", {"lr": 0.01}),
        ("scheduler", {"power": 0.5}),
        ("augment", {"train": ()}),
        ("train", {"epochs": 3}),
        ("train", {"ema": 0.5}),
        ("train", {"threads": 2}),
        ("train", {"patience": 1}),
    ],
)
def test_a_changed_parameter_names_another_run(tiny, folder, section, changes):
    job = job_of(tiny, folder)
    assert key_of(changed(job, section, **changes)) != key_of(job)


def test_what_changes_no_result_names_the_same_run(tiny, folder):
    job = job_of(tiny, folder)
    same = [
        changed(job, "train", workers=2, save_seconds=0),
        changed(job, "retrain", epochs=7),
        changed(job, "augment", pseudo=()),
        replace(job, out=folder / "elsewhere"),
    ]
    assert {key_of(other) for other in same} == {key_of(job)}


def test_other_data_another_fold_size_or_seed_name_another_run(tiny, folder):
    job, moved = job_of(tiny, folder), folder / "moved"
    shutil.copytree(tiny[1], moved)
    at_moved = job_of((tiny[0], moved), folder)
    assert key_of(at_moved) == key_of(job), "where the data lie does not matter: --temp works in a copy"
    text = (moved / "targets.json").read_text(encoding="utf-8")
    (moved / "targets.json").write_text(text.replace('"digest":"', '"digest":"0'), encoding="utf-8")
    others = [
        job_of((tiny[0], moved), folder),
        replace(job, fold=1),
        replace(job, scored_size=(32, 32)),
        replace(job, params=job.params.model_copy(update={"seed": 1})),
    ]
    assert len({key_of(job), *map(key_of, others)}) == 5


def test_a_retraining_follows_its_labels_and_its_baseline(tiny, folder):
    job = retraining(job_of(tiny, folder), folder / "baseline")
    keys = {key_of(job), key_of(changed(job, "retrain", epochs=7)), key_of(changed(job, "augment", pseudo=()))}
    job.pseudo.labels.digest = "other"
    keys.add(key_of(job))
    job.pseudo.indices = (3, 5)
    keys.add(key_of(job))
    (folder / "baseline/model.safetensors").write_bytes(b"other")
    keys.add(key_of(job))
    moved = retraining(job, folder / "moved")
    (folder / "moved/model.safetensors").write_bytes(b"other")
    moved.pseudo.labels.digest, moved.pseudo.indices = "other", (3, 5)
    assert len(keys) == 6 and key_of(moved) in keys


def test_weights_of_an_encoder_are_known_by_their_content(tiny, folder):
    weights = folder / "encoder.safetensors"
    weights.write_bytes(b"one")
    job = changed(job_of(tiny, folder), "model", encoder_weights=str(weights))
    before = key_of(job)
    weights.write_bytes(b"two")
    assert key_of(job) != before


def test_changed_code_names_another_run_and_moved_code_does_not(tiny, folder, monkeypatch):
    job = job_of(tiny, folder)
    key = key_of(job)
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(segpipe, "__file__", str(folder / "src/segpipe/__init__.py"))
    assert key_of(job) == key

    def append_to(name: str) -> None:
        with (folder / "src/segpipe" / name).open("a", encoding="utf-8") as file:
            file.write("# changed\n")

    append_to("progress.py")
    append_to("training/display.py")
    assert key_of(job) == key, "what only shows or tells"
    append_to("losses.py")
    assert key_of(job) != key


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
from segpipe.training.interrupt import Interruption
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


def test_a_file_that_may_not_be_read_keeps_its_traceback(tmp_path):
    def main() -> None:
        tmp_path.read_text()  # a folder

    with pytest.raises(IsADirectoryError):
        run_stage(main)
