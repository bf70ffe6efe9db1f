"""`segpipe score`: every definition by hand, against the ensemble stage's own number, and what it refuses."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from coco_folder import GLASS, PAPER, box, pictures, prepare_folder, write_folder
from label_map_folder import save_label_map, write_classes, write_folders
from typer.testing import CliRunner

from segpipe.cli import app
from segpipe.data.lineage import Lineage
from segpipe.data.prepared import Prepared
from segpipe.ensemble.average import Ensemble, load_predictions
from segpipe.ensemble.candidates import Candidate, list_candidates
from segpipe.ensemble.selection import select
from segpipe.inference.probs import PredictionWriter
from segpipe.params import load_params
from segpipe.score.candidate import score_candidate
from segpipe.score.labels import score_labels
from segpipe.score.sheet import Judged, fill_sheet, to_json, to_text
from segpipe.stage import write_json
from segpipe.submission.layout import layout_of
from segpipe.submission.write import write_submission

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("Background", "Glass", "Paper", "Metal")
RULES = ("skip", "zero", "one")
OBJECTS = [box(GLASS, 0, 0, 6, 4), box(PAPER, 6, 4, 12, 8)]  # of every judge image
MODELS = [(round_, member) for round_ in ("baseline", "retrain") for member in ("main", "second")]


def judged(name, *matrices, **changes):
    confusions = np.array(matrices)
    values = {"name": name, "confusions": {"scored": confusions, "native": confusions}, "scored_size": (2, 3)}
    groups = [f"scene {index}" for index in range(len(matrices))]
    return Judged(**values | {"groups": groups, "class_names": NAMES[:3]} | changes)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The outputs of a run: 12 judge images of 8 x 12 pixels, scored at 4 x 6, with random predictions of 4 models."""
    held_out = pictures(*(f"held{i}" for i in range(24)), height=8, width=12, annotations=OBJECTS)
    write_folder(tmp_path / "raw", val=held_out, categories={GLASS: "Glass", PAPER: "Paper", 9: "Metal"})
    (tmp_path / "data").mkdir()
    prepare_folder(tmp_path / "raw").rename(tmp_path / "data/prepared")
    prepared, rng = Prepared(tmp_path / "data/prepared", judge=True), np.random.default_rng(0)
    for round_, member in MODELS:
        name = f"{round_}-{member}-0"
        with PredictionWriter(tmp_path / "data/predictions" / name, name, list(NAMES), (4, 6)) as writer:
            for index in prepared.folds[0].judge:
                probs = rng.dirichlet(np.ones(3), (4, 6)).astype(np.float32)
                writer.add(index, np.pad(probs, ((0, 0), (0, 0), (0, 1))), (8, 12))  # Metal is never predicted
            writer.finish(Lineage(frozenset(), frozenset()), {})
    shutil.copy(ROOT / "params.yaml", tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stage_selection():
    """What stages/ensemble.py writes to selection.json, and the judge confusions of every candidate."""
    params, prepared = load_params(), Prepared(Path("data/prepared"), judge=True)
    ensemble = Ensemble(prepared, load_predictions(Path("data/predictions"), params.member_names, (0,)), (0,))
    candidates = list_candidates(params.member_names)
    confusions = ensemble.judge_confusions(candidates)
    groups = [prepared.entries[index].group for index in ensemble.judge_indices]
    return select("best", candidates, confusions, groups), confusions


# The sheet


def test_every_definition_by_hand():
    # image 1 is right and shows class 0 alone; in image 2 one of class 0's two pixels is called class 1; no class 2
    sheet = fill_sheet(judged("x", [[8, 0, 0], [0, 0, 0], [0, 0, 0]], [[1, 1, 0], [0, 0, 0], [0, 0, 0]]))
    found = {definition[1:]: score.value for definition, score in sheet.scores.items() if definition[0] == "scored"}
    assert found == {
        ("pooled", "skip"): pytest.approx((9 / 10 + 0) / 2),
        ("pooled", "zero"): pytest.approx((9 / 10 + 0 + 0) / 3),
        ("pooled", "one"): pytest.approx((9 / 10 + 0 + 1) / 3),
        ("per_image", "skip"): pytest.approx((1 + (1 / 2 + 0) / 2) / 2),
        ("per_image", "zero"): pytest.approx((1 / 3 + (1 / 2) / 3) / 2),
        ("per_image", "one"): pytest.approx((1 + (1 / 2 + 1) / 3) / 2),
    }
    assert len(sheet.scores) == 12
    assert "in no image's truth or prediction: Paper." in to_text(sheet)
    assert "fewer than 10 groups" in to_text(sheet)


def test_differences_are_paired_and_equal_predictions_are_called_identical():
    a = judged("a", *[[[9, 0, 0], [0, 9, 0], [0, 0, 9]]] * 12)
    b = judged("b", *[[[9, 0, 0], [0, 9, 0], [9, 0, 0]]] * 12)  # calls class 2 class 0: IoU 1/2, 1, 0
    sheet = fill_sheet(a, b)
    assert {found.verdict for found in sheet.differences.values()} == {"better"}
    assert sheet.differences["scored", "pooled", "skip"].difference == pytest.approx(1 - 1.5 / 3)
    assert "a minus b, the same groups drawn for both" in to_text(sheet)
    same = fill_sheet(a, judged("copy of a", *a.confusions["scored"]))
    assert {found.verdict for found in same.differences.values()} == {"identical"}


def test_classes_absent_at_one_size_only_are_named_with_the_size():
    small, large = np.array([np.diag([4, 0, 0])]), np.array([np.diag([16, 1, 0])])
    text = to_text(fill_sheet(judged("x", small[0], confusions={"scored": small, "native": large})))
    assert "prediction: Glass, Paper (scored size); Paper (native size)." in text


def test_groups_without_a_labelled_pixel_do_not_make_the_intervals_trustworthy():
    labelled, empty = np.diag([9, 9, 9]), np.zeros((3, 3), int)
    sheet = fill_sheet(judged("x", *[labelled] * 9, empty, empty))
    assert "11 images in 9 groups" in to_text(sheet)
    assert "fewer than 10 groups" in sheet.notes[-1]


# Candidates


def test_the_headline_is_the_ensemble_stages_own_number(project):
    selection, _ = stage_selection()
    write_json(Path("data/submission/selection.json"), selection)
    sheet = score_candidate(load_params())
    row = next(row for row in selection["candidates"] if row["name"] == selection["chosen"])
    score = sheet.scores["scored", "pooled", "skip"]
    assert (sheet.own.name, score.value, score.low, score.high) == (row["name"], row["miou"], row["low"], row["high"])
    assert sheet.scores["scored", "per_image", "skip"].value == row["per_image_miou"]
    assert sheet.own.absent_classes("scored") == ["Metal"]
    assert sheet.notes[0].startswith("It was chosen as best of 7 on these images; estimated optimism")


def test_a_named_candidate_against_another_gives_the_ensemble_stages_difference(project):
    selection, confusions = stage_selection()
    sheet = score_candidate(load_params(), "retrain-main", "baseline-main")
    row = next(row for row in selection["candidates"] if row["name"] == "retrain-main")
    found = sheet.differences["scored", "pooled", "skip"]
    assert (found.difference, found.low, found.high) == tuple(
        row["difference"][k] for k in ("difference", "low", "high")
    )
    assert np.array_equal(sheet.own.confusions["scored"], confusions["retrain-main"])


def test_a_fitted_candidate_is_scored_with_the_weights_that_selection_json_holds(project):
    everything = list_candidates(("main", "second"))[-1]
    weighted = Candidate("weighted", everything.parts, weights=(0.0, 1.0, 0.0, 0.0))
    with pytest.raises(ValueError, match="no candidate 'weighted'"):
        score_candidate(load_params(), "weighted")
    write_json(Path("data/submission/selection.json"), {"chosen": "weighted", "candidates": [weighted.to_json()]})
    expected = score_candidate(load_params(), "baseline-second").own.confusions["scored"]
    assert (score_candidate(load_params()).own.confusions["scored"] == expected).all()


def test_native_size_counts_every_pixel_of_the_images(project):
    sheet = score_candidate(load_params(), "mean-all")
    assert sheet.own.confusions["scored"].sum() == 12 * 4 * 6
    assert sheet.own.confusions["native"].sum() == 12 * 8 * 12
    assert "at 4 x 6" in to_text(sheet)
    assert "native size is upsampled" in to_text(sheet)


def test_progress_of_long_work_does_not_stand_before_the_json(project, monkeypatch):
    monkeypatch.setattr("segpipe.progress.SHORT_SECONDS", 0.0)
    result = CliRunner().invoke(app, ["score", "mean-all", "--json"])
    json.loads(result.stdout)
    assert "judge" in result.stderr, "it stands on stderr"


def test_json_has_an_entry_for_each_definition_and_no_number_that_json_lacks(project):
    result = CliRunner().invoke(app, ["score", "mean-all", "--against", "baseline-main", "--json"])
    found = json.loads(result.stdout, parse_constant=pytest.fail)
    assert (found["name"], found["against"], found["images"], found["groups"]) == ("mean-all", "baseline-main", 12, 12)
    keys = {(entry["size"], entry["statistic"], entry["absent"]) for entry in found["scores"]}
    assert len(keys) == len(found["scores"]) == len(found["differences"]) == 12
    assert found == json.loads(json.dumps(to_json(score_candidate(load_params(), "mean-all", "baseline-main"))))


def test_score_runs_without_torch(project):
    check = "import sys; from segpipe.cli import app; app(['score', 'mean-all'], standalone_mode=False)"
    check += "; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "pooled over images" in done.stdout


# Label maps


@pytest.fixture
def label_maps(project):
    """Params, and the true label maps of 24 images as `submission` writes them, at the scored size of 4 x 6."""
    params = load_params()
    submission = params.submission.model_copy(update={"size": (4, 6), "formats": ("png",)})
    params = params.model_copy(
        update={"submission": submission, "data": params.data.model_copy(update={"root": str(project / "raw")})}
    )
    prepared = Prepared(project / "data/prepared", judge=True)
    held_out = [i for i, entry in enumerate(prepared.entries) if entry.file_name.startswith("held")]
    maps = ((prepared.entries[i].file_name, prepared.native_target(i)[::2, ::2]) for i in held_out)
    write_submission(project / "out", layout_of(submission, prepared.classes, None), maps)
    return params, project / "out/png", project / "raw/val.json"


def test_the_true_label_maps_score_one(label_maps):
    params, folder, truth = label_maps
    sheet = score_labels(params, folder, truth)
    assert list(sheet.own.confusions) == ["scored"]
    assert sheet.own.confusions["scored"].shape == (24, 4, 4)
    found = {definition[1:]: score.value for definition, score in sheet.scores.items()}
    # Metal is nowhere: 3 of 4 classes count in full
    assert found == {(s, a): {"skip": 1, "zero": 3 / 4, "one": 1}[a] for s in ("pooled", "per_image") for a in RULES}
    assert "at native size" not in to_text(sheet)


def test_without_a_submission_size_label_maps_are_scored_at_each_images_own(label_maps):
    params, folder, truth = label_maps
    for path in folder.glob("*.png"):
        labels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED).repeat(2, axis=0).repeat(2, axis=1)
        path.write_bytes(cv2.imencode(".png", labels)[1].tobytes())
    params = params.model_copy(update={"submission": params.submission.model_copy(update={"size": None})})
    sheet = score_labels(params, folder, truth)
    assert sheet.own.confusions["native"].sum() == 24 * 8 * 12
    assert sheet.scores["native", "pooled", "skip"].value == 1
    assert "at native size" in to_text(sheet)


