"""What the runs of a claim say: differences with intervals over images and seeds, and a verdict.

Two things make a score uncertain, and they are crossed: the images it was taken on, and the seed of the training. The
variance of a mean difference over n seeds is estimated as (seeds + together) / n + images: `images` is what the choice
of images does whatever the seed, which no number of seeds mends; `together` is what images and seed do to one another.
`seeds`, the variance of single seeds' differences, holds that too: it is counted twice, so that intervals over a few
seeds are rather too wide than too narrow. They are Student's, with degrees of freedom after Satterthwaite (1946).
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from segpipe.metrics.bootstrap import MIN_GROUPS, resampled_miou
from segpipe.metrics.confusion import pooled_miou

ERROR, POWER = 0.05, 0.80  # of the two-sided 95 % interval; with which a difference should be found
MAX_SEEDS = 200  # more are never suggested
MIN_SEEDS = 3  # of a comparison
TOO_FEW_SEEDS = (  # simulated, as docs/testing-a-claim.md says
    "With two seeds the 95 % interval of a difference holds the truth only about 83 times in 100: three are the least."
)

SUPPORTED, REFUTED, UNDECIDED = "supported", "refuted", "undecided"


@dataclass(frozen=True)
class Difference:
    """Pooled mIoU of one arm minus that of another, mean over seeds, against the margin `by` that was claimed.

    `over_seeds` and `over_images` are the two parts of the standard error. `smallest` is the distance from `by` that
    this experiment would have found with a probability of 80 %. `seeds_needed` is how many seeds a new experiment would
    need if the difference is what it seems; 0 where it is decided, None where no number up to MAX_SEEDS would do. With
    `too_few_groups` of images (metrics.bootstrap.MIN_GROUPS) it stays undecided whatever the interval says.
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
    """Standard deviation of one arm's pooled mIoU over seeds, on these images, with its chi-squared interval.

    The interval takes the scores for normally distributed. `largest_gap` is the largest difference between two of the
    seeds; `seeds_needed` as in Difference.
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
    comparisons: int = 1,
    resamples: int = 2_000,
) -> Difference:
    """Compare two arms by their (N, C, C) confusion matrices of the same images, one array for each shared seed.

    Of a claim that makes several `comparisons`, any one refutes it, so each refutes at the level divided by their
    number (Bonferroni); supporting takes all of them and needs no correction. Raises ValueError with fewer than two
    seeds, or when the runs were scored against different targets.
    """
    if len(better) != len(than) or len(better) < 2:
        raise ValueError(f"found {len(better)} and {len(than)} runs; expected two or more seeds that both arms share")
    per_seed = [pooled_miou(a) - pooled_miou(b) for a, b in zip(better, than, strict=True)]
    value, num_seeds = float(np.mean(per_seed)), len(per_seed)
    error = _Error.of(per_seed, better, than, groups, resamples)
    half = error.half_width(num_seeds)
    too_few_groups = error.num_groups < MIN_GROUPS
    refuted = value + error.half_width(num_seeds, ERROR / comparisons) < by
    verdict = UNDECIDED if too_few_groups else _verdict(value - half > by, refuted)
    return Difference(
        per_seed=tuple(per_seed),
        value=value,
        low=value - half,
        high=value + half,
        by=by,
        over_seeds=math.sqrt(error.seeds / num_seeds),
        over_images=math.sqrt(error.over_images(num_seeds)),
        smallest=error.detectable(num_seeds),
        seeds_needed=error.seeds_for(value - by, num_seeds) if verdict == UNDECIDED else 0,
        too_few_groups=too_few_groups,
        verdict=verdict,
    )


@dataclass(frozen=True)
class _Error:
    """The variances of a mean difference, as named above."""

    seeds: float
    together: float
    images: float
    num_groups: int

    @classmethod
    def of(
        cls,
        per_seed: Sequence[float],
        better: Sequence[np.ndarray],
        than: Sequence[np.ndarray],
        groups: Sequence[Hashable],
        resamples: int,
    ) -> "_Error":
        """From a bootstrap over groups, the same ones for all runs, of each seed's difference and of their mean.

        With S seeds, a single seed's variance over images is that of the images alone plus that of images and seed
        together, and the mean's is the former plus 1 / S of the latter: two equations for the two.
        """
        num_seeds = len(per_seed)
        drawn = resampled_miou([*better, *than], groups, resamples=resamples)
        differences = drawn[:, :num_seeds] - drawn[:, num_seeds:]
        seen = {group for group, confusion in zip(groups, better[0], strict=True) if confusion.any()}
        # a resample of G groups varies by (G - 1) / G of what a new draw of them would
        unbiased = len(seen) / max(len(seen) - 1, 1)
        single = float(np.nanvar(differences, axis=0, ddof=1).mean()) * unbiased
        mean = float(np.nanvar(differences.mean(axis=1), ddof=1)) * unbiased
        together = max(0.0, (single - mean) * num_seeds / (num_seeds - 1))
        images = max(0.0, mean - together / num_seeds)
        return cls(float(np.var(per_seed, ddof=1)), together, images, len(seen))

    def standard_error(self, num_seeds: int) -> float:
        return math.sqrt(self.seeds / num_seeds + self.over_images(num_seeds))

    def over_images(self, num_seeds: int) -> float:
        return self.together / num_seeds + self.images

    def degrees(self, num_seeds: int) -> float:
        seeds, images = self.seeds / num_seeds, self.over_images(num_seeds)
        parts = seeds**2 / (num_seeds - 1) + images**2 / max(self.num_groups - 1, 1)
        return (seeds + images) ** 2 / parts if parts > 0 else float(num_seeds - 1)

    def half_width(self, num_seeds: int, error: float = ERROR) -> float:
        return float(stats.t.ppf(1 - error / 2, self.degrees(num_seeds)) * self.standard_error(num_seeds))

    def detectable(self, num_seeds: int) -> float:
        """The true difference whose interval excludes 0 with probability POWER (Cohen 1988, chapter 2)."""
        degrees = self.degrees(num_seeds)
        quantiles = stats.t.ppf(1 - ERROR / 2, degrees) + stats.t.ppf(POWER, degrees)
        return float(quantiles * self.standard_error(num_seeds))

    def seeds_for(self, difference: float, at_least: int) -> int | None:
        if difference == 0:
            return None
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
    degrees = number - 1
    low, high = (value * math.sqrt(degrees / stats.chi2.ppf(share, degrees)) for share in (1 - ERROR / 2, ERROR / 2))
    return low, high


def _verdict(supported: bool, refuted: bool) -> str:
    if supported:
        return SUPPORTED
    return REFUTED if refuted else UNDECIDED


def overall(verdicts: Sequence[str]) -> str:
    """Of a claim that makes several comparisons: supported when all are, refuted when one is."""
    if all(verdict == SUPPORTED for verdict in verdicts):
        return SUPPORTED
    return REFUTED if REFUTED in verdicts else UNDECIDED
