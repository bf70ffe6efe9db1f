"""The edge of a stage: checked parameters, this tree's own code, small results written the same way each time."""

import errno
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import segpipe
from segpipe.params import Params, load_params
from segpipe.progress import first_process

SPEAKING_SECONDS = 3.0  # for the first of several processes to tell of an error: torchrun ends all when one is gone
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # full disk, used up quota, limit on a file's size


def started_by() -> tuple[int, ...]:
    """The process that started this one; where that is the shell in which DVC runs commands, the shell's parent too.

    Some shells become the command that they are given, others (dash, as Debian's /bin/sh) wait for it and outlive DVC.
    """
    parent = os.getppid()
    try:
        name, _, rest = Path(f"/proc/{parent}/stat").read_text(encoding="utf-8").partition("(")[2].rpartition(")")
    except OSError:  # it has just ended
        return (parent,)
    is_shell = name == Path(os.environ.get("SHELL") or "/bin/sh").name
    return (parent, int(rest.split()[1])) if is_shell else (parent,)


STARTED_BY = started_by()  # now, seconds before the slow libraries are there: DVC may be killed meanwhile


def open_stage(script: str, params: Path = Path("params.yaml")) -> Params:
    """Checked parameters of the current folder, for the stage script at path `script`.

    Raises ValueError as `check_tree` does, and ValueError with every problem of the file `params`.
    """
    check_tree(script)
    return load_params(params)


def check_tree(script: str) -> None:
    """Raise ValueError unless the imported package is the one beside the stage script at path `script`.

    Under `dvc exp run --temp` an editable install would import the original workspace's code, and the lock
    would describe code that did not run.
    """
    expected = Path(script).resolve().parent.parent / "src" / "segpipe"
    imported = Path(segpipe.__file__).resolve().parent
    if imported != expected:
        raise ValueError(
            f"{script}: imported segpipe from {imported}, but this tree's code is {expected}; "
            f"run `PYTHONPATH=src python stages/{Path(script).name}` in the tree's top folder, as dvc.yaml does"
        )


def run_stage(main: Callable[[], None]) -> None:
    """Run a stage; a mistake in its input is one clear message and exit code 1, not a traceback.

    Bad input raises ValueError or FileNotFoundError throughout the package, and any file may meet a full disk; anything
    else is a bug and keeps its traceback, as everything does where the environment has SEGPIPE_TRACEBACK.
    """
    try:
        main()
    except Exception as error:
        message = _message(error)
        if message is None or os.environ.get("SEGPIPE_TRACEBACK"):
            raise
        print(f"{Path(sys.argv[0]).name}: {message}", file=sys.stderr)
        raise SystemExit(1) from error


@contextmanager
def told_once() -> Iterator[None]:
    """Around what all processes of one training do alike: of bad input that they meet there only the first one tells.

    An error outside such a block may be one process's own, and is told by whichever has it.
    """
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        if first_process():
            raise
        time.sleep(SPEAKING_SECONDS)
        raise SystemExit(1) from error


def _message(error: Exception) -> str | None:
    """What to tell of an error that is no bug."""
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return (
            f"{error.filename or 'an output'}: {error.strerror}; make room on its disk and run the same command again"
        )
    return str(error) if isinstance(error, ValueError | FileNotFoundError) else None


def first_line(error: BaseException) -> str:
    """What an error says, in one line: its first that is not empty, or its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON with a final newline; floats keep all their digits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict:
    """The JSON object at `path`; raises FileNotFoundError that says which stage file is missing."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not found; `dvc repro` makes it (or `dvc pull`, where a remote has it)")
    return json.loads(path.read_text(encoding="utf-8"))
