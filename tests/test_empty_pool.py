"""Every stage without a test set and without any other unlabelled image: no mistake, but nothing to retrain on."""

import contextlib
import io

import numpy as np
import pandas as pd
import pytest
from pipeline_run import run_stages

from segpipe.data.store import PackedArrays
from segpipe.stage import read_json

SMALL = ["sample.train=4", "sample.val=4", "sample.test=1", "sample.unlabeled=1", "sample.judge=1"]
SMALL += ["train.epochs=1", "train.batch_size=2"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of the finished run, and what its stages said."""
    folder, said = tmp_path_factory.mktemp("empty"), io.StringIO()
    with pytest.MonkeyPatch.context() as monkeypatch, contextlib.redirect_stdout(said):
        run_stages(folder, monkeypatch, [*SMALL, "data.test=null", "data.unlabeled=null"])
    return folder, said.getvalue()


def test_the_pool_is_empty_and_so_are_the_pseudo_labels(run):
    folder, said = run
    assert read_json(folder / "data/prepared/table.json")["sets"]["unlabeled"] == []
    assert read_json(folder / "data/pseudo/0/card.json")["indices"] == []
    assert len(PackedArrays(folder / "data/pseudo/0/labels")) == 0
    assert read_json(folder / "metrics/pseudo_label/0.json") == {"kept": 0.0}
    assert "pseudo_label: warning: there are no unlabelled images" in said


def test_retraining_keeps_the_baseline_and_says_so(run):
    folder, said = run
    assert "retrain: there are no pseudo labels, so the baseline stays as it is" in said
    weights = [folder / f"data/models/{round_}/main-0/model.safetensors" for round_ in ("baseline", "retrain")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    scores = [read_json(folder / f"metrics/{round_}/main-0.json") for round_ in ("baseline", "retrain")]
    assert scores[0] == scores[1]


def test_the_candidates_are_scored_all_the_same(run):
    selection = read_json(run[0] / "data/submission/selection.json")
    assert selection["chosen"] == "baseline-main", "the first of equals"
    verdicts = {row["name"]: row["difference"]["verdict"] for row in selection["candidates"]}
    # whatever weights two copies of a model have, their mean is that model
    same = dict.fromkeys(("retrain-main", "mean-all", "weighted"), "identical")
    assert {name: verdicts[name] for name in verdicts if name != "cleaned"} == {"baseline-main": "reference"} | same
    assert np.isfinite(read_json(run[0] / "metrics/ensemble.json")["miou"])


def test_the_submission_has_a_header_and_no_rows(run):
    submission = run[0] / "data/submission"
    assert (submission / "submission.csv").read_text() == "image_id,PredictionString\n"
    assert [path.name for path in (submission / "png").iterdir()] == ["classes.json"]


def test_the_report_says_what_there_is_not(run):
    page = (run[0] / "data/report/index.html").read_text(encoding="utf-8")
    assert "There is no test set: the submission has no rows." in page
    assert "There are no unlabelled images, so there are no pseudo labels" in page
    assert ">nan" not in page.lower()
    assert pd.read_csv(run[0] / "plots/pseudo_label/0/images.csv").empty
