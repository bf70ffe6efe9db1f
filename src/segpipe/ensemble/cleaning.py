"""Small regions and holes of a label map, taken by what lies around them; sizes for each class chosen on tune images.

A region is a connected part of one class, corners included. What becomes of each follows from the label map as it was,
so that neither the order of classes nor that of regions matters. Needs no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from segpipe.labels import IGNORE_INDEX
from segpipe.metrics.confusion import confusion_matrix, mean_iou


@dataclass(frozen=True)
class Cleaning:
    """Sizes in pixels of the scored size, one for each class; 0 leaves the class alone.

    A region of class c with fewer pixels than `min_pixels[c]` takes the class that most of its border has. A hole in
    class c with fewer pixels than `fill_holes[c]` becomes c; a hole is a region of any other class that touches c alone
    and not the edge of the image.
    """

    min_pixels: tuple[int, ...]
    fill_holes: tuple[int, ...]


@dataclass(frozen=True)
class Regions:
    """The R regions of a label map: which one each pixel lies in, (H, W) int; the rest is (R,), one value a region.

    `around` is the class that most of the border has, the lowest of equals; a region without border, which fills the
    image, has its own. `enclosed` says that the border has one class only and lies nowhere at the edge of the image.
    """

    numbers: np.ndarray
    classes: np.ndarray
    sizes: np.ndarray
    around: np.ndarray
    enclosed: np.ndarray


def find_regions(label_map: np.ndarray, num_classes: int) -> Regions:
    """The regions of a (H, W) uint8 label map, numbered class by class."""
    numbers, classes = np.zeros(label_map.shape, np.int64), []
    for value in np.unique(label_map):
        mask = label_map == value
        count, numbered = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
        numbers[mask] = numbered[mask] + (len(classes) - 1)
        classes += [value] * (count - 1)
    own, total = np.array(classes, np.int64), len(classes)
    border = np.zeros(total * num_classes, np.int64)
    for here, there in (np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:]):
        differs = label_map[here] != label_map[there]
        for one, other in (here, there), (there, here):
            pairs = numbers[one][differs] * num_classes + label_map[other][differs]
            border += np.bincount(pairs, minlength=total * num_classes)
    border = border.reshape(total, num_classes)
    at_edge = np.zeros(total, bool)
    for edge in (numbers[0], numbers[-1], numbers[:, 0], numbers[:, -1]):
        at_edge[edge] = True
    touched = (border > 0).sum(axis=1)
    return Regions(
        numbers=numbers,
        classes=own,
        sizes=np.bincount(numbers.ravel(), minlength=total),
        around=np.where(touched > 0, border.argmax(axis=1), own),
        enclosed=(touched == 1) & ~at_edge,
    )


def clean(label_map: np.ndarray, cleaning: Cleaning) -> np.ndarray:
    """The (H, W) uint8 label map without small regions and holes."""
    least, filled = np.array(cleaning.min_pixels), np.array(cleaning.fill_holes)
    if not (least.any() or filled.any()):
        return label_map
    found = find_regions(label_map, len(least))
    taken = (found.sizes < least[found.classes]) | (found.enclosed & (found.sizes < filled[found.around]))
    return np.where(taken, found.around, found.classes).astype(np.uint8)[found.numbers]


class CleaningFit:
    """Tallies what each choice of sizes would change on labelled images, then chooses; memory is flat in the images.

    Of every region that some choice would change, only its class, the class around it and the choices that take it
    matter, and with them the true classes of its pixels. Those are added up.
    """

    def __init__(self, num_classes: int, min_pixels: Sequence[int], fill_holes: Sequence[int]) -> None:
        self._least, self._filled = np.unique(min_pixels).astype(int), np.unique(fill_holes).astype(int)
        self._num_classes = num_classes
        self._confusion = np.zeros((num_classes, num_classes), np.int64)
        self._tally: dict[tuple[int, int, int, int], np.ndarray] = {}

    def add(self, label_map: np.ndarray, target: np.ndarray) -> None:
        """One image: its label map and its target, both (H, W) uint8."""
        self._confusion += confusion_matrix(label_map, target, self._num_classes)
        found, size = find_regions(label_map, self._num_classes), self._num_classes
        # the first size, in ascending order, that takes the region
        small = np.searchsorted(self._least, found.sizes, side="right")
        hole = np.where(found.enclosed, np.searchsorted(self._filled, found.sizes, side="right"), len(self._filled))
        counted = target != IGNORE_INDEX
        pairs = found.numbers[counted] * size + target[counted]
        truth = np.bincount(pairs, minlength=len(found.sizes) * size).reshape(-1, size)
        concerned = ((small < len(self._least)) | (hole < len(self._filled))) & (found.around != found.classes)
        keys = np.stack([found.classes, found.around, small, hole], axis=1)[concerned]
        kinds, which = np.unique(keys, axis=0, return_inverse=True)
        sums = np.zeros((len(kinds), size), np.int64)
        np.add.at(sums, which.ravel(), truth[concerned])
        for kind, counts in zip(map(tuple, kinds.tolist()), sums, strict=True):
            self._tally[kind] = self._tally.get(kind, 0) + counts

    def choose(self) -> Cleaning:
        """For each class in turn the sizes with the highest pooled mIoU, none where nothing is gained."""
        chosen = np.zeros((2, self._num_classes), int)
        options = (self._least, self._filled)
        kinds = np.array(sorted(self._tally), int).reshape(-1, 4)
        truths = np.array([self._tally[tuple(kind)] for kind in kinds.tolist()], np.int64)
        truths = truths.reshape(-1, self._num_classes)
        best = self._score(chosen, kinds, truths)
        for index in range(self._num_classes):
            for row, sizes in enumerate(options):
                for value in sizes:
                    tried = chosen.copy()
                    tried[row, index] = value
                    score = self._score(tried, kinds, truths)
                    if score > best:
                        best, chosen = score, tried
        return Cleaning(tuple(chosen[0].tolist()), tuple(chosen[1].tolist()))

    def _score(self, chosen: np.ndarray, kinds: np.ndarray, truths: np.ndarray) -> float:
        """Pooled mIoU of all images with these sizes, exactly as if each had been cleaned."""
        own, around, small, hole = kinds.T
        # a region that size number i is the first to take is taken by every larger one
        taken = small < np.searchsorted(self._least, chosen[0][own], side="right")
        taken |= hole < np.searchsorted(self._filled, chosen[1][around], side="right")
        confusion = self._confusion.T.copy()  # (predicted, true)
        np.add.at(confusion, around[taken], truths[taken])
        np.subtract.at(confusion, own[taken], truths[taken])
        return mean_iou(confusion.T)
