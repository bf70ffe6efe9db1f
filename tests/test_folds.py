"""Several folds and the fold `all`, for real: what each model has seen, what is scored, what is submitted."""

import re

import pandas as pd
import pytest
from documented import command_lines
from dvc.utils.hydra import apply_overrides
from dvc_project import command, make_tiny_project, stages_run
from pipeline_run import run_stages

from segpipe.data.prepared import Prepared
from segpipe.data.pseudo_labels import PseudoLabels
from segpipe.ensemble.average import Ensemble, load_predictions
from segpipe.ensemble.candidates import list_candidates
from segpipe.inference.fold import Work
from segpipe.inference.predict import Predictor, predict_probs
from segpipe.inference.probs import Predictions, PredictionWriter
from segpipe.inference.teach import teach
from segpipe.models.checkpoint import load_segmenter, read_card
from segpipe.params import load_params
from segpipe.stage import read_json
from segpipe.submission.png import png_path, read_png
from segpipe.training.evaluate import ONE_LOOK
from segpipe.training.member import Job, train_member
from segpipe.training.tracking.tracker import Tracker, describe_run

ROUNDS = ("baseline", "retrain")
QUICK = ["train.epochs=2", "train.validate_every=1", "retrain.epochs=1", "pseudo_label.confidence=0.0"]
DRAWN = ["sample.train=12", "sample.val=2", "sample.test=2", "sample.unlabeled=2"]


@pytest.fixture(scope="module")
def crossed(tmp_path_factory):
    """A finished run of three folds of `data.train` and of `all`."""
    folder = tmp_path_factory.mktemp("crossed")
    with pytest.MonkeyPatch.context() as monkeypatch:
        folds = ["data.val=null", "split.folds=3", "split.train_folds=[0,1,2,all]"]
        run_stages(folder, monkeypatch, [*folds, *QUICK, *DRAWN])
    return folder


@pytest.fixture(scope="module")
def prepared(crossed):
    return Prepared(crossed / "data/prepared", judge=True)


def test_no_model_of_a_fold_has_seen_what_the_fold_holds_out(crossed, prepared):
    pool = prepared.hashes(prepared.pool())
    held_out = [index for fold in (0, 1, 2) for index in (*prepared.folds[fold].tune, *prepared.folds[fold].judge)]
    assert sorted(held_out) == list(range(12)), "every labelled image is held out once"
    for number in (0, 1, 2):
        fold = prepared.folds[number]
        labels = PseudoLabels(crossed / f"data/pseudo/{number}")
        assert labels.lineage.learned_from == prepared.hashes(fold.train) | pool
        for round_, learned in (("baseline", set()), ("retrain", pool)):
            lineage = read_card(crossed / f"data/models/{round_}/main-{number}").lineage
            assert lineage.learned_from == prepared.hashes(fold.train) | learned
            assert lineage.tuned_on == prepared.hashes(fold.tune)
            stored = Predictions(crossed / f"data/predictions/{round_}-main-{number}")
            assert set(stored.card.indices) == {*fold.judge, *fold.tune, *prepared.sets["test"]}


def test_models_of_all_learn_from_everything_and_predict_only_what_is_submitted(crossed, prepared):
    for round_ in ROUNDS:
        model = crossed / f"data/models/{round_}/main-all"
        assert read_card(model).lineage.learned_from >= prepared.hashes(range(12))
        assert (model / "model.safetensors").read_bytes() == (model / "last.safetensors").read_bytes()
        stored = Predictions(crossed / f"data/predictions/{round_}-main-all")
        assert set(stored.card.indices) == set(prepared.sets["test"])


def test_models_of_all_have_no_score(crossed):
    for round_ in ROUNDS:
        assert read_json(crossed / f"metrics/{round_}/main-all.json") == {}
        plots = crossed / f"plots/{round_}/main-all"
        assert [path.name for path in plots.iterdir()] == ["history.csv"]
        history = pd.read_csv(plots / "history.csv")
        assert history["tune_miou"].isna().all() and history["train_loss"].notna().all()


def test_every_fold_scores_and_all_is_submitted(crossed, prepared):
    selection = read_json(crossed / "data/submission/selection.json")
    assert selection["judge_images"] == sum(len(prepared.folds[fold].judge) for fold in (0, 1, 2))
    assert (selection["scored_folds"], selection["submitted_folds"]) == ([0, 1, 2], ["all"])
    assert read_json(crossed / "metrics/ensemble.json")["miou"] > 0
    (candidate,) = [each for each in list_candidates(("main",)) if each.name == selection["chosen"]]
    stores = [Predictions(crossed / "data/predictions" / "-".join((*part, "all"))) for part in candidate.parts]
    for index in prepared.sets["test"]:
        expected = sum(store.probs(index, (64, 64)) for store in stores).argmax(-1)
        submitted = read_png(png_path(crossed / "data/submission/png", prepared.entries[index].file_name), (64, 64), 12)
        assert (submitted == expected).all()


