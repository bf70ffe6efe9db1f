"""Class probabilities as 8 bits, and the one function that brings them to the scored size. Needs no torch."""

import copy
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from segpipe.data.lineage import Lineage
from segpipe.data.resize import nearest_index
from segpipe.data.store import PackedArrays, PackedWriter
from segpipe.libraries import Libraries
from segpipe.stage import read_json, write_json


def winners(probs: np.ndarray) -> np.ndarray:
    """(H, W) uint8, the class of the highest value in each pixel of (H, W, C); the lowest of equals, as argmax has it.

    Class by class over whole planes: several times as fast as an argmax over the last axis.
    """
    first, *others = _planes(probs)
    best, labels = first.copy(), np.zeros(first.shape, np.uint8)
    for index, plane in enumerate(others, start=1):
        won = plane > best
        np.maximum(best, plane, out=best)
        np.maximum(labels, won.view(np.uint8) * np.uint8(index), out=labels)  # later winners have higher indices
    return labels


def quantise(probs: np.ndarray) -> np.ndarray:
    """(H, W, C) float probabilities as uint8 of 255ths whose argmax is the same.

    Where rounding makes the winner tie with another class, it is stored one step higher.
    """
    planes = _planes(probs)
    stored = np.rint(planes * 255).astype(np.uint8)
    won = stored.max(0)
    tied = (stored == won).sum(0, dtype=np.uint8) > 1
    tied &= won < 255
    rows, columns = np.nonzero(tied)
    stored[winners(probs)[tied], rows, columns] += 1
    return np.ascontiguousarray(np.moveaxis(stored, 0, -1))


def to_scored_size(probs: np.ndarray, image_size: tuple[int, int], scored_size: tuple[int, int] | None) -> np.ndarray:
    """(h, w, C) float32 probabilities at the scored size, (height, width); None is the image's own size.

    The map is upsampled to the image's size (bilinear), then sampled by nearest neighbour, as the contest resizes
    label maps: the argmax at half size is exactly `mask[::2, ::2]` of the argmax at image size.
    """
    height, width = image_size
    if probs.shape[:2] != (height, width):
        planes = [cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR) for plane in _planes(probs)]
        probs = np.moveaxis(np.stack(planes), 0, -1)
    if scored_size is None or tuple(scored_size) == (height, width):
        return probs
    rows, columns = nearest_index(height, scored_size[0]), nearest_index(width, scored_size[1])
    return np.moveaxis(_planes(probs)[:, rows[:, None], columns], 0, -1)


def _planes(probs: np.ndarray) -> np.ndarray:
    """(C, H, W), contiguous, of (H, W, C): no copy of what lies in memory like that."""
    return np.ascontiguousarray(np.moveaxis(probs, -1, 0))


@dataclass(frozen=True)
class PredictionCard:
    """What a probability store says of itself."""

    model: str
    classes: list[str]
    scored_size: tuple[int, int] | None
    indices: list[int]  # of the image table, in the order of the store


def as_stored(probs: np.ndarray, image_size: tuple[int, int], scored_size: tuple[int, int] | None) -> np.ndarray:
    """(h, w, C) uint8 of float32 probabilities at the smaller of network and scored size, as a store has them."""
    scored = scored_size or image_size
    if scored[0] * scored[1] <= probs.shape[0] * probs.shape[1]:
        probs = to_scored_size(probs, image_size, scored)
    return quantise(probs)


def sampled_size(
    seen_size: tuple[int, int], image_size: tuple[int, int], scored_size: tuple[int, int] | None
) -> tuple[int, int] | None:
    """The scored size where `as_stored` would only sample the answer of a network that sees the image as it is."""
    if scored_size is None or seen_size != image_size or scored_size == image_size:
        return None
    return scored_size if scored_size[0] * scored_size[1] <= image_size[0] * image_size[1] else None


class PredictionWriter:
    """Writes a probability store of what `as_stored` gives."""

    def __init__(self, folder: Path, model: str, classes: list[str], scored_size: tuple[int, int] | None) -> None:
        self.folder, self.scored_size = folder, scored_size
        self._card = PredictionCard(model, classes, scored_size, [])
        self._writer = PackedWriter(folder / "probs")

    def __enter__(self) -> "PredictionWriter":
        self._writer.__enter__()
        return self

    def add(self, index: int, probs: np.ndarray, image_size: tuple[int, int]) -> None:
        """Store (h, w, C) float32 probabilities of image `index`, whose own size is `image_size`."""
        self.add_stored(index, as_stored(probs, image_size, self.scored_size))

    def add_stored(self, index: int, stored: np.ndarray) -> None:
        """Store what `as_stored` made of image `index`."""
        self._writer.add(stored)
        self._card.indices.append(index)

    def finish(self, lineage: Lineage, libraries: Libraries) -> None:
        """Write the card with what the model says of itself; call inside the block, after the last image."""
        said = {"lineage": lineage.to_json(), "libraries": libraries}
        write_json(self.folder / "card.json", asdict(self._card) | said)

    def __exit__(self, *error: object) -> None:
        self._writer.__exit__(*error)


class Predictions:
    """Reads a probability store; `probs(index, image_size)` is (height, width, C) float32 at the scored size."""

    def __init__(self, folder: Path) -> None:
        value = read_json(folder / "card.json")
        self.folder, self.lineage = folder, Lineage.from_json(value.pop("lineage"))
        self.libraries: Libraries = value.pop("libraries")  # those that trained the model
        value["scored_size"] = tuple(value["scored_size"]) if value["scored_size"] else None
        self.card = PredictionCard(**value)
        self._stored = PackedArrays(folder / "probs")
        self._position = {index: position for position, index in enumerate(self.card.indices)}

    def at_native_size(self) -> "Predictions":
        """The same store read at each image's own size, whatever size is scored.

        What was stored smaller is upsampled, so this is no more than the store holds.
        """
        view = copy.copy(self)
        view.card = replace(self.card, scored_size=None)
        return view

    def probs(self, index: int, image_size: tuple[int, int]) -> np.ndarray:
        """Probabilities of image `index`; KeyError that names the store when it was not predicted."""
        if index not in self._position:
            raise KeyError(f"{self.folder}: holds no prediction for image {index} of the image table; run `dvc repro`")
        stored = self._stored[self._position[index]].astype(np.float32) / 255
        scored = self.card.scored_size or image_size
        if stored.shape[:2] == tuple(scored):
            return stored
        return to_scored_size(stored, image_size, scored)
