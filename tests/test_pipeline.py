"""Every stage, run twice on a few tiny images in one process: the same submission, metrics and plots both times.

The commands are those of dvc.yaml, resolved by DVC itself, so a wrong path or argument fails here too.
"""

import importlib.util
import shlex
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from dvc.repo import Repo

from segpipe.params import load_params
from segpipe.recipe import apply_recipe
from segpipe.stage import read_json
from segpipe.wire import wire

ROOT = Path(__file__).resolve().parent.parent


def make_project(folder: Path) -> list[list[str]]:
    """A tiny project in `folder`, the current one; returns each stage's command as words, in an order that works."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, folder / name)
    for name in ("src", "stages"):
        (folder / name).symlink_to(ROOT / name)
    apply_recipe("tiny", folder / "params.yaml", ROOT / "recipes")
    wire(load_params(folder / "params.yaml"), folder / "dvc.yaml")
    Repo.init(no_scm=True).close()
    with Repo() as repo:
        stages = {stage.addressing: stage for stage in repo.index.stages}
        order = ["sample", "prepare", "baseline", "teach", "pseudo_label", "retrain", "predict", "ensemble", "report"]
        return [
            shlex.split(stage.cmd)[2:] for kind in order for name, stage in stages.items() if name.split("@")[0] == kind
        ]


def run_stages(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)  # where DVC looks for its repository
    commands = make_project(folder)
    assert len(commands) == 10  # nine kinds of stage, predict for both rounds
    for script, *arguments in commands:
        # the stage checks that the package beside it is the one imported, so it is loaded from its real place
        spec = importlib.util.spec_from_file_location(f"stage_{Path(script).stem}", ROOT / script)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setattr("sys.argv", [script, *arguments])
        module.main()


@pytest.fixture(scope="module")
def twice(tmp_path_factory):
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as monkeypatch:
        folders = [tmp_path_factory.mktemp(name) for name in ("first", "second")]
        for folder in folders:
            run_stages(folder, monkeypatch)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)
    return folders


def test_two_runs_give_the_same_submission_metrics_plots_and_report(twice):
    first, second = twice
    names = [
        path.relative_to(first)
        for folder in ("data/submission", "data/pseudo", "data/predictions", "data/report", "metrics", "plots")
        for path in sorted((first / folder).rglob("*"))
        if path.is_file()
    ]
    assert len(names) > 20
    differing = [str(name) for name in names if (first / name).read_bytes() != (second / name).read_bytes()]
    assert not differing


def test_two_runs_give_the_same_weights_to_the_last_bit(twice):
    first, second = twice
    weights = sorted((first / "data/models").rglob("*.safetensors"))
    assert len(weights) == 2 * 4  # two rounds; model, third, two_thirds, last
    assert all(path.read_bytes() == (second / path.relative_to(first)).read_bytes() for path in weights)


def test_submission_holds_every_test_image_at_the_submitted_size(twice):
    rows = pd.read_csv(twice[0] / "data/submission/submission.csv")
    expected = [image["file_name"] for image in read_json(twice[0] / "data/raw/sample/test.json")["images"]]
    assert rows["image_id"].tolist() == expected
    assert {len(text.split(" ")) for text in rows["PredictionString"]} == {64 * 64}


def test_the_submitted_candidate_is_the_one_with_the_highest_judge_score(twice):
    selection = read_json(twice[0] / "data/submission/selection.json")
    scores = {row["name"]: row["miou"] for row in selection["candidates"]}
    assert scores[selection["chosen"]] == max(scores.values())
    assert read_json(twice[0] / "metrics/ensemble.json") == {"miou": max(scores.values())}
    assert list(scores) == ["baseline-main", "retrain-main", "mean-all"]


def test_every_model_knows_what_it_has_seen(twice):
    folds = read_json(twice[0] / "data/prepared/folds.json")["folds"][0]
    images = read_json(twice[0] / "data/prepared/table.json")["images"]
    hashes = {part: {images[index]["content_hash"] for index in folds[part]} for part in folds}
    retrained = read_json(twice[0] / "data/models/retrain/main-0/model.json")["lineage"]
    assert hashes["train"] < set(retrained["learned_from"]), "the labelled images, and pool images besides"
    assert set(retrained["tuned_on"]) == hashes["tune"]
    assert not hashes["judge"] & (set(retrained["learned_from"]) | set(retrained["tuned_on"]))
