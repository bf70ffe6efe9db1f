"""What a sound params.yaml asks for that is not there: files, lists in dvc.yaml, names that only the libraries know.

Imports no torch itself: the libraries are asked in a process of their own.
"""

import json
import subprocess
import sys
from pathlib import Path

from segpipe.data.paste import class_problems
from segpipe.data.source.entries import named_file_fault
from segpipe.data.source.lists import missing_files
from segpipe.doctor.extent import PREPARED, SAMPLE_ROOT, prepared_fits
from segpipe.labels import ClassTable
from segpipe.params import DataParams, Params
from segpipe.stage import read_json
from segpipe.wire import PIPELINE, wiring_problems


def parameter_problems(params: Params, *, libraries: bool = True) -> list[str]:
    """All that would stop a stage, a line each; without `libraries` only what takes no time to find.

    `params` must be that of params.yaml in the current folder, the project's top folder.
    """
    found = [*_file_problems(params.data, params.split.file), *_class_problems(params), *wiring_problems(params)]
    return [*found, *(_library_problems() if libraries else ())]


def files_of(problems: list[str]) -> str:
    """The files in which these problems stand: params.yaml, dvc.yaml, or both."""
    of_pipeline = [line.startswith(f"{PIPELINE}: ") for line in problems]
    names = {"params.yaml": not all(of_pipeline), str(PIPELINE): any(of_pipeline)}
    return ", ".join(name for name, has_some in names.items() if has_some)


def _file_problems(data: DataParams, folds: str | None) -> list[str]:
    root = Path(data.root)
    if root == Path(SAMPLE_ROOT) and not root.exists():
        return []  # the stage `sample` draws it
    listed = root.with_name(f"{root.name}.dvc")
    tracked = not root.exists() and listed.is_file()
    hint = f" `dvc checkout {listed}` or `dvc pull {listed}` brings it." if tracked else ""
    lines = [str(problem).removeprefix("params.yaml: ") for problem in missing_files(data)]
    if folds is not None and root.is_dir() and (fault := named_file_fault(root, folds)):
        lines.append(f"split.file: {folds!r} {fault}; expected a CSV file in {root}.")
    return [line + hint for line in lines]


def _class_problems(params: Params) -> list[str]:
    """Classes to paste that the data do not have; nothing where they are not prepared, and so not known, yet."""
    if not prepared_fits(params, PREPARED):
        return []
    names = ClassTable.from_json(read_json(PREPARED / "classes.json")).names
    lines = [line for name in params.member_names for line in class_problems(params.member(name).augment.paste, names)]
    return list(dict.fromkeys(lines))


def _library_problems() -> list[str]:
    """What `training.check` prints, or why it could not."""
    done = subprocess.run([sys.executable, "-m", "segpipe.training.check"], capture_output=True, text=True, check=False)
    try:
        return json.loads((done.stdout.splitlines() or [""])[-1])
    except ValueError:
        last = (done.stderr.strip().splitlines() or [f"the process ended with code {done.returncode}"])[-1]
        return [f"names of models and augmentations could not be checked ({last}); `segpipe doctor` says more"]
