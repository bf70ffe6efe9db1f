"""The report's part about the data: what it says of lists, classes, sizes and warnings, and which pictures it shows."""

import base64
import re

import cv2
import numpy as np
import pytest
from coco_folder import GLASS, Picture, box, data_params, pictures, split_params, write_folder
from report_run import HOSTILE, fake_params

from segpipe.data.prepare.prepare import prepare
from segpipe.data.prepared import Prepared
from segpipe.params import ALL
from segpipe.report.data import data
from segpipe.report.examples import EACH, PICTURES, SIDE, outlined
from segpipe.report.gather import Run
from segpipe.stage import read_json

RED, WHITE = (255, 0, 0), (255, 255, 255)


def run_of(root, *, split=None, folds=(0,), **changes) -> Run:
    """The part of a run that the data are in: the folder `root` prepared."""
    out, params = root.with_name("prepared"), fake_params(folds=1)
    split = split or split_params()
    prepare(data_params(root, **changes), split, out)
    params = params.model_copy(update={"split": split.model_copy(update={"train_folds": folds})})
    check = read_json(out / "data_check.json")
    nothing = dict.fromkeys(("ensemble", "chosen", "selection", "judged"))
    return Run(params=params, prepared=Prepared(out, judge=True), data_check=check, models=[], pseudo=[], **nothing)


def glass(stem: str, **changes) -> Picture:
    return Picture(f"{stem}.png", 24, 30, annotations=[box(GLASS, 3, 3, 13, 13)], **changes)


def shown(html: str) -> list[str]:
    return re.findall(r'<img [^>]*alt="([^"]*)"', html)


def test_lists_classes_and_sizes_are_told(tmp_path):
    write_folder(tmp_path / "raw", train=[glass("a"), *pictures("b")], val=[glass(stem) for stem in "cdef"])
    html = data(run_of(tmp_path / "raw"))
    assert re.search(r"Training</th><td[^>]*>2</td><td[^>]*>1</td>", html), "b.png has no annotation"
    row = next(line for line in html.splitlines() if "Glass" in line and "<th" in line)
    assert [text for text in re.findall(r'"number">([^<]*)</td>', row)] == ["13.80\u00a0%", "5", "1", "4"]
    assert "Glass: 100 to 100 pixels, half of them from 100 to 100, median 100" in html
    assert "2\u00a0sizes, 4\u00a0×\u00a06 to 24\u00a0×\u00a030" in html


def test_examples_are_training_images_of_the_fold_alone(tmp_path):
    write_folder(tmp_path / "raw", train=[glass("a"), *pictures("b")], val=[glass(stem) for stem in "cdef"])
    assert shown(data(run_of(tmp_path / "raw"))) == ["Glass in a.png"]


@pytest.mark.parametrize("fold", [0, 1, ALL])
def test_images_that_a_fold_holds_out_are_no_examples(tmp_path, fold):
    write_folder(tmp_path / "raw", train=[glass(stem) for stem in "ghijklmn"])
    run = run_of(tmp_path / "raw", split=split_params(folds=2), folds=(fold,), val=None)
    training = {f"Glass in {run.prepared.entries[index].file_name}" for index in run.prepared.folds[fold].train}
    names = shown(data(run))
    assert len(names) == EACH and set(names) <= training


def test_a_class_without_an_example_is_named(tmp_path):
    write_folder(tmp_path / "raw", train=[glass("a")], categories={GLASS: "Glass", 7: HOSTILE})
    html = data(run_of(tmp_path / "raw"))
    assert "No training image shows enough of: &lt;script&gt;" in html and "<script" not in html


def test_warnings_are_shown_with_three_places_each(tmp_path):
    train = [glass("a"), *pictures(*(f"n{i}" for i in range(9)))]
    write_folder(tmp_path / "raw", train=train)
    html = data(run_of(tmp_path / "raw"))
    item = next(line for line in html.splitlines() if "labelled images without annotation" in line)
    assert "<b>13</b>" in item and item.count("<code>") == 3 and "and 10 more" in item


def test_however_many_classes_there_are_the_pictures_are_few_and_small(tmp_path):
    categories = {i: f"class {i}" for i in range(1, 201)}
    many = [Picture(f"{i}.png", 40, 40, annotations=[box(i, 3, 3, 23, 33)]) for i in range(1, 201)]
    write_folder(tmp_path / "raw", train=many, categories=categories)
    html = data(run_of(tmp_path / "raw"))
    assert len(shown(html)) == PICTURES
    assert f"Of 200 classes the first {PICTURES} are shown." in html
    encoded = re.findall(r"base64,([^\"]*)", html)
    sizes = [cv2.imdecode(np.frombuffer(base64.b64decode(text), np.uint8), cv2.IMREAD_COLOR).shape for text in encoded]
    assert max(max(size) for size in sizes) == SIDE
    assert sum(map(len, encoded)) < PICTURES * 20_000


def test_the_outline_follows_the_largest_piece(tmp_path):
    image = np.zeros((90, 120, 3), np.uint8)
    mask = np.zeros((90, 120), bool)
    mask[40:60, 60:80] = True
    mask[0:3, 0:3] = True  # far away, and outside the part that is shown
    picture = outlined(image, mask, RED)
    assert picture.shape == (SIDE, SIDE, 3) and picture.dtype == np.uint8
    red = (picture == RED).all(axis=2)
    rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
    # the piece of 20 pixels fills half of the 40 that are shown
    assert abs(rows[0] - 32) <= 3 and abs(rows[-1] - 96) <= 3 and abs(columns[0] - 32) <= 3
    assert (picture == WHITE).all(axis=2).any(), "a light edge beside it"
    assert not red[64, 64], "its inside stays"


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (200, 3)])
def test_any_shape_can_be_outlined(shape):
    picture = outlined(np.zeros((*shape, 3), np.uint8), np.ones(shape, bool), RED)
    assert max(picture.shape[:2]) == SIDE
