"""What the runs of a claim say: differences with intervals over images and seeds, and a verdict.

Two things make a score uncertain, and they are crossed: the images it was taken on, and the seed of the training. The
variance of a mean difference is estimated as the sum of both parts, and its interval is Student's with degrees of
freedom after Satterthwaite (1946), since a variance over three seeds is hardly known. Each part also holds the
interaction of the two, which is thus counted twice: the interval is a little too wide rather than too narrow.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from segpipe.metrics.bootstrap import MIN_GROUPS, resampled_miou
from segpipe.metrics.confusion import pooled_miou

LEVEL, POWER = 0.95, 0.80
MAX_SEEDS = 200  # more are never suggested

SUPPORTED, REFUTED, UNDECIDED = "supported", "refuted", "undecided"


@dataclass(frozen=True)
class Difference:
    """Pooled mIoU of one arm minus that of another, mean over seeds, against the margin `by` that was claimed.

    `over_seeds` and `over_images` are the two parts of the standard error. `smallest` is the difference that this
    experiment would have found with a probability of 80 %. `seeds_needed` is how many seeds would decide it if the
    difference is what it seems; 0 where it is decided, None where no number up to MAX_SEEDS would do on these images.
    With `too_few_groups` of images (metrics.bootstrap.MIN_GROUPS) it stays undecided whatever the interval says.
    """

    per_seed: tuple[float, ...]
    value: float
    low: float
    high: float
    by: float
    over_seeds: float
    over_images: float
    smallest: float
    seeds_needed: int | None
    too_few_groups: bool
    verdict: str


@dataclass(frozen=True)
class Spread:
    """Standard deviation of one arm's pooled mIoU over seeds on the same images, with its chi-squared interval.

    `largest_gap` is the largest difference between two of the seeds; `seeds_needed` as in Difference.
    """

    value: float
    low: float
    high: float
    below: float
    largest_gap: float
    seeds_needed: int | None
    verdict: str


def compare_arms(
    better: Sequence[np.ndarray],
    than: Sequence[np.ndarray],
    groups: Sequence[Hashable],
    *,
    by: float,
    resamples: int = 2_000,
) -> Difference:
    """Compare two arms by their (N, C, C) confusion matrices of the same images, one array for each shared seed.

    The part over images is the variance of the mean difference when groups of images are drawn anew, the same for all
    runs; the part over seeds is the variance of the seeds' differences over their number. Raises ValueError with fewer
    than two seeds, or when the runs were scored against different targets.
    """
    if len(better) != len(than) or len(better) < 2:
        raise ValueError(f"found {len(better)} and {len(than)} runs; expected two or more seeds that both arms share")
    per_seed = [pooled_miou(a) - pooled_miou(b) for a, b in zip(better, than, strict=True)]
    value, num_seeds, num_groups = float(np.mean(per_seed)), len(per_seed), len(set(groups))
    drawn = resampled_miou([*better, *than], groups, resamples=resamples)
    differences = drawn[:, :num_seeds].mean(axis=1) - drawn[:, num_seeds:].mean(axis=1)
    error = _Error(float(np.var(per_seed, ddof=1)), float(np.nanvar(differences, ddof=1)), num_groups)
    half = error.half_width(num_seeds)
    too_few_groups = num_groups < MIN_GROUPS
    verdict = UNDECIDED if too_few_groups else _verdict(value - half > by, value + half < by)
    return Difference(
        per_seed=tuple(per_seed),
        value=value,
        low=value - half,
        high=value + half,
        by=by,
        over_seeds=math.sqrt(error.seed_variance / num_seeds),
        over_images=math.sqrt(error.image_variance),
        smallest=error.detectable(num_seeds),
        seeds_needed=error.seeds_for(value - by, num_seeds) if verdict == UNDECIDED else 0,
        too_few_groups=too_few_groups,
        verdict=verdict,
    )


@dataclass(frozen=True)
class _Error:
    """The two variances of a mean difference: of a single seed's, and of the images', which more seeds do not mend."""

    seed_variance: float
    image_variance: float
    num_groups: int

    def standard_error(self, num_seeds: int) -> float:
        return math.sqrt(self.seed_variance / num_seeds + self.image_variance)

    def degrees(self, num_seeds: int) -> float:
        seeds, images = self.seed_variance / num_seeds, self.image_variance
        parts = seeds**2 / (num_seeds - 1) + images**2 / max(self.num_groups - 1, 1)
        return (seeds + images) ** 2 / parts if parts > 0 else float(num_seeds - 1)

    def half_width(self, num_seeds: int) -> float:
        quantile = stats.t.ppf((1 + LEVEL) / 2, self.degrees(num_seeds))
        return float(quantile * self.standard_error(num_seeds))

    def detectable(self, num_seeds: int) -> float:
        """The true difference whose interval excludes 0 with probability POWER (Cohen 1988, chapter 2)."""
        degrees = self.degrees(num_seeds)
        quantiles = stats.t.ppf((1 + LEVEL) / 2, degrees) + stats.t.ppf(POWER, degrees)
        return float(quantiles * self.standard_error(num_seeds))

    def seeds_for(self, difference: float, at_least: int) -> int | None:
        numbers = range(at_least + 1, MAX_SEEDS + 1)
        return next((number for number in numbers if self.detectable(number) <= abs(difference)), None)


def seed_spread(runs: Sequence[np.ndarray], *, below: float) -> Spread:
    """How far the scores of one configuration lie apart when nothing but the seed changes; one array for each seed."""
    if len(runs) < 2:
        raise ValueError(f"found {len(runs)} runs; expected two or more seeds")
    scores = [pooled_miou(confusions) for confusions in runs]
    value = float(np.std(scores, ddof=1))
    low, high = _spread_interval(value, len(scores))
    verdict = _verdict(high < below, low > below)
    needed: int | None = 0
    if verdict == UNDECIDED:
        intervals = ((number, _spread_interval(value, number)) for number in range(len(scores) + 1, MAX_SEEDS + 1))
        needed = next((number for number, (low_, high_) in intervals if high_ < below or low_ > below), None)
    return Spread(value, low, high, below, max(scores) - min(scores), needed, verdict)


def _spread_interval(value: float, number: int) -> tuple[float, float]:
    tail, degrees = (1 - LEVEL) / 2, number - 1
    low, high = (value * math.sqrt(degrees / stats.chi2.ppf(share, degrees)) for share in (1 - tail, tail))
    return low, high


def _verdict(supported: bool, refuted: bool) -> str:
    if supported:
        return SUPPORTED
    return REFUTED if refuted else UNDECIDED


def overall(verdicts: Sequence[str]) -> str:
    """Of a claim that makes several comparisons: supported when all are (so none needs a correction for their number),
    refuted when one is.
    """
    if all(verdict == SUPPORTED for verdict in verdicts):
        return SUPPORTED
    return REFUTED if REFUTED in verdicts else UNDECIDED