def test_the_truth_may_be_label_maps_with_the_same_scores(label_maps):
    params, folder, truth = label_maps
    expected = score_labels(params, folder, truth).scores
    root = truth.parent
    write_folders(root, judge=pictures(*(f"held{i}" for i in range(24)), height=8, width=12, annotations=OBJECTS))
    write_classes(root, {GLASS: "Glass", PAPER: "Paper", 9: "Metal"})
    for path in folder.glob("held*.png"):
        moved = folder / "judge/images" / path.name
        moved.parent.mkdir(parents=True, exist_ok=True)
        path.rename(moved)
    params = params.model_copy(update={"data": params.data.model_copy(update={"format": "png"})})
    assert score_labels(params, folder, root / "judge").scores == expected
    save_label_map(root / "judge/masks/held1.png", np.full((8, 12), 77, np.uint8))
    with pytest.raises(ValueError, match=r"judge/masks/held1.png holds values without a row in classes.csv: 77 \(96 p"):
        score_labels(params, folder, root / "judge")
    with pytest.raises(ValueError, match=r"lies outside .*judge, where its classes.csv is looked for; give"):
        score_labels(params, folder, root / "train", root / "judge")


def test_a_truth_is_scored_in_the_classes_that_params_yaml_merges(label_maps):
    params, folder, truth = label_maps
    merged = ({"Any": ("Metal", "Glass", "Wood")}, "Paper")
    params = params.model_copy(update={"data": params.data.model_copy(update={"classes": merged})})
    (folder / "classes.json").unlink()
    sheet = score_labels(params, folder, truth)
    assert sheet.own.class_names == ("Background", "Any", "Paper"), "Wood may be a category of another file"
    assert sheet.scores["scored", "pooled", "skip"].value == 1


