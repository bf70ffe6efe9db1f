import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from segpipe.data.lineage import Lineage
from segpipe.data.prepared import ImageEntry, Prepared
from segpipe.data.store import PackedWriter
from segpipe.ensemble import Ensemble, list_candidates, load_predictions, select
from segpipe.inference.probs import PredictionWriter
from segpipe.labels import IGNORE_INDEX, ClassTable, distinct_colors
from segpipe.metrics import mean_iou
from segpipe.params import Params, check_params
from segpipe.pseudo import make_pseudo_labels
from segpipe.report.charts import Axis, Line, confusion_table, line_chart, range_row, ticks
from segpipe.report.inputs import NOT_SHOWN, SHOWN
from segpipe.report.markup import Markup, fixed, join, percent, signed, table, tag
from segpipe.report.overlays import CONFUSED, FALSE_ALARM, MISSED, label_overlay, mistakes_overlay, shown_size
from segpipe.report.page import write_report
from segpipe.stage import write_json
from segpipe.tables import write_confusion, write_iou

HOSTILE = "<script>alert(1)</script>"
NAMES = ("Background", "NA", HOSTILE, "Never seen")
CLASSES = ClassTable(NAMES, (None, 1, 2, 3), distinct_colors(4, background=True))
SIDE, NUM_JUDGE = 24, 12  # pixels; judge images of each fold
FOLDERS = {
    "prepared_folder": "prepared",
    "predictions_folder": "predictions",
    "pseudo_folder": "pseudo",
    "submission_folder": "submission",
    "metrics_folder": "metrics",
    "plots_folder": "plots",
}


def fake_params(folds: int) -> Params:
    raw = YAML(typ="safe").load(Path("params.yaml").read_text(encoding="utf-8"))
    raw["member_names"], raw["members"] = ["main", "second"], {"main": {}, "second": {"seed": 7}}
    raw["data"] |= {"val": None, "root": f"data/raw/{HOSTILE}"}
    raw["split"] |= {"folds": 2, "train_folds": list(range(folds))}
    raw["ensemble"], raw["submission"]["size"] = {"rule": "best"}, [SIDE, SIDE]
    return check_params(raw)


def write_run(folder: Path, params: Params, *, confidence: float = 0.6, seed: int = 0) -> None:
    """All that the report reads, drawn at random, through the writers of the stages before it."""
    rng = np.random.default_rng(seed)
    write_prepared(folder / "prepared", rng)
    for fold in params.split.train_folds:
        for member in params.member_names:
            for round_ in ("baseline", "retrain"):
                write_model(folder, (round_, member, fold), rng)
        write_pseudo(folder, params, fold, confidence, rng)
    write_ensemble(folder, params)


