"""Metrics: by hand on a few pixels, torchmetrics as judge, and whether the intervals keep what they promise."""

import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segpipe.labels import IGNORE_INDEX
from segpipe.metrics import (
    MIN_GROUPS,
    bootstrap_iou,
    bootstrap_miou,
    compare_miou,
    confusion_matrix,
    iou_per_class,
    mean_iou,
    optimism_of_best,
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
    assert np.isnan([mean_iou(nothing[0]), pooled_miou(nothing), per_image_miou(nothing)]).all()


# Image 1 is right everywhere (8 pixels of class 0); in image 2, 1 pixel of 2 is called class 1.
TWO_IMAGES = np.array([[[8, 0], [0, 0]], [[1, 1], [0, 0]]])


def test_pooled_and_per_image_miou_are_different_numbers():
    assert pooled_miou(TWO_IMAGES) == pytest.approx((9 / 10 + 0) / 2)
    # image 1: class 1 is nowhere, so class 0 alone, 1; image 2: (1/2 + 0) / 2
    assert per_image_miou(TWO_IMAGES) == pytest.approx((1 + 1 / 4) / 2)


def test_per_image_miou_leaves_out_images_without_a_counted_pixel():
    with_empty = np.concatenate([TWO_IMAGES, np.zeros((1, 2, 2), int)])
    assert per_image_miou(with_empty) == per_image_miou(TWO_IMAGES)


# Bootstrap


def simulate(rng, num_groups, images_per_group=2, quality=0.7, num_classes=3, pixels=200):
    """Confusions of images whose share of right pixels varies by group, and the group of each image.

    Wrong pixels fall on any other class alike.
    """
    share = np.clip(quality + 0.15 * rng.standard_normal(num_groups), 0.05, 0.95).repeat(images_per_group)
    actual = rng.multinomial(pixels, np.full(num_classes, 1 / num_classes), size=len(share))
    right = rng.binomial(actual, share[:, None])
    off_diagonal = rng.multinomial(actual - right, np.full(num_classes - 1, 1 / (num_classes - 1)))
    confusions = np.zeros((len(share), num_classes, num_classes), np.int64)
    for truth in range(num_classes):
        confusions[:, truth, truth] = right[:, truth]
        confusions[:, truth, np.arange(num_classes) != truth] = off_diagonal[:, truth]
    return confusions, np.arange(num_groups).repeat(images_per_group).tolist()


def test_interval_by_hand_for_two_groups():
    confusions = np.array([[[2, 0], [0, 2]], [[1, 1], [1, 1]]])
    interval = bootstrap_miou(confusions, ["right", "half"], resamples=500)
    assert interval.value == pytest.approx(3 / 5)  # pooled: 3 pixels agree in a union of 5, for either class
    # a resample is both groups (3/5), twice the right one (1) or twice the other (1/3), each of these two a quarter
    assert (interval.low, interval.high) == (pytest.approx(1 / 3), 1)
    assert interval.num_groups == 2


def test_one_group_gives_an_interval_of_no_width():
    confusions, _ = simulate(np.random.default_rng(0), num_groups=5)
    interval = bootstrap_miou(confusions, ["street"] * len(confusions), resamples=50)
    assert interval.value == interval.low == interval.high == pooled_miou(confusions)
    assert interval.num_groups == 1


def test_groups_are_resampled_and_not_their_images():
    confusions, groups = simulate(np.random.default_rng(0), num_groups=30)
    copies = np.concatenate([confusions] * 4)  # four times the images, but not one scene more
    once, four_times = bootstrap_miou(confusions, groups), bootstrap_miou(copies, groups * 4)
    assert four_times == once
    as_if_independent = bootstrap_miou(copies, range(len(copies)))
    assert as_if_independent.high - as_if_independent.low < 0.6 * (once.high - once.low)


def test_the_seed_decides_and_memory_chunks_do_not(monkeypatch):
    confusions, groups = simulate(np.random.default_rng(0), num_groups=12)
    first = bootstrap_miou(confusions, groups, resamples=200, seed=3)
    assert bootstrap_miou(confusions, groups, resamples=200, seed=3) == first
    assert bootstrap_miou(confusions, groups, resamples=200, seed=4) != first
    monkeypatch.setattr("segpipe.metrics._CHUNK_ELEMENTS", 100)
    assert bootstrap_miou(confusions, groups, resamples=200, seed=3) == first


def test_a_class_missing_from_a_resample_is_left_out_of_its_mean():
    # class 1 is only in the first group, and perfect there; class 0 is perfect everywhere: every resample scores 1
    confusions = np.array([[[3, 0], [0, 3]], [[3, 0], [0, 0]]])
    interval = bootstrap_miou(confusions, [1, 2], resamples=100)
    assert (interval.low, interval.high) == (1, 1)


def test_groups_without_a_counted_pixel_are_no_scenes():
    confusions, groups = simulate(np.random.default_rng(0), num_groups=4)
    empty = np.zeros((3, 3, 3), np.int64)
    padded = bootstrap_miou(np.concatenate([confusions, empty]), [*groups, "x", "y", "z"], resamples=100)
    assert padded == bootstrap_miou(confusions, groups, resamples=100)


def test_intervals_per_class_are_nan_for_an_absent_class():
    confusions, groups = simulate(np.random.default_rng(0), num_groups=20)
    confusions = np.pad(confusions, ((0, 0), (0, 1), (0, 1)))  # a fourth class that is nowhere
    *present, absent = bootstrap_iou(confusions, groups, resamples=300)
    points = iou_per_class(confusions.sum(axis=0))
    assert [interval.value for interval in present] == points[:3].tolist()
    assert all(interval.low < interval.value < interval.high for interval in present)
    assert np.isnan([absent.value, absent.low, absent.high]).all()


def test_intervals_cover_the_true_value_as_often_as_they_say():
    population, _ = simulate(np.random.default_rng(0), num_groups=20_000, images_per_group=1)
    truth = pooled_miou(population)
    covered = 0
    for seed in range(200):
        confusions, groups = simulate(np.random.default_rng(1 + seed), num_groups=40)
        interval = bootstrap_miou(confusions, groups, resamples=500, seed=seed)
        covered += interval.low <= truth <= interval.high
    assert 0.88 <= covered / 200 <= 0.99


def test_ten_thousand_resamples_of_three_hundred_groups_take_under_two_seconds():
    confusions, groups = simulate(np.random.default_rng(0), num_groups=300, num_classes=12)
    start = time.process_time()
    compare_miou(confusions, confusions, groups)
    assert time.process_time() - start < 2


# Comparison


def paired(rng, num_groups, gain):
    """Two models on the same targets: b makes right, per image and class, a share `gain` of what a has wrong."""
    worse, groups = simulate(rng, num_groups)
    better = worse.copy()
    for truth in range(worse.shape[1]):
        for other in set(range(worse.shape[1])) - {truth}:
            mended = rng.binomial(worse[:, truth, other], gain)
            better[:, truth, other] -= mended
            better[:, truth, truth] += mended
    return better, worse, groups


def test_a_model_is_exactly_as_good_as_itself():
    confusions, groups = simulate(np.random.default_rng(0), num_groups=30)
    comparison = compare_miou(confusions, confusions.copy(), groups, resamples=500)
    assert (comparison.difference, comparison.low, comparison.high, comparison.p_value) == (0, 0, 0, 1)
    assert comparison.verdict == "undecided"


def test_a_clear_improvement_is_better_and_its_mirror_worse():
    better, worse, groups = paired(np.random.default_rng(0), num_groups=30, gain=0.3)
    won, lost = compare_miou(better, worse, groups, resamples=999), compare_miou(worse, better, groups, resamples=999)
    assert (won.verdict, lost.verdict) == ("better", "worse")
    assert won.difference == pytest.approx(pooled_miou(better) - pooled_miou(worse)) == pytest.approx(-lost.difference)
    assert won.low > 0 > lost.high
    assert won.p_value == 2 / 1000  # no resample disagrees: (1 + 0) / (999 + 1), two-sided


def test_pairing_finds_an_improvement_smaller_than_the_differences_between_scenes():
    better, worse, groups = paired(np.random.default_rng(0), num_groups=30, gain=0.05)
    comparison = compare_miou(better, worse, groups, resamples=500)
    alone = bootstrap_miou(worse, groups, resamples=500)
    assert comparison.verdict == "better"
    assert comparison.difference < alone.high - alone.value


def test_a_difference_that_scenes_disagree_about_is_undecided():
    better, worse, groups = paired(np.random.default_rng(0), num_groups=30, gain=0.3)
    even = (np.array(groups) % 2 == 0)[:, None, None]
    wins_even, wins_odd = np.where(even, better, worse), np.where(even, worse, better)
    comparison = compare_miou(wins_even, wins_odd, groups, resamples=500)
    assert comparison.verdict == "undecided"
    assert comparison.low < 0 < comparison.high
    assert comparison.p_value > 0.05


@pytest.mark.parametrize(
    ("num_groups", "verdict"), [(MIN_GROUPS - 1, "undecided: too few scenes"), (MIN_GROUPS, "better")]
)
def test_under_ten_groups_nothing_is_decided(num_groups, verdict):
    better, worse, groups = paired(np.random.default_rng(0), num_groups, gain=0.5)
    comparison = compare_miou(better, worse, groups, resamples=500)
    assert comparison.low > 0
    assert (comparison.num_groups, comparison.verdict) == (num_groups, verdict)


# Errors


def test_models_scored_on_different_targets_are_not_compared():
    confusions, groups = simulate(np.random.default_rng(0), num_groups=12)
    with pytest.raises(ValueError, match="same targets, in the same order"):
        compare_miou(confusions, confusions[::-1], groups)


@pytest.mark.parametrize(
    ("confusions", "groups", "message"),
    [
        (np.zeros((0, 2, 2)), [], "no confusion matrix"),
        (np.ones((3, 2, 2)), ["a", "b"], "3 confusion matrices but 2 groups"),
        (np.ones((2, 2)), ["a", "b"], r"shape \(2, 2\)"),
        (np.zeros((2, 2, 2)), ["a", "b"], "none of the 2 images has a labelled pixel"),
    ],
)
def test_what_cannot_be_resampled_is_refused(confusions, groups, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_miou(confusions, groups)


def test_importing_metrics_does_not_import_torch():
    check = "import sys, segpipe.metrics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_optimism_is_zero_for_one_model_and_for_equal_models():
    confusions = np.random.default_rng(0).integers(0, 50, (12, 3, 3))
    groups = [str(image) for image in range(12)]
    assert optimism_of_best([confusions], groups, resamples=200) == 0
    assert optimism_of_best([confusions, confusions.copy()], groups, resamples=200) == 0


def test_optimism_of_the_best_of_many_equally_good_models_is_above_zero():
    # 20 models that are right on about half of each image's pixels by luck alone: the best of them is flattered
    generator = np.random.default_rng(1)
    right = generator.integers(30, 70, (20, 15))
    models = [np.array([[[r, 100 - r], [100 - r, r]] for r in model]) for model in right]
    groups = [str(image) for image in range(15)]
    estimate = optimism_of_best(models, groups, resamples=2_000)
    truth = max(pooled_miou(model) for model in models) - np.mean([pooled_miou(model) for model in models])
    assert 0.25 * truth < estimate < 2 * truth