def test_a_truth_whose_categories_do_not_fit_the_classes_is_refused(label_maps):
    params, folder, truth = label_maps
    for classes, said in (
        (("Glass",), "leaves out"),
        (("Glass", "Paper", "Metal", "Wood"), r"none of the classes \['Wo"),
    ):
        chosen = params.model_copy(update={"data": params.data.model_copy(update={"classes": classes})})
        with pytest.raises(ValueError, match=said):
            score_labels(chosen, folder, truth)


def test_a_map_that_differs_is_counted_where_it_differs(label_maps):
    params, folder, truth = label_maps
    # all Background; of 4 x 6 pixels Glass has 2 x 3 and Paper 2 x 3, so that Background has IoU 12 / 24
    (folder / "held0.png").write_bytes(cv2.imencode(".png", np.zeros((4, 6), np.uint8))[1].tobytes())
    sheet = score_labels(params, folder, truth)
    assert sheet.scores["scored", "per_image", "skip"].value == pytest.approx((23 + (1 / 2 + 0 + 0) / 3) / 24)
    inter_glass = 23 * 6 / (24 * 6)
    pooled = ((24 * 12) / (24 * 12 + 12) + 2 * inter_glass) / 3
    assert sheet.scores["scored", "pooled", "skip"].value == pytest.approx(pooled)


