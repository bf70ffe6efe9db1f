import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segpipe.data.lineage import Lineage
from segpipe.inference.probs import Predictions, PredictionWriter, quantise, sampled_size, to_scored_size, winners

STEP = 1 / 255
LINEAGE = Lineage(frozenset({"h1"}), frozenset({"h2"}))
LIBRARIES = {"python": "3.11.7", "torch": "2.11.0", "madgrad": None}


def normalised(weights):
    weights = weights.astype(np.float32) + np.float32(1e-6)
    return weights / weights.sum(-1, keepdims=True)


def probs_of(height, width, num_classes=3, seed=0):
    return normalised(np.random.default_rng(seed).random((height, width, num_classes)))


SIDES = st.sampled_from([1, 2, 3, 4, 6])
EVEN_SIDES = st.sampled_from([2, 4, 6, 10])


@st.composite
def probabilities(draw):
    """Maps of any probabilities, of many exact ties (small whole weights), or of near ties (weights close to 1000)."""
    shape = (draw(SIDES), draw(SIDES), draw(st.integers(2, 5)))
    weights = draw(st.sampled_from([(0, 2**20), (0, 2), (999, 1001)]))
    return normalised(draw(arrays(np.uint32, shape, elements=st.integers(*weights))))


@given(probabilities(), st.sampled_from([np.float32, np.uint8]), st.booleans())
def test_winners_are_those_of_argmax_however_the_values_lie_in_memory(probs, dtype, planes):
    values = (probs * 255).astype(dtype)
    if planes:
        values = np.moveaxis(np.ascontiguousarray(np.moveaxis(values, -1, 0)), 0, -1)
    found = winners(values)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, values.argmax(-1))


# 8 bits


@given(probabilities())
def test_quantising_keeps_the_argmax(probs):
    stored = quantise(probs)
    assert stored.dtype == np.uint8 and stored.shape == probs.shape
    np.testing.assert_array_equal(stored.argmax(-1), probs.argmax(-1))


@given(probabilities())
def test_quantising_is_off_by_half_a_step_and_the_winner_by_one_more_at_most(probs):
    error = np.abs(quantise(probs) - 255 * probs.astype(np.float64))
    winner = probs.argmax(-1)[..., None]
    assert np.take_along_axis(error, winner, -1).max() <= 1.5 + 1e-4
    np.put_along_axis(error, winner, 0, -1)
    assert error.max() <= 0.5 + 1e-4


@pytest.mark.parametrize(
    "probs, stored",
    [
        ([1.0, 0.0, 0.0], [255, 0, 0]),
        ([0.2, 0.6, 0.2], [51, 153, 51]),
        ([0.5, 0.5, 0.0], [129, 128, 0]),  # both are 127.5: the first wins, as in argmax
        ([0.0, 0.4995, 0.5005], [0, 127, 128]),
        ([0.0, 0.4999, 0.5001 - 1e-9], [0, 127, 128]),
        ([0.2, 0.3999, 0.4001], [51, 102, 103]),  # both round to 102: the winner is stored one step higher
        ([0.2, 0.4001, 0.3999], [51, 103, 102]),
        ([1 / 3, 1 / 3, 1 / 3], [86, 85, 85]),
    ],
)
def test_where_rounding_ties_the_winner_is_stored_one_step_higher(probs, stored):
    assert quantise(np.array([[probs]])).tolist() == [[stored]]


# The scored size


@pytest.mark.parametrize(
    "seen, image, scored, sampled",
    [
        ((8, 8), (8, 8), (4, 4), (4, 4)),
        ((8, 8), (8, 8), (16, 4), (16, 4)),  # as many pixels
        ((8, 8), (8, 8), (16, 8), None),  # more: kept as the network has it
        ((8, 8), (8, 8), None, None),
        ((8, 8), (8, 8), (8, 8), None),
        ((8, 8), (16, 16), (4, 4), None),  # upsampled to the image's size first
    ],
)
def test_an_answer_is_only_sampled_where_the_network_sees_the_image_as_it_is(seen, image, scored, sampled):
    assert sampled_size(seen, image, scored) == sampled


