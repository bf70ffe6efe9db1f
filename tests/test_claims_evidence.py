"""Differences between arms and the spread of seeds: hand-checked, and right as often as they say."""

import math

import numpy as np
import pytest

from segpipe.claims.evidence import REFUTED, SUPPORTED, UNDECIDED, compare_arms, overall, seed_spread

GROUPS = [f"scene {number}" for number in range(40)]


def run_of(rng: np.random.Generator, images: np.ndarray, level: float) -> np.ndarray:
    """(N, 2, 2): two classes of 1,000 pixels each; the share that is right moves with the image and with `level`."""
    right = np.clip(0.7 + images + level + rng.normal(0, 0.02, (len(images), 2)), 0, 1)
    hits = np.rint(1000 * right).astype(np.int64)
    return np.stack(
        [np.stack([hits[:, 0], 1000 - hits[:, 0]], 1), np.stack([1000 - hits[:, 1], hits[:, 1]], 1)], axis=1
    )


def arms(seed: int, gain: float, *, num_seeds: int, seed_noise: float, num_images: int = len(GROUPS)):
    """Two arms on the same images; the first is better by about `gain`, each run is off by its own luck."""
    rng = np.random.default_rng(seed)
    images = rng.normal(0, 0.08, (num_images, 1))
    # how an image takes to the first arm: what makes a difference depend on the choice of images
    taste = rng.normal(0, 0.03, (num_images, 1))
    first = [run_of(rng, images + taste, gain + rng.normal(0, seed_noise)) for _ in range(num_seeds)]
    second = [run_of(rng, images, rng.normal(0, seed_noise)) for _ in range(num_seeds)]
    return first, second


def test_the_difference_is_the_mean_over_seeds_of_the_paired_differences():
    perfect = np.array([[[4, 0], [0, 4]]] * 2)
    half = np.array([[[4, 0], [4, 0]]] * 2)  # class 0: 4 of 8; class 1: nothing: mIoU 0.25
    found = compare_arms([perfect, perfect], [half, perfect], ["a", "b"], by=0.0)
    assert found.per_seed == (0.75, 0.0)
    assert found.value == 0.375
    # all images are alike, so only seeds make it uncertain: standard deviation 0.75 / sqrt(2), over two seeds
    assert found.over_images == 0.0
    assert found.over_seeds == pytest.approx(0.375)
    # Student's quantile for one degree of freedom is 12.706
    assert found.high - found.value == pytest.approx(12.706 * 0.375, rel=1e-4)
    assert found.verdict == UNDECIDED


def test_a_clear_gain_is_supported_its_opposite_refuted_and_a_small_one_undecided():
    better, worse = arms(1, 0.10, num_seeds=4, seed_noise=0.01)
    assert compare_arms(better, worse, GROUPS, by=0.0).verdict == SUPPORTED
    assert compare_arms(worse, better, GROUPS, by=0.0).verdict == REFUTED
    alike, other = arms(2, 0.0, num_seeds=4, seed_noise=0.01)
    assert compare_arms(alike, other, GROUPS, by=0.0).verdict == UNDECIDED


def test_a_margin_moves_what_is_asked():
    better, worse = arms(1, 0.05, num_seeds=4, seed_noise=0.005)
    found = compare_arms(better, worse, GROUPS, by=0.0)
    assert compare_arms(better, worse, GROUPS, by=found.high + 0.01).verdict == REFUTED, "claimed too much"
    alike, other = arms(2, 0.0, num_seeds=4, seed_noise=0.005)
    assert compare_arms(alike, other, GROUPS, by=-0.1).verdict == SUPPORTED, "not worse by a tenth"


@pytest.mark.parametrize(("num_seeds", "seed_noise"), [(3, 0.0), (3, 0.02), (5, 0.05)])
def test_the_interval_holds_the_truth_about_95_times_in_100_over_new_images_and_seeds(num_seeds, seed_noise):
    held = 0
    for trial in range(200):
        first, second = arms(1000 + trial, 0.0, num_seeds=num_seeds, seed_noise=seed_noise)  # the truth is 0
        found = compare_arms(first, second, GROUPS, by=0.0, resamples=200)
        held += found.low <= 0 <= found.high
    assert 0.90 <= held / 200 <= 0.985, held


def test_without_its_part_over_seeds_the_interval_would_be_far_too_narrow():
    missed = 0
    for trial in range(100):
        first, second = arms(2000 + trial, 0.0, num_seeds=3, seed_noise=0.05)
        found = compare_arms(first, second, GROUPS, by=0.0, resamples=200)
        missed += abs(found.value) > 1.96 * found.over_images
    assert missed > 40


def test_more_seeds_are_asked_for_only_where_they_would_help():
    first, second = arms(5, 0.05, num_seeds=3, seed_noise=0.03)
    found = compare_arms(first, second, GROUPS, by=0.0)
    assert found.verdict == UNDECIDED
    assert 3 < found.seeds_needed <= 200
    # nothing but the choice of images: each run of an arm is the same
    alike, other = ([runs[0]] * 3 for runs in arms(2, 0.0, num_seeds=3, seed_noise=0.0))
    beyond = compare_arms(alike, other, GROUPS, by=0.0)
    assert (beyond.verdict, beyond.seeds_needed) == (UNDECIDED, None), "the images alone leave more than it seems"