def write_prepared(folder: Path, rng: np.random.Generator) -> None:
    folds = [{"train": list(range(12, 18)), "tune": [18, 19], "judge": list(range(12))}]
    folds.append({"train": list(range(8)), "tune": [8, 9], "judge": list(range(10, 20))})
    sets = {"labeled": list(range(20)), "judge": [], "test": [20, 21, 22], "unlabeled": [23, 24, 25, 26]}
    with (
        PackedWriter(folder / "images") as images,
        PackedWriter(folder / "targets") as targets,
        PackedWriter(folder / "native_targets", codec="zlib") as native_targets,
    ):
        for index in range(27):
            images.add(rng.integers(256, size=(SIDE // 2, SIDE // 2, 3)).astype(np.uint8))
            if index < 20:
                target = rng.integers(3, size=(SIDE, SIDE)).astype(np.uint8)
                target[:2] = IGNORE_INDEX
                native_targets.add(target)
                targets.add(target[::2, ::2])
    entries = [ImageEntry(f"a&b/{i:02}.jpg", i, SIDE, SIDE, f"scene {i}", f"hash{i}").to_json() for i in range(27)]
    write_json(folder / "table.json", {"image_size": [SIDE // 2, SIDE // 2], "sets": sets, "images": entries})
    write_json(folder / "classes.json", CLASSES.to_json())
    write_json(folder / "folds.json", {"folds": folds})
    shares = dict.fromkeys(NAMES, 0.25)
    counts = {name: len(indices) for name, indices in sets.items()}
    left_out = [f"{HOSTILE}: image 3: found nothing"]
    check = {"images": counts, "class_pixel_shares": shares, "ignored_pixel_share": 0.1, "left_out": left_out}
    write_json(folder / "data_check.json", check)


def write_model(folder: Path, key: tuple[str, str, int], rng: np.random.Generator) -> None:
    round_, member, fold = key
    prepared = Prepared(folder / "prepared", judge=True)
    name = f"{round_}-{member}-{fold}"
    with PredictionWriter(folder / "predictions" / name, name, list(NAMES), (SIDE, SIDE)) as writer:
        for index in [*prepared.folds[fold].judge, *prepared.sets["test"]]:
            probs = rng.dirichlet([1, 1, 1], size=(SIDE // 2, SIDE // 2)).astype(np.float32)
            writer.add(index, np.concatenate([probs, 0 * probs[..., :1]], axis=-1), (SIDE, SIDE))
        writer.finish(Lineage(frozenset(), frozenset()))
    write_json(folder / "metrics" / round_ / f"{member}-{fold}.json", {"miou": 0.25})
    rows = [{"epoch": i, "lr": 0.1 / i, "train_loss": 1 / i, "tune_miou": 0.2 + (i == 3) / 20} for i in range(1, 6)]
    if name == "retrain-second-0":  # as member.py writes it without pseudo labels
        rows = [{"epoch": 0, "lr": 0.0, "train_loss": float("nan"), "tune_miou": 0.25}]
    plots = folder / "plots" / round_ / f"{member}-{fold}"
    plots.mkdir(parents=True)
    pd.DataFrame(rows).to_csv(plots / "history.csv", index=False)


def write_pseudo(folder: Path, params: Params, fold: int, confidence: float, rng: np.random.Generator) -> None:
    prepared, taught = Prepared(folder / "prepared", fold=fold), folder / "taught" / str(fold)
    indices = [*prepared.pool(), *prepared.folds[fold].tune]
    with PackedWriter(taught / "classes") as classes, PackedWriter(taught / "confidence") as confidences:
        for _ in indices:
            classes.add(rng.integers(3, size=(SIDE // 2, SIDE // 2)).astype(np.uint8))
            confidences.add(rng.integers(256, size=(SIDE // 2, SIDE // 2)).astype(np.uint8))
    card = {"teachers": ["t"], "pool": list(prepared.pool()), "tune": list(prepared.folds[fold].tune)}
    card |= {"agreement": rng.random(len(indices)).tolist(), "lineage": {"learned_from": [], "tuned_on": []}}
    write_json(taught / "card.json", card)
    kept = make_pseudo_labels(
        prepared,
        taught,
        params.pseudo_label.model_copy(update={"confidence": confidence}),
        folder / "pseudo" / str(fold),
        folder / "plots" / "pseudo_label" / str(fold),
    )
    write_json(folder / "metrics" / "pseudo_label" / f"{fold}.json", {"kept": kept})


def write_ensemble(folder: Path, params: Params) -> None:
    """As stages/ensemble.py, but for the submission itself."""
    prepared, folds = Prepared(folder / "prepared", judge=True), params.split.train_folds
    ensemble = Ensemble(prepared, load_predictions(folder / "predictions", params.member_names, folds), folds)
    candidates = list_candidates(params.member_names)
    judged = [prepared.entries[index] for index in ensemble.judge_indices]
    groups = [entry.group for entry in judged]
    confusions = ensemble.judge_confusions(candidates)
    selection = select(params.ensemble.rule, candidates, confusions, groups)
    write_json(folder / "submission" / "selection.json", selection)
    own, plots = confusions[selection["chosen"]], folder / "plots" / "ensemble"
    write_iou(own, groups, NAMES, plots / "iou.csv")
    write_confusion(own.sum(axis=0), NAMES, plots / "confusion.csv")
    names = [entry.file_name for entry in judged]
    per_image = {"file_name": names, "group": groups, "miou": [mean_iou(matrix) for matrix in own]}
    pd.DataFrame(per_image).to_csv(plots / "per_image.csv", index=False)


def report(folder: Path, params: Params, out: str = "out") -> str:
    write_report(params, **{key: folder / name for key, name in FOLDERS.items()}, out=folder / out)
    return (folder / out / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_run(folder, fake_params(folds=1))
    return folder


@pytest.fixture(scope="module")
def html(run_folder) -> str:
    return report(run_folder, fake_params(folds=1))


class Elements(HTMLParser):
    """All start tags with their attributes, and whether every element was closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "wbr"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict]:
        return [attributes for found, attributes in self.found if found == tag]


@pytest.fixture(scope="module")
def elements(html) -> Elements:
    return Elements(html)


def test_the_page_is_a_well_formed_document(html, elements):
    assert html.startswith('<!doctype html>\n<html lang="en">')
    assert elements.open == []
    identities = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    assert len(identities) == len(set(identities))
    targets = [link["href"] for link in elements.all("a")]
    assert targets and all(target.removeprefix("#") in identities for target in targets)


def test_the_headline_and_every_candidate_and_model_are_there(html, run_folder):
    for name in ("baseline-main", "retrain-second", "mean-all"):
        assert f'<th scope="row" class="text"><span class="word">{name}</span></th>' in html
    assert "chosen as best of 7 on these images" in html
    assert "baseline kept" in html  # the model whose retraining had nothing to learn from
    assert len(html.encode()) < 1_500_000


def test_names_from_the_data_stay_text(html, elements):
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert not elements.all("script")
    assert "a&amp;b/00.jpg" in html and "a&b" not in html
    assert ">NA</span>" in html  # not taken for a missing value


def test_a_class_that_no_image_shows_has_dashes(html):
    row = next(line for line in html.splitlines() if 'row"' in line and "Never seen" in line)
    assert "–" in row and "nan" not in row.lower()
    assert not re.search(r"[>\s(]nan[<\s,)]", html)


def test_equal_inputs_give_equal_bytes(run_folder, html, tmp_path):
    params = fake_params(folds=1)
    assert report(run_folder, params, "again") == html
    write_run(tmp_path / "elsewhere", params)
    assert report(tmp_path / "elsewhere", params) == html  # no path, no time


def test_nothing_is_asked_for_from_elsewhere(html, elements):
    for _, attributes in elements.found:
        for key in ("src", "href", "srcset", "data", "action", "poster", "xlink:href"):
            assert attributes.get(key, "#").startswith(("#", "data:image/jpeg;base64,"))
    assert "url(" not in html and "@import" not in html and "http:" not in html and "https:" not in html
    policy = next(meta["content"] for meta in elements.all("meta") if "http-equiv" in meta)
    assert "default-src 'none'" in policy and "script" not in policy


def test_pictures_and_charts_say_what_they_show(elements):
    assert elements.all("img") and all(image["alt"] and image["width"] for image in elements.all("img"))
    titled = [i for i, (name, _) in enumerate(elements.found) if name == "svg"]
    for position in titled:
        attributes = elements.found[position][1]
        if attributes.get("aria-hidden") != "true":
            assert attributes["role"] == "img" and elements.found[position + 1][0] == "title"
    assert all("scope" in head for head in elements.all("th"))
    assert len(elements.all("caption")) == len(elements.all("table"))


def test_headings_go_down_one_level_at_a_time(elements):
    levels = [int(name[1]) for name, _ in elements.found if re.fullmatch(r"h[1-6]", name)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_several_folds_have_one_row_a_model_and_nothing_kept_is_said(tmp_path):
    params = fake_params(folds=2)
    write_run(tmp_path, params, confidence=1.0)  # only a confidence of just 255 is kept: hardly any
    for fold in params.split.train_folds:  # leave nothing at all
        card = tmp_path / "pseudo" / str(fold)
        with PackedWriter(card / "labels"):
            pass
        write_json(card / "card.json", {"indices": [], "teachers": [], "lineage": {"learned_from": [], "tuned_on": []}})
    html = report(tmp_path, params)
    models = html[html.index('id="models"') : html.index('id="curves"')]
    assert models.count('<th scope="row"') == 8
    assert "<h3>Fold 1</h3>" in html
    assert "No pixel of the pool was confident enough" in html


def test_a_missing_file_is_named(run_folder, tmp_path):
    params = fake_params(folds=1)
    folders = {key: run_folder / name for key, name in FOLDERS.items()} | {"plots_folder": tmp_path}
    with pytest.raises(FileNotFoundError, match="dvc repro"):
        write_report(params, **folders, out=tmp_path)


def test_every_section_of_the_parameters_is_shown_or_left_out_on_purpose(html):
    assert sorted((*SHOWN, *NOT_SHOWN)) == sorted(Params.model_fields)
    parameters = html[html.index('id="parameters"') :]
    for section in ("Top level", "data", "members"):
        assert f"<caption>{section}</caption>" in parameters
    for key in ("root", "dropout.<wbr>encoder", "second.<wbr>seed"):
        assert f"<code>{key}</code>" in parameters
    assert "<caption>sample</caption>" not in parameters and "<caption>tracking</caption>" not in parameters


def test_text_is_escaped_unless_it_is_markup():
    assert tag("b", "<i>") == "<b>&lt;i&gt;</b>"
    assert tag("b", Markup("<i>")) == "<b><i></b>"
    assert tag("b", "", title='"') == '<b title="&quot;"></b>'
    assert join(["<", Markup("<br>")], "") == "&lt;<br>"
    assert Markup("<br>") + "<" == "<br>&lt;"
    assert "&lt;td&gt;" in table("t", [], []) + "<td>"


def test_numbers_are_written_for_people():
    assert [fixed(0.12345), fixed(-0.5, 1), fixed(float("nan"))] == ["0.123", "−0.5", "–"]
    assert [signed(x) for x in (0.0123, -0.01, 0.0, -0.0001, float("nan"))] == [
        "+0.012",
        "−0.010",
        "0.000",
        "0.000",
        "–",
    ]
    assert [percent(x) for x in (0.5, 0.00001, 0.0, float("nan"))] == ["50.0\xa0%", "<0.1\xa0%", "0.0\xa0%", "–"]


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.31, 0.52), (3, 3), (-0.2, 17), (1e-4, 9e-4)])
def test_ticks_hold_the_range(low, high):
    marks = ticks(low, high)
    assert marks[0] <= low <= high <= marks[-1] and 3 <= len(marks) <= 8


def test_ticks_are_round():
    assert ticks(0, 0.93) == [0, 0.2, 0.4, 0.6, 0.8, 1]


def test_a_line_chart_leaves_out_what_is_not_finite():
    line = Line("a", [1, 2, 3], [float("nan"), 0.5, float("inf")], 2)
    chart = line_chart("Score", [line], "one")
    assert chart.count("<circle") == 1 and "nan" not in chart and "inf" not in chart
    empty = line_chart("Score", [replace(line, ys=[float("nan")] * 3)], "two")
    assert "No values were recorded" in empty


@pytest.mark.parametrize("epoch", [0, 1, 7])
def test_a_line_chart_of_one_epoch_shows_its_mark_in_the_middle(epoch):
    chart = line_chart("Score", [Line("a", [epoch], [0.25], epoch)], "one")
    assert chart.count("<circle") == 1 and f">{epoch}</text>" in chart


def test_a_range_without_a_value_draws_nothing():
    nothing = float("nan")
    assert range_row("a", nothing, nothing, nothing, Axis(0, 1), bar=True) == ""
    assert "whisker" not in range_row("a", 0.5, nothing, nothing, Axis(0, 1), bar=True)


def test_confusion_rows_are_shares_of_the_truth():
    shown = confusion_table([Markup("A"), Markup("B")], np.array([[3, 1], [0, 0]]))
    assert ">75</td>" in shown and ">25</td>" in shown and shown.count(">–</td>") == 2


def test_many_classes_are_listed_by_their_largest_confusions():
    confusion = np.zeros((100, 100), np.int64)
    confusion[3, 5], confusion[7, 7] = 10, 99
    shown = confusion_table([Markup(f"class {i}") for i in range(100)], confusion)
    assert "class 3<" in shown and "class 5<" in shown and "class 7<" not in shown


def test_mistakes_are_told_apart():
    image = np.zeros((1, 4, 3), np.uint8)
    target = np.array([[1, 0, 1, IGNORE_INDEX]], np.uint8)
    preds = np.array([[0, 1, 2, 1]], np.uint8)
    drawn = mistakes_overlay(image, target, preds, CLASSES)[0].tolist()
    assert drawn[:3] == [list(MISSED), list(FALSE_ALARM), list(CONFUSED)]
    assert drawn[3] in ([225] * 3, [120] * 3)  # hatched: no truth, no mistake


def test_without_a_background_every_mistake_is_a_wrong_class():
    classes = ClassTable(("A", "B"), (1, 2), distinct_colors(2, background=False))
    target, preds = np.array([[0, 1, 0]], np.uint8), np.array([[1, 0, 0]], np.uint8)
    drawn = mistakes_overlay(np.zeros((1, 3, 3), np.uint8), target, preds, classes)[0].tolist()
    assert drawn[:2] == [list(CONFUSED)] * 2 and drawn[2] == [153] * 3


def test_the_background_stays_grey_under_labels():
    image = np.full((1, 2, 3), 200, np.uint8)
    drawn = label_overlay(image, np.array([[0, 1]], np.uint8), CLASSES)[0].tolist()
    assert drawn[0] == [170, 170, 170]
    assert len(set(drawn[1])) > 1


def test_pictures_keep_their_proportions_and_never_grow():
    assert [shown_size((1024, 512)), shown_size((10, 20)), shown_size((4000, 3))] == [(256, 128), (10, 20), (256, 1)]
