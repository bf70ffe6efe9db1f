import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segpipe.data.resize import resize_image, resize_labels

LABEL_MAPS = arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)))

# Sizes


@given(arrays(np.uint8, st.tuples(st.sampled_from([2, 4, 10]), st.sampled_from([2, 6, 8]))))
def test_half_size_is_every_second_label_of_every_second_row(labels):
    half = (labels.shape[0] // 2, labels.shape[1] // 2)
    np.testing.assert_array_equal(resize_labels(labels, half), labels[::2, ::2])


@given(LABEL_MAPS, st.integers(1, 20), st.integers(1, 20))
def test_resizing_invents_no_label(labels, height, width):
    resized = resize_labels(labels, (height, width))
    assert resized.shape == (height, width) and resized.dtype == np.uint8
    assert set(resized.ravel()) <= set(labels.ravel())


@given(LABEL_MAPS, st.integers(1, 4), st.integers(1, 4))
def test_enlarging_by_whole_numbers_and_shrinking_back_restores_the_labels(labels, down, right):
    height, width = labels.shape
    enlarged = resize_labels(labels, (height * down, width * right))
    np.testing.assert_array_equal(enlarged, labels.repeat(down, axis=0).repeat(right, axis=1))
    np.testing.assert_array_equal(resize_labels(enlarged, (height, width)), labels)


def test_labels_of_odd_sides_come_from_the_pixel_at_or_before_them():
    # 5 columns to 3: 0 * 5/3 = 0, 1 * 5/3 = 1.67, 2 * 5/3 = 3.33
    assert resize_labels(np.array([[10, 11, 12, 13, 14]], np.uint8), (1, 3)).tolist() == [[10, 11, 13]]


def gray(*row):
    return np.repeat(np.array([row], np.uint8)[..., None], 3, axis=-1)


def test_an_image_that_shrinks_is_averaged_over_areas():
    assert resize_image(gray(0, 100, 10, 30), (1, 2))[..., 0].tolist() == [[50, 20]]
    # the average of all four, not only of the two in the middle
    assert resize_image(gray(0, 100, 10, 30), (1, 1))[..., 0].tolist() == [[35]]


def test_an_image_that_grows_is_interpolated():
    assert resize_image(gray(0, 100), (1, 4))[..., 0].tolist() == [[0, 25, 75, 100]]


@pytest.mark.parametrize("size", [None, (3, 4)])
def test_nothing_is_done_where_the_size_stays(size):
    image = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
    assert resize_image(image, size) is image
    assert resize_labels(image[..., 0], size).tolist() == image[..., 0].tolist()


def test_sizes_are_height_then_width():
    image = np.zeros((6, 4, 3), np.uint8)
    assert resize_image(image, (3, 8)).shape == (3, 8, 3)
    assert resize_labels(image[..., 0], (3, 8)).shape == (3, 8)
