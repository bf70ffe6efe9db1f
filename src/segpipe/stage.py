"""The edge of a stage: checked parameters, this tree's own code, small results written the same way each time."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import segpipe
from segpipe.params import Params, load_params


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

    Bad input raises ValueError or FileNotFoundError throughout the package; anything else is a bug and keeps its
    traceback, as everything does where the environment has SEGPIPE_TRACEBACK.
    """
    try:
        main()
    except (ValueError, FileNotFoundError) as error:
        if os.environ.get("SEGPIPE_TRACEBACK"):
            raise
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        raise SystemExit(1) from error


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON with a final newline; floats keep all their digits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict:
    """The JSON object at `path`; raises FileNotFoundError that says which stage file is missing."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not found; `dvc repro` makes it (or `dvc pull`, where a remote has it)")
    return json.loads(path.read_text(encoding="utf-8"))
