"""CutMix: a box of one image, its label with it, laid on another.

After Yun et al.: "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features" (ICCV 2019),
as French et al. (BMVC 2020, arXiv 1906.01916) brought it to unlabelled images in segmentation. Size and shape of the
box are those of Yang et al., UniMatch (CVPR 2023, arXiv 2208.09910, its public code): a share of the image's area
between 2 % and 40 %, height over width between 0.3 and 1 / 0.3.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

STREAM = 2  # sets what is drawn here apart from what Augment and Paste draw from the same seed, epoch, image and repeat
AREA = (0.02, 0.4)  # of the box, over the image's
SHAPE = (0.3, 1 / 0.3)  # its height over its width, in units of the image's


@dataclass(frozen=True)
class Mix:
    """Position of the other sample; size of the box in fractions of the image, and its place among all that fit."""

    other: int
    height: float
    width: float
    top: float
    left: float

    def lay(self, drawn: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        """Copies of image, target and what else was drawn, (H, W, ...) each, with the box of the `other` laid on them.

        Ignored pixels come along. Where sizes differ, the box lies within what the two have in common.
        """
        height, width = np.minimum(drawn[0].shape[:2], other[0].shape[:2])
        box_height, box_width = round(self.height * height), round(self.width * width)
        top, left = round(self.top * (height - box_height)), round(self.left * (width - box_width))
        box = slice(top, top + box_height), slice(left, left + box_width)
        mixed = tuple(array.copy() for array in drawn)
        for array, source in zip(mixed, other, strict=True):
            array[box] = source[box]
        return mixed


class CutMix:
    """Draws boxes, the same one for the same (seed, epoch, index, repeat), with probability `p`."""

    def __init__(self, p: float, seed: int) -> None:
        self._p, self._seed = p, seed

    def draw(self, length: int, *, epoch: int, index: int, repeat: int) -> Mix | None:
        """What is laid on image `index` from one of `length` samples; None: nothing."""
        generator = np.random.default_rng([self._seed, epoch, index, repeat, STREAM])
        if generator.random() >= self._p:
            return None
        area, shape = generator.uniform(*AREA), np.exp(generator.uniform(*np.log(SHAPE)))
        height, width = np.minimum(np.sqrt([area * shape, area / shape]), 1.0)
        top, left = generator.random(2)
        return Mix(int(generator.integers(length)), float(height), float(width), float(top), float(left))
