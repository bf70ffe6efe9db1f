"""`segpipe check-submission`: a file held against the test images, the sample submission, training and another file.

Images are read one at a time; of each only counts are kept.
"""

import heapq
import zipfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from segpipe.data.prepared import Prepared
from segpipe.labels import ClassTable
from segpipe.params import ALL, Params
from segpipe.progress import track
from segpipe.stage import read_json
from segpipe.submission.fit import id_problems
from segpipe.submission.layout import PIXEL_COLUMNS, Format, Layout, layout_of
from segpipe.submission.read import SubmissionFile, open_submission, open_zip
from segpipe.submission.rows import CsvFile
from segpipe.submission.sample import Sample, read_sample, sample_of

MOST_CHANGED = 5  # images that are named


@dataclass
class Difference:
    """How far two submissions lie apart, over the images that both have."""

    path: Path
    problems: list[str]  # of the other file
    images: int = 0
    pixels: int = 0
    differing: int = 0
    counts: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # (C, C): label before, label now
    most_changed: list[tuple[float, str]] = field(default_factory=list)  # share of pixels, file name

    def add(self, name: str, before: np.ndarray, now: np.ndarray) -> None:
        """Count the pixels of an image by both labels."""
        num_labels = len(self.counts)
        joint = np.bincount(before.ravel().astype(np.int64) * num_labels + now.ravel(), minlength=num_labels**2)
        self.counts += joint.reshape(num_labels, num_labels)
        differing = int(np.count_nonzero(before != now))
        self.images, self.pixels, self.differing = self.images + 1, self.pixels + now.size, self.differing + differing
        if differing:
            heapq.heappush(self.most_changed, (differing / now.size, name))
            if len(self.most_changed) > MOST_CHANGED:
                heapq.heappop(self.most_changed)

    def changed_shares(self) -> np.ndarray:
        """(C,) float: of the pixels that have a label in either file, the share that has it in one only."""
        both, either = np.diag(self.counts), self.counts.sum(axis=0) + self.counts.sum(axis=1) - np.diag(self.counts)
        return 1 - both / np.where(either, either, np.nan)


@dataclass
class Checked:
    """What was found; `problems` would cost points or the whole upload, `warnings` need not."""

    path: Path
    format_: Format
    images: int
    labels: list[str]
    training: np.ndarray  # (C,) share of the labelled pixels, NaN where it is not known
    pixels: np.ndarray  # (C,) of the file
    problems: list[str]
    warnings: list[str]
    difference: Difference | None

    def shares(self) -> np.ndarray:
        """(C,) float: share of each label among the pixels that could be read."""
        return self.pixels / max(int(self.pixels.sum()), 1)


def check_file(
    params: Params,
    path: Path,
    *,
    prepared: Path = Path("data/prepared"),
    sample: Path | None = None,
    previous: Path | None = None,
    format_: Format | None = None,
) -> Checked:
    """Check the submission at `path`: a CSV, a zip, or a folder of PNG label maps.

    `sample` is a sample submission, that of params.yaml unless given; `format_` is found out unless given. Raises
    ValueError or FileNotFoundError where the check itself cannot be made.
    """
    for place in (path, *([previous] if previous else [])):
        if not place.exists():
            raise FileNotFoundError(
                f"{place}: not found; expected a submission: a CSV, a zip, or a folder of label maps"
            )
    data = Prepared(prepared, fold=ALL)
    test = [data.entries[index] for index in data.sets["test"]]
    sizes = {entry.file_name: params.submission.size or (entry.height, entry.width) for entry in test}
    given = read_sample(sample) if sample else sample_of(params.submission, Path(params.data.root))
    plain = layout_of(params.submission, data.classes, given)
    format_ = format_ or find_format(path, params, plain)
    layout = _layout(params, data.classes, format_, given)
    checked = Checked(
        path=path,
        format_=format_,
        images=len(sizes),
        labels=layout.labels(format_),
        training=_training_shares(prepared, layout, format_),
        pixels=np.zeros(len(layout.labels(format_)), np.int64),
        problems=list(id_problems(layout, format_, list(sizes))) if format_ != "png" else [],
        warnings=[],
        difference=None,
    )
    with ExitStack() as stack:
        file = stack.enter_context(open_submission(path, format_, layout, sizes))
        other = None
        if previous:
            form = find_format(previous, params, plain)
            columns = _layout(params, data.classes, form, given)
            other = stack.enter_context(open_submission(previous, form, columns, sizes))
        _read(checked, layout, file, other, previous)
    seen = checked.pixels > 0
    if seen.any() and (never := [checked.labels[i] for i in np.flatnonzero(~seen & (checked.training > 0))]):
        checked.warnings.append(f"never predicted, though training images show it: {', '.join(never)}")
    return checked


