"""Training that is interrupted from outside and run again: the same files, to the last byte, as without.

Real processes on the embedded sample, some of them DVC's. What a test waits for is a change of the state's files.
"""

import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from dvc.utils.hydra import apply_overrides
from dvc_project import command, make_tiny_project

STAGE = "baseline@main-0"
OUTPUTS = ("data/models/baseline/main-0", "metrics/baseline/main-0.json", "plots/baseline/main-0")
# a network of 0.1 million weights: an update takes some 30 ms, so that what is waited for is the import of libraries
SMALLER = [
    *("model.encoder=test_efficientnet", "model.decoder_channels=16", "train.ema=0.9", "train.validate_every=2"),
    *("train.sampling=balanced", "augment.paste.p=0.5", "augment.paste.classes=[Paper,Plastic]"),
]
UPDATES, SAVES = 40, 100  # of a run that saves after each of them, and after each of 5 x 2 x 6 scored images
SECONDS = 240  # before a test gives up waiting: far more than needed, as other work may share the machine


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A committed project in which the stage has run undisturbed; its state is gone."""
    folder = tmp_path_factory.mktemp("finished") / "project"
    make_tiny_project(folder)
    apply_overrides(str(folder / "params.yaml"), SMALLER)
    command(folder, "dvc", "repro", STAGE)
    command(folder, "git", "add", "-A")
    command(folder, "git", "commit", "-qm", "a tiny project")
    shutil.rmtree(folder / ".checkpoints")
    return folder


@pytest.fixture
def project(finished, tmp_path):
    """A copy of it that has yet to train, and saves its state after every update."""
    folder = tmp_path / "project"
    shutil.copytree(finished, folder, symlinks=True)
    for name in OUTPUTS:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.rmtree(folder / ".dvc/cache/runs")  # else DVC would take the finished run from there
    apply_overrides(str(folder / "params.yaml"), ["train.save_seconds=0"])
    return folder


@dataclass(frozen=True)
class Started:
    """A process with a group of its own, as a terminal gives it."""

    process: subprocess.Popen
    output: Path

    def said(self) -> str:
        return self.output.read_text(encoding="utf-8")

    def wait_until(self, happened: Callable[[], object]) -> None:
        deadline = time.monotonic() + SECONDS
        while not happened():
            assert self.process.poll() is None and time.monotonic() < deadline, self.said()
            time.sleep(0.002)

    def signal_group(self, number: int) -> None:
        """What Ctrl-C does with SIGINT; returns when the process has ended."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)
        self.process.wait(SECONDS)

    def end(self) -> str:
        """Wait for it to end well; what it said."""
        assert self.process.wait(SECONDS) == 0, self.said()
        return self.said()


@contextmanager
def started(folder: Path, words: list[str], **variables: str) -> Iterator[Started]:
    """Run a command in `folder`; whatever is left of its group ends with the block."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DVC_")}
    environment |= {"PATH": path, "PYTHONPATH": "src", "OMP_NUM_THREADS": "1", "DVC_NO_ANALYTICS": "1"} | variables
    output = folder.parent / f"said-{len(list(folder.parent.glob('said-*')))}.txt"
    with output.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            words,
            cwd=folder,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # behind an & of a script, where these tests may run too, Ctrl-C is ignored
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
    run = Started(process, output)
    try:
        yield run
    finally:
        run.signal_group(signal.SIGKILL)


def trainer(folder: Path) -> list[str]:
    """The stage's own command, as DVC resolved it."""
    lock = yaml.safe_load((folder / "dvc.lock").read_text(encoding="utf-8"))
    return [sys.executable, *shlex.split(lock["stages"][STAGE]["cmd"])[2:]]


