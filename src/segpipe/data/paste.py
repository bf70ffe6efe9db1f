"""Object pasting: objects of chosen classes, cut from a fold's training images and laid on other training images.

After Ghiasi et al.: "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation" (CVPR 2021),
with hard edges, which served them as well as blended ones.

An object is an 8-connected piece of one class in a target at the networks' size, so that it does not matter which kind
of file the labels came from. Objects of one class that touch are one object; one that something covers in its middle
is two. Only boxes are kept, 20 bytes an object; pixels are cut where they are needed.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from segpipe.data.store import PackedArrays
from segpipe.labels import BACKGROUND_NAME
from segpipe.params import PasteParams, not_allowed, stop_on
from segpipe.progress import say

STREAM = 1  # sets what is drawn here apart from what Augment draws from the same seed, epoch, image and repeat


class Objects(NamedTuple):
    """The objects of the class with index `label`: rows of image, x, y, width and height in pixels, (N, 5) int32."""

    label: int
    boxes: np.ndarray


class Paste:
    """Lays objects on an image and its target, the same ones for the same (seed, epoch, index, repeat).

    Each class that has objects is drawn as often as any other, then each of its objects. The factor of their size is
    drawn evenly by proportion; an object that would not fit is made as small as the image. They land anywhere, wholly
    inside, later ones on earlier ones.
    """

    def __init__(
        self,
        images: PackedArrays,
        targets: PackedArrays,
        indices: Sequence[int],
        *,
        labels: Sequence[int],
        params: PasteParams,
        seed: int,
    ) -> None:
        """Look for objects of the classes `labels` in the targets at `indices`; reads all of them."""
        self._images, self._targets, self._params, self._seed = images, targets, params, seed
        self.objects = find_objects(targets, indices, labels, params.min_pixels)
        self._drawn = [objects for objects in self.objects if len(objects.boxes)]

    def __call__(
        self, image: np.ndarray, target: np.ndarray, *, epoch: int, index: int, repeat: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """`image` (H, W, 3) uint8 and `target` (H, W) uint8 with objects laid on them, in place."""
        generator = np.random.default_rng([self._seed, epoch, index, repeat, STREAM])
        if self._drawn and generator.random() < self._params.p:
            for _ in range(generator.integers(1, self._params.objects, endpoint=True)):
                self._lay_one(image, target, generator)
        return image, target

    def _lay_one(self, image: np.ndarray, target: np.ndarray, generator: np.random.Generator) -> None:
        label, boxes = self._drawn[generator.integers(len(self._drawn))]
        piece, mask = self._cut(label, boxes[generator.integers(len(boxes))])
        low, high = self._params.scale
        factor = math.exp(generator.uniform(math.log(low), math.log(high)))
        piece, mask = _scaled(piece, mask, factor, target.shape)
        if self._params.flip and generator.random() < 0.5:
            piece, mask = cv2.flip(piece, 1), cv2.flip(mask, 1)
        height, width = mask.shape
        top = generator.integers(target.shape[0] - height, endpoint=True)
        left = generator.integers(target.shape[1] - width, endpoint=True)
        place = slice(top, top + height), slice(left, left + width)
        # into the arrays themselves; at 512 px some 100 times as fast as to assign what a bool mask chooses
        cv2.copyTo(piece, mask, image[place])
        cv2.copyTo(np.full_like(mask, label), mask, target[place])

    def _cut(self, label: int, box: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The pixels in the box, (h, w, 3) uint8, and whether each is the object's, (h, w) uint8, 255 or 0."""
        index, x, y, width, height = map(int, box)
        place = slice(y, y + height), slice(x, x + width)
        mask = _mask_of(self._targets[index][place], label)
        count, pieces = cv2.connectedComponents(mask, connectivity=8)
        if (
            count > 2
        ):  # others reach into the box; none of them touches all its sides, or the two would cross and be one
            sides = pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]
            (number,) = set.intersection(*(set(side.tolist()) for side in sides)) - {0}
            mask = _mask_of(pieces, number)
        return np.ascontiguousarray(self._images[index][place]), mask


