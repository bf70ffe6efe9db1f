"""The edge of a stage: checked parameters, this tree's own code, small results written the same way each time."""

import json
from pathlib import Path

import segpipe
from segpipe.params import Params, load_params


def open_stage(script: str) -> Params:
    """Checked parameters of the current folder, for the stage script at path `script`.

    Under `dvc exp run --temp` an editable install would import the original workspace's code, and the lock
    would describe code that did not run. Raises RuntimeError unless the imported package stands beside the script,
    ValueError with every problem of params.yaml.
    """
    expected = Path(script).resolve().parent.parent / "src" / "segpipe"
    imported = Path(segpipe.__file__).resolve().parent
    if imported != expected:
        raise RuntimeError(
            f"{script}: imported segpipe from {imported}, but this tree's code is {expected}; "
            f"run `PYTHONPATH=src python {Path(script).name}` in the tree's top folder, as dvc.yaml does"
        )
    return load_params()


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON with a final newline; floats keep all their digits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict:
    """The JSON object at `path`; raises FileNotFoundError that says which stage file is missing."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not found; `dvc repro` makes it (or `dvc pull`, where a remote has it)")
    return json.loads(path.read_text(encoding="utf-8"))
