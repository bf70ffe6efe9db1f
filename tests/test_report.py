"""The report as text: a well-formed page that holds what it should, escaped, the same each time."""

import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_run import CLASSES, FOLDERS, LIBRARIES, fake_params, report, write_run

from segpipe.data.store import PackedWriter
from segpipe.params import Params
from segpipe.report.charts import Axis, Line, confusion_table, line_chart, range_row, ticks
from segpipe.report.gather import ModelRun
from segpipe.report.inputs import NOT_SHOWN, SHOWN
from segpipe.report.markup import Markup, fixed, join, percent, signed, table, tag
from segpipe.report.page import write_report
from segpipe.stage import read_json, write_json


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


def test_the_ensembles_tables_are_those_of_selection_json(html, run_folder):
    selection = read_json(run_folder / "submission/selection.json")
    rows = {
        caption: table_rows(html, caption) for caption in ("Fitted candidates", "What each member", "Pairs of models")
    }
    assert [row[0] for row in rows["Fitted candidates"]] == ["weighted", "cleaned"]
    brings = [("member " if row["kind"] == "member" else "") + row["without"] for row in selection["drop_one"]]
    assert [row[0] for row in rows["What each member"]] == brings and len(brings) == 2 + 4
    alike = sorted(selection["likeness"], key=lambda row: row["shared"])
    assert [(row[0], row[1], row[2]) for row in rows["Pairs of models"]] == [
        (row["a"], row["b"], f"{row['shared']:.3f}") for row in alike
    ]


def table_rows(html, caption):
    """The cells' text of the body rows of the table whose caption starts so."""
    table = html[html.index(f"<caption>{caption}") :]
    body = table[table.index("<tbody>") : table.index("</tbody>")]
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in body.split("<tr")[1:]]
    return [[re.sub(r"<[^>]+>", "", cell) for cell in row] for row in cells]


def test_the_table_of_classes_has_the_colours_of_the_pictures(run_folder):
    _, *rows = (run_folder / "plots/ensemble/iou.csv").read_text(encoding="utf-8").splitlines()
    colors = [tuple(bytes.fromhex(row.rsplit(",#")[-1])) if ",#" in row else None for row in rows]
    assert colors == [None, *CLASSES.colors[1:]], "the background stays grey"


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
    part = pool_part(html)
    assert "and retraining kept the baseline models." in part and "learns as mistakes" not in part
    assert part.count("Retraining kept the baseline models.") == 2, "of each fold"


def test_terms_of_a_loss_that_has_several_stand_with_their_shares_of_the_gradient(html):
    part = html[html.index('id="curves"') : html.index('id="pseudo-labels"')]
    rows = [re.sub(r"<[^>]+>", " ", row).split() for row in part.split("<tr>") if "dice" in row or ">ce<" in row]
    assert [row[:4] for row in rows[:2]] == [["main", "0", "baseline", "ce"], ["main", "0", "baseline", "dice"]]
    assert rows[0][4:] == ["2.000", "0.400", "90.0", "%", "50.0", "%"]
    assert not any(row[0] == "second" for row in rows), "one term is all of the gradient"


def pool_part(html: str) -> str:
    return html[html.index('id="pseudo-labels"') : html.index('id="data"')]


def test_images_of_the_pool_are_ranked_by_reliability(html):
    part = pool_part(html)
    least, most = (part[part.index(f"<caption>{end} reliable") :] for end in ("Least", "Most"))
    shown = [
        [float(x) for x in re.findall(r'<td class="number">(0\.\d+|1\.000)</td>', t.split("</table>")[0])]
        for t in (least, most)
    ]
    assert len(shown[0]) == 4 and shown == [sorted(shown[0]), sorted(shown[0], reverse=True)]
    assert part.index("<h4>Least reliable") < part.index("<h4>Most reliable")


def test_each_fold_says_from_which_labels_its_students_learned(run_folder, tmp_path):
    params, hard = fake_params(folds=2), "learned from hard labels, the class of each kept pixel."
    write_run(tmp_path, params)
    part = pool_part(report(tmp_path, params))
    first, second = part[part.index("<h3>Fold 0</h3>") :].split("<h3>Fold 1</h3>")
    assert f"Students (main) {hard}" in first, "the fold's second student stayed what it was"
    assert f"Students (main, second) {hard}" in second and "soft labels" not in part
    mixed = params.model_copy(update={"members": {"main": {"retrain": {"labels": "soft"}}, "second": {}}})
    second = pool_part(report(tmp_path, mixed)).split("<h3>Fold 1</h3>")[1]
    assert f"Students (second) {hard}" in second
    soft = "learned from soft labels, the teachers&#x27; probabilities of each kept pixel."
    assert f"Students (main) {soft}" in second


