"""How a submission looks: section `submission` with the classes and the sample submission put in.

Run lengths say less than a label map: which of the classes with masks a pixel shows, if any. `Layout.shown` brings a
label map to what a format can say, so that files of any two formats can be held against one another.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

import numpy as np

from segpipe.drawing import background_index
from segpipe.labels import ClassTable
from segpipe.params import RleParams, SubmissionParams
from segpipe.submission.sample import Sample

Format = Literal["pixels", "rle", "png"]
FILES: dict[str, str] = {"pixels": "submission.csv", "rle": "submission_rle.csv", "png": "png"}  # in the folder
PIXEL_COLUMNS = ("image_id", "PredictionString")
NO_MASK = "(no mask)"


@dataclass(frozen=True)
class Layout:
    """The form of all files of a submission; `masks` are the indices of the classes that run lengths tell of."""

    formats: tuple[Format, ...]
    size: tuple[int, int] | None  # height, width of the label maps; None is each image's own
    classes: ClassTable
    rle: RleParams
    masks: tuple[int, ...]
    palette: bool
    sample: Sample | None

    def columns(self, format_: Format) -> tuple[str, str]:
        """The header of a CSV."""
        own = self.rle.columns if format_ == "rle" else PIXEL_COLUMNS
        return self.sample.columns if self.sample else own

    def ids(self, format_: Format, file_name: str) -> list[str]:
        """What stands in the first column of the rows of an image, in order."""
        if format_ != "rle":
            return [file_name]
        return ids_by_pattern(self.rle, file_name, self.masks, self.classes)

    def labels(self, format_: Format) -> list[str]:
        """What the values of a label map brought to `shown` mean."""
        if format_ != "rle":
            return list(self.classes.names)
        names = [self.classes.names[index] for index in self.masks]
        return [NO_MASK, *(names if self.rle.rows == "image_class" else [" + ".join(names)])]

    def table(self, format_: Format) -> np.ndarray:
        """(256,) uint8: for a class index the index of its label in `labels`."""
        table = np.arange(256, dtype=np.uint8)
        if format_ == "rle":
            table[:] = 0
            table[list(self.masks)] = np.arange(len(self.masks)) + 1 if self.rle.rows == "image_class" else 1
        return table

    def shown(self, format_: Format, label_map: np.ndarray) -> np.ndarray:
        """(height, width) uint8: what the format can say of a label map, values as `labels` counts them."""
        return self.table(format_)[label_map] if format_ == "rle" else label_map


def layout_of(submission: SubmissionParams, classes: ClassTable, sample: Sample | None) -> Layout:
    """Section `submission` for these classes; ValueError where `submission.rle.classes` names others."""
    wanted, background = submission.rle.classes, background_index(classes)
    if "rle" in submission.formats and (unknown := [name for name in wanted if name not in classes.names]):
        raise ValueError("\n".join(_unknown(name, classes.names) for name in unknown))
    masks = [index for index, name in enumerate(classes.names) if (name in wanted if wanted else index != background)]
    return Layout(
        formats=submission.formats,
        size=submission.size,
        classes=classes,
        rle=submission.rle,
        masks=tuple(masks),
        palette=submission.png.palette,
        sample=sample,
    )


def ids_by_pattern(rle: RleParams, file_name: str, masks: Sequence[int], classes: ClassTable) -> list[str]:
    """The ids of an image's rows by the pattern `submission.rle.id`."""
    path = PurePosixPath(file_name)
    named = {"file_name": file_name, "name": path.name, "stem": path.stem}
    if rle.rows == "image":
        return [rle.id.format_map(named)]
    return [rle.id.format_map(named | {"class": index, "class_name": classes.names[index]}) for index in masks]


def _unknown(name: str, known: tuple[str, ...]) -> str:
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    return f"params.yaml: submission.rle.classes: found {name!r}; there are {list(known)}{hint}"
