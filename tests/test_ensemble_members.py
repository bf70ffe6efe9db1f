"""What each member brings, and how alike errors are: by hand, and from their definitions."""

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segpipe.ensemble.candidates import list_candidates
from segpipe.ensemble.members import drop_one, leave_outs, likeness, shared_errors
from segpipe.labels import IGNORE_INDEX
from segpipe.metrics.bootstrap import compare_miou
from segpipe.metrics.confusion import class_counts, pooled_miou


def test_each_member_then_each_model_is_left_out():
    left = leave_outs(list_candidates(("a", "b"))[-1])
    assert [(each.kind, each.name) for each in left] == [
        ("member", "a"),
        ("member", "b"),
        ("model", "baseline-a"),
        ("model", "baseline-b"),
        ("model", "retrain-a"),
        ("model", "retrain-b"),
    ]
    assert left[0].candidate.parts == (("baseline", "b"), ("retrain", "b"))
    assert ("retrain", "a") not in left[4].candidate.parts and len(left[4].candidate.parts) == 3


def test_of_one_member_only_its_models_are_left_out():
    assert [each.name for each in leave_outs(list_candidates(("a",))[-1])] == ["baseline-a", "retrain-a"]


def test_a_member_helps_where_the_mean_is_worse_without_it():
    left = leave_outs(list_candidates(("a",))[-1])
    rng = np.random.default_rng(0)
    all_right = rng.integers(60, 90, 40)
    everything = np.stack([[[n, 100 - n], [100 - n, n]] for n in all_right])
    worse = np.stack([[[n, 100 - n], [100 - n, n]] for n in all_right - 30])
    names = [each.candidate.name for each in left]
    without = dict(zip(names, map(class_counts, (worse, everything)), strict=True))
    rows = drop_one(left, class_counts(everything), without, names[1:], range(40))
    assert [(row["without"], row["difference"]["verdict"]) for row in rows] == [
        ("baseline-a", "helps"),
        ("retrain-a", "identical"),
    ]
    assert rows[0]["miou"] == pooled_miou(worse)
    assert rows[0]["difference"] == asdict(compare_miou(everything, worse, range(40))) | {"verdict": "helps"}
    swapped = {names[0]: class_counts(everything)}
    (row, _), reversed_ = rows, drop_one(left[:1], class_counts(worse), swapped, [], range(40))
    assert row["difference"]["difference"] > 0 and reversed_[0]["difference"]["verdict"] == "hurts"


def test_shared_errors_by_hand():
    target = np.array([[0, 0, 1, 1, IGNORE_INDEX]], np.uint8)
    first = np.array([[1, 0, 0, 1, 0]], np.uint8)  # wrong at 0 and 2
    second = np.array([[1, 1, 0, 0, 1]], np.uint8)  # wrong at 0, 1, 2, 3
    third = np.array([[0, 0, 1, 1, 1]], np.uint8)
    counts = shared_errors([first, second, third], target)
    assert counts.tolist() == [[2, 2, 4, 4], [0, 2, 0, 4], [0, 4, 0, 4]]
    pair, *_ = likeness(["x", "y", "z"], np.stack([counts] * 12), range(12))
    assert (pair["a"], pair["b"], pair["shared"]) == ("x", "y", 0.5)
    assert pair["low"] == pair["high"] == 0.5  # all images are the same
    assert pair["kappa"] == 0  # the second is always wrong, so agreement is what chance gives


@given(arrays(np.bool_, (2, 3, 4, 5)), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=30)
def test_likeness_is_jaccard_and_kappa_of_wrong_pixels(wrong, seed):
    target = np.random.default_rng(seed).integers(2, size=(3, 4, 5)).astype(np.uint8)
    maps = [np.where(each, 1 - target, target).astype(np.uint8) for each in wrong]
    counts = np.stack([shared_errors([maps[0][i], maps[1][i]], target[i]) for i in range(3)])
    rows = likeness(["a", "b"], counts, range(3))
    a, b = (each.ravel() for each in wrong)
    if not (a | b).any():
        assert rows == []
        return
    (row,) = rows
    assert row["shared"] == pytest.approx((a & b).sum() / (a | b).sum())
    assert 0 <= row["low"] <= row["shared"] + 1e-12 and row["shared"] - 1e-12 <= row["high"] <= 1
    chance = a.mean() * b.mean() + (1 - a.mean()) * (1 - b.mean())
    expected = ((a == b).mean() - chance) / (1 - chance) if chance < 1 - 1e-12 else 1
    assert row["kappa"] == pytest.approx(expected, abs=1e-9)


def test_without_a_labelled_pixel_nothing_is_said():
    assert likeness(["a", "b"], np.zeros((3, 1, 4), np.int64), range(3)) == []
