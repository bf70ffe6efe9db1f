"""Confusion matrices and IoU: by hand on a few pixels, and torchmetrics as judge."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segpipe.labels import IGNORE_INDEX
from segpipe.metrics.confusion import (
    confusion_matrix,
    image_mious,
    iou_per_class,
    mean_iou,
    per_image_miou,
    pooled_miou,
)

NAN = float("nan")


def row(*values):
    return np.array([values], np.uint8)


# Confusion matrix


def test_rows_are_truth_and_columns_prediction():
    confusion = confusion_matrix(row(0, 1, 1), row(0, 0, 1), num_classes=2)
    assert confusion.tolist() == [[1, 1], [0, 1]]
    assert confusion.dtype == np.int64


def test_ignored_pixels_are_not_counted_whatever_is_predicted_there():
    confusion = confusion_matrix(row(0, 1, 255, 200), row(0, IGNORE_INDEX, IGNORE_INDEX, IGNORE_INDEX), num_classes=2)
    assert confusion.tolist() == [[1, 0], [0, 0]]


def test_images_of_a_batch_add_up():
    rng = np.random.default_rng(0)
    preds, targets = rng.integers(0, 3, (2, 4, 5, 6), dtype=np.uint8)
    single = sum(confusion_matrix(pred, target, 3) for pred, target in zip(preds, targets, strict=True))
    assert np.array_equal(confusion_matrix(preds, targets, 3), single)


@given(st.integers(1, 255), st.integers(0, 2**32 - 1))
def test_confusion_matrix_counts_each_pair_for_any_number_of_classes(num_classes, seed):
    rng = np.random.default_rng(seed)
    preds, target = rng.integers(0, num_classes, (2, 4, 5), dtype=np.uint8)
    target[rng.random(target.shape) < 0.3] = IGNORE_INDEX
    expected = np.zeros((num_classes, num_classes), int)
    for truth, predicted in zip(target.ravel(), preds.ravel(), strict=True):
        if truth != IGNORE_INDEX:
            expected[truth, predicted] += 1
    assert np.array_equal(confusion_matrix(preds, target, num_classes), expected)


def test_confusion_matrix_and_iou_agree_with_torchmetrics():
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchmetrics.functional.classification")
    rng = np.random.default_rng(0)
    preds, target = rng.integers(0, 12, (2, 3, 32, 32), dtype=np.uint8)
    target[rng.random(target.shape) < 0.2] = IGNORE_INDEX
    pair = torch.from_numpy(preds).long(), torch.from_numpy(target).long()
    judge = functional.multiclass_confusion_matrix(*pair, num_classes=12, ignore_index=IGNORE_INDEX)
    confusion = confusion_matrix(preds, target, 12)
    assert np.array_equal(confusion, judge.numpy())
    judge = functional.multiclass_jaccard_index(*pair, num_classes=12, ignore_index=IGNORE_INDEX)
    assert mean_iou(confusion) == pytest.approx(judge.item(), abs=1e-6)


@pytest.mark.parametrize(
    ("preds", "target", "message"),
    [
        (row(0, 1), row(0), r"\(1, 2\).*\(1, 1\)"),
        (row(0, 2), row(0, 1), "predicted class 2.*only 2 classes"),
        (row(0, 1), row(0, 7), r"targets hold \[7\].*must be 255"),
        (row(0, 1), row(0, 254), r"targets hold \[254\]"),
        (row(0, 1).astype(np.int64), row(0, 1), "predictions are int64"),
    ],
)
def test_what_is_no_class_map_is_refused(preds, target, message):
    with pytest.raises(ValueError, match=message):
        confusion_matrix(preds, target, num_classes=2)


# IoU


def test_iou_leaves_out_ignored_pixels():
    confusion = confusion_matrix(row(0, 1, 1, 1), row(0, 0, 1, IGNORE_INDEX), num_classes=2)
    # class 0: 1 of 2 pixels agree; class 1: 1 of 2; the last pixel does not count
    assert iou_per_class(confusion).tolist() == [0.5, 0.5]


def test_a_class_in_neither_truth_nor_prediction_is_nan_and_left_out_of_the_mean():
    confusion = confusion_matrix(row(0, 0, 1), row(0, 0, 0), num_classes=3)
    # class 0: 2 of 3; class 1 is only predicted: 0; class 2 is nowhere
    np.testing.assert_array_equal(iou_per_class(confusion), [2 / 3, 0, NAN])
    assert mean_iou(confusion) == pytest.approx(1 / 3)


@pytest.mark.filterwarnings("error")
def test_no_counted_pixel_at_all_gives_nan_without_a_warning():
    nothing = np.zeros((2, 3, 3), np.int64)
    for absent in ("skip", "zero", "one"):
        values = mean_iou(nothing[0], absent), pooled_miou(nothing, absent), per_image_miou(nothing, absent)
        assert np.isnan(values).all()


# Image 1 is right everywhere (8 pixels of class 0); in image 2, 1 pixel of 2 is called class 1.
TWO_IMAGES = np.array([[[8, 0], [0, 0]], [[1, 1], [0, 0]]])


def test_pooled_and_per_image_miou_are_different_numbers():
    assert pooled_miou(TWO_IMAGES) == pytest.approx((9 / 10 + 0) / 2)
    # image 1: class 1 is nowhere, so class 0 alone, 1; image 2: (1/2 + 0) / 2
    assert per_image_miou(TWO_IMAGES) == pytest.approx((1 + 1 / 4) / 2)


@pytest.mark.parametrize("absent", ["skip", "zero", "one"])
def test_per_image_miou_leaves_out_images_without_a_counted_pixel(absent):
    with_empty = np.concatenate([TWO_IMAGES, np.zeros((1, 2, 2), int)])
    assert per_image_miou(with_empty, absent) == per_image_miou(TWO_IMAGES, absent)


# The same two images with a third class, which is in neither truth nor prediction of either.
THREE_CLASSES = np.pad(TWO_IMAGES, ((0, 0), (0, 1), (0, 1)))


@pytest.mark.parametrize(
    ("absent", "pooled", "images"),
    [
        ("skip", (9 / 10 + 0) / 2, [1, (1 / 2 + 0) / 2]),
        # image 1 shows class 0 alone, so that two classes count 0 or 1 in it; image 2 shows class 0, is given class 1
        ("zero", (9 / 10 + 0 + 0) / 3, [(1 + 0 + 0) / 3, (1 / 2 + 0 + 0) / 3]),
        ("one", (9 / 10 + 0 + 1) / 3, [(1 + 1 + 1) / 3, (1 / 2 + 0 + 1) / 3]),
    ],
)
def test_an_absent_class_is_skipped_or_counts_zero_or_one(absent, pooled, images):
    assert pooled_miou(THREE_CLASSES, absent) == mean_iou(THREE_CLASSES.sum(axis=0), absent) == pytest.approx(pooled)
    assert image_mious(THREE_CLASSES, absent) == pytest.approx(images)
    assert per_image_miou(THREE_CLASSES, absent) == pytest.approx(np.mean(images))


def test_where_every_class_is_present_all_rules_agree():
    full = np.array([[[5, 1], [2, 3]], [[4, 0], [1, 2]]])
    assert pooled_miou(full, "zero") == pooled_miou(full, "one") == pooled_miou(full)
    assert per_image_miou(full, "zero") == per_image_miou(full, "one") == per_image_miou(full)


def test_an_unknown_rule_for_absent_classes_is_refused():
    with pytest.raises(ValueError, match="absent is 'nan'; expected one of skip, zero, one"):
        pooled_miou(TWO_IMAGES, "nan")


# Imports


def test_importing_metrics_does_not_import_torch():
    check = "import sys, segpipe.metrics.bootstrap; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