@given(probabilities(), EVEN_SIDES, EVEN_SIDES)
def test_the_argmax_at_half_size_is_every_second_pixel_of_the_argmax_at_image_size(probs, height, width):
    full = to_scored_size(probs, (height, width), None)
    half = to_scored_size(probs, (height, width), (height // 2, width // 2))
    assert full.shape[:2] == (height, width)
    np.testing.assert_array_equal(half.argmax(-1), full.argmax(-1)[::2, ::2])


@pytest.mark.parametrize("scored_size", [None, (4, 6)])
def test_at_the_image_size_nothing_changes(scored_size):
    probs = probs_of(4, 6)
    np.testing.assert_array_equal(to_scored_size(probs, (4, 6), scored_size), probs)


def test_a_smaller_map_is_interpolated_to_the_image_size():
    probs = np.array([[[1.0, 0.0], [0.0, 1.0]]], np.float32)  # (1, 2, 2)
    # pixel centres of the four columns lie at 0, 0.25, 0.75 and 1 between those of the two
    assert to_scored_size(probs, (1, 4), None)[0, :, 0].tolist() == [1.0, 0.75, 0.25, 0.0]
    assert to_scored_size(probs, (1, 4), (1, 2))[0, :, 0].tolist() == [1.0, 0.25]


# The store


def write(folder, maps, scored_size, image_size):
    with PredictionWriter(folder, "models/main-0", ["A", "B", "C"], scored_size) as writer:
        for index, probs in maps.items():
            writer.add(index, probs, image_size)
        writer.finish(LINEAGE, LIBRARIES)
    return Predictions(folder)


def test_probabilities_come_back_by_image_within_a_step_and_a_half(tmp_path):
    maps = {7: probs_of(4, 6, seed=1), 3: probs_of(4, 6, seed=2)}
    predictions = write(tmp_path, maps, None, (4, 6))
    for index, probs in maps.items():
        found = predictions.probs(index, (4, 6))
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found.argmax(-1), probs.argmax(-1))
        np.testing.assert_allclose(found, probs, atol=1.5 * STEP + 1e-6)


def test_the_card_names_the_model_its_classes_and_what_it_has_seen(tmp_path):
    predictions = write(tmp_path, {7: probs_of(4, 6)}, (2, 3), (4, 6))
    assert predictions.lineage == LINEAGE
    card = predictions.card
    assert (card.model, card.classes, card.scored_size) == ("models/main-0", ["A", "B", "C"], (2, 3))
    assert card.indices == [7]
    assert predictions.libraries == LIBRARIES


def test_a_map_larger_than_the_scored_size_is_stored_at_the_scored_size(tmp_path):
    probs = probs_of(8, 8)
    predictions = write(tmp_path, {0: probs}, (4, 4), (8, 8))
    assert (tmp_path / "probs.000.bin").stat().st_size == 4 * 4 * 3
    found = predictions.probs(0, (8, 8))
    np.testing.assert_array_equal(found.argmax(-1), probs.argmax(-1)[::2, ::2])


@pytest.mark.parametrize("scored_size, found_size", [((8, 8), (8, 8)), (None, (16, 16))])
def test_a_map_smaller_than_the_scored_size_is_stored_as_it_is_and_enlarged_when_read(
    tmp_path, scored_size, found_size
):
    probs = probs_of(4, 4)
    predictions = write(tmp_path, {0: probs}, scored_size, (16, 16))
    assert (tmp_path / "probs.000.bin").stat().st_size == 4 * 4 * 3
    found = predictions.probs(0, (16, 16))
    assert found.shape[:2] == found_size
    np.testing.assert_allclose(found, to_scored_size(probs, (16, 16), scored_size), atol=1.5 * STEP + 1e-6)


def test_a_store_read_at_native_size_gives_each_image_at_its_own_and_stays_as_it_is(tmp_path):
    probs = probs_of(4, 4)
    predictions = write(tmp_path, {0: probs}, (4, 4), (8, 16))
    found = predictions.at_native_size().probs(0, (8, 16))
    stored = predictions.probs(0, (4, 4))
    np.testing.assert_array_equal(found, to_scored_size(stored, (8, 16), None))
    assert predictions.probs(0, (8, 16)).shape[:2] == (4, 4)


def test_an_image_that_was_not_predicted_is_a_key_error_naming_the_store(tmp_path):
    predictions = write(tmp_path / "main-0", {7: probs_of(4, 6)}, None, (4, 6))
    with pytest.raises(KeyError, match=r"main-0: holds no prediction for image 0 of the image table"):
        predictions.probs(0, (4, 6))


def test_a_store_whose_writing_broke_off_cannot_be_opened(tmp_path):
    with pytest.raises(RuntimeError), PredictionWriter(tmp_path, "m", ["A", "B", "C"], None) as writer:
        writer.add(0, probs_of(4, 6), (4, 6))
        writer.finish(LINEAGE, LIBRARIES)
        raise RuntimeError
    with pytest.raises(FileNotFoundError):
        Predictions(tmp_path)


def test_stored_at_a_scored_size_equal_to_the_networks_probabilities_still_follow_the_scored_size_rule(tmp_path):
    probs = np.random.default_rng(0).dirichlet(np.ones(3), (4, 4)).astype(np.float32)
    with PredictionWriter(tmp_path, "m", ["A", "B", "C"], (4, 4)) as writer:
        writer.add(0, probs, (8, 8))
        writer.finish(LINEAGE, LIBRARIES)
    expected = to_scored_size(probs, (8, 8), (4, 4))
    assert np.abs(expected - probs).max() > 0.05, "nearest of the upsampled map is not the stored map"
    np.testing.assert_allclose(Predictions(tmp_path).probs(0, (8, 8)), expected, atol=2 / 255)
