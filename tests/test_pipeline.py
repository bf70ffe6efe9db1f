"""Every stage, run twice on a few tiny images in one process: the same submission, metrics and plots both times."""

import pandas as pd
import pytest
from pipeline_run import run_stages

from segpipe.data.prepared import Prepared
from segpipe.stage import read_json


@pytest.fixture(scope="module")
def twice(tmp_path_factory):
    with pytest.MonkeyPatch.context() as monkeypatch:
        folders = [tmp_path_factory.mktemp(name) for name in ("first", "second")]
        for folder in folders:
            run_stages(folder, monkeypatch)
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


def test_the_submitted_candidate_is_the_unfitted_one_with_the_highest_judge_score(twice):
    selection = read_json(twice[0] / "data/submission/selection.json")
    rows = selection["candidates"]
    assert [row["name"] for row in rows] == ["baseline-main", "retrain-main", "mean-all", "weighted", "cleaned"]
    assert [row["name"] for row in rows if "over_best" in row] == ["weighted", "cleaned"]
    scores = {row["name"]: row["miou"] for row in rows if "over_best" not in row}
    assert scores[selection["chosen"]] == max(scores.values())  # with so few scenes nothing fitted can win
    assert read_json(twice[0] / "metrics/ensemble.json") == {"miou": max(scores.values())}
    assert [row["without"] for row in selection["drop_one"]] == ["baseline-main", "retrain-main"]


def test_every_model_knows_what_it_has_seen(twice):
    prepared = Prepared(twice[0] / "data/prepared", judge=True)
    hashes = {part: prepared.hashes(indices) for part, indices in vars(prepared.folds[0]).items()}
    retrained = read_json(twice[0] / "data/models/retrain/main-0/model.json")["lineage"]
    assert hashes["train"] < set(retrained["learned_from"]), "the labelled images, and pool images besides"
    assert set(retrained["tuned_on"]) == hashes["tune"]
    assert not hashes["judge"] & (set(retrained["learned_from"]) | set(retrained["tuned_on"]))
