"""The order of an epoch's images: each as often as any other, or more often where they show rare classes.

Balanced weights are the repeat factors of Gupta, Dollar, Girshick: "LVIS: A Dataset for Large Vocabulary Instance
Segmentation" (CVPR 2019; arXiv 1908.03195v2, appendix B.2) with a threshold t of 1, so that no class is left as it is:
f(c) is the share of images that show class c, r(c) = max(1, sqrt(t / f(c))), and an image's factor is the largest r(c)
of the classes it shows. LVIS makes an epoch longer by them; here its length stays and only their proportions count.
"""

from collections.abc import Iterable

import numpy as np

from segpipe.data.class_counts import histogram
from segpipe.labels import IGNORE_INDEX


def balanced_weights(targets: Iterable[np.ndarray]) -> np.ndarray:
    """(N,) float64, one or more for each (H, W) uint8 target: how often its image comes, relative to the others.

    IGNORE_INDEX is no class; an image without a labelled pixel has the smallest weight, 1.
    """
    shown = np.array([_shown(target) for target in targets])
    share = shown.mean(axis=0)
    factors = np.sqrt(1 / np.where(share > 0, share, 1.0))
    return np.where(shown, factors, 1.0).max(axis=1)


def _shown(target: np.ndarray) -> np.ndarray:
    """(255,) bool: which classes the target holds."""
    return histogram(target)[:IGNORE_INDEX] > 0


def epoch_order(length: int, count: int, generator: np.random.Generator, weights: np.ndarray | None) -> np.ndarray:
    """(count,) int64: numbers of `length` images in the order in which an epoch takes them.

    Without weights all images come before any comes again. With them, an image whose expected number is e comes
    floor(e) or ceil(e) times (systematic sampling), and e times on the average of all epochs.
    """
    if weights is None:
        rounds = -(-count // length)
        return np.concatenate([generator.permutation(length) for _ in range(rounds)])[:count]
    turn = generator.permutation(length)
    ends = np.cumsum(weights[turn])
    at = (np.arange(count) + generator.random()) * (ends[-1] / count)
    drawn = turn[np.minimum(np.searchsorted(ends, at, side="right"), length - 1)]
    return generator.permutation(drawn)


def repeats(order: np.ndarray) -> np.ndarray:
    """For each entry of `order` how many equal ones stand before it."""
    sorting = np.argsort(order, kind="stable")
    in_order = order[sorting]
    numbers = np.empty_like(order)
    numbers[sorting] = np.arange(len(order)) - np.searchsorted(in_order, in_order)
    return numbers