def test_maps_that_are_missing_or_of_another_size_or_class_are_all_named(label_maps):
    params, folder, truth = label_maps
    (folder / "held3.png").unlink()
    (folder / "held5.png").write_bytes(cv2.imencode(".png", np.zeros((8, 12), np.uint8))[1].tobytes())
    (folder / "held7.png").write_bytes(cv2.imencode(".png", np.full((4, 6), 4, np.uint8))[1].tobytes())
    (folder / "classes.json").write_text('{"names": ["Background", "Bottle"]}', encoding="utf-8")
    with pytest.raises(ValueError) as refusal:
        score_labels(params, folder, truth)
    first, *named = str(refusal.value).splitlines()
    assert first == f"{folder}: the label maps do not fit {truth}:"
    assert [line.strip() for line in named] == [
        "classes.json: found the classes ['Background', 'Bottle'], expected ['Background', 'Glass', 'Paper', 'Metal'], "
        "as the truth has them",
        "held3.png: missing",
        "held5.png: found 8 x 12 pixels, expected 4 x 6",
        "held7.png: found class 4, expected 0 to 3",
    ]


def test_a_folder_that_is_not_there_is_one_error_and_not_one_an_image(label_maps):
    params, folder, truth = label_maps
    with pytest.raises(FileNotFoundError, match="no such folder; expected one of PNG label maps"):
        score_labels(params, folder / "elsewhere", truth)


def test_a_faulty_truth_is_refused_with_all_its_problems(label_maps):
    params, folder, truth = label_maps
    for name in ("held1.png", "held2.png"):
        (truth.parent / name).unlink()
    with pytest.raises(ValueError, match=r"(?s)val.json: cannot be scored against:.*held1.png.*held2.png"):
        score_labels(params, folder, truth)


def test_a_truth_without_any_annotation_is_no_truth(label_maps):
    params, folder, truth = label_maps
    content = json.loads(truth.read_text(encoding="utf-8"))
    one, none = content["annotations"][:1], []
    truth.write_text(json.dumps(content | {"annotations": none}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"val.json: 'annotations': no image has an annotation; expected a file that"):
        score_labels(params, folder, truth)
    truth.write_text(json.dumps(content | {"annotations": one}), encoding="utf-8")
    score_labels(params, folder, truth)


@pytest.mark.parametrize("words", [["--labels", "out"], ["--truth", "f.json"], ["a", "--labels", "b", "--truth", "c"]])
def test_label_maps_need_their_truth_and_no_candidate(project, words):
    result = CliRunner().invoke(app, ["score", *words])
    assert "--labels FOLDER with --truth FILE" in str(result.exception)


# Errors


def test_unknown_candidates_are_all_named_with_the_nearest(project):
    with pytest.raises(
        ValueError, match=r"'mean-al' \(did you mean mean-all\?\), no candidate 'xyz'; .* there are base"
    ):
        score_candidate(load_params(), "mean-al", "xyz")


@pytest.mark.parametrize("name", ["mean-all", None])
def test_a_candidate_is_not_compared_with_itself(project, name):
    write_json(Path("data/submission/selection.json"), {"chosen": "mean-all", "candidates": []})
    with pytest.raises(ValueError, match="--against names mean-all, the candidate itself; give another one: baseline-"):
        score_candidate(load_params(), name, "mean-all")


def test_missing_predictions_are_all_named_and_dvc_repro_makes_them(project):
    for name in ("baseline-main-0", "retrain-main-0"):
        shutil.rmtree(project / "data/predictions" / name)
    with pytest.raises(FileNotFoundError, match="of baseline-main-0, retrain-main-0; `dvc repro` makes them"):
        score_candidate(load_params(), "mean-all")
    assert score_candidate(load_params(), "baseline-second").own.name == "baseline-second", (
        "needs the other member only"
    )


def test_without_a_submission_the_missing_selection_is_named(project):
    with pytest.raises(FileNotFoundError, match=r"selection.json: not found; `dvc repro` makes it"):
        score_candidate(load_params())
