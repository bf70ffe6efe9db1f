"""How often each class occurs in some targets."""

from collections.abc import Iterable
from typing import NamedTuple

import cv2
import numpy as np


class ClassCounts(NamedTuple):
    """Of each class its pixels, and the images that have any of them; both are (C,) int64."""

    pixels: np.ndarray
    images: np.ndarray


def count_classes(targets: Iterable[np.ndarray], num_classes: int) -> ClassCounts:
    """Of (H, W) uint8 targets, each of which is read once and not kept; IGNORE_INDEX is no class."""
    pixels, images = np.zeros(num_classes, np.int64), np.zeros(num_classes, np.int64)
    for target in targets:
        counted = histogram(target)[:num_classes]
        pixels += counted
        images += counted > 0
    return ClassCounts(pixels, images)


def histogram(target: np.ndarray) -> np.ndarray:
    """(256,) int64 pixels of each value of an (H, W) uint8 target; exact up to 2^24 of one value."""
    # 10 times as fast as bincount
    return cv2.calcHist([np.ascontiguousarray(target)], [0], None, [256], [0, 256]).ravel().astype(np.int64)
