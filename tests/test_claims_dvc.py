"""The claims' pipeline under DVC itself, on a few tiny images: what runs, what runs again, and what is refused."""

import shutil
from pathlib import Path

import pytest
import yaml
from dvc_project import command, stages_run

from segpipe.stage import read_json

ROOT = Path(__file__).resolve().parent.parent
TINY = {
    "sample": {"train": 8, "val": 2, "test": 1, "judge": 10, "size": 64},
    "data": {"image_size": [32, 32]},
    "model": {"encoder": "resnet10t"},
    "train": {"batch_size": 4, "threads": 1},
    "submission": {"size": [64, 64]},
}
CLAIMS = {
    "datasets": {"sample": {}},
    "arms": {"ce": {"loss": {"dice": 0.0}}, "dice": {}},
    "claims": {
        "first": {
            "text": "Dice helps",
            "source": "a test",
            "dataset": "sample",
            "epochs": 1,
            "seeds": [0, 1],
            "confirm": {"better": "dice", "than": "ce"},
        }
    },
}


def write_yaml(path: Path, content: dict) -> None:
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with one tiny claim, wired; the tests below go on from one another's state."""
    folder = tmp_path_factory.mktemp("claims") / "project"
    skipped = shutil.ignore_patterns("__pycache__", "cache", "tmp", "runs", "dvc.lock", "verdicts.json")
    for name in (".dvc", "claims", "src", "stages"):
        shutil.copytree(ROOT / name, folder / name, ignore=skipped)
    for name in (".dvcignore", ".gitignore"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "docs").mkdir()
    base = yaml.safe_load((ROOT / "claims/base.yaml").read_text(encoding="utf-8"))
    for section, changes in TINY.items():
        base[section] |= changes
    write_yaml(folder / "claims/base.yaml", base)
    write_yaml(folder / "claims/claims.yaml", CLAIMS)
    command(folder, "git", "init", "-q")
    segpipe(folder)
    return folder


def segpipe(folder: Path, check: bool = True) -> str:
    return command(folder, "python", "-m", "segpipe.cli", "claims", check=check, PYTHONPATH="src").stdout


def repro(folder: Path, check: bool = True) -> tuple[list[str], str]:
    output = command(folder, "dvc", "repro", "claims/dvc.yaml", check=check).stdout
    return [name.removeprefix("claims/dvc.yaml:") for name in stages_run(output)], output


def runs(*keys: str) -> set[str]:
    return {f"run@sample-1-{key}" for key in keys}


def test_interrupted_it_goes_on_then_a_seed_added_runs_only_what_is_new(project):
    # the verdict cannot be drawn while its page has no folder: the runs before it are kept
    (project / "docs").rmdir()
    ran, output = repro(project, check=False)
    assert set(ran) == {"sample", "data-sample", *runs("ce-0", "ce-1", "dice-0", "dice-1"), "verdicts"}, output
    (project / "docs").mkdir()
    assert repro(project)[0] == ["verdicts"]
    assert "4 of 4 runs" in segpipe(project)
    before = (project / "claims/runs/sample-1-ce-0.json").read_bytes()

    claims = CLAIMS | {"claims": {"first": CLAIMS["claims"]["first"] | {"seeds": [0, 1, 2]}}}
    write_yaml(project / "claims/claims.yaml", claims)
    assert "run `segpipe claims`" in repro(project, check=False)[1], "the verdict notices"
    assert "2 runs are missing" in segpipe(project)
    ran, _ = repro(project)
    assert set(ran) == {*runs("ce-2", "dice-2"), "verdicts"}
    assert (project / "claims/runs/sample-1-ce-0.json").read_bytes() == before
    assert read_json(project / "claims/verdicts.json")["claims"][0]["seeds"] == [0, 1, 2]
    assert "Dice helps" in (project / "docs/claims.md").read_text(encoding="utf-8")
    assert repro(project)[0] == []


def test_the_same_run_gives_the_same_bytes(project):
    path = project / "claims/runs/sample-1-dice-1.json"
    before = path.read_bytes()
    command(project, "dvc", "repro", "--force", "--single-item", "claims/dvc.yaml:run@sample-1-dice-1")
    assert path.read_bytes() == before


def test_code_that_changed_is_said_and_asks_for_no_training(project):
    losses = project / "src/segpipe/losses/pixel.py"
    text = losses.read_text(encoding="utf-8")
    losses.write_text(text + "# a remark\n", encoding="utf-8")
    assert "made by other code than this tree's" in segpipe(project)
    assert not [name for name in repro(project)[0] if name.startswith("run@")]
    losses.write_text(text, encoding="utf-8")
    assert "made by other code" not in segpipe(project)


def test_a_typo_in_an_override_stops_everything_before_it_runs(project):
    arms = CLAIMS["arms"] | {"dice": {"loss": {"dcie": 1.0}}}
    write_yaml(project / "claims/claims.yaml", CLAIMS | {"arms": arms})
    said = segpipe(project, check=False)
    assert "did you mean loss.dice?" in said
    output = repro(project, check=False)[1]
    assert "did you mean loss.dice?" in output
    assert "epoch 1/1" not in output
