"""Intervals and comparisons: by hand on a few groups, and whether they keep what they promise."""

import numpy as np
import pytest

from segpipe.metrics.bootstrap import (
    MIN_GROUPS,
    bootstrap_iou,
    bootstrap_miou,
    compare_miou,
    miou,
    optimism_of_best,
    resampled_miou,
)
from segpipe.metrics.confusion import iou_per_class, pooled_miou


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


def test_per_image_interval_by_hand_for_two_groups():
    confusions = np.array([[[2, 0], [0, 2]], [[1, 1], [1, 1]], [[5, 5], [5, 5]]])
    interval = bootstrap_miou(confusions, ["right", "half", "half"], statistic="per_image", resamples=500)
    assert interval.value == pytest.approx((1 + 1 / 3 + 1 / 3) / 3)  # every image counts the same, whatever its size
    # twice the right group is 2 images at 1, twice the other is 4 images at 1/3
    assert (interval.low, interval.high) == (pytest.approx(1 / 3), 1)


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
    monkeypatch.setattr("segpipe.metrics.resample._CHUNK_ELEMENTS", 100)
    assert bootstrap_miou(confusions, groups, resamples=200, seed=3) == first


@pytest.mark.parametrize(("absent", "low"), [("skip", 1), ("zero", 1 / 2), ("one", 1)])
def test_a_class_missing_from_a_resample_counts_there_as_absent_says(absent, low):
    # class 1 is only in the first group, and perfect there; class 0 is perfect everywhere
    confusions = np.array([[[3, 0], [0, 3]], [[3, 0], [0, 0]]])
    interval = bootstrap_miou(confusions, [1, 2], absent=absent, resamples=100)
    assert (interval.value, interval.low, interval.high) == (1, low, 1)


@pytest.mark.parametrize("statistic", ["pooled", "per_image"])
@pytest.mark.parametrize("absent", ["skip", "zero", "one"])
def test_groups_without_a_counted_pixel_are_no_scenes(statistic, absent):
    confusions, groups = simulate(np.random.default_rng(0), num_groups=4)
    empty = np.zeros((3, 3, 3), np.int64)
    options = {"statistic": statistic, "absent": absent, "resamples": 100}
    padded = bootstrap_miou(np.concatenate([confusions, empty]), [*groups, "x", "y", "z"], **options)
    assert padded == bootstrap_miou(confusions, groups, **options)


def test_intervals_per_class_are_nan_for_an_absent_class():
    confusions, groups = simulate(np.random.default_rng(0), num_groups=20)
    confusions = np.pad(confusions, ((0, 0), (0, 1), (0, 1)))  # a fourth class that is nowhere
    *present, absent = bootstrap_iou(confusions, groups, resamples=300)
    points = iou_per_class(confusions.sum(axis=0))
    assert [interval.value for interval in present] == points[:3].tolist()
    assert all(interval.low < interval.value < interval.high for interval in present)
    assert np.isnan([absent.value, absent.low, absent.high]).all()


def some_classes_only(rng, confusions):
    """The same images, each showing class 0 and every other class with a chance of one half."""
    shown = rng.random(confusions.shape[:2]) < 0.5
    shown[:, 0] = True
    return confusions * (shown[:, :, None] & shown[:, None, :])


@pytest.mark.parametrize(
    ("statistic", "absent"), [("pooled", "skip"), ("per_image", "skip"), ("per_image", "zero"), ("per_image", "one")]
)
def test_intervals_cover_the_true_value_as_often_as_they_say(statistic, absent):
    rng = np.random.default_rng(0)
    population = some_classes_only(rng, simulate(rng, num_groups=20_000, images_per_group=1)[0])
    truth = miou(population, statistic, absent)
    covered = 0
    for seed in range(200):
        rng = np.random.default_rng(1 + seed)
        confusions, groups = simulate(rng, num_groups=40)
        options = {"statistic": statistic, "absent": absent, "resamples": 500, "seed": seed}
        interval = bootstrap_miou(some_classes_only(rng, confusions), groups, **options)
        covered += interval.low <= truth <= interval.high
    assert 0.88 <= covered / 200 <= 0.99


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


@pytest.mark.parametrize("statistic", ["pooled", "per_image"])
@pytest.mark.parametrize("absent", ["skip", "zero", "one"])
def test_a_model_is_exactly_as_good_as_itself(statistic, absent):
    rng = np.random.default_rng(0)
    confusions, groups = simulate(rng, num_groups=30)
    confusions = some_classes_only(rng, confusions)
    options = {"statistic": statistic, "absent": absent, "resamples": 500}
    comparison = compare_miou(confusions, confusions.copy(), groups, **options)
    assert (comparison.difference, comparison.low, comparison.high, comparison.p_value) == (0, 0, 0, 1)
    assert comparison.verdict == "undecided"


