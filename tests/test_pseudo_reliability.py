"""Which images can be trusted, by hand; and what is expected of their labels."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segpipe.pseudo.evidence import Evidence
from segpipe.pseudo.quality import BINS, SHRINK, calibration_table, precision_curves
from segpipe.pseudo.reliability import most_reliable, plausibility, reliability, shares_of


def test_plausible_is_what_an_image_has_in_common_with_the_labelled_image_most_like_it():
    labeled = np.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]])
    shares = np.array([[1.0, 0, 0], [0.6, 0.4, 0], [0, 0, 1.0], [0.5, 0.25, 0.25]])
    assert plausibility(shares, labeled) == pytest.approx([1, 0.9, 0, 0.75])


def test_plausibility_of_many_images_is_that_of_each_alone():
    rng = np.random.default_rng(0)
    shares, labeled = shares_of(rng.integers(0, 9, (200, 4))), shares_of(rng.integers(0, 9, (30, 4)))
    alone = [max(np.minimum(one, other).sum() for other in labeled) for one in shares]
    assert plausibility(shares, labeled) == pytest.approx(alone)


def test_shares_of_an_image_without_pixels_are_all_0():
    assert shares_of(np.array([[0, 0], [1, 3]])).tolist() == [[0, 0], [0.25, 0.75]]


def test_ranks_of_signs_are_averaged_and_ties_share_theirs():
    signs = pd.DataFrame({"a": [0.1, 0.2, 0.3], "b": [5.0, 9.0, 9.0]})
    # ranks of a: 0, 1/2, 1; of b: 0, 3/4, 3/4
    assert reliability(signs) == pytest.approx([0, 0.625, 0.875])


def test_a_sign_that_was_not_measured_or_is_always_the_same_says_nothing():
    signs = pd.DataFrame({"a": [0.1, 0.2], "same": [1.0, 1.0], "missing": [np.nan, np.nan]})
    assert reliability(signs).tolist() == [0, 1]
    assert reliability(signs[["same", "missing"]]).tolist() == [0.5, 0.5]
    assert reliability(signs.iloc[:1]).tolist() == [0.5] and reliability(signs.iloc[:0]).tolist() == []


def test_the_most_reliable_are_kept_and_of_equals_the_first():
    assert most_reliable(np.array([0.2, 0.9, 0.5, 0.9]), 0.5).tolist() == [False, True, False, True]
    assert most_reliable(np.array([0.5, 0.5, 0.5]), 0.34).tolist() == [True, False, False]


@given(st.lists(st.floats(0, 1), max_size=20), st.floats(0, 1))
def test_the_share_of_images_is_met_and_no_better_image_is_left_out(scores, keep):
    chosen = most_reliable(np.array(scores), keep)
    assert abs(chosen.sum() - keep * len(scores)) <= max(0.5, float(0 < keep < 1))
    assert chosen.any() == (keep > 0 and len(scores) > 0)
    if chosen.any() and not chosen.all():
        assert np.array(scores)[chosen].min() >= np.array(scores)[~chosen].max()


# What is expected


def seen(rows, num_classes=2):
    """Evidence of scenes in each of which so many pixels of (class, confidence) are predicted and so many right."""
    evidence = Evidence(num_classes)
    for group, (index, confidence, pixels, right) in rows:
        classes = np.full((1, pixels), index, np.uint8)
        target = np.where(np.arange(pixels) < right, index, 1 - index).astype(np.uint8)[None]
        evidence.add(group, classes, np.full((1, pixels), confidence, np.uint8), target)
    return evidence


def test_without_tune_images_the_confidence_is_believed():
    curves = precision_curves(Evidence(3))
    assert curves.shape == (3, BINS)
    assert curves[0] == pytest.approx((np.arange(BINS) * 16 + 7.5) / 255)


def test_a_bin_counts_the_more_the_more_scenes_show_it():
    confidence = (200 // 16 * 16 + 7.5) / 255
    few = precision_curves(seen([("a", (0, 200, 100, 50))]))[:, 200 // 16]
    overall = (0.5 + SHRINK * confidence) / (1 + SHRINK)
    assert few == pytest.approx([(0.5 + SHRINK * overall) / (1 + SHRINK), SHRINK * overall / SHRINK])
    many = precision_curves(seen([(scene, (0, 200, 100, 50)) for scene in range(200)]))[0, 200 // 16]
    assert many == pytest.approx(0.5, abs=0.01)


def test_pixels_of_one_scene_are_one_piece_of_evidence():
    split = precision_curves(seen([(scene, (0, 200, 10, 5)) for scene in range(8)]))
    together = precision_curves(seen([("a", (0, 200, 10, 5))] * 8))
    confidence = (200 // 16 * 16 + 7.5) / 255
    assert abs(split[0, 12] - confidence) > abs(together[0, 12] - confidence)


def test_the_calibration_table_by_hand():
    evidence = seen([("a", (0, 250, 10, 9)), ("b", (1, 240, 30, 21)), ("b", (1, 100, 10, 1))])
    table = calibration_table(evidence)
    assert table["confidence"].tolist() == pytest.approx([100 / 255, (10 * 250 + 30 * 240) / 40 / 255])
    assert table["precision"].tolist() == pytest.approx([0.1, 30 / 40])
    assert table["share"].tolist() == pytest.approx([0.2, 0.8]) and table["scenes"].tolist() == [1, 2]
