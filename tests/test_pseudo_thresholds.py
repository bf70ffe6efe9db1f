"""Thresholds by hand, their properties, and a plain recount as judge."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segpipe.labels import IGNORE_INDEX
from segpipe.params import PseudoLabelParams
from segpipe.pseudo.evidence import Evidence, effective_groups, precision_bound
from segpipe.pseudo.taught import at_least, joint_counts
from segpipe.pseudo.thresholds import FEW_SCENES, NOTHING, Keeper, choose_thresholds, fixed, per_class, top_fraction

V = IGNORE_INDEX
BASE = PseudoLabelParams(
    threshold="per_class", confidence=0.6, target_precision=0.9, certainty=0.8, min_share=0.0, fraction=0.5, keep=1.0
)


def changed(**keys):
    return BASE.model_copy(update=keys)


def at(**pixels):
    """(256,) counts: `at(_200=3)` is three pixels of confidence 200."""
    counts = np.zeros(256, np.int64)
    for name, number in pixels.items():
        counts[int(name.strip("_"))] = number
    return counts


# One threshold for all


@pytest.mark.parametrize("threshold, kept", [(0.0, [0, 1, 2, 3]), (0.6, [V, 1, 2, 3]), (1.0, [V, V, V, 3])])
def test_pixels_at_a_fixed_threshold_are_kept_and_those_below_ignored(threshold, kept):
    classes, confidence = np.arange(4, dtype=np.uint8), np.array([152, 153, 254, 255], np.uint8)  # 153 = 0.6 * 255
    label = Keeper([fixed(threshold)] * 4).keep(classes, confidence)
    assert label.tolist() == kept and label.dtype == np.uint8


def test_every_boundary_that_8_bits_can_hold_is_kept():
    for step in range(256):
        assert fixed(step / 255).step == step


# A share of each class


def test_the_top_fraction_takes_the_most_confident_and_of_equals_evenly_spread_ones():
    threshold = top_fraction(at(_100=4, _200=4, _250=1), 5 / 9)  # all of 250, then all four of 200
    assert (threshold.step, threshold.wanted, threshold.tied) == (200, 4, 4)
    threshold = top_fraction(at(_100=4, _200=4, _250=1), 3 / 9)
    assert (threshold.step, threshold.wanted, threshold.tied) == (200, 2, 4)
    keeper = Keeper([threshold])
    first = keeper.keep(np.zeros((1, 4), np.uint8), np.array([[200, 250, 200, 100]], np.uint8))
    second = keeper.keep(np.zeros((1, 2), np.uint8), np.array([[200, 200]], np.uint8))
    # of the four equal ones every second, whichever image they are in
    assert (first.tolist(), second.tolist()) == ([[V, 0, 0, V]], [[V, 0]])


def pixels(low, high):
    return st.lists(st.integers(low, high), min_size=12, max_size=12)


images = st.lists(st.tuples(pixels(0, 2), pixels(245, 255)), min_size=1, max_size=6)


@settings(max_examples=200, deadline=None)
@given(images, st.floats(0, 1))
def test_the_top_fraction_keeps_within_a_pixel_of_the_fraction_of_every_class(drawn, fraction):
    pool = [tuple(np.array(part, np.uint8).reshape(3, 4) for part in image) for image in drawn]
    counts = np.sum([joint_counts(*image, 3) for image in pool], axis=0)
    keeper = Keeper(choose_thresholds(changed(threshold="top_fraction", fraction=fraction), counts, None))
    labels = [keeper.keep(*image) for image in pool]
    for index in range(3):
        predicted = sum(int((classes == index).sum()) for classes, _ in pool)
        kept = [c[label == index] for label, (_, c) in zip(labels, pool, strict=True)]
        assert abs(sum(map(len, kept)) - fraction * predicted) <= 0.5 + 1e-9
        left = [c[(classes == index) & (label == V)] for label, (classes, c) in zip(labels, pool, strict=True)]
        if sum(map(len, kept)) and sum(map(len, left)):
            assert np.concatenate(kept).min() >= np.concatenate(left).max(), "never a less confident one instead"


# A threshold for each class, from tune images


def scenes(*rows):
    """(groups, 256) total and right counts; each row maps a confidence to (pixels, right ones)."""
    total, right = np.zeros((2, len(rows), 256), np.int64)
    for number, row in enumerate(rows):
        for confidence, (pixels, correct) in row.items():
            total[number, confidence], right[number, confidence] = pixels, correct
    return total, right


def test_the_lowest_threshold_that_reaches_the_target_is_taken():
    total, right = scenes(*[{100: (10, 2), 200: (10, 9), 250: (10, 10)}] * 40)
    # of 40 equal scenes: 100 and above is 21 of 30 right, 200 and above 19 of 20, 250 all
    steps = [per_class(total, right, at(_250=1), changed(target_precision=p)).step for p in (0.6, 0.9, 0.96)]
    assert steps == [0, 101, 201]  # as low as leaves out the same pixels


def test_few_scenes_are_not_trusted_however_many_pixels_they_have():
    by_scenes = {number: scenes(*[{200: (100_000, 100_000)}] * number) for number in (1, 3, 9, 40)}
    steps = {number: per_class(*counts, at(_200=1), BASE) for number, counts in by_scenes.items()}
    assert {number: found.step for number, found in steps.items()} == {1: NOTHING, 3: NOTHING, 9: 0, 40: 0}
    assert {number: found.thin for number, found in steps.items()} == {1: True, 3: True, 9: True, 40: False}
    assert "9 tune scenes" in steps[9].why and steps[40].why == "target"


def test_a_rare_class_that_misses_the_target_keeps_its_most_confident_pixels_and_the_table_says_so():
    total, right = scenes({200: (5, 2)}, {220: (5, 3)})
    pool = at(_150=70, _200=20, _240=10)
    assert per_class(total, right, pool, BASE).step == NOTHING
    found = per_class(total, right, pool, changed(min_share=0.1))
    assert (found.step, found.why) == (240, "min_share; target not reached; of 2 tune scenes")
    assert per_class(total, right, pool, changed(min_share=0.11)).step == 200


def test_a_class_that_no_tune_image_shows_keeps_its_share_too():
    found = per_class(*scenes({}), at(_150=70, _240=10), changed(min_share=0.1))
    assert (found.step, found.thin) == (240, True) and "0 tune scenes" in found.why


def test_without_tune_images_a_threshold_per_class_is_refused():
    with pytest.raises(ValueError, match=r"pseudo_label\.threshold: found per_class in a fold without tune images"):
        choose_thresholds(BASE, np.zeros((3, 256), np.int64), Evidence(3))


right_and_wrong = st.tuples(st.integers(0, 30), st.integers(0, 30)).map(lambda pair: (sum(pair), pair[0]))
counted = st.lists(st.dictionaries(st.integers(0, 255), right_and_wrong), min_size=1, max_size=15)


@settings(max_examples=150, deadline=None)
@given(counted, st.floats(0.01, 0.99), st.floats(0.01, 0.99), st.floats(0, 1))
def test_a_higher_target_never_keeps_more(rows, one, other, min_share):
    total, right = scenes(*rows)
    sections = [changed(target_precision=target, min_share=min_share) for target in sorted((one, other))]
    low, high = (per_class(total, right, total.sum(0), section) for section in sections)
    assert low.step <= high.step


@settings(max_examples=100, deadline=None)
@given(counted, st.floats(0.01, 0.99), st.sampled_from([0.0, 0.1]))
def test_the_reason_names_the_scenes_where_the_threshold_is_thin_and_only_there(rows, target, min_share):
    total, right = scenes(*rows)
    found = per_class(total, right, total.sum(0), changed(target_precision=target, min_share=min_share))
    assert found.thin == (FEW_SCENES in found.why), "the log counts the one, the report the other"
    assert "," not in found.why, "a comma would part the columns of quality.csv"


@settings(max_examples=100, deadline=None)
@given(counted, st.floats(0.5, 0.99))
def test_what_the_bound_promises_is_never_more_than_was_seen(rows, certainty):
    total, right = scenes(*rows)
    bound = precision_bound(at_least(right), at_least(total), certainty)
    seen = at_least(total).sum(0) > 0
    assert (np.isnan(bound) == ~seen).all()
    precision = at_least(right).sum(0)[seen] / at_least(total).sum(0)[seen]
    assert (bound[seen] <= np.maximum(precision, 0.5) + 1e-9).all()  # the added scene is half right


@pytest.mark.parametrize("certainty", [0.8, 0.95])
@pytest.mark.parametrize("number", [5, 20, 60])
def test_the_bound_holds_about_as_often_as_it_says(certainty, number):
    """Scenes of many pixels that are right or wrong together: mean precision 0.85, beta distributed, unequal sizes."""
    rng, held = np.random.default_rng(number), 0
    for _ in range(400):
        sizes = rng.integers(50, 2000, (number, 1))
        right = rng.binomial(sizes, rng.beta(0.85 * 5, 0.15 * 5, (number, 1)))
        held += precision_bound(right, sizes, certainty)[0] <= 0.85
    assert held / 400 >= certainty - 0.04


def test_the_number_of_groups_that_count_is_that_of_equally_large_ones():
    assert effective_groups(np.array([[5, 100], [5, 0], [5, 0], [0, 0]])).tolist() == [3, 1]
    assert effective_groups(np.zeros((2, 1))).tolist() == [0]


# The counts beneath, against a plain recount


def test_evidence_grows_with_scenes_and_not_with_their_images():
    rng, evidence, sizes = np.random.default_rng(0), Evidence(5), []
    image = [rng.integers(0, 5, (40, 40), np.uint8) for _ in range(3)]
    for _ in range(20):
        evidence.add("scene", *image)
        sizes.append(len(pickle.dumps(evidence)))
    assert sizes[-1] == sizes[0]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_evidence_counts_what_a_loop_over_pixels_counts(seed):
    rng = np.random.default_rng(seed)
    evidence = Evidence(3)
    total, right, true = np.zeros((2, 3, 256), int), np.zeros((2, 3, 256), int), np.zeros(3, int)
    for image in range(4):
        classes, target = (rng.choice(values, (3, 5)).astype(np.uint8) for values in ([0, 1, 2], [0, 1, 2, V]))
        confidence = rng.integers(250, 256, (3, 5)).astype(np.uint8)
        evidence.add(("a", "b")[image % 2], classes, confidence, target)
        for said, sure, truth in zip(classes.flat, confidence.flat, target.flat, strict=True):
            if truth != V:
                total[image % 2, said, sure] += 1
                right[image % 2, said, sure] += said == truth
                true[truth] += 1
    for index in range(3):
        found = evidence.of_class(index)
        assert (found[0] == total[:, index]).all() and (found[1] == right[:, index]).all()
    assert (evidence.of_all()[0] == total.sum(1)).all() and (evidence.true_pixels == true).all()
    assert evidence.num_groups == 2
