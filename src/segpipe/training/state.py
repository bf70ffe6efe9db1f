"""The state that an interrupted run goes on from: a folder for each run, named by all that the run depends on.

`.checkpoints/<key>/` lies in the user's workspace, also for a run in a copy of it, and belongs to neither git nor DVC:
DVC clears a stage's outputs before it starts. Every file is written whole under another name and then renamed, so that
a process may die at any moment.
"""

import fcntl
import hashlib
import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

import torch

from segpipe.progress import say

FOLDER = ".checkpoints"
PATIENCE_SECONDS = 30.0  # what the orphan of a killed run needs to notice, save and go
KEPT = 3  # unfinished runs of a stage that wait to be taken up again
_STATE, _LOCK, _STAGE = "state.pt", "lock", "stage.json"


def workspace() -> Path:
    """The user's workspace, even where the stage runs in a copy of it."""
    return Path(os.environ.get("DVC_ROOT", ".")).resolve()


def run_key(parts: dict[str, Any]) -> str:
    """16 hexadecimal digits of what a run depends on, JSON values by name."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


class State:
    """The folder of one run, held by this process. Other ranks of the run read it and write nothing."""

    def __init__(self, folder: Path, *, writes: bool) -> None:
        self.folder, self._writes = folder, writes

    def load(self) -> dict[str, Any] | None:
        """What was saved last; None where there is nothing yet."""
        path = self.folder / _STATE
        return torch.load(path, map_location="cpu", weights_only=True) if path.is_file() else None

    def save(self, state: dict[str, Any]) -> None:
        """Replace what was saved; only tensors, numbers, strings, lists and dicts. Raises ValueError on a full disk."""
        self.write(_STATE, lambda path: torch.save(state, path))

    def write(self, name: str, writer: Callable[[Path], None]) -> None:
        """Have `writer` write a file of the folder, whole or not at all. Raises ValueError on a full disk."""
        if not self._writes:
            return
        path, part = self.folder / name, self.folder / f"{name}.part"
        try:
            writer(part)
            with part.open("rb") as file:
                os.fsync(file.fileno())  # else a power cut could leave the new name with the old content's length
            part.replace(path)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise ValueError(
                f"{path}: could not be written ({_first_line(error)}); what was saved before is intact. Make room on "
                "its disk and run the same command again: training goes on from there"
            ) from error

    def finish(self, state: dict[str, Any]) -> None:
        """Save what is left to say of a finished run; it goes when this stage next starts with another key."""
        self.save(state)
        self.write("finished", Path.touch)

    def remove_weights(self, *, but: set[str]) -> None:
        """Remove weights that no saved state names any more."""
        if self._writes:
            for path in self.folder.glob("*.safetensors"):
                if path.name not in but:
                    path.unlink()


@contextmanager
def open_state(key: str, stage: str, *, writes: bool, root: Path | None = None) -> Iterator[State]:
    """The state of run `key` of `stage`, locked against a second trainer for as long as the block lasts.

    Raises ValueError, naming the process that holds it, where another one does and does not end soon.
    """
    parent = (root or workspace()) / FOLDER
    folder = parent / key
    if not writes:
        yield State(folder, writes=False)
        return
    with _locked(folder, stage) as lock:
        try:
            (folder / _STAGE).write_text(json.dumps({"stage": stage}) + "\n", encoding="utf-8")
            _sweep(parent, stage, but=folder)
            yield State(folder, writes=True)
        finally:
            lock.truncate(0)


def _locked(folder: Path, stage: str) -> TextIO:
    """The lock of `folder`, taken; whoever swept the folder away meanwhile took the file that was opened with it."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / _LOCK).open("a+", encoding="utf-8")
        _take(lock, folder, stage)
        with suppress(FileNotFoundError):
            if os.path.samestat((folder / _LOCK).stat(), os.fstat(lock.fileno())):
                return lock
        lock.close()


def _take(lock: TextIO, folder: Path, stage: str) -> None:
    deadline, told = time.monotonic() + PATIENCE_SECONDS, False
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError as error:
            lock.seek(0)
            holder = lock.read().strip() or "a process that does not say which"
            if time.monotonic() > deadline:
                raise ValueError(
                    f"{stage}: {holder} trains the same run and holds {folder}; wait for it, or end it and run the "
                    "same command again: training goes on from where it was"
                ) from error
            if not told:
                say(f"{stage}: waiting for {holder}, which trains the same run, to end")
                told = True
            time.sleep(0.2)
    lock.truncate(0)
    lock.write(f"process {os.getpid()} on {socket.gethostname()}")
    lock.flush()


def _sweep(parent: Path, stage: str, but: Path) -> None:
    """Remove finished runs of this stage, and all but the newest unfinished ones; never one that somebody holds."""
    others = [path.parent for path in parent.glob(f"*/{_STAGE}") if path.parent != but and _stage_of(path) == stage]
    others.sort(key=lambda folder: _saved_at(folder), reverse=True)
    unfinished = [folder for folder in others if not (folder / "finished").is_file()]
    for folder in others:
        if folder in unfinished[:KEPT]:
            continue
        with suppress(OSError), (folder / _LOCK).open("a+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)


def _stage_of(path: Path) -> str | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))["stage"]
    except (OSError, ValueError, KeyError):  # being written, or cut short by a full disk
        return None


def _saved_at(folder: Path) -> float:
    path = folder / _STATE
    return path.stat().st_mtime if path.is_file() else 0.0


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
