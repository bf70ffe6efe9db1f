"""Strips for `dvc plots`: image, truth, prediction and mistakes of the same judge images in every commit.

The choice depends on the data alone, never on a score, and so do the file names: `dvc plots diff` then lays the strips
of two commits beside each other, image for image. The report picks the best and the worst instead.
"""

import re
from pathlib import Path

import numpy as np

from segpipe.data.resize import resize_labels
from segpipe.drawing import (
    encode_jpeg,
    evenly_spaced,
    fit_image,
    label_overlay,
    mistakes_overlay,
    shown_size,
    text_line,
)
from segpipe.ensemble.average import Ensemble
from segpipe.ensemble.candidates import Candidate
from segpipe.labels import IGNORE_INDEX

NUM_STRIPS, SIDE = 8, 224  # images; pixels of the longer side of a picture
_GAP = 6  # pixels between pictures


def write_strips(ensemble: Ensemble, candidate: Candidate, out: Path) -> None:
    """Write one JPEG for each of up to NUM_STRIPS judge images, evenly spaced over the image table."""
    out.mkdir(parents=True, exist_ok=True)
    for index in evenly_spaced(ensemble.judge_indices, NUM_STRIPS):
        name = strip_name(index, ensemble.prepared.entries[index].file_name)
        (out / name).write_bytes(encode_jpeg(_draw(ensemble, candidate, index)))


def strip_name(index: int, file_name: str) -> str:
    """A file name that stays apart from others, holds no folder, and is safe in the page that DVC writes."""
    return f"{index:05}-{re.sub(r'[^A-Za-z0-9._-]+', '-', str(Path(file_name).with_suffix('')))}.jpg"


def _draw(ensemble: Ensemble, candidate: Candidate, index: int) -> np.ndarray:
    prepared, entry = ensemble.prepared, ensemble.prepared.entries[index]
    image = fit_image(prepared.images[index], shown_size((entry.height, entry.width), SIDE))
    preds = ensemble.label_map(candidate, index)
    target = resize_labels(prepared.native_target(index), preds.shape)
    counted = target != IGNORE_INDEX
    wrong = (target != preds)[counted].mean() if counted.any() else 0.0
    return strip(
        {
            "image": image,
            "truth": label_overlay(image, target, prepared.classes),
            "prediction": label_overlay(image, preds, prepared.classes),
            f"mistakes: {100 * wrong:.1f} %": mistakes_overlay(image, target, preds, prepared.classes),
        }
    )


def strip(pictures: dict[str, np.ndarray]) -> np.ndarray:
    """Pictures of one size, (H, W, 3) uint8, side by side on white under their titles; none is cut at its picture."""
    columns: list[np.ndarray] = []
    for title, picture in pictures.items():
        line = text_line(title, picture.shape[1])
        missing = (0, 0), (0, line.shape[1] - picture.shape[1]), (0, 0)
        column = np.vstack([line, np.pad(picture, missing, constant_values=255)])
        columns += [column, np.full((column.shape[0], _GAP, 3), 255, np.uint8)]
    return np.hstack(columns[:-1])
