"""Intersection over union from confusion matrices, and how sure it is. Needs numpy only.

One confusion matrix per image, rows = truth, columns = prediction, says all that is needed: mIoU pooled over images or
averaged over them, an interval from resampling groups of images, and the paired comparison of two models.

Images of one scene resemble each other, so the interval comes from resampling groups (a video, a place), not images:
100 frames of one street are one observation of how the model does on streets.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from segpipe.labels import IGNORE_INDEX

# Percentile intervals over few groups are too narrow. In 400 data sets of each size, simulated as in
# tests/test_metrics.py, those at 95 % held the truth for 84 % with 5 groups, 91 % with 10 and 93 % with 20 or 40.
MIN_GROUPS = 10
_CHUNK_ELEMENTS = 1_000_000  # resample counts held in memory at once, 8 MB


def confusion_matrix(preds: np.ndarray, target: np.ndarray, num_classes: int) -> np.ndarray:
    """Count pixels by true class (row) and predicted class (column).

    Both inputs are uint8, (H, W) or (N, H, W). Pixels whose target is IGNORE_INDEX are not counted, whatever is
    predicted there. Returns (num_classes, num_classes) int64. Raises ValueError when the shapes differ, when either
    is not uint8, and when a counted pixel has a prediction or target that is no class.
    """
    if preds.shape != target.shape:
        raise ValueError(f"predictions have shape {preds.shape}, targets {target.shape}; expected the same")
    if preds.dtype != np.uint8 or target.dtype != np.uint8:
        raise ValueError(f"predictions are {preds.dtype}, targets {target.dtype}; expected uint8 for both")
    if not 1 <= num_classes <= IGNORE_INDEX:
        raise ValueError(f"num_classes is {num_classes}; expected 1 to {IGNORE_INDEX}")
    unknown = preds >= num_classes
    unknown &= target != IGNORE_INDEX
    if unknown.any():
        raise ValueError(f"predicted class {preds[unknown].max()}, but there are only {num_classes} classes, from 0")
    # Each pair becomes one number; 16 bits hold the highest, 255 * 255 + 255. Ignored pixels land behind all classes,
    # so that nothing needs to be masked out, which would copy the arrays.
    pairs = target.astype(np.uint16)
    pairs *= np.uint16(num_classes)
    pairs += preds
    counts = np.bincount(pairs.ravel(), minlength=IGNORE_INDEX * num_classes)
    if counts[num_classes**2 : IGNORE_INDEX * num_classes].any():
        found = np.unique(target[(target >= num_classes) & (target != IGNORE_INDEX)]).tolist()
        raise ValueError(
            f"targets hold {found}, but there are only {num_classes} classes, from 0; "
            f"unlabelled pixels must be {IGNORE_INDEX}"
        )
    return counts[: num_classes**2].reshape(num_classes, num_classes).astype(np.int64)


def iou_per_class(confusion: np.ndarray) -> np.ndarray:
    """Intersection over union of each class, (C,) float64; NaN for a class in neither truth nor prediction."""
    return _iou(_class_counts(np.asarray(confusion)))


def mean_iou(confusion: np.ndarray) -> float:
    """Mean IoU over the classes in truth or prediction; NaN if there is none."""
    return float(_mean(iou_per_class(confusion)))


def pooled_miou(confusions: np.ndarray) -> float:
    """mIoU of all images taken as one: the (N, C, C) matrices are added up first. The headline number.

    Not the same as `per_image_miou`: here every pixel counts the same, so a large object outweighs a small one of its
    class, and a false alarm of a few pixels in one image is only a few pixels.
    """
    return mean_iou(_checked(confusions).sum(axis=0))


def per_image_miou(confusions: np.ndarray) -> float:
    """Mean over images of the image's mIoU over the classes in its own truth or prediction.

    Every image counts the same, and a false alarm of one pixel costs its image a class at IoU 0. Images without a
    counted pixel are left out; NaN if that leaves none.
    """
    return float(_mean(_mean(_iou(_class_counts(_checked(confusions))))))


@dataclass(frozen=True)
class Interval:
    """A number and the percentile bootstrap interval around it."""

    value: float
    low: float
    high: float
    num_groups: int


@dataclass(frozen=True)
class Comparison:
    """By how much model a is above model b, and whether that is more than chance.

    `verdict` is "better" when the interval lies above 0, "worse" when it lies below, "undecided" when it holds 0, and
    "undecided: too few scenes" under MIN_GROUPS groups, where the interval is not to be trusted. `p_value` is what a
    correction for several comparisons (Holm) needs.
    """

    difference: float
    low: float
    high: float
    p_value: float
    num_groups: int
    verdict: str


def bootstrap_miou(
    confusions: np.ndarray,
    groups: Sequence[Hashable],
    *,
    resamples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Pooled mIoU of (N, C, C) matrices with its percentile interval at `level`.

    `groups` names the group of each image. Each resample draws as many groups as there are, with replacement, and
    pools their images. The classes are those in truth or prediction of the full set; where a resample has no pixel of
    one, its mean is over the others. The same seed gives the same interval.
    """
    counts = _group_counts([confusions], groups)
    values = _mean(_resampled_iou(counts, resamples, seed, level)[:, 0])
    return _interval(pooled_miou(confusions), values, level, len(counts))


