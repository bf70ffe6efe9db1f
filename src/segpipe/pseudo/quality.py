"""How good the pseudo labels are likely to be, without their truth: what tune images say, carried over to the pool.

A tune image and an image of the pool with the same confidence are taken to be right equally often. Where the pool is
drawn otherwise than the labelled images that need not hold; `benchmarks/pseudo_quality.py` checks it where the pool's
truth is known.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from segpipe.pseudo.evidence import Evidence, effective_groups, precision_bound
from segpipe.pseudo.taught import STEPS, at_least
from segpipe.pseudo.thresholds import Threshold

BINS = 16  # of equal width over the confidences
SHRINK = 3.0  # scenes: what a class shows in a bin counts half when that many equally large scenes show it


def binned(counts: np.ndarray) -> np.ndarray:
    """(..., 256) counts by confidence as (..., BINS)."""
    return counts.reshape(*counts.shape[:-1], BINS, STEPS // BINS).sum(-1)


def precision_curves(evidence: Evidence) -> np.ndarray:
    """(C, BINS) expected precision of a pixel by its class and confidence.

    A class's own precision in the bin, drawn towards that of all classes, and this towards the confidence itself, the
    more the fewer scenes there are: n scenes count n / (n + SHRINK). Without tune images it is the confidence.
    """
    width = STEPS // BINS
    confidence = (np.arange(BINS) * width + (width - 1) / 2) / 255
    overall = _drawn_towards(confidence, *evidence.of_all())
    own = [_drawn_towards(overall, *evidence.of_class(index)) for index in range(evidence.num_classes)]
    return np.stack(own)


def _drawn_towards(prior: np.ndarray, total: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(BINS,) from (groups, 256) counts."""
    total, right = binned(total), binned(right)
    groups = effective_groups(total)
    precision = np.divide(right.sum(0), total.sum(0), out=np.zeros(BINS), where=total.sum(0) > 0)
    return (groups * precision + SHRINK * prior) / (groups + SHRINK)


@dataclass(frozen=True)
class Counted:
    """Numbers of pixels by class: of the used images of the pool as predicted and as kept, (C, 256) by confidence.

    The others are (C,): tune images' pixels that the same thresholds keep, those of them that are right, and the true
    ones of labelled images.
    """

    predicted: np.ndarray
    kept: np.ndarray
    tune_kept: np.ndarray
    tune_right: np.ndarray
    labeled: np.ndarray


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=np.asarray(whole) > 0)


def quality_table(
    names: Sequence[str], counted: Counted, evidence: Evidence, thresholds: Sequence[Threshold], certainty: float
) -> pd.DataFrame:
    """One row a class; docs/pseudo-labels.md says what the columns mean. NaN where nothing is known."""
    predicted, kept, labeled = counted.predicted.sum(1), counted.kept.sum(1), counted.labeled
    by_class = [evidence.of_class(index) for index in range(len(names))]
    bounds = [
        precision_bound(at_least(right), at_least(total), certainty)[min(threshold.step, STEPS - 1)]
        for (total, right), threshold in zip(by_class, thresholds, strict=True)
    ]
    scenes = [
        int((total[:, min(threshold.step, STEPS - 1) :].sum(1) > 0).sum())
        for (total, _), threshold in zip(by_class, thresholds, strict=True)
    ]
    expected = (counted.kept * precision_curves(evidence)[:, np.arange(STEPS) // (STEPS // BINS)]).sum(1)
    share_of_labeled, share_of_kept = labeled / max(int(labeled.sum()), 1), kept / max(int(kept.sum()), 1)
    return pd.DataFrame(
        {
            "class": names,
            "pixels_kept": kept,
            "share_of_kept": share_of_kept,
            "share_of_predicted": predicted / max(int(predicted.sum()), 1),
            "share_of_labeled": share_of_labeled,
            "kept_of_predicted": _ratio(kept, predicted),
            "mean_confidence": _ratio((counted.kept * np.arange(STEPS)).sum(1) / 255, kept),
            "expected_precision": _ratio(expected, kept),
            "tune_precision": _ratio(counted.tune_right, counted.tune_kept),
            "tune_precision_low": bounds,
            "tune_recall": _ratio(counted.tune_right, evidence.true_pixels),
            "tune_scenes": scenes,
            "threshold": [threshold.confidence for threshold in thresholds],
            "why": [threshold.why for threshold in thresholds],
        }
    )


def calibration_table(evidence: Evidence) -> pd.DataFrame:
    """One row a bin of confidence that tune images show: its mean confidence and the share that is right.

    `confidence`, `precision` and `share` (of all counted pixels) from 0 to 1; `scenes` is how many show it.
    """
    total, right = evidence.of_all()
    by_bin, counts = binned(total), total.sum(0)
    pixels, there = by_bin.sum(0), by_bin.sum(0) > 0
    table = {
        "confidence": _ratio(binned(counts * np.arange(STEPS)) / 255, pixels),
        "precision": _ratio(binned(right).sum(0), pixels),
        "share": pixels / max(int(pixels.sum()), 1),
        "scenes": (by_bin > 0).sum(0),
    }
    return pd.DataFrame({name: values[there] for name, values in table.items()})


def summary(quality: pd.DataFrame, calibration: pd.DataFrame) -> dict[str, float]:
    """What is said of the whole set, from 0 to 1; NaN where nothing is known.

    `class_shift` is the total variation distance of the classes' shares among kept pixels from those among labelled
    ones; `calibration_error` the mean distance of confidence and precision over tune pixels.
    """
    pixels = quality["pixels_kept"]
    distance = (quality["share_of_kept"] - quality["share_of_labeled"]).abs().sum() / 2
    error = ((calibration["confidence"] - calibration["precision"]).abs() * calibration["share"]).sum()
    kept = int(pixels.sum())
    return {
        "expected_precision": (quality["expected_precision"] * pixels).sum() / kept if kept else np.nan,
        "class_shift": distance if kept else np.nan,
        "calibration_error": error if len(calibration) else np.nan,
    }