def test_what_retraining_learns_as_mistakes_is_said_where_it_learned(html):
    assert "retraining learns as mistakes" in pool_part(html)
    assert "kept the baseline models" not in pool_part(html)


def test_members_that_do_not_teach_are_told(run_folder, tmp_path):
    params, told = fake_params(folds=1), "Of the members only main labelled the pool (teach.members)."
    one = params.model_copy(update={"teach": params.teach.model_copy(update={"members": ("main",)})})
    write_run(tmp_path, one)
    part = pool_part(report(tmp_path, one))
    assert told in part and "Teachers agree" not in part
    assert told not in pool_part(report(run_folder, params))


def test_with_one_member_nothing_is_said_of_teachers_that_agree(tmp_path):
    params = fake_params(folds=1).model_copy(update={"member_names": ("main",)})
    write_run(tmp_path, params)
    part = pool_part(report(tmp_path, params))
    assert "Teachers agree" not in part, "one model always agrees with itself"
    assert "Checkpoints agree" in part


def test_what_the_guard_and_the_ranking_leave_out_is_told(tmp_path):
    params = fake_params(folds=1)
    half = params.model_copy(update={"pseudo_label": params.pseudo_label.model_copy(update={"keep": 0.67})})
    write_run(tmp_path, half, near_copies={0: "a", 23: "a"})  # image 0 judges, 23 is of the pool
    part = pool_part(report(tmp_path, half))
    assert "near copy of the held-out a&amp;b/00.jpg" in part
    assert "pseudo_label.keep left out 1\u00a0less reliable image." in part


@pytest.mark.parametrize(("images", "middle"), [(3, False), (12, True)])
def test_the_middle_is_spoken_of_where_it_is_shown(run_folder, tmp_path, images, middle):
    shutil.copytree(run_folder, tmp_path / "run")
    table = tmp_path / "run/plots/ensemble/per_image.csv"
    lines = table.read_text(encoding="utf-8").splitlines()
    table.write_text("\n".join(lines[: images + 1]) + "\n", encoding="utf-8")
    html = report(tmp_path / "run", fake_params(folds=1))
    part = html[html.index('id="judge-images"') : html.index('id="test-images"')]
    assert ("<h3>Middle</h3>" in part, "the middle what to expect" in part) == (middle, middle)
    assert "<h3>Best</h3>" in part


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


def test_libraries_stand_in_one_column_where_all_models_agree(html):
    libraries = html[html.index('id="libraries"') :]
    assert "Trained all models" in libraries
    assert re.search(r"<code>torch</code></th><td[^>]*>2\.11\.0</td>", libraries)
    assert re.search(r"<code>madgrad</code></th><td[^>]*>not installed</td>", libraries)
    assert re.search(r"<code>numpy</code></th><td[^>]*>–</td><td[^>]*>2\.4\.6</td><td[^>]*>\d", libraries)


def test_libraries_name_the_models_where_they_differ(tmp_path):
    params = fake_params(folds=1)
    write_run(tmp_path, params)
    card = tmp_path / "predictions" / "retrain-main-0" / "card.json"
    write_json(card, read_json(card) | {"libraries": LIBRARIES | {"torch": "2.12.0"}})
    html = report(tmp_path, params)
    libraries = html[html.index('id="libraries"') :]
    assert "Trained baseline-main-0, baseline-second-0, retrain-second-0" in libraries
    assert "Trained retrain-main-0<" in libraries
    assert re.search(r"<code>torch</code></th><td[^>]*>2\.11\.0</td><td[^>]*>2\.12\.0</td>", libraries)


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


def test_averaged_weights_are_named_where_they_were_the_better_ones():
    def model(**columns):
        return ModelRun("baseline", "main", 0, 0.5, pd.DataFrame({"epoch": [1, 2], "tune_miou": [0.4, 0.5]} | columns))

    assert model(tune_miou_raw=[0.4, 0.3], tune_miou_ema=[0.1, 0.5]).is_averaged
    assert not model(tune_miou_raw=[0.1, 0.5], tune_miou_ema=[0.4, 0.5]).is_averaged  # the first of equals is raw
    assert not model().is_averaged
