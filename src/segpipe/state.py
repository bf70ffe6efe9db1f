"""The state that an interrupted run goes on from: a folder for each run, named by all that the run depends on.

`.checkpoints/<key>/` lies in the user's workspace, also for a run in a copy of it, and belongs to neither git nor DVC:
DVC clears a stage's outputs before it starts. Every file is written whole under another name and then renamed, so that
a process may die at any moment.
"""

import fcntl
import hashlib
import json
import os
import pickle
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

import torch
from safetensors import SafetensorError

from segpipe.progress import say
from segpipe.stage import first_line

FOLDER = ".checkpoints"
PATIENCE_SECONDS = 30.0  # what the orphan of a killed run needs to notice, save and go
KEPT = 3  # unfinished runs of a stage that wait to be taken up again, however long
HOUR, DAY = 3600, 86_400  # seconds
_STATE, _LOCK, _STAGE, _FINISHED = "state.pt", "lock", "stage.json", "finished"
_PART, _GONE = ".part", ".gone"  # endings of what is being written, and being removed


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
        """What was saved last; None where there is nothing yet. Raises ValueError where it cannot be read."""
        path = self.folder / _STATE
        if not path.is_file():
            return None
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise ValueError(
                f"{path}: cannot be read ({first_line(error)}); it was damaged after it was written. Remove "
                f"{self.folder} and run the same command again: the run starts afresh"
            ) from error

    def save(self, state: dict[str, Any]) -> None:
        """Replace what was saved; only tensors, numbers, strings, lists and dicts. Raises ValueError on a full disk."""

        def write(path: Path) -> None:
            with path.open("wb") as file:  # given a path, torch would not say why it could not write
                torch.save(state, file)

        self.write(_STATE, write)

    def write(self, name: str, writer: Callable[[Path], None]) -> None:
        """Have `writer` write a file of the folder, whole or not at all. Raises ValueError on a full disk."""
        if not self._writes:
            return
        path, part = self.folder / name, self.folder / f"{name}{_PART}"
        try:
            writer(part)
            _to_disk(part)  # else a power cut could leave the new name with half of the content
            part.replace(path)
            _to_disk(self.folder)  # and the old content of one file beside the new one of another
        except (OSError, RuntimeError, SafetensorError) as error:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            reason = _reason(error)
            if reason is None:
                raise
            raise ValueError(
                f"{path}: could not be written ({reason}); what was saved before is intact. Make room on its disk and "
                "run the same command again: it goes on from there"
            ) from error

    def finish(self, state: dict[str, Any]) -> None:
        """Save what is left to say of a finished run; see `_sweep` for when it goes."""
        self.save(state)
        self.write(_FINISHED, Path.touch)

    def discard(self) -> None:
        """Remove the folder of a run whose outputs are written: there is nothing left to go on from."""
        if self._writes:
            gone = self.folder.rename(self.folder.with_name(self.folder.name + _GONE))  # at once, as in `_sweep`
            shutil.rmtree(gone, ignore_errors=True)  # another stage's `_sweep` may be at it too

    def remove_weights(self, *, but: set[str]) -> None:
        """Remove weights that no saved state names any more."""
        if self._writes:
            for path in self.folder.glob("*.safetensors"):
                if path.name not in but:
                    path.unlink()


@contextmanager
def open_state(key: str, stage: str, *, writes: bool, root: Path | None = None) -> Iterator[State]:
    """The state of run `key` of `stage`, locked against a second process for as long as the block lasts.

    Raises ValueError, naming the process that holds it, where another one does and does not end soon; and where the
    folder cannot be written.
    """
    parent = (root or workspace()) / FOLDER
    state = State(parent / key, writes=writes)
    if not writes:
        yield state
        return
    try:
        lock = _locked(state.folder, stage)
    except OSError as error:
        raise ValueError(
            f"{state.folder}: cannot be made ({error.strerror}); a run keeps there what it goes on from. Make the "
            "folder writable, or room on its disk, and run the same command again"
        ) from error
    with lock:
        try:
            for part in state.folder.glob(f"*{_PART}"):  # of a process that was killed while it wrote
                part.unlink()
            state.write(_STAGE, lambda path: path.write_text(json.dumps({"stage": stage}) + "\n", encoding="utf-8"))
            _sweep(parent, stage, but=state.folder)
            yield state
        finally:
            lock.truncate(0)


