import json

import numpy as np
import pandas as pd
import pytest
from coco_folder import GLASS, PAPER, box, pictures, prepare_folder, write_folder

from segpipe.data.lineage import Lineage
from segpipe.data.prepared import Prepared
from segpipe.data.pseudo_labels import PseudoLabels
from segpipe.data.store import PackedWriter
from segpipe.labels import IGNORE_INDEX
from segpipe.params import PseudoLabelParams
from segpipe.pseudo import keep_confident, make_pseudo_labels

V = IGNORE_INDEX
SURE, UNSURE = 255, 10
AT_60 = PseudoLabelParams(threshold="fixed", confidence=0.6)  # 153 of 255
TEACHERS = Lineage(frozenset({"teacher's image"}), frozenset({"teacher's tune image"}))
POOL = ("p", "q", "r")


@pytest.fixture
def prepared(tmp_path):
    """Images of 1 x 5 pixels, classes Glass = 0 and Paper = 1; held-out ones are 0 0 1 1 and an ignored one."""
    held_out = [box(GLASS, 0, 0, 2, 1), box(PAPER, 2, 0, 4, 1)]
    root = tmp_path / "raw"
    shape = {"height": 1, "width": 5}
    write_folder(
        root,
        train=pictures("a", annotations=held_out, **shape),
        val=pictures("c", "d", annotations=held_out, **shape),
        test=pictures("x", **shape),
        pool=pictures(*POOL, **shape),
    )
    return Prepared(prepare_folder(root, background="ignore", unlabeled="pool.json"), fold=0)


def teach(folder, prepared, pool, tune=((0,) * 5, (UNSURE,) * 5)):
    """What the teachers would write: for each image its classes and confidences of five pixels."""
    with PackedWriter(folder / "classes") as classes, PackedWriter(folder / "confidence") as confidences:
        for predicted, confidence in [*pool, tune]:
            classes.add(np.array([predicted], np.uint8))
            confidences.add(np.array([confidence], np.uint8))
    card = {
        "teachers": ["models/main-0"],
        "pool": list(prepared.pool()[: len(pool)]),
        "tune": list(prepared.folds[0].tune),
        "agreement": [*[1.0, 0.5, 0.25][: len(pool)], 0.0],
        "lineage": TEACHERS.to_json(),
    }
    (folder / "card.json").write_text(json.dumps(card))
    return folder


def make(tmp_path, prepared, *pool, params=AT_60, **tune):
    """The finished set, the share kept, and the quality table by class."""
    taught = teach(tmp_path / "taught", prepared, pool, **tune)
    share = make_pseudo_labels(prepared, taught, params, tmp_path / "pseudo", tmp_path / "plots")
    return PseudoLabels(tmp_path / "pseudo"), share, pd.read_csv(tmp_path / "plots" / "quality.csv", index_col="class")


def test_pixels_below_the_threshold_are_ignored_and_those_at_it_are_kept():
    classes = np.array([[0, 1, 2, 3]], np.uint8)
    confidence = np.array([[152, 153, 154, 0]], np.uint8)
    kept = keep_confident(classes, confidence, 0.6)
    assert kept.tolist() == [[V, 1, 2, V]] and kept.dtype == np.uint8


@pytest.mark.parametrize("threshold, kept", [(0.0, [0, 1, 2, 3]), (1.0, [V, V, V, 3])])
def test_threshold_0_keeps_all_and_1_only_what_is_certain(threshold, kept):
    classes, confidence = np.arange(4, dtype=np.uint8), np.array([0, 128, 254, 255], np.uint8)
    assert keep_confident(classes, confidence, threshold).tolist() == kept


def test_every_boundary_that_8_bits_can_hold_is_kept():
    for step in range(256):
        confidence = np.array([step, max(step - 1, 0)], np.uint8)
        assert keep_confident(np.array([7, 7]), confidence, step / 255).tolist() == [7, 7 if step == 0 else V]