def bootstrap_iou(
    confusions: np.ndarray,
    groups: Sequence[Hashable],
    *,
    resamples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> list[Interval]:
    """Like `bootstrap_miou`, one interval per class, from the resamples that have a pixel of it; NaN if none has."""
    counts = _group_counts([confusions], groups)
    values = _resampled_iou(counts, resamples, seed, level)[:, 0]
    points = iou_per_class(_checked(confusions).sum(axis=0))
    return [_interval(float(point), values[:, index], level, len(counts)) for index, point in enumerate(points)]


def compare_miou(
    confusions_a: np.ndarray,
    confusions_b: np.ndarray,
    groups: Sequence[Hashable],
    *,
    resamples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> Comparison:
    """Pooled mIoU of model a minus that of model b, on the same images in the same order.

    Paired: each resample draws the same groups for both, so that scenes which are hard for both cancel out. With d the
    difference in one of R resamples, the two-sided p-value is 2 * min(1 + #(d <= 0), 1 + #(d >= 0)) / (R + 1), at
    most 1: the observed data count as one more resample, so it is never 0 (Davison and Hinkley 1997, chapter 4).
    Raises ValueError when the matrices show that a and b were scored against different targets.
    """
    counts = _group_counts([confusions_a, confusions_b], groups)
    values = _mean(_resampled_iou(counts, resamples, seed, level))
    differences = values[:, 0] - values[:, 1]
    at_most, at_least = (differences <= 0).sum(), (differences >= 0).sum()
    p_value = min(1.0, 2 * float(1 + min(at_most, at_least)) / (1 + len(differences)))
    interval = _interval(pooled_miou(confusions_a) - pooled_miou(confusions_b), differences, level, len(counts))
    if interval.num_groups < MIN_GROUPS:
        verdict = "undecided: too few scenes"
    elif interval.low > 0:
        verdict = "better"
    elif interval.high < 0:
        verdict = "worse"
    else:
        verdict = "undecided"
    return Comparison(interval.value, interval.low, interval.high, p_value, interval.num_groups, verdict)


def _checked(confusions: np.ndarray) -> np.ndarray:
    """The matrices as one (N, C, C) array with N > 0, or a ValueError."""
    confusions = np.asarray(confusions)
    if len(confusions) == 0:
        raise ValueError("no confusion matrix was given; expected one per image")
    if confusions.ndim != 3 or confusions.shape[1] != confusions.shape[2]:
        raise ValueError(f"confusion matrices have shape {confusions.shape}; expected (images, classes, classes)")
    return confusions


def _class_counts(confusions: np.ndarray) -> np.ndarray:
    """(..., C, C) matrices as (..., 3, C): pixels of each class that agree, that are truly it, that are called it."""
    agree = np.diagonal(confusions, axis1=-2, axis2=-1)
    return np.stack([agree, confusions.sum(axis=-1), confusions.sum(axis=-2)], axis=-2)


def _iou(class_counts: np.ndarray) -> np.ndarray:
    """(..., 3, C) counts to (..., C) IoU; NaN for a class in neither truth nor prediction."""
    agree, actual, predicted = np.moveaxis(class_counts, -2, 0)
    union = actual + predicted - agree
    return np.divide(agree, union, out=np.full(union.shape, np.nan), where=union > 0)


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is not NaN; NaN, without numpy's warning, where all is."""
    known = ~np.isnan(values)
    number = known.sum(axis=-1)
    total = np.where(known, values, 0).sum(axis=-1)
    return np.divide(total, number, out=np.full(np.shape(total), np.nan), where=number > 0)


def _group_counts(models: Sequence[np.ndarray], groups: Sequence[Hashable]) -> np.ndarray:
    """Class counts per group in order of appearance, (groups, models, 3, C).

    A group without a counted pixel is left out: it says nothing, so it must not pass for a scene.
    """
    matrices = [_checked(confusions) for confusions in models]
    for confusions in matrices:
        if len(confusions) != len(groups):
            raise ValueError(
                f"{len(confusions)} confusion matrices but {len(groups)} groups; expected one of each per image"
            )
        if confusions.shape != matrices[0].shape:
            raise ValueError(
                f"the models have {matrices[0].shape[1]} and {confusions.shape[1]} classes; expected the same"
            )
    per_image = np.stack([_class_counts(confusions) for confusions in matrices], axis=1)
    for model in range(1, len(matrices)):
        differs = (per_image[:, model, 1] != per_image[:, 0, 1]).any(axis=-1)
        if differs.any():
            raise ValueError(
                f"image {np.flatnonzero(differs)[0]} has other true pixel counts for one model than for the other; "
                "score both on the same targets, in the same order"
            )
    numbers: dict[Hashable, int] = {}
    group_of_image = [numbers.setdefault(group, len(numbers)) for group in groups]
    counts = np.zeros((len(numbers), *per_image.shape[1:]), np.int64)
    np.add.at(counts, group_of_image, per_image)
    counts = counts[counts.any(axis=(1, 2, 3))]
    if len(counts) == 0:
        raise ValueError(f"none of the {len(groups)} images has a labelled pixel, so there is nothing to resample")
    return counts


def _resampled_iou(group_counts: np.ndarray, resamples: int, seed: int, level: float) -> np.ndarray:
    """IoU per class in each resample of the groups: (resamples, models, C)."""
    if resamples < 1 or not 0 < level < 1:
        raise ValueError(f"resamples is {resamples} and level {level}; expected at least 1, and between 0 and 1")
    num_groups = len(group_counts)
    # float64 holds these integers exactly, and unlike an integer product the sum below runs on BLAS
    flat = group_counts.reshape(num_groups, -1).astype(np.float64)
    rng = np.random.default_rng(seed)
    rows = max(1, _CHUNK_ELEMENTS // num_groups)
    chunks = []
    for start in range(0, resamples, rows):
        number = min(rows, resamples - start)
        drawn = rng.integers(num_groups, size=(number, num_groups))
        drawn += num_groups * np.arange(number)[:, None]
        times = np.bincount(drawn.ravel(), minlength=number * num_groups).reshape(number, num_groups)
        chunks.append(_iou((times.astype(np.float64) @ flat).reshape(number, *group_counts.shape[1:])))
    return np.concatenate(chunks)


def _interval(value: float, values: np.ndarray, level: float, num_groups: int) -> Interval:
    """`value` with the central `level` of the resampled `values` that are not NaN."""
    known = values[~np.isnan(values)]
    tail = (1 - level) / 2
    low, high = np.quantile(known, [tail, 1 - tail]) if len(known) else (np.nan, np.nan)
    return Interval(float(value), float(low), float(high), num_groups)


def optimism_of_best(
    models: Sequence[np.ndarray], groups: Sequence[Hashable], *, resamples: int = 10_000, seed: int = 0
) -> float:
    """By how much the best of several models' pooled mIoU is likely to flatter it, for having been chosen by it.

    In each resample of the groups the model that is best there is chosen. How far its score there exceeds its score on
    the full set, beyond what the same resample does to the full set's best, is the optimism; the mean over resamples
    estimates it (Efron and Tibshirani 1993, chapter 17). 0 for a single model and for models that are all the same.
    """
    values = _mean(_resampled_iou(_group_counts(models, groups), resamples, seed, 0.95))
    shifts = np.nan_to_num(values - np.array([pooled_miou(confusions) for confusions in models]))
    winner = int(np.argmax([pooled_miou(confusions) for confusions in models]))
    best = np.nan_to_num(values, nan=-1.0).argmax(axis=1)
    return float(np.mean(shifts[np.arange(len(values)), best] - shifts[:, winner]))