def test_a_clear_improvement_is_better_and_its_mirror_worse():
    better, worse, groups = paired(np.random.default_rng(0), num_groups=30, gain=0.3)
    won, lost = compare_miou(better, worse, groups, resamples=999), compare_miou(worse, better, groups, resamples=999)
    assert (won.verdict, lost.verdict) == ("better", "worse")
    assert won.difference == pytest.approx(pooled_miou(better) - pooled_miou(worse)) == pytest.approx(-lost.difference)
    assert won.low > 0 > lost.high
    assert won.p_value == 2 / 1000  # no resample disagrees: (1 + 0) / (999 + 1), two-sided


def test_what_is_better_pooled_can_be_worse_per_image():
    # Of each scene's two images, both models find all of class 2 in the second. In the first a calls one pixel class 2,
    # which there costs a whole class at IoU 0; b calls ten pixels of class 0 class 1.
    second = [[0, 0, 0], [0, 0, 0], [0, 0, 1000]]
    a = np.array([[[99, 0, 1], [0, 100, 0], [0, 0, 0]], second] * 12)
    b = np.array([[[90, 10, 0], [0, 100, 0], [0, 0, 0]], second] * 12)
    groups = np.arange(12).repeat(2).tolist()
    pooled = compare_miou(a, b, groups, resamples=200)
    per_image = compare_miou(a, b, groups, statistic="per_image", resamples=200)
    assert (pooled.verdict, per_image.verdict) == ("better", "worse")
    assert pooled.difference == pytest.approx((99 / 100 + 1 + 1000 / 1001) / 3 - (90 / 100 + 100 / 110 + 1) / 3)
    # the second images are 1 for both
    assert per_image.difference == pytest.approx(((99 / 100 + 1 + 0) / 3 - (90 / 100 + 100 / 110) / 2) / 2)


def test_an_absent_class_counted_one_rewards_the_model_that_does_not_predict_it():
    a = np.array([[[10, 0], [0, 0]]] * 12)  # class 1 is nowhere, and a says so
    b = np.array([[[9, 1], [0, 0]]] * 12)
    for statistic in ("pooled", "per_image"):
        options = {"statistic": statistic, "resamples": 200}
        assert compare_miou(a, b, range(12), absent="one", **options).difference == pytest.approx(1 - (9 / 10 + 0) / 2)
        assert compare_miou(a, b, range(12), absent="zero", **options).difference == pytest.approx((1 - 9 / 10) / 2)
        assert compare_miou(a, b, range(12), absent="skip", **options).difference == pytest.approx(1 - (9 / 10 + 0) / 2)


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


# The raw resamples


def test_one_resample_draws_the_same_groups_for_every_model():
    better, worse, groups = paired(np.random.default_rng(0), num_groups=15, gain=0.2)
    values = resampled_miou([better, worse, better], groups, resamples=300, seed=5)
    assert values.shape == (300, 3)
    assert values.dtype == np.float64
    assert np.array_equal(values[:, 0], values[:, 2])
    # scenes differ more than the models do, yet better wins in nearly every resample: the draws are shared
    assert values[:, 0].std() > (values[:, 0] - values[:, 1]).std()
    assert np.array_equal(resampled_miou([worse], groups, resamples=300, seed=5)[:, 0], values[:, 1])


def test_interval_and_difference_are_quantiles_of_the_raw_resamples():
    better, worse, groups = paired(np.random.default_rng(0), num_groups=15, gain=0.2)
    values = resampled_miou([better, worse], groups, resamples=300, seed=5)
    interval = bootstrap_miou(better, groups, resamples=300, seed=5)
    assert (interval.low, interval.high) == pytest.approx(np.quantile(values[:, 0], [0.025, 0.975]))
    comparison = compare_miou(better, worse, groups, resamples=300, seed=5)
    assert (comparison.low, comparison.high) == pytest.approx(np.quantile(values[:, 0] - values[:, 1], [0.025, 0.975]))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"resamples": 0}, "resamples is 0"),
        ({"level": 1.0}, "level is 1.0"),
        ({"statistic": "image"}, "statistic is 'image'; expected one of pooled, per_image"),
        ({"absent": "none"}, "absent is 'none'; expected one of skip, zero, one"),
    ],
)
def test_impossible_options_are_refused(option, message):
    confusions, groups = simulate(np.random.default_rng(0), num_groups=4)
    with pytest.raises(ValueError, match=message):
        bootstrap_miou(confusions, groups, **option)