def test_labels_and_share_of_the_pool(tmp_path, prepared):
    labels, share, _ = make(
        tmp_path,
        prepared,
        ([0, 0, 1, 1, 1], [SURE, UNSURE, SURE, SURE, UNSURE]),
        ([1, 1, 1, 1, 1], [UNSURE] * 5),
        ([0, 1, 0, 1, 0], [153] * 5),
    )
    assert share == 8 / 15
    names = [prepared.entries[index].file_name for index in labels.indices]
    assert names == ["p.png", "r.png"]  # nothing of q.png is kept, so it is left out
    assert [array.tolist() for array in labels.labels] == [[[0, V, 1, 1, V]], [[0, 1, 0, 1, 0]]]


def test_the_quality_table_by_hand(tmp_path, prepared):
    _, _, quality = make(
        tmp_path,
        prepared,
        ([0, 0, 1, 1, 1], [255, 10, 255, 153, 20]),
        # truth is 0 0 1 1 ignored: of the sure 1s one of two is right, and the one on the ignored pixel does not count
        tune=([0, 1, 1, 0, 1], [SURE, SURE, SURE, UNSURE, SURE]),
    )
    assert quality.loc["Glass"].tolist() == pytest.approx([1, 1 / 3, 1 / 2, 1.0, 1.0])
    assert quality.loc["Paper"].tolist() == pytest.approx([2, 2 / 3, 2 / 3, (1 + 0.6) / 2, 0.5])
    columns = ["pixels_kept", "share_of_kept", "kept_of_predicted", "mean_confidence", "tune_precision"]
    assert quality.columns.tolist() == columns


def test_a_class_that_nobody_predicts_has_no_precision_rather_than_0(tmp_path, prepared):
    _, _, quality = make(tmp_path, prepared, ([0] * 5, [SURE] * 5), tune=([0] * 5, [SURE] * 5))
    assert quality.loc["Glass", "tune_precision"] == 0.5
    assert quality.loc["Paper", ["kept_of_predicted", "mean_confidence", "tune_precision"]].isna().all()


def test_the_set_has_seen_what_its_teachers_saw_and_the_images_it_keeps(tmp_path, prepared):
    labels, _, _ = make(tmp_path, prepared, ([0] * 5, [SURE] * 5), ([0] * 5, [UNSURE] * 5))
    kept, dropped = (prepared.entries[index].content_hash for index in prepared.pool()[:2])
    assert labels.lineage == Lineage(TEACHERS.learned_from | {kept}, TEACHERS.tuned_on)
    assert dropped not in labels.lineage.learned_from


def test_an_empty_result_says_so_and_is_an_empty_set(tmp_path, prepared, capsys):
    labels, share, quality = make(tmp_path, prepared, *[([0] * 5, [UNSURE] * 5)] * 3)
    assert "nothing of 3 images is kept at confidence 0.6" in capsys.readouterr().out
    assert share == 0 and labels.indices == () and len(labels.labels) == 0
    assert labels.lineage == TEACHERS
    assert quality["pixels_kept"].tolist() == quality["share_of_kept"].tolist() == [0, 0]


def test_an_empty_pool_says_so_and_gives_an_empty_set(tmp_path, prepared, capsys):
    labels, share, _ = make(tmp_path, prepared)
    assert "there are no unlabelled images" in capsys.readouterr().out
    assert share == 0 and labels.indices == ()


def test_a_set_that_keeps_something_says_nothing(tmp_path, prepared, capsys):
    make(tmp_path, prepared, ([0] * 5, [SURE] * 5))
    assert capsys.readouterr().out == ""


def test_the_teachers_agreement_is_listed_by_pool_image(tmp_path, prepared):
    make(tmp_path, prepared, *[([0] * 5, [SURE] * 5)] * 2)
    agreement = pd.read_csv(tmp_path / "plots" / "agreement.csv")
    assert agreement.to_dict("list") == {"image": ["p.png", "q.png"], "agreement": [1.0, 0.5]}
