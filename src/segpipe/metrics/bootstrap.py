"""How sure an IoU is, and whether one model beats another: resampling groups of images. Needs numpy only.

Images of one scene resemble each other, so the interval comes from resampling groups (a video, a place), not images:
100 frames of one street are one observation of how the model does on streets.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from segpipe.metrics.confusion import (
    check_confusions,
    class_counts,
    iou_of_counts,
    iou_per_class,
    mean_of_known,
    pooled_miou,
)

# Percentile intervals over few groups are too narrow. In 400 data sets of each size, simulated as in
# tests/test_bootstrap.py, those at 95 % held the truth for 84 % with 5 groups, 91 % with 10 and 93 % with 20 or 40.
MIN_GROUPS = 10
_CHUNK_ELEMENTS = 1_000_000  # resample counts held in memory at once, 8 MB


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


def resampled_miou(
    models: Sequence[np.ndarray], groups: Sequence[Hashable], *, resamples: int = 10_000, seed: int = 0
) -> np.ndarray:
    """Pooled mIoU of each model in each resample of the groups, (resamples, models) float64.

    `models` holds (N, C, C) confusion matrices, one model an element, all on the same images in the same order;
    `groups` names the group of each image. In one resample the same groups are drawn for every model, so that any
    function of a row (a difference, a mean, a rank) is resampled as a pair would be. The same seed and number of
    groups draw the same groups, in a later call too. Raises ValueError when the matrices show that the models were
    scored against different targets.
    """
    return mean_of_known(_resampled_iou(_group_counts(models, groups), resamples, seed))


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
    values = mean_of_known(_resampled_iou(counts, resamples, seed)[:, 0])
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
    values = _resampled_iou(counts, resamples, seed)[:, 0]
    points = iou_per_class(check_confusions(confusions).sum(axis=0))
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
    values = mean_of_known(_resampled_iou(counts, resamples, seed))
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


def optimism_of_best(
    models: Sequence[np.ndarray], groups: Sequence[Hashable], *, resamples: int = 10_000, seed: int = 0
) -> float:
    """By how much the best of several models' pooled mIoU is likely to flatter it, for having been chosen by it.

    In each resample of the groups the model that is best there is chosen. How far its score there exceeds its score on
    the full set, beyond what the same resample does to the full set's best, is the optimism; the mean over resamples
    estimates it (Efron and Tibshirani 1993, chapter 17). 0 for a single model and for models that are all the same.
    """
    values = resampled_miou(models, groups, resamples=resamples, seed=seed)
    shifts = np.nan_to_num(values - np.array([pooled_miou(confusions) for confusions in models]))
    winner = int(np.argmax([pooled_miou(confusions) for confusions in models]))
    best = np.nan_to_num(values, nan=-1.0).argmax(axis=1)
    return float(np.mean(shifts[np.arange(len(values)), best] - shifts[:, winner]))


def _group_counts(models: Sequence[np.ndarray], groups: Sequence[Hashable]) -> np.ndarray:
    """Class counts per group in order of appearance, (groups, models, 3, C).

    A group without a counted pixel is left out: it says nothing, so it must not pass for a scene.
    """
    matrices = [check_confusions(confusions) for confusions in models]
    for confusions in matrices:
        if len(confusions) != len(groups):
            raise ValueError(
                f"{len(confusions)} confusion matrices but {len(groups)} groups; expected one of each per image"
            )
        if confusions.shape != matrices[0].shape:
            raise ValueError(
                f"the models have {matrices[0].shape[1]} and {confusions.shape[1]} classes; expected the same"
            )
    per_image = np.stack([class_counts(confusions) for confusions in matrices], axis=1)
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


def _resampled_iou(group_counts: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """IoU per class in each resample of the groups: (resamples, models, C)."""
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}; expected at least 1")
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
        chunks.append(iou_of_counts((times.astype(np.float64) @ flat).reshape(number, *group_counts.shape[1:])))
    return np.concatenate(chunks)


def _interval(value: float, values: np.ndarray, level: float, num_groups: int) -> Interval:
    """`value` with the central `level` of the resampled `values` that are not NaN."""
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; expected a share between 0 and 1, such as 0.95")
    known = values[~np.isnan(values)]
    tail = (1 - level) / 2
    low, high = np.quantile(known, [tail, 1 - tail]) if len(known) else (np.nan, np.nan)
    return Interval(float(value), float(low), float(high), num_groups)
