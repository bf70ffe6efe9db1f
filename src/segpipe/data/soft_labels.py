"""Soft labels: the teachers' probabilities of pseudo-labelled images, and how they come along through augmentation.

No transform sees them. An image has as many planes of them as there are classes, where libraries stop at four or slow
down, and between two distributions lies no third. What travels beside the target, and as the target does, is where each
pixel came from; when the image is drawn, each pixel fetches its distribution from there.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segpipe.data.resize import padded
from segpipe.data.store import PackedArrays
from segpipe.stage import read_json, write_json

NOWHERE = 0  # origin of a pixel from outside the image; else 1 + its number, row by row


class SoftLabels:
    """A finished set: `probs(index)` belongs to image `index` of the image table.

    Raises FileNotFoundError where `teach` has left none, ValueError where it kept no probabilities.
    """

    def __init__(self, folder: Path) -> None:
        indices = read_json(folder / "card.json")["indices"]
        if not indices:
            raise ValueError(f"{folder}: holds no probabilities; set teach.probs: true and run `dvc repro`")
        self.folder = folder
        self._stored = PackedArrays(folder / "probs")
        self._position = {index: position for position, index in enumerate(indices)}
        self.digest = self._stored.digest

    def probs(self, index: int) -> np.ndarray:
        """(H, W, C) uint8, 255ths that add up to about 255."""
        return self._stored[self._position[index]]

    def refuse_others(self, indices: Sequence[int], labels: PackedArrays, num_classes: int) -> None:
        """ValueError unless each image of `indices` has a distribution for each pixel of its array in `labels`."""
        for position, index in enumerate(indices):
            expected = (*labels.shape(position), num_classes)
            found = self._stored.shape(self._position[index]) if index in self._position else "no array"
            if found != expected:
                raise ValueError(
                    f"{self.folder}: found {found} for image {index} of the image table; expected {expected}, as its "
                    "pseudo labels have it: these are of another run, run `dvc repro`"
                )


def write_card(folder: Path, indices: Sequence[int]) -> None:
    """Say of which images the store `probs` beside it holds the probabilities; none: there is no store."""
    write_json(folder / "card.json", {"indices": list(indices)})


def origins(shape: tuple[int, ...], padded_to: tuple[int, int] | None) -> np.ndarray:
    """(H, W, 4) uint8: where each pixel of an image of `shape` is, as four bytes; NOWHERE in the margin."""
    height, width = shape
    numbers = np.arange(1, height * width + 1, dtype=np.uint32).reshape(height, width, 1)
    return padded(numbers.view(np.uint8), padded_to, NOWHERE)


def fetched(probs: np.ndarray, target: np.ndarray, origin: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """(h, w, C) uint8: of each pixel of the target `moved` the distribution from where `origin` says it came from.

    All 0, for none, where that is outside the image `target` (H, W) that `probs` (H, W, C) belongs to, and where a
    transform made another class of it. Whatever value a transform fills both with, its four bytes are no place in an
    image of fewer than 2^24 pixels.
    """
    place = np.ascontiguousarray(origin).view(np.uint32)[..., 0] - np.uint32(1)  # NOWHERE becomes the largest number
    inside = place < target.size
    place[~inside] = 0
    drawn = probs.reshape(-1, probs.shape[-1])[place]
    drawn[~(inside & (target.ravel()[place] == moved))] = 0
    return drawn
