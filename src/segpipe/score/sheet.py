"""One prediction's mIoU by every definition that a leaderboard may use, each with its interval. Needs no torch.

Leaderboards pool the pixels of all images or average over images; they skip classes that are absent, or count them 0 or
1; and they score at one size or at each image's own. The same prediction has another number under each.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Literal, get_args

import numpy as np

from segpipe.metrics.bootstrap import MIN_GROUPS, Comparison, Interval, Statistic, bootstrap_miou, compare_miou
from segpipe.metrics.confusion import Absent

Size = Literal["scored", "native"]
Definition = tuple[Size, Statistic, Absent]

_STATISTICS = {"pooled": "pooled over images", "per_image": "mean over images"}
_ABSENT = {"skip": "skipped", "zero": "count 0", "one": "count 1"}


@dataclass(frozen=True)
class Judged:
    """How a prediction did on some images: for each size (N, C, C) int64 confusion matrices, in one order of images."""

    name: str
    confusions: dict[Size, np.ndarray]
    groups: list[str]  # the scene of each image
    scored_size: tuple[int, int] | None  # (height, width); None is each image's own
    class_names: tuple[str, ...]

    def absent_classes(self, size: Size) -> list[str]:
        """Names of the classes that are in no image's truth or prediction."""
        pooled = self.confusions[size].sum(axis=0)
        seen = pooled.any(axis=0) | pooled.any(axis=1)
        return [name for name, known in zip(self.class_names, seen, strict=True) if not known]


@dataclass(frozen=True)
class ScoreSheet:
    """All scores of `own` and, where there is one, its paired differences to `other`; `notes` are sentences."""

    own: Judged
    other: Judged | None
    num_groups: int  # those with a labelled pixel, which the intervals rest on
    scores: dict[Definition, Interval]
    differences: dict[Definition, Comparison]
    notes: tuple[str, ...]


def fill_sheet(own: Judged, other: Judged | None = None, notes: Sequence[str] = ()) -> ScoreSheet:
    """Score `own`, and compare it with `other` on the same images, by every definition."""
    definitions = list(product(own.confusions, get_args(Statistic), get_args(Absent)))
    scores = {
        (size, statistic, absent): bootstrap_miou(own.confusions[size], own.groups, statistic=statistic, absent=absent)
        for size, statistic, absent in definitions
    }
    differences = {definition: _compare(own, other, *definition) for definition in definitions if other is not None}
    num_groups = next(iter(scores.values())).num_groups
    return ScoreSheet(own, other, num_groups, scores, differences, (*notes, *_caveats(own, num_groups)))


def _compare(own: Judged, other: Judged, size: Size, statistic: Statistic, absent: Absent) -> Comparison:
    matrices = own.confusions[size], other.confusions[size]
    found = compare_miou(*matrices, own.groups, statistic=statistic, absent=absent)
    return replace(found, verdict="identical") if np.array_equal(*matrices) else found


def _caveats(own: Judged, num_groups: int) -> list[str]:
    absent = {size: ", ".join(own.absent_classes(size)) or "none" for size in own.confusions}
    listed = [f"{names} ({size} size)" for size, names in absent.items()]
    shown = "; ".join(listed if len(set(absent.values())) > 1 else set(absent.values()))
    caveats = [f"Classes that are in no image's truth or prediction: {shown}."]
    caveats.append("Pooled, only these are absent; averaged over images, every class that the image itself lacks is.")
    if num_groups < MIN_GROUPS:
        caveats.append(f"With fewer than {MIN_GROUPS} groups the intervals are too narrow to rest a claim on.")
    return caveats


def to_json(sheet: ScoreSheet) -> dict:
    """The sheet as plain values: one entry for each size, statistic and rule for absent classes."""
    own = sheet.own
    return {
        "name": own.name,
        "images": len(own.groups),
        "groups": sheet.num_groups,
        "scored_size": own.scored_size,
        "absent_classes": {size: own.absent_classes(size) for size in own.confusions},
        "scores": _entries(sheet.scores),
        "against": sheet.other.name if sheet.other else None,
        "differences": _entries(sheet.differences),
        "notes": sheet.notes,
    }


def _entries(found: dict[Definition, Interval] | dict[Definition, Comparison]) -> list[dict]:
    keys = ("size", "statistic", "absent")
    return [dict(zip(keys, definition, strict=True)) | asdict(value) for definition, value in found.items()]


def to_text(sheet: ScoreSheet) -> str:
    """The sheet as a table to read, then its notes."""
    own = sheet.own
    counted = f"{len(own.groups)} images in {sheet.num_groups} groups"
    lines = [f"{own.name}, on {counted}: mIoU and 95 % interval over groups", ""]
    lines += _table(own, {definition: _interval(score) for definition, score in sheet.scores.items()})
    if sheet.other is not None:
        lines += ["", f"{own.name} minus {sheet.other.name}, the same groups drawn for both", ""]
        lines += _table(own, {definition: _difference(found) for definition, found in sheet.differences.items()})
    return "\n".join([*lines, "", *sheet.notes])


def _table(own: Judged, cells: dict[Definition, str]) -> list[str]:
    scored = "at {} x {}".format(*own.scored_size) if own.scored_size else "at the scored size"
    titles = {"scored": scored, "native": "at native size"}
    rows = [["mIoU", "absent classes", *(titles[size] for size in own.confusions)]]
    for statistic, absent in product(get_args(Statistic), get_args(Absent)):
        values = [cells[size, statistic, absent] for size in own.confusions]
        rows.append([_STATISTICS[statistic], _ABSENT[absent], *values])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _interval(score: Interval) -> str:
    return f"{score.value:.3f} ({score.low:.3f} to {score.high:.3f})"


def _difference(found: Comparison) -> str:
    return f"{found.difference:+.3f} ({found.low:+.3f} to {found.high:+.3f}) {found.verdict}"
