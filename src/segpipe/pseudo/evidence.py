"""What the fold's tune images, whose truth is known, say of the teachers: right pixels by class, confidence and scene.

Pixels of one image err together, and so do images of one scene. So whatever is said of precision counts scenes, not
pixels: a class that one image shows has been seen once, however large it is there.
"""

from collections.abc import Hashable

import numpy as np
from scipy.stats import t as student

from segpipe.labels import IGNORE_INDEX
from segpipe.pseudo.taught import STEPS, joint_counts


class Evidence:
    """Counts of predicted pixels with a true label, scene by scene; sparse, as a scene shows few classes."""

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.true_pixels = np.zeros(num_classes, np.int64)  # of each class, predicted as whatever
        # rows of class * 256 + confidence in ascending order, predicted pixels, right pixels
        self._groups: dict[Hashable, np.ndarray] = {}

    def add(self, group: Hashable, classes: np.ndarray, confidence: np.ndarray, target: np.ndarray) -> None:
        """One image of the scene `group`: all (H, W) uint8; pixels without a true label do not count."""
        self.true_pixels += np.bincount(target.ravel(), minlength=IGNORE_INDEX + 1)[: self.num_classes]
        counted = np.where(target == IGNORE_INDEX, IGNORE_INDEX, classes).astype(np.uint8)
        right = np.where(target == classes, counted, IGNORE_INDEX).astype(np.uint8)
        total = joint_counts(counted, confidence, self.num_classes).ravel()
        correct = joint_counts(right, confidence, self.num_classes).ravel()
        cells = np.flatnonzero(total)
        counts = np.stack([cells, total[cells], correct[cells]])
        known = self._groups.get(group)
        self._groups[group] = counts if known is None else _added(known, counts)

    @property
    def num_groups(self) -> int:
        """Scenes that were added."""
        return len(self._groups)

    def of_class(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """(groups, 256) int64 each: pixels predicted as this class by confidence, and those of them that are right."""
        return self._dense(index, index + 1)

    def of_all(self) -> tuple[np.ndarray, np.ndarray]:
        """The same of all classes together."""
        return self._dense(0, self.num_classes)

    def _dense(self, first: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        both = np.zeros((2, self.num_groups, STEPS), np.int64)
        for number, (cells, *both_counts) in enumerate(self._groups.values()):
            chosen = slice(*np.searchsorted(cells, (first * STEPS, stop * STEPS)))
            for place, counts in enumerate(both_counts):
                np.add.at(both[place, number], cells[chosen] % STEPS, counts[chosen])
        return both[0], both[1]


def _added(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The counts of both, each a row of ascending cells above its rows of counts."""
    cells, place = np.unique(np.concatenate([one[0], other[0]]), return_inverse=True)
    counts = np.zeros((len(one) - 1, len(cells)), np.int64)
    np.add.at(counts, (slice(None), place), np.concatenate([one[1:], other[1:]], axis=1))
    return np.vstack([cells, counts])


def effective_groups(pixels: np.ndarray) -> np.ndarray:
    """(groups, ...) pixel counts as the number of equally large groups that say as much (Kish 1965); 0 for none."""
    total = pixels.sum(0, dtype=np.float64)
    squares = np.square(pixels, dtype=np.float64).sum(0)
    return np.divide(total**2, squares, out=np.zeros_like(total), where=squares > 0)


def precision_bound(right: np.ndarray, kept: np.ndarray, certainty: float) -> np.ndarray:
    """Lower bound of right / kept over new scenes, one-sided at `certainty` (0.5 to 1); NaN where nothing is kept.

    `right` and `kept` are (groups, ...) pixel counts. The ratio estimator over groups with its linearised variance
    (Cochran, Sampling Techniques, 1977, section 6.4) and Student's t. One group of mean size is added half of which is
    right, as Agresti and Coull (1998) add successes and failures: without it a few scenes that happen to be all right
    would prove perfection. So at least n scenes, all right, are needed to reach about 1 - 1/n.
    """
    kept, right = kept.astype(np.float64), right.astype(np.float64)
    groups = (kept > 0).sum(0)
    mean_size = np.divide(kept.sum(0), groups, out=np.zeros(groups.shape), where=groups > 0)
    total = kept.sum(0) + mean_size
    ratio = np.divide(right.sum(0) + mean_size / 2, total, out=np.full(groups.shape, np.nan), where=total > 0)
    squares = np.square(right - ratio * kept).sum(0) + np.square(mean_size * (0.5 - ratio))
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = np.sqrt(squares * (groups + 1) / np.maximum(groups, 1)) / total
        return np.maximum(ratio - student.ppf(certainty, np.maximum(groups, 1)) * spread, 0)
