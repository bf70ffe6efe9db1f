"""What the fold's tune images, whose truth is known, say of the teachers: right pixels by class, confidence and scene.

Pixels of one image err together, and so do images of one scene. So whatever is said of precision counts scenes, not
pixels: a class that one image shows has been seen once, however large it is there.
"""

from collections.abc import Hashable

import numpy as np
from scipy.stats import t as student

from segpipe.labels import IGNORE_INDEX
from segpipe.pseudo.taught import STEPS, joint_counts

FEW_GROUPS = (
    10  # scenes: below that many the evidence on a class is called thin (metrics.bootstrap.MIN_GROUPS says why)
)


class Evidence:
    """Counts of predicted pixels with a true label, image by image; sparse, as an image shows few classes."""

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.true_pixels = np.zeros(num_classes, np.int64)  # of each class, predicted as whatever
        self._groups: dict[Hashable, int] = {}
        self._cells: list[np.ndarray] = []  # rows of group, class * 256 + confidence, predicted pixels, right pixels

    def add(self, group: Hashable, classes: np.ndarray, confidence: np.ndarray, target: np.ndarray) -> None:
        """One image of the scene `group`: all (H, W) uint8; pixels without a true label do not count."""
        self.true_pixels += np.bincount(target.ravel(), minlength=IGNORE_INDEX + 1)[: self.num_classes]
        counted = np.where(target == IGNORE_INDEX, IGNORE_INDEX, classes).astype(np.uint8)
        right = np.where(target == classes, counted, IGNORE_INDEX).astype(np.uint8)
        total = joint_counts(counted, confidence, self.num_classes).ravel()
        correct = joint_counts(right, confidence, self.num_classes).ravel()
        cells = np.flatnonzero(total)
        number = np.full(len(cells), self._groups.setdefault(group, len(self._groups)))
        self._cells.append(np.stack([number, cells, total[cells], correct[cells]]))

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
        for number, cells, total, correct in self._cells:
            chosen = (cells >= first * STEPS) & (cells < stop * STEPS)
            for place, counts in enumerate((total, correct)):
                np.add.at(both[place], (number[chosen], cells[chosen] % STEPS), counts[chosen])
        return both[0], both[1]


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
