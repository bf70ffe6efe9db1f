"""What a user should know who never opens the report: what was kept, why nothing was, and which classes are guesses."""

from collections.abc import Sequence

import numpy as np

from segpipe.metrics.bootstrap import MIN_GROUPS
from segpipe.params import PseudoLabelParams
from segpipe.pseudo.thresholds import Threshold

KEEPS = "retraining keeps the baseline"


def say_kept(share: float, images: int, expected: float) -> str:
    """The share of the pool's pixels that is kept, and the share of these that is expected to be right; 0 to 1 both."""
    pool = "1 image" if images == 1 else f"{images} images"
    right = f"{100 * expected:.1f} % of them are expected to be right"
    return f"pseudo_label: kept {100 * share:.1f} % of the pixels of {pool}; {right}"


def say_nothing_kept(images: int, predicted: np.ndarray, params: PseudoLabelParams) -> str:
    """Which parameter is why, what it would have had to be, and what to do.

    `predicted` (C, 256) are the used images' pixels by class and confidence, of a pool of so many `images`.
    """
    if not images:
        return f"pseudo_label: warning: there are no unlabelled images, so there are no pseudo labels; {KEEPS}"
    there = np.flatnonzero(predicted.sum(0))
    if not len(there):
        return f"pseudo_label: warning: all {images} images of the pool are left out, so nothing is kept; {KEEPS}"
    if params.threshold == "fixed":
        highest = there.max() * 1000 // 255 / 1000  # rounded down, so that pixels of just this confidence are kept
        why = f"pseudo_label.confidence: found {params.confidence}, and the highest confidence in the pool is {highest}"
        advice = "lower it, or choose another pseudo_label.threshold"
    elif params.threshold == "per_class":
        why = f"pseudo_label.target_precision: found {params.target_precision}, which tune images promise of no pixel"
        advice = f"lower it, or raise pseudo_label.min_share, which is {params.min_share}"
    else:
        why = f"pseudo_label.fraction: found {params.fraction}, which is less than a pixel of every class"
        advice = "raise it, or choose another pseudo_label.threshold"
    return f"pseudo_label: warning: nothing of {images} images is kept; {why}: {advice}; {KEEPS} until then"


def say_guesses(names: Sequence[str], thresholds: Sequence[Threshold]) -> str | None:
    """The classes whose thresholds rest on too few scenes; None where there are none."""
    thin = [name for name, threshold in zip(names, thresholds, strict=True) if threshold.thin]
    few = f"fewer than {MIN_GROUPS} tune scenes show these classes, so their thresholds are guesses"
    return f"pseudo_label: warning: {few}: {', '.join(thin)}" if thin else None