def test_the_smallest_difference_shown_is_larger_than_the_half_width():
    first, second = arms(3, 0.0, num_seeds=3, seed_noise=0.01)
    found = compare_arms(first, second, GROUPS, by=0.0)
    assert found.smallest > found.high - found.value > math.hypot(found.over_seeds, found.over_images)


def test_what_could_have_been_shown_is_shown_about_80_times_in_100():
    shown, smallest, gains = 0, [], []
    for trial in range(150):
        found = compare_arms(*arms(4000 + trial, 0.0285, num_seeds=4, seed_noise=0.01), GROUPS, by=0.0, resamples=200)
        shown += found.verdict == SUPPORTED
        smallest.append(found.smallest)
        gains.append(found.value)
    assert np.mean(gains) == pytest.approx(np.median(smallest), rel=0.1), "the gain is what could be shown"
    assert 0.65 <= shown / 150 <= 0.9, shown


def test_more_seeds_mend_what_images_and_seed_do_together():
    # no image takes to either arm by itself, so enough seeds decide it: the images alone leave no doubt
    rng = np.random.default_rng(3)
    images = rng.normal(0, 0.08, (40, 1))
    first = [run_of(rng, images, 0.004) for _ in range(3)]
    second = [run_of(rng, images, 0.0) for _ in range(3)]
    found = compare_arms(first, second, GROUPS, by=0.0)
    assert (found.verdict, found.seeds_needed) == (UNDECIDED, 7)


def test_arms_that_are_the_same_need_no_more_seeds():
    first, _ = arms(1, 0.0, num_seeds=3, seed_noise=0.01)
    found = compare_arms(first, first, GROUPS, by=0.0)
    assert (found.value, found.verdict, found.seeds_needed) == (0.0, UNDECIDED, None)


def test_of_several_comparisons_each_refutes_at_a_lower_level():
    for seed in range(200):
        worse, better = arms(seed, -0.04, num_seeds=3, seed_noise=0.01)
        alone = compare_arms(worse, better, GROUPS, by=0.0, resamples=200)
        if alone.verdict == REFUTED:
            of_many = compare_arms(worse, better, GROUPS, by=0.0, comparisons=20, resamples=200)
            if of_many.verdict == UNDECIDED:
                return
    pytest.fail("no case lay between the two levels")


def test_groups_without_a_labelled_pixel_are_no_scenes():
    better, worse = arms(1, 0.2, num_seeds=3, seed_noise=0.01)
    for runs in (better, worse):
        for confusion in runs:
            confusion[9:] = 0
    assert compare_arms(better, worse, GROUPS, by=0.0).too_few_groups


def test_too_few_scenes_decide_nothing():
    better, worse = arms(1, 0.2, num_seeds=4, seed_noise=0.01)
    found = compare_arms(better, worse, ["a", "b"] * 20, by=0.0)
    assert (found.verdict, found.too_few_groups) == (UNDECIDED, True)


def test_one_seed_or_unpaired_seeds_are_refused():
    first, second = arms(1, 0.0, num_seeds=3, seed_noise=0.0)
    for a, b in ((first[:1], second[:1]), (first, second[:2])):
        with pytest.raises(ValueError, match="two or more seeds that both arms share"):
            compare_arms(a, b, GROUPS, by=0.0)


def scored(miou: float) -> np.ndarray:
    """(1, 2, 2) whose two classes both have this IoU: hits / (2000 - hits)."""
    hits = round(2000 * miou / (1 + miou))
    return np.array([[[hits, 1000 - hits], [1000 - hits, hits]]])


def test_the_spread_of_seeds_by_hand():
    found = seed_spread([scored(0.50), scored(0.52), scored(0.54)], below=0.1)
    assert found.value == pytest.approx(0.02, abs=1e-3)
    assert found.largest_gap == pytest.approx(0.04, abs=1e-3)
    # chi-squared quantiles for 2 degrees of freedom: 0.0506 and 7.378
    assert found.low == pytest.approx(found.value * math.sqrt(2 / 7.378), rel=1e-3)
    assert found.high == pytest.approx(found.value * math.sqrt(2 / 0.0506), rel=1e-3)
    assert found.verdict == UNDECIDED
    assert found.seeds_needed == 4, "one more, if the spread is what it seems"


def test_a_spread_is_supported_or_refuted_when_its_interval_lies_on_one_side():
    close = [scored(0.5 + 0.0005 * step) for step in (0, 2, 1, 3, 2)]
    assert seed_spread(close, below=0.02).verdict == SUPPORTED
    far = [scored(0.5 + 0.03 * step) for step in (0, 2, 1, 3, 2)]
    assert seed_spread(far, below=0.005).verdict == REFUTED


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([SUPPORTED, SUPPORTED], SUPPORTED),
        ([SUPPORTED, UNDECIDED], UNDECIDED),
        ([UNDECIDED, REFUTED], REFUTED),
        ([SUPPORTED, REFUTED], REFUTED),
    ],
)
def test_a_claim_against_several_arms_needs_all_of_them(verdicts, expected):
    assert overall(verdicts) == expected
