"""`dvc plots diff` on a tiny project of two commits, its page opened in a browser that has no network."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import vl_convert
import yaml
from browser import chromium, opened
from dvc.config import Config
from typer.testing import CliRunner

from segpipe.cli import app
from segpipe.params import load_params
from segpipe.viewer import _inline, viewer_page, write_viewer
from segpipe.wire import plots

ROOT = Path(__file__).resolve().parent.parent
DEFINED = plots(load_params(ROOT / "params.yaml"))
TITLES = [next(iter(definition)) for definition in DEFINED]
CLASSES = ("Zebra", "</script><b>Apple", "Mango, ripe")  # not in alphabetical order
HOSTILE = "</script><script>alert(1)</script>"  # as a file may be called
STRIPS = ("00001-a.jpg", "00007-b.jpg")
# by hand: (truth, prediction) -> pixels, before and after; no pixel is Mango in truth
CONFUSION = {
    "before": [[90, 10, 0], [30, 10, 0], [0, 0, 0]],
    "after": [[998, 2, 0], [10, 30, 0], [0, 0, 0]],
}


def run(folder: Path, *words: str) -> str:
    environment = os.environ | {"DVC_NO_ANALYTICS": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(words, cwd=folder, env=environment, text=True, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def write(path: Path, *rows: tuple) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    quoted = [",".join(f'"{cell}"' for cell in row) for row in rows]
    path.write_text("\n".join(quoted) + "\n", encoding="utf-8")


def write_plots(folder: Path, state: str) -> None:
    """Small tables as the stages write them, and two strips, that differ between the two states."""
    shift = 0.0 if state == "before" else 0.1
    counts = CONFUSION[state]
    pairs = [(a, p, counts[i][j]) for i, a in enumerate(CLASSES) for j, p in enumerate(CLASSES)]
    write(folder / "plots/ensemble/confusion.csv", ("actual", "predicted", "pixels"), *pairs)
    values = [(CLASSES[0], 0.5 + shift, 0.4, 0.7, ""), (CLASSES[1], 0.2, 0.1, 0.3, "#c04f00")]
    values += [(CLASSES[2], "", "", "", "red; position: fixed")]
    write(folder / "plots/ensemble/iou.csv", ("class", "iou", "low", "high", "color"), *values)
    candidates = [("baseline-main", 0.3 + shift, 0.2, 0.5), ("mean-all", 0.35, 0.3, 0.4)]
    write(folder / "plots/ensemble/candidates.csv", ("name", "miou", "low", "high"), *candidates)
    write(
        folder / "plots/ensemble/per_image.csv",
        ("file_name", "miou"),
        (HOSTILE, 0.25 + shift),
    )
    bins = [(0.25, 0.3 + shift), (0.95, 0.9 + shift)]
    write(folder / "plots/pseudo_label/0/calibration.csv", ("confidence", "precision"), *bins)
    for history in next(iter(DEFINED[-1].values()))["y"]:
        # tune_miou is empty in epochs that were not validated
        rows = [(epoch, 0.1 / epoch, 1 / epoch + shift, 0.1 * epoch if epoch > 1 else "") for epoch in (1, 2, 3)]
        write(folder / history, ("epoch", "lr", "train_loss", "tune_miou"), *rows)
    for name in STRIPS:
        (folder / "plots/images/ensemble").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / "plots/images/ensemble" / name), np.full((40, 160, 3), int(900 * shift), np.uint8))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    run(folder, "git", "init", "-q")
    run(folder, "git", "config", "user.email", "test@example.org")
    run(folder, "git", "config", "user.name", "Test")
    run(folder, "dvc", "init", "-q")
    shutil.copytree(ROOT / ".dvc/plots", folder / ".dvc/plots", ignore=shutil.ignore_patterns("*.html"))
    shutil.copy(ROOT / ".dvc/.gitignore", folder / ".dvc/.gitignore")
    behind = [{"plots/ensemble/per_image.csv": {"template": "seg_table"}}]
    written = yaml.safe_dump({"plots": [*DEFINED, "plots/images/ensemble", *behind]}, sort_keys=False)
    (folder / "dvc.yaml").write_text(written, encoding="utf-8")
    for state in CONFUSION:
        write_plots(folder, state)
        run(folder, "git", "add", "-A")
        run(folder, "git", "commit", "-qm", state)
    return folder


@pytest.fixture(scope="module")
def page_file(project):
    write_viewer(project)
    run(project, "dvc", "plots", "diff", "HEAD~1", "HEAD", "-o", "out")
    return project / "out/index.html"


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def seen(browser, page_file):
    with opened(browser, page_file, viewport={"width": 1280, "height": 900}) as shown:
        shown.page.wait_for_selector("body[data-drawn]")
        yield shown


def part(seen, title):
    return seen.page.get_by_role("region", name=title, exact=True).first


def texts(seen, title: str, selector: str = "text") -> list[str]:
    return part(seen, title).locator(selector).all_text_contents()


def test_the_page_asks_for_its_own_files_only_and_complains_of_nothing(seen, page_file):
    outside = [url for url in seen.requests if not url.startswith((page_file.parent.as_uri(), "data:", "blob:"))]
    assert outside == []
    assert seen.complaints == [] and seen.dialogs == []


def test_every_definition_is_drawn_under_its_title(seen):
    headings = seen.page.locator("main h2").all_text_contents()
    assert headings == [*TITLES, "Pictures", "Tables behind the plots"]
    assert seen.page.locator("nav a").all_text_contents() == headings
    assert seen.page.get_by_role("alert").count() == 0
    for title in TITLES:
        box = part(seen, title).locator("svg.marks").bounding_box()
        assert box["width"] > 200 and box["height"] > 60, title


@pytest.mark.parametrize("title", TITLES)
def test_both_revisions_stand_in_every_plot(seen, title):
    assert {"HEAD~1", "HEAD"} <= set(texts(seen, title))


def test_classes_stand_in_the_order_of_their_table_as_text(seen):
    for title, axes in ((TITLES[1], 1), (TITLES[2], 3)):  # the matrices share their y axis
        labels = texts(seen, title, ".role-axis-label text")
        assert [label for label in labels if label in CLASSES] == list(CLASSES) * axes
    assert seen.page.locator("main b, main i").count() == 0


def test_a_confusion_matrix_says_what_share_of_a_true_class_was_called_what(seen):
    cells = texts(seen, TITLES[2], ".mark-text.role-mark text")
    assert [cell for cell in cells if cell] == [
        *("90", "10", "75", "25", "–", "–", "–"),  # 90 of 100, 10 of 100, 30 of 40, 10 of 40; no Mango
        *("100", "<1", "25", "75", "–", "–", "–"),
    ]


def test_intervals_are_drawn_where_the_table_has_them(seen):
    whiskers = part(seen, TITLES[1]).locator(".mark-rule.role-mark line, .mark-rule.role-mark path")
    assert whiskers.count() == 2 * 2  # two classes have an interval, in two revisions
    assert part(seen, TITLES[0]).locator(".mark-symbol.role-mark path").count() == 2 * 2


def test_epochs_without_a_value_are_left_out_of_the_curves(seen):
    models = len(next(iter(DEFINED[-1].values()))["y"])
    assert part(seen, "mIoU on tune images").locator(".mark-symbol.role-mark path").count() == 2 * 2 * models
    assert part(seen, "Training loss").locator(".mark-symbol.role-mark path").count() == 2 * 3 * models


def test_strips_of_both_revisions_stand_one_below_the_other(seen):
    shown = seen.page.eval_on_selector_all("main img", "all => all.map(one => [one.alt, one.naturalWidth])")
    names = [f"plots/images/ensemble/{name} in {revision}" for name in STRIPS for revision in ("HEAD~1", "HEAD")]
    assert shown == [[name, 160] for name in names]


def test_the_pictures_have_a_legend_of_their_classes(seen):
    legend = part(seen, "Pictures").get_by_role("list", name="Colours of the classes")
    assert legend.locator("li").all_text_contents() == [f"{CLASSES[0]}: stays grey", *CLASSES[1:]]
    swatches = legend.locator(".swatch").evaluate_all(
        "all => all.map(one => [getComputedStyle(one).backgroundColor, getComputedStyle(one).position])"
    )
    assert swatches[1] == ["rgb(192, 79, 0)", "static"]
    assert swatches[0] == swatches[2] == ["rgba(0, 0, 0, 0)", "static"], "no colour, and nothing else either"


def test_the_empty_plot_that_dvc_writes_for_pictures_of_one_revision_alone_is_left_out(browser, page_file):
    text = page_file.read_text(encoding="utf-8")
    start = text.index("            var spec = {")
    empty = "            var spec = {};\n            vegaEmbed('#plots_images_ensemble', spec);\n"
    changed = page_file.with_name("changed.html")
    changed.write_text(text[:start] + empty + text[start:], encoding="utf-8")
    with opened(browser, changed, viewport={"width": 1280, "height": 900}) as shown:
        shown.page.wait_for_selector("body[data-drawn]")
        assert shown.page.get_by_role("alert").count() == 0


def test_tables_behind_the_plots_are_folded_and_open_as_rows(seen):
    folded = seen.page.locator("details:not(.vega-embed details)").filter(has_text="per_image.csv: 2 rows")
    assert not folded.locator("table").is_visible()
    folded.locator("summary").click()
    cells = folded.locator("tbody td").all_text_contents()
    assert cells == [
        "HEAD~1",
        HOSTILE,
        "0.25",
        "HEAD",
        HOSTILE,
        "0.35",
    ]


def test_a_narrow_screen_scrolls_plots_not_the_page(browser, page_file):
    with opened(browser, page_file, viewport={"width": 390, "height": 844}) as shown:
        shown.page.wait_for_selector("body[data-drawn]")
        assert shown.page.evaluate("document.documentElement.scrollWidth") <= 390
        # a chart and its legends fit; the grid of matrices keeps the size that its numbers need
        for title in (title for title in TITLES if title != TITLES[2]):
            box = part(shown, title).locator("svg.marks").bounding_box()
            assert box["x"] >= 0 and box["x"] + box["width"] <= 390, title
            legend = part(shown, title).locator(".role-legend").first.bounding_box()
            axis = part(shown, title).locator(".role-axis").first.bounding_box()
            assert legend["y"] > axis["y"] and legend["x"] + legend["width"] <= 390, title
            plot = part(shown, title).locator(".mark-group.role-frame .background").first.bounding_box()
            assert plot["width"] > 150, title


def test_dvc_fills_every_template_and_vega_lite_accepts_it(project):
    drawn = json.loads(run(project, "dvc", "plots", "diff", "HEAD~1", "HEAD", "--json"))["data"]
    assert set(TITLES) < set(drawn)
    for title, (plot, *_) in drawn.items():
        if plot["type"] == "vega":
            assert plot["revisions"] == ["HEAD~1", "HEAD"], title
            assert "<DVC_METRIC" not in json.dumps(plot["content"]), title
            assert "<svg" in vl_convert.vegalite_to_svg(plot["content"])


def test_the_page_is_named_in_the_local_configuration_only_and_is_not_in_git(project, page_file):
    assert "plots/page.html" in (project / ".dvc/config.local").read_text(encoding="utf-8")
    assert "page.html" not in (project / ".dvc/config").read_text(encoding="utf-8")
    assert run(project, "git", "status", "--porcelain", "--", ".dvc") == ""


def test_writing_the_viewer_again_changes_nothing_and_keeps_other_settings(tmp_path):
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config.local").write_text("[cache]\n    dir = elsewhere\n", encoding="utf-8")
    page = write_viewer(tmp_path)
    before = (page.read_bytes(), (tmp_path / ".dvc/config.local").read_bytes())
    assert write_viewer(tmp_path) == page
    assert (page.read_bytes(), (tmp_path / ".dvc/config.local").read_bytes()) == before
    local = Config(dvc_dir=str(tmp_path / ".dvc")).load_one("local")
    assert local["plots"]["html_template"] == "plots/page.html" and local["cache"]["dir"].endswith("elsewhere")


def test_the_viewer_stands_whole_in_the_page():
    page = viewer_page()
    assert "vegaEmbed" in page and len(page) > 500_000
    assert not re.search(r"<script[^>]+src|<link|@import|cdn", page)
    assert page.count("{plot_divs}") == page.count("{refresh_tag}") == 1 and "{scripts}" not in page
    head = page[: page.index("<plaintext")]
    assert head.count("<script>") == head.count("</script>") == 2, "no script ends early"


def test_a_script_that_mentions_the_end_of_one_stays_whole():
    assert _inline('say("</script><!--")') == r'say("<\/script><\!--")'


def test_outside_a_project_the_viewer_says_where_to_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["viewer"])
    assert isinstance(result.exception, FileNotFoundError) and "top folder" in str(result.exception)