def _mask_of(labels: np.ndarray, label: int) -> np.ndarray:
    """255 where `labels` is `label`, else 0, uint8."""
    return (labels == label).view(np.uint8) * np.uint8(255)


def _scaled(
    piece: np.ndarray, mask: np.ndarray, factor: float, largest: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Both, `factor` times as large, but not above `largest` = (height, width)."""
    height, width = mask.shape
    factor = min(factor, largest[0] / height, largest[1] / width)
    size = max(round(width * factor), 1), max(round(height * factor), 1)
    smooth = cv2.INTER_AREA if factor < 0.5 else cv2.INTER_LINEAR  # which, 5 times as fast, skips no pixel down to 0.5
    # both are smoothed alike, so that the edge of the one stays the edge of the other
    share = cv2.resize(mask, size, interpolation=smooth)
    return cv2.resize(piece, size, interpolation=smooth), _mask_of(share > 127, True)


def find_objects(
    targets: PackedArrays, indices: Sequence[int], labels: Sequence[int], min_pixels: int
) -> list[Objects]:
    """Objects of `min_pixels` pixels or more in the targets at `indices`, one entry for each of `labels`."""
    found: dict[int, list[tuple[int, ...]]] = {label: [] for label in labels}
    for index in indices:
        target = targets[index]
        for label in labels:
            of_class = (target == label).view(np.uint8)
            if np.count_nonzero(of_class) >= min_pixels:
                found[label] += [(index, *box) for box in _boxes(of_class, min_pixels)]
    return [Objects(label, np.array(boxes, np.int32).reshape(-1, 5)) for label, boxes in found.items()]


def _boxes(of_class: np.ndarray, min_pixels: int) -> list[tuple[int, int, int, int]]:
    """x, y, width, height of each piece of `min_pixels` pixels or more."""
    left, top, width, height = cv2.boundingRect(of_class)  # few pixels are of a rare class, and looking is dear
    part = of_class[top : top + height, left : left + width]
    _, _, stats, _ = cv2.connectedComponentsWithStats(part, connectivity=8)
    pieces = stats[1:][stats[1:, cv2.CC_STAT_AREA] >= min_pixels].tolist()
    return [(left + x, top + y, width, height) for x, y, width, height, _ in pieces]


def make_paste(
    images: PackedArrays,
    targets: PackedArrays,
    indices: Sequence[int],
    names: Sequence[str],
    params: PasteParams,
    seed: int,
) -> Paste | None:
    """What section `augment.paste` asks for, of the labelled images at `indices`; None where it is off.

    `names` are those of the classes, in index order. Raises ValueError for a name that is none of them, and where no
    class has an object; of classes without one beside others that have some it tells.
    """
    if params.p == 0:
        return None
    stop_on("params.yaml", class_problems(params, names))
    labels = [names.index(name) for name in params.classes]
    paste = Paste(images, targets, indices, labels=labels, params=params, seed=seed)
    empty = [names[objects.label] for objects in paste.objects if not len(objects.boxes)]
    fault = (
        f"augment.paste: no object of {params.min_pixels} pixels or more in these training images: {', '.join(empty)}"
    )
    if len(empty) == len(labels):
        raise ValueError(f"{fault}; name other classes, lower min_pixels, or set p: 0")
    if empty:
        say(f"warning: {fault}")
    return paste


def class_problems(params: PasteParams, names: Sequence[str]) -> list[str]:
    """What is wrong with the names in `augment.paste.classes`, where `names` are those in the data; a line each."""
    key, allowed = "augment.paste.classes", [name for name in names if name != BACKGROUND_NAME]
    return [not_allowed(key, name, allowed) for name in params.classes if name not in allowed]