def files(folder: Path) -> dict[str, bytes]:
    """The content of all files that the stage writes."""
    paths = [path for name in OUTPUTS for path in (folder / name, *(folder / name).rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def saved(folder: Path, times: int) -> Callable[[], bool]:
    """Whether the state in `folder` was replaced so many times since now."""

    def version() -> list[tuple[int, int]]:
        found = [path.stat() for path in folder.glob(".checkpoints/*/state.pt")]
        return [(file.st_ino, file.st_mtime_ns) for file in found]

    seen, count = version(), 0

    def happened() -> bool:
        nonlocal seen, count
        if (now := version()) != seen:
            seen, count = now, count + 1
        return count >= times

    return happened


def went_on_after(said: str) -> int:
    """After how many updates the run went on, as it says itself."""
    found = re.search(r"going on after update (\d+) of (\d+)", said)
    assert found and int(found[2]) == UPDATES, said
    return int(found[1])


def holder(folder: Path) -> int:
    """The process that trains, by its own word."""
    (lock,) = folder.glob(".checkpoints/*/lock")
    return int(lock.read_text(encoding="utf-8").split()[1])


def is_alive(number: int) -> bool:
    """Whether this process still runs."""
    try:
        return Path(f"/proc/{number}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_trainer_killed_at_any_moment_goes_on_with_any_number_of_loader_processes(project, finished):
    seed = random.SystemRandom().randrange(10**6)
    draw, reached = random.Random(seed), 0
    print(f"seed {seed}")  # shown where the test fails
    for workers in (0, 1, 2):
        apply_overrides(str(project / "params.yaml"), [f"train.workers={workers}"])
        with started(project, trainer(project)) as run:
            run.wait_until(saved(project, times=draw.randint(1, SAVES // 4)))
            if draw.random() < 0.5:  # while it saves
                run.wait_until(lambda: list(project.glob(".checkpoints/*/*.part")))
            run.process.kill()  # its loader processes are left to find out
            run.process.wait(SECONDS)
            if workers:
                assert reached <= went_on_after(run.said())
                reached = went_on_after(run.said())
    assert not files(project).keys() - {"plots/baseline/main-0/history.csv"}, "outputs are written when all is done"
    with started(project, trainer(project)) as run:
        assert max(reached, 1) <= went_on_after(run.end())
    assert files(project) == files(finished)


def test_a_second_trainer_is_refused_and_one_with_another_parameter_is_not(project):
    impatient = (
        "import runpy, sys; from segpipe import state; state.PATIENCE_SECONDS = 1; sys.argv = sys.argv[1:]; "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command_line = trainer(project)
    with ExitStack() as stack:
        first = stack.enter_context(started(project, command_line))
        first.wait_until(saved(project, times=3))
        os.kill(first.process.pid, signal.SIGSTOP)  # else it would be done before the others have begun
        second = stack.enter_context(started(project, [sys.executable, "-c", impatient, *command_line[1:]]))
        second.process.wait(SECONDS)
        apply_overrides(str(project / "params.yaml"), ["optimizer.lr=0.004"])
        other = stack.enter_context(started(project, command_line))
        other.wait_until(lambda: len(list(project.glob(".checkpoints/*/state.pt"))) == 2)
        assert "going on" not in other.said() and first.process.poll() is None
        os.kill(first.process.pid, signal.SIGCONT)
        first.signal_group(signal.SIGTERM)
    assert second.process.returncode == 1
    assert f"process {first.process.pid} on " in second.said() and "works on the same run and holds" in second.said()
    assert "Traceback" not in second.said() + first.said()
    assert first.process.returncode == 1
    assert re.search(r"stopped by SIGTERM; saved after update \d+ of 40: the same command goes on", first.said())


def test_dvc_repro_goes_on_after_a_kill_and_after_ctrl_c(project, finished):
    with started(project, ["dvc", "repro", STAGE]) as run:
        run.wait_until(saved(project, times=10))
        run.signal_group(signal.SIGKILL)
    with started(project, ["dvc", "repro", STAGE]) as run:
        run.wait_until(saved(project, times=10))
        run.signal_group(signal.SIGINT)
        assert run.process.returncode != 0
        told = re.search(r"stopped by SIGINT; saved after update (\d+) of 40", run.said())
        assert told and "Traceback" not in run.said(), run.said()
        assert 1 <= went_on_after(run.said()) <= int(told[1])
    with started(project, ["dvc", "repro", STAGE]) as run:
        assert went_on_after(run.end()) == int(told[1])
    assert files(project) == files(finished)


@pytest.mark.parametrize("shell", ["sh"])  # on Debian a shell that outlives DVC; others become the stage's command
def test_an_experiment_in_a_copy_goes_on_in_another_copy_and_an_orphan_stops(project, finished, shell):
    words = ["dvc", "exp", "run", "--temp", "--name", "resumed", STAGE]
    with started(project, words, SHELL=shutil.which(shell)) as run:
        run.wait_until(saved(project, times=5))
        orphan = holder(project)
        run.process.kill()  # DVC alone
        run.process.wait(SECONDS)
        deadline = time.monotonic() + SECONDS
        while is_alive(orphan):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        told = re.search(r"the process that started this stage is gone; saved after update (\d+) of 40", run.said())
        assert told, run.said()
    with started(project, words, SHELL=shutil.which(shell)) as run:
        assert went_on_after(run.end()) == int(told[1])
    reference = command(project, "git", "for-each-ref", "refs/exps/*/*/resumed", "--format=%(refname)").stdout.strip()
    outs = [
        yaml.safe_load(command(folder, "git", "show", f"{revision}:dvc.lock").stdout)["stages"][STAGE]["outs"]
        for folder, revision in ((project, reference), (finished, "HEAD"))
    ]
    assert outs[0] == outs[1]
    assert len(list((project / ".dvc/tmp/exps/standalone").glob("tmp*"))) >= 1, "the first copy was left behind"