def test_the_report_says_who_is_scored_and_who_is_submitted(crossed):
    html = (crossed / "data/report/index.html").read_text(encoding="utf-8")
    assert "Scores are those of the models of folds 0, 1, 2, each on the judge images that it holds out" in html
    assert "learned from every labelled image (fold all) and are themselves never scored" in html
    models = html[html.index('id="models"') : html.index('id="curves"')]
    rows = [re.findall(r">([^<>]+)</t[dh]>", row) for row in models.split("<tr>") if ">all</td>" in row]
    assert [row[-3:] for row in rows] == [["–", "2", "2"], ["–", "1", "1"]]  # tune mIoU, chosen epoch, epochs
    curves = html[html.index('id="curves"') : html.index('id="classes"')]
    of_all = curves[curves.index("<h3>Fold all</h3>") :]
    assert curves.count("mIoU on tune images") > 1 and "mIoU on tune images" not in of_all


# Refusals: a model that learned from everything, in the place of one that did not


def test_a_model_of_all_cannot_teach_a_fold(crossed, tmp_path):
    with pytest.raises(ValueError, match="main-all learned from 2 of the images that it would choose anything on"):
        teachers = [crossed / "data/models/baseline/main-all"]
        prepared, params = Prepared(crossed / "data/prepared", fold=0), load_params(crossed / "params.yaml")
        teach(Work("teach", prepared, [], params.teach, params.train, tmp_path), 0, teachers, checkpoints=False)


@pytest.mark.parametrize("parent", ["pseudo", "baseline"])
def test_nothing_of_all_can_train_a_model_of_a_fold(crossed, tmp_path, parent):
    prepared, params = Prepared(crossed / "data/prepared", fold=0), load_params(crossed / "params.yaml")
    names = {"pseudo": 0, "baseline": "main-0"} | {parent: {"pseudo": "all", "baseline": "main-all"}[parent]}
    job = Job(
        round="retrain",
        params=params.member("main"),
        prepared=prepared,
        fold=0,
        scored_size=None,
        out=tmp_path,
        pseudo=PseudoLabels(crossed / f"data/pseudo/{names['pseudo']}"),
        baseline=crossed / f"data/models/baseline/{names['baseline']}",
    )
    tracker = Tracker([], describe_run("retrain", "main", 0, {}, prepared.classes))
    with pytest.raises(ValueError, match="all learned from 2 of the images that it would choose anything on"):
        train_member(job, tmp_path, tracker)
    assert not list(tmp_path.iterdir())


def test_predictions_of_all_for_judge_images_cannot_be_scored(crossed, prepared, tmp_path):
    segmenter, card = load_segmenter(crossed / "data/models/baseline/main-all")
    judge = prepared.folds[0].judge
    for round_ in ROUNDS:
        with PredictionWriter(tmp_path / f"{round_}-main-0", "main-all", list(card.classes.names), (64, 64)) as writer:
            predictor = Predictor([segmenter], ONE_LOOK, prepared.image_size)
            for position, probs, _ in predict_probs(predictor, prepared.images, judge, label="predict"):
                writer.add(judge[position], probs, (64, 64))
            writer.finish(card.lineage, card.libraries)
    with pytest.raises(ValueError, match="main-all learned from 2 of the images that it would be judged on"):
        Ensemble(prepared, load_predictions(tmp_path, ("main",), (0,)), (0,))


# DVC


def set_params(project, *overrides):
    apply_overrides(str(project / "params.yaml"), [*overrides])
    command(project, "python", "-m", "segpipe.cli", "wire", PYTHONPATH="src")


def test_folds_train_side_by_side_and_all_alone_is_submitted_without_a_score(tmp_path):
    project = tmp_path / "project"
    make_tiny_project(project)
    set_params(project, "split.train_folds=[0,all]", *QUICK, *DRAWN)
    command(project, "dvc", "repro", "prepare")
    (line,) = [line for line in command_lines() if "--wait-for-lock" in line]
    assert "0 1 2 all" in line
    said = command(project, "sh", "-c", line.replace("0 1 2 all", "0 all")).stdout
    chains = {name for name in stages_run(said) if name.endswith("all")}
    assert {"baseline@main-all", "teach@all", "pseudo_label@all", "retrain@main-all"} <= chains
    assert len(stages_run(said)) == 2 * 6
    command(project, "git", "add", "-A")
    command(project, "git", "commit", "-qm", "fold 0 and all")

    set_params(project, "split.train_folds=[all]", "ensemble.rule=retrain-main")
    assert stages_run(command(project, "dvc", "repro").stdout) == ["ensemble", "report"]  # all else is there
    assert "up to date" in command(project, "dvc", "repro").stdout
    assert read_json(project / "metrics/ensemble.json") == {}
    selection = read_json(project / "data/submission/selection.json")
    assert selection["provenance"].startswith("Nothing is scored: the submitted models (fold all) learned from every")
    html = (project / "data/report/index.html").read_text(encoding="utf-8")
    assert "<title>Segmentation report: not scored</title>" in html and selection["provenance"] in html
    assert "metrics/baseline/main-all.json" in command(project, "dvc", "metrics", "show").stdout
    assert "metrics/baseline/main-0.json" in command(project, "dvc", "metrics", "diff", "HEAD").stdout
    assert "Training loss" in command(project, "dvc", "plots", "diff", "--json", "HEAD").stdout
    refused = command(project, "python", "-m", "segpipe.cli", "score", check=False, PYTHONPATH="src")
    assert refused.returncode != 0 and "train a numbered fold too" in refused.stdout