def _read(
    checked: Checked, layout: Layout, file: SubmissionFile, other: SubmissionFile | None, previous: Path | None
) -> None:
    """Every image of the file, and of the other one where there is one, into `checked`."""
    checked.problems += file.faults
    checked.warnings += [file.order_fault] if file.order_fault else []
    if other is not None and previous is not None:
        form: Format = "rle" if "rle" in (file.format_, other.format_) else file.format_
        num_labels = len(layout.labels(form))
        checked.difference = Difference(previous, list(other.faults), counts=np.zeros((num_labels,) * 2, np.int64))
    for name in track(list(file.sizes), "check", "images"):
        now, faults = file.label_map(name)
        checked.problems += faults
        if now is not None:
            checked.pixels += np.bincount(now.ravel(), minlength=len(checked.labels))
        if other is not None and checked.difference is not None:
            before, faults = other.label_map(name)
            checked.difference.problems += faults
            if now is not None and before is not None:
                before = _alike(layout, other.format_, file.format_, before)
                now = _alike(layout, file.format_, other.format_, now)
                checked.difference.add(name, before, now)


def _alike(layout: Layout, own: Format, others: Format, label_map: np.ndarray) -> np.ndarray:
    """A label map brought to what run lengths say, where only the other file is one of these."""
    return layout.shown("rle", label_map) if others == "rle" and own != "rle" else label_map


def _layout(params: Params, classes: ClassTable, format_: Format, given: Sample | None) -> Layout:
    """Of a file of one format; only that of run lengths needs `submission.rle.classes` to be right."""
    own = params.submission.model_copy(update={"formats": (format_,)})
    return layout_of(own, classes, None if format_ == "png" else given)


def find_format(path: Path, params: Params, layout: Layout) -> Format:
    """PNG for a folder or a zip without a CSV; of the CSVs the one of params.yaml, unless the header says the other."""
    tables: list[Format] = [name for name in params.submission.formats if name != "png"]
    if path.is_dir():
        return "png"
    if zipfile.is_zipfile(path):
        with open_zip(path) as archive:
            if not any(name.lower().endswith(".csv") for name in archive.namelist()):
                return "png"
    else:
        with CsvFile(path) as file:
            columns = file.columns
        of_params = [name for name in tables if layout.columns(name) == columns]
        if len(of_params) != 1 and columns == PIXEL_COLUMNS != layout.rle.columns:
            return "pixels"
        if len(of_params) != 1 and columns == layout.rle.columns != PIXEL_COLUMNS:
            return "rle"
        tables = of_params or tables
    if len(tables) != 1:
        raise ValueError(f"{path}: its header does not tell whether it is pixels or rle; say so with --format")
    return tables[0]


def _training_shares(prepared: Path, layout: Layout, format_: Format) -> np.ndarray:
    """(C,) share of each label among labelled pixels."""
    shares = read_json(prepared / "data_check.json")["class_pixel_shares"]
    summed = np.zeros(len(layout.labels(format_)))
    table = layout.table(format_)
    for index, name in enumerate(layout.classes.names):
        summed[table[index]] += shares.get(name, np.nan)
    return summed
