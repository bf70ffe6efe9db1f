"""From which confidence on a pixel is kept: one threshold for all, one a class by its precision, or a share a class."""

from dataclasses import dataclass

import numpy as np

from segpipe.labels import IGNORE_INDEX
from segpipe.metrics.bootstrap import MIN_GROUPS
from segpipe.params import PseudoLabelParams
from segpipe.pseudo.evidence import Evidence, precision_bound
from segpipe.pseudo.taught import STEPS, at_least

NOTHING = STEPS  # a threshold above all confidences
FEW_SCENES = "tune scenes"  # `why` says how many where a threshold is thin, and only there


@dataclass(frozen=True)
class Threshold:
    """Of one class: pixels of confidence `step` (255ths) and above are kept; of those at it only `wanted` of `tied`."""

    step: int
    why: str  # for the quality table, its parts with `; ` between them: commas part the table's columns
    wanted: int = 1
    tied: int = 1
    thin: bool = False  # it rests on too few scenes

    @property
    def confidence(self) -> float:
        """0 to 1, NaN where nothing is kept."""
        return self.step / 255 if self.step < NOTHING else float("nan")


def choose_thresholds(params: PseudoLabelParams, pool_counts: np.ndarray, evidence: Evidence | None) -> list[Threshold]:
    """One of each class; `pool_counts` (C, 256) are the pool's pixels by predicted class and confidence.

    Raises ValueError for `per_class` without tune images, which alone can say how precise a class is.
    """
    if params.threshold == "fixed":
        return [fixed(params.confidence)] * len(pool_counts)
    if params.threshold == "top_fraction":
        return [top_fraction(counts, params.fraction) for counts in pool_counts]
    if evidence is None or not evidence.num_groups:
        raise ValueError(
            "pseudo_label.threshold: found per_class in a fold without tune images, which say how precise a class is; "
            "use fixed or top_fraction there"
        )
    return [per_class(*evidence.of_class(index), pool_counts[index], params) for index in range(evidence.num_classes)]


def fixed(confidence: float) -> Threshold:
    """The one from 0 to 1 that params.yaml names."""
    return Threshold(int(np.ceil(confidence * 255)), "fixed")


def top_fraction(counts: np.ndarray, fraction: float) -> Threshold:
    """Keeps the most confident `fraction` of the (256,) `counts` to the pixel: of equals, evenly spread ones.

    One share for every class, as class-balanced self-training does (CBST, Zou et al., ECCV 2018).
    """
    wanted = round(fraction * int(counts.sum()))
    if wanted == 0:
        return Threshold(NOTHING, "top fraction")
    above = at_least(counts)
    step = int(np.flatnonzero(above >= wanted).max())
    tied = int(counts[step])
    return Threshold(step, "top fraction", wanted - (int(above[step]) - tied), tied)


def per_class(total: np.ndarray, right: np.ndarray, counts: np.ndarray, params: PseudoLabelParams) -> Threshold:
    """The lowest threshold at which the class is precise enough, or one that keeps its `min_share` if that is lower.

    `total` and `right` are (groups, 256) pixels of tune images predicted as the class, and right; `counts` (256,) are
    the pool's. Precise enough means the lower bound over scenes, so that what few scenes show must show it clearly.
    """
    bound = precision_bound(at_least(right), at_least(total), params.certainty)
    reached = np.flatnonzero(bound >= params.target_precision)
    step = int(reached.min()) if len(reached) else NOTHING
    floor = _share_step(counts, params.min_share)
    groups = int((total.sum(1) > 0).sum())
    if step <= floor:
        why, thin = "nothing" if step == NOTHING else "target", 0 < groups < MIN_GROUPS
    else:
        how = "target not reached" if step == NOTHING else "target only above it"
        why, thin = f"min_share; {how}", groups < MIN_GROUPS
    return Threshold(min(step, floor), why + (f"; of {groups} {FEW_SCENES}" if thin else ""), thin=thin)


def _share_step(counts: np.ndarray, share: float) -> int:
    """The highest threshold that keeps at least `share` of the pixels; NOTHING where that is none."""
    wanted = share * int(counts.sum())
    if wanted == 0:
        return NOTHING
    return int(np.flatnonzero(at_least(counts) >= wanted).max())


class Keeper:
    """Applies thresholds to one image after another; of tied pixels it takes evenly spread ones over all images."""

    def __init__(self, thresholds: list[Threshold]) -> None:
        steps = [threshold.step for threshold in thresholds]
        self._steps = np.array(steps + [NOTHING] * (STEPS - len(steps)), np.int16)
        self._split = {
            index: threshold for index, threshold in enumerate(thresholds) if threshold.wanted < threshold.tied
        }
        self._seen = dict.fromkeys(self._split, 0)

    def keep(self, classes: np.ndarray, confidence: np.ndarray) -> np.ndarray:
        """(H, W) uint8 `classes` with IGNORE_INDEX wherever `confidence` (uint8, 255ths) is below their threshold."""
        kept = confidence >= self._steps[classes]
        for index, threshold in self._split.items():
            place = np.nonzero((classes == index) & (confidence == threshold.step))
            number = self._seen[index] + np.arange(len(place[0]))
            # the i-th of n is taken where the share that is wanted, w / n, passes a whole number: w of them in all
            kept[place] = (
                number + 1
            ) * threshold.wanted // threshold.tied > number * threshold.wanted // threshold.tied
            self._seen[index] += len(number)
        return np.where(kept, classes, IGNORE_INDEX).astype(np.uint8)
