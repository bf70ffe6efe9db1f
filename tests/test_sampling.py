"""The order of an epoch: each image alike, or by its rarest class; and which time it is that an image comes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from segpipe.data.sampling import balanced_weights, epoch_order, repeats
from segpipe.labels import IGNORE_INDEX

V = IGNORE_INDEX
WEIGHTS = st.lists(st.floats(1, 50), min_size=1, max_size=30).map(np.array)


def test_the_weight_of_an_image_is_the_repeat_factor_of_its_rarest_class():
    targets = [np.array(rows, np.uint8) for rows in ([[0, 1]], [[0, 1]], [[0, 2]], [[0, V]], [[V, V]], [[0, 0]])]
    # of six images five show class 0, two class 1, one class 2; the fifth has no labelled pixel
    expected = [np.sqrt(3), np.sqrt(3), np.sqrt(6), np.sqrt(6 / 5), 1, np.sqrt(6 / 5)]
    np.testing.assert_allclose(balanced_weights(targets), expected)


def test_pixels_do_not_count_only_whether_a_class_is_there():
    small, large = np.zeros((4, 4), np.uint8), np.ones((4, 4), np.uint8)
    small[0, 0] = 1
    # both show class 1; class 0 is in the first alone
    assert balanced_weights([small, large]).tolist() == [np.sqrt(2), 1]


def test_a_view_of_a_larger_target_is_weighed_as_what_it_shows():
    whole = np.tile(np.array([0, 1], np.uint8), (4, 4))
    assert balanced_weights([whole[:, ::2], whole]).tolist() == [1, np.sqrt(2)]


@given(WEIGHTS, st.integers(1, 200), st.integers(0, 9))
def test_an_image_comes_as_often_as_its_weight_says_rounded_up_or_down(weights, count, seed):
    order = epoch_order(len(weights), count, np.random.default_rng(seed), weights)
    expected = count * weights / weights.sum()
    counts = np.bincount(order, minlength=len(weights))
    assert len(order) == count and len(counts) == len(weights)
    assert (counts >= np.floor(expected - 1e-9)).all() and (counts <= np.ceil(expected + 1e-9)).all()


def test_over_many_epochs_images_come_in_proportion_to_their_weights():
    weights = np.array([1.0, 1.0, 2.0, 4.0])
    epochs = [epoch_order(4, 3, np.random.default_rng(epoch), weights) for epoch in range(4000)]
    assert len({tuple(order) for order in epochs}) > 20
    np.testing.assert_allclose(np.bincount(np.concatenate(epochs)) / 12_000, weights / 8, atol=0.01)


@given(st.integers(1, 20), st.integers(1, 60), st.integers(0, 9))
def test_without_weights_all_come_before_any_comes_again(length, count, seed):
    order = epoch_order(length, count, np.random.default_rng(seed), None)
    assert len(order) == count
    for start in range(0, count, length):
        turn = order[start : start + length].tolist()
        assert len(set(turn)) == len(turn)


@given(st.lists(st.integers(0, 5), max_size=40))
def test_repeats_count_what_came_before(order):
    assert repeats(np.array(order, np.int64)).tolist() == [
        order[:place].count(value) for place, value in enumerate(order)
    ]
