"""Every stage run in this process, on a few tiny images.

The commands are those of dvc.yaml, resolved by DVC itself, so a wrong path or argument fails too.
"""

import importlib.util
import shlex
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from dvc.repo import Repo
from dvc.utils.hydra import apply_overrides

from segpipe.params import load_params
from segpipe.recipe import apply_recipe
from segpipe.wire import wire

ROOT = Path(__file__).resolve().parent.parent


def make_project(folder: Path, overrides: list[str]) -> list[list[str]]:
    """A tiny project in `folder`, the current one; returns each stage's command as words, in an order that works."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, folder / name)
    for name in ("src", "stages"):
        (folder / name).symlink_to(ROOT / name)
    apply_recipe("tiny", folder / "params.yaml", ROOT / "recipes")
    if overrides:
        apply_overrides(str(folder / "params.yaml"), overrides)
    wire(load_params(folder / "params.yaml"), folder / "dvc.yaml")
    Repo.init(no_scm=True).close()
    with Repo() as repo:
        stages = {stage.addressing: stage for stage in repo.index.stages}
        order = ["sample", "prepare", "baseline", "teach", "pseudo_label", "retrain", "predict", "ensemble", "report"]
        return [
            shlex.split(stage.cmd)[2:] for kind in order for name, stage in stages.items() if name.split("@")[0] == kind
        ]


def run_stages(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    overrides: Sequence[str] = (),
    write_data: Callable[[], object] | None = None,
) -> None:
    """Run every stage in `folder`; `overrides` are values of params.yaml as `dvc exp run -S` takes them.

    `write_data` writes other data in place of the sample. Leaves torch as it found it.
    """
    monkeypatch.chdir(folder)  # where DVC looks for its repository
    commands = make_project(folder, list(overrides))
    folds = load_params().split.train_folds
    assert len(commands) == 4 + 6 * len(folds)  # sample, prepare, ensemble, report; six a fold, predict for both rounds
    threads = torch.get_num_threads()
    if write_data is not None:
        write_data()
        del commands[0]  # sample
    for script, *arguments in commands:
        # the stage checks that the package beside it is the one imported, so it is loaded from its real place
        spec = importlib.util.spec_from_file_location(f"stage_{Path(script).stem}", ROOT / script)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setattr("sys.argv", [script, *arguments])
        module.main()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)
