"""Pictures of label maps, and the strips that `dvc plots` compares between commits."""

import cv2
import numpy as np
import pytest
from report_run import CLASSES, fake_params, write_run

from segpipe.data.prepared import Prepared
from segpipe.drawing import (
    CONFUSED,
    FALSE_ALARM,
    MISSED,
    evenly_spaced,
    label_overlay,
    mistakes_overlay,
    shown_size,
)
from segpipe.ensemble.average import Ensemble, load_predictions
from segpipe.ensemble.candidates import list_candidates
from segpipe.labels import IGNORE_INDEX, ClassTable, distinct_colors
from segpipe.strips import NUM_STRIPS, strip, strip_name, write_strips


def test_mistakes_are_told_apart():
    image = np.zeros((1, 4, 3), np.uint8)
    target = np.array([[1, 0, 1, IGNORE_INDEX]], np.uint8)
    preds = np.array([[0, 1, 2, 1]], np.uint8)
    drawn = mistakes_overlay(image, target, preds, CLASSES)[0].tolist()
    assert drawn[:3] == [list(MISSED), list(FALSE_ALARM), list(CONFUSED)]
    assert drawn[3] in ([225] * 3, [120] * 3)  # hatched: no truth, no mistake


def test_without_a_background_every_mistake_is_a_wrong_class():
    classes = ClassTable(("A", "B"), (("A",), ("B",)), distinct_colors(2, background=False))
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


def test_evenly_spaced_items_hold_both_ends_and_never_repeat():
    assert evenly_spaced(range(10, 20), 4) == [10, 13, 16, 19]
    assert evenly_spaced([5, 7], 8) == [5, 7]
    assert evenly_spaced([], 8) == []


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory):
    params, folder = fake_params(folds=1), tmp_path_factory.mktemp("run")
    write_run(folder, params)
    predictions = load_predictions(folder / "predictions", params.member_names, (0,))
    return Ensemble(Prepared(folder / "prepared", judge=True), predictions, (0,))


def test_strips_of_any_candidate_show_the_same_images_under_the_same_names(ensemble, tmp_path):
    first, *_, last = list_candidates(("main", "second"))
    for candidate in (first, last):
        write_strips(ensemble, candidate, tmp_path / candidate.name)
    names = sorted(path.name for path in (tmp_path / first.name).iterdir())
    assert names == sorted(path.name for path in (tmp_path / last.name).iterdir())
    assert len(names) == NUM_STRIPS and {"00000-a-b-00.jpg", "00009-a-b-09.jpg"} <= set(names)
    for name in names:  # the photograph and the truth are the same, what was predicted is not
        one, other = (cv2.imread(str(tmp_path / each.name / name)).astype(int) for each in (first, last))
        half = strip(dict.fromkeys(("image", "truth"), np.zeros((24, 24, 3), np.uint8))).shape[1]
        same = half // 16 * 16 - 2  # JPEG works in blocks of 16 pixels and smooths colours over their borders
        assert (one[:, :same] == other[:, :same]).all() and (one[:, half:] != other[:, half:]).any()


def test_strips_drawn_twice_are_the_same_bytes(ensemble, tmp_path):
    candidate = list_candidates(("main", "second"))[0]
    for name in ("once", "again"):
        write_strips(ensemble, candidate, tmp_path / name)
    for path in (tmp_path / "once").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_the_name_of_a_strip_is_one_safe_word_whatever_the_image_is_called():
    assert strip_name(3, "batch_02/0001.jpg") == "00003-batch_02-0001.jpg"
    assert strip_name(12, '../<b onload="x">.PNG') == "00012-..-b-onload-x-.jpg"


def test_pictures_of_a_strip_stand_side_by_side_under_their_titles():
    pictures = {"a": np.zeros((30, 40, 3), np.uint8), "b": np.full((30, 40, 3), 9, np.uint8)}
    drawn = strip(pictures)
    head = drawn.shape[0] - 30
    assert (drawn[head:, :40] == 0).all() and (drawn[head:, -40:] == 9).all()
    assert (drawn[:, 41:45] == 255).all(), "white between them"
    assert drawn[:head, :40].min() < 200, "a title is written"


@pytest.mark.parametrize("width", [16, 64, 224])
def test_the_title_of_a_narrow_picture_is_not_cut(width):
    picture = np.full((64, width, 3), 9, np.uint8)
    drawn, wide = (strip({"mistakes: 100.0 %": np.full((64, w, 3), 9, np.uint8), "b": picture}) for w in (width, 400))
    title = drawn[: drawn.shape[0] - 64]
    inked = np.flatnonzero((wide[:22, :400] < 200).any(axis=(0, 2)))
    assert (title[:, : inked[-1] + 1] == wide[:22, : inked[-1] + 1]).all(), "every letter is there"
    assert (drawn[-64:, :width] == 9).all() and (drawn[:, width : width + 5][-64:] == 255).all()
