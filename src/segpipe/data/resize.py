"""The one way in which images and label maps change size.

Letterboxed images and label maps are stored as the part of `data.image_size` that they fill. The margin is added where
a batch is made, below and to the right; what a network says of an image is cut out again at the top left.
"""

from typing import Literal

import cv2
import numpy as np

GREY = 114  # margin of an image: about the mean of photographs


def stored_size(
    native: tuple[int, int], image_size: tuple[int, int] | None, resize: Literal["stretch", "letterbox"]
) -> tuple[int, int] | None:
    """(height, width) at which an image of size `native` is stored for the networks; None keeps its own.

    "stretch" is `image_size` itself, "letterbox" the largest size within it that keeps the proportions, to a pixel.
    """
    if image_size is None or resize == "stretch":
        return image_size
    (height, width), (box_height, box_width) = native, image_size
    if height * box_width >= width * box_height:  # as tall as the box
        return box_height, max((2 * width * box_height + height) // (2 * height), 1)
    return max((2 * height * box_width + width) // (2 * width), 1), box_width


def padded(array: np.ndarray, size: tuple[int, int] | None, fill: int) -> np.ndarray:
    """A copy of an (H, W, ...) array with `fill` below and to the right, up to `size`; None adds nothing."""
    if size is None or array.shape[:2] == tuple(size):
        return np.array(array)
    whole = np.full((*size, *array.shape[2:]), fill, array.dtype)
    whole[: array.shape[0], : array.shape[1]] = array
    return whole


def resize_image(image: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    """(H, W, 3) uint8 at `size` = (height, width); None keeps it. Areas are averaged when shrinking."""
    if size is None or image.shape[:2] == tuple(size):
        return image
    height, width = size
    shrinks = height * width < image.shape[0] * image.shape[1]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def resize_labels(labels: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    """(H, W) label map at `size` by nearest neighbour: pixel i comes from floor(i * H / height).

    No label is invented, and half size is exactly `labels[::2, ::2]`, the contest's rule.
    """
    if size is None or labels.shape == tuple(size):
        return labels
    return labels[np.ix_(nearest_index(labels.shape[0], size[0]), nearest_index(labels.shape[1], size[1]))]


def nearest_index(length: int, new_length: int) -> np.ndarray:
    """(new_length,) int64: where each sample of a resized axis comes from."""
    return np.arange(new_length) * length // new_length
