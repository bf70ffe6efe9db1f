"""How far an image of the pool can be trusted as a whole, and which share of the images is used.

No threshold sees that an image is unlike all that the teachers know: they can be sure and wrong. Four signs are ranked
and their ranks averaged, so that no scale has to be guessed:

| sign | |
|---|---|
| `member_agreement` | share of pixels of which all teachers name the same class |
| `checkpoint_agreement` | mean IoU of a teacher's answers at 1/3 and 2/3 of its training with those at the end (ST++) |
| `mean_confidence` | of all pixels |
| `plausibility` | how much the shares of classes resemble those of the labelled image that is most like it |
"""

import numpy as np
import pandas as pd
from scipy.stats import rankdata

SIGNS = ("member_agreement", "checkpoint_agreement", "mean_confidence", "plausibility")
CHUNK = 64  # images of the pool compared at a time with all labelled ones


def shares_of(counts: np.ndarray) -> np.ndarray:
    """(..., C) pixel counts as shares of their sum; all 0 where there is none."""
    return counts / np.maximum(counts.sum(-1, keepdims=True), 1)


def plausibility(shares: np.ndarray, labeled: np.ndarray) -> np.ndarray:
    """(N,) from 0 to 1: the share of pixels that an image has in common with the labelled image most like it.

    `shares` (N, C) and `labeled` (M, C), M > 0, are shares of classes; in common is the sum of the smaller ones, which
    is 1 - total variation distance.
    """
    nearest = np.zeros(len(shares))
    for start in range(0, len(shares), CHUNK):
        chunk = slice(start, start + CHUNK)
        nearest[chunk] = np.abs(shares[chunk, None] - labeled).sum(-1).min(1)
    return 1 - nearest / 2


def reliability(signs: pd.DataFrame) -> np.ndarray:
    """(N,) from 0, the least reliable image, to 1: the mean over the columns of ranks, ties sharing theirs.

    A column without values (a sign that was not measured) or with equal ones (one teacher agrees with itself) says
    nothing and is left out.
    """
    number = len(signs)
    telling = [signs[name] for name in signs if signs[name].notna().all() and signs[name].nunique() > 1]
    if not telling:
        return np.full(number, 0.5)
    return np.mean([(rankdata(values) - 1) / (number - 1) for values in telling], axis=0)


def most_reliable(scores: np.ndarray, keep: float) -> np.ndarray:
    """(N,) bool: the `keep` share (0 to 1) of images with the highest scores, rounded; of equals the first ones.

    At least one image is kept unless `keep` is 0.
    """
    wanted = max(int(np.floor(keep * len(scores) + 0.5)), int(keep > 0 and len(scores) > 0))
    chosen = np.zeros(len(scores), bool)
    chosen[np.argsort(-scores, kind="stable")[:wanted]] = True
    return chosen
