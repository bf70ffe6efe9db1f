"""Small tables for `dvc plots` and the report, the same columns wherever they are written."""

from collections.abc import Hashable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from segpipe.labels import ClassTable
from segpipe.metrics.bootstrap import bootstrap_iou


def write_iou(confusions: np.ndarray, groups: Sequence[Hashable], classes: ClassTable, path: Path) -> None:
    """One row a class: class, iou, low, high (95 % over groups), color; an absent class has empty cells.

    `confusions` is (N, C, C), one matrix an image, `groups` its scenes. `color` (#rrggbb) is how pictures show the
    class; it is empty for a background that no category names, which they leave grey.
    """
    intervals = bootstrap_iou(confusions, groups)
    known = zip(classes.categories, classes.colors, strict=True)
    colors = ["#{:02x}{:02x}{:02x}".format(*color) if categories else "" for categories, color in known]
    rows = [
        {"class": name, "iou": interval.value, "low": interval.low, "high": interval.high, "color": color}
        for name, interval, color in zip(classes.names, intervals, colors, strict=True)
    ]
    write_rows(rows, path)


def write_confusion(confusion: np.ndarray, names: Sequence[str], path: Path) -> None:
    """One row for each pair of classes: actual, predicted, pixels. `confusion` is (C, C), rows = truth."""
    rows = [
        {"actual": actual, "predicted": predicted, "pixels": int(confusion[i, j])}
        for i, actual in enumerate(names)
        for j, predicted in enumerate(names)
    ]
    write_rows(rows, path)


def write_history(history: Sequence[dict[str, float]], path: Path) -> None:
    """One row an epoch; NaN as an empty cell. Whoever reads while training rewrites it sees a whole file."""
    unfinished = path.with_suffix(".csv.part")
    write_rows(history, unfinished)
    unfinished.replace(path)


def write_rows(rows: Sequence[dict], path: Path) -> None:
    """A CSV of `rows`, whose columns are the keys of the first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(path, index=False)