def _locked(folder: Path, stage: str) -> TextIO:
    """The lock of `folder`, taken; whoever swept the folder away meanwhile took the file that was opened with it."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError), ExitStack() as stack:
            lock = stack.enter_context((folder / _LOCK).open("a+", encoding="utf-8"))
            _take(lock, folder, stage)
            if os.path.samestat((folder / _LOCK).stat(), os.fstat(lock.fileno())):
                stack.pop_all()
                return lock


def _take(lock: TextIO, folder: Path, stage: str) -> None:
    deadline, told = time.monotonic() + PATIENCE_SECONDS, False
    while not _try_lock(lock, folder):
        lock.seek(0)
        holder = lock.read().strip() or "a process that does not say which"
        if time.monotonic() > deadline:
            raise ValueError(
                f"{stage}: {holder} works on the same run and holds {folder}; wait for it, or end it and run the same "
                "command again: it goes on from where it was"
            )
        if not told:
            say(f"{stage}: waiting for {holder}, which works on the same run, to end")
            told = True
        time.sleep(0.2)
    lock.truncate(0)
    lock.write(f"process {os.getpid()} on {socket.gethostname()}")
    lock.flush()


def _try_lock(lock: TextIO, folder: Path) -> bool:
    """Whether nobody else holds it. The kernel frees it with the last process that has it open, however that ends."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:  # some network file systems have none
        say(f"{folder}: its file system has no locks ({error.strerror}): see to it that no other works on this")
    return True


def _sweep(parent: Path, stage: str, but: Path) -> None:
    """Remove what nobody will go on from; never a run that somebody holds.

    A finished run, when its stage starts with another key, or any stage an hour later: DVC has its outputs by then.
    An unfinished one, when its stage starts with another key a day later, unless it is among the newest KEPT.
    """
    now = time.time()
    for gone in parent.glob(f"*{_GONE}"):
        shutil.rmtree(gone, ignore_errors=True)
    others = [path.parent for path in parent.glob(f"*/{_STAGE}") if path.parent != but]
    own = [folder for folder in others if _stage_of(folder) == stage]
    finished = [folder for folder in others if (folder / _FINISHED).is_file()]
    unfinished = sorted(set(own).difference(finished), key=_saved_at, reverse=True)
    swept = [folder for folder in finished if folder in own or now - _saved_at(folder) > HOUR]
    swept += [folder for folder in unfinished[KEPT:] if now - _saved_at(folder) > DAY]
    for folder in swept:
        with suppress(OSError), (folder / _LOCK).open("a+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            gone = folder.rename(folder.with_name(folder.name + _GONE))  # at once: half a state would be taken for one
            shutil.rmtree(gone)


def _stage_of(folder: Path) -> str | None:
    try:
        return json.loads((folder / _STAGE).read_text(encoding="utf-8"))["stage"]
    except (OSError, ValueError, KeyError):  # removed meanwhile
        return None


def _saved_at(folder: Path) -> float:
    """When a training was saved last, or a portion of a prediction (`inference.portions`)."""
    saved = [path for path in (folder / _STATE, *folder.glob("*.json")) if path.name != _STAGE]
    return max((path.stat().st_mtime for path in saved if path.is_file()), default=0.0)


def _to_disk(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _reason(error: BaseException) -> str | None:
    """Why a file could not be written; None where that is not what went wrong."""
    if isinstance(error, SafetensorError):
        return first_line(error)
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__context__  # torch raises RuntimeError on top of what the file said
    return cause.strerror or first_line(cause) if cause is not None else None
