"""A contact sheet of training images with their labels, as stored and as training will see them, epoch by epoch.

The same code draws them as in training, from the same seeds: what the sheet shows under epoch 2 is what epoch 2 sees.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from segpipe.data.dataset import Part
from segpipe.data.prepared import Prepared
from segpipe.data.pseudo_labels import PseudoLabels
from segpipe.doctor.extent import PREPARED, prepared_fits
from segpipe.drawing import (
    background_index,
    evenly_spaced,
    fit_image,
    label_overlay,
    shown_size,
    text_line,
    text_width,
)
from segpipe.labels import IGNORE_INDEX, ClassTable
from segpipe.params import Params
from segpipe.show.chosen import chosen_member
from segpipe.training.job import labeled_part_of, pseudo_part_of

PSEUDO = Path("data/pseudo")
SIDE = 256  # pixels of the longer side of a picture; smaller ones grow by a whole factor
GAP = 6  # pixels of white between pictures
Drawn = tuple[np.ndarray, np.ndarray]  # image (H, W, 3) and target (H, W), uint8


@dataclass(frozen=True)
class Sheet:
    """File names and what is shown of each: as stored, then in epochs 1, 2, ...; `said` is for the terminal."""

    rows: dict[str, list[Drawn]]
    classes: ClassTable
    said: str


def plan_sheet(params: Params, member_name: str | None, round_: str, *, images: int, epochs: int) -> Sheet:
    """Of a member (the first, for None) in the first of `split.train_folds`, as many images, evenly spaced.

    In the round `retrain` those with pseudo labels; labelled images are drawn there as in `baseline`. Raises ValueError
    for an unknown member and for augmentations that cannot be, FileNotFoundError where a stage has yet to run.
    """
    name = chosen_member(params, member_name, round_)
    member, fold = params.member(name), params.split.train_folds[0]
    if (PREPARED / "table.json").is_file() and not prepared_fits(params, PREPARED):
        raise ValueError(f"{PREPARED}: its image size or folds are not those of params.yaml; run `dvc repro prepare`")
    prepared = Prepared(PREPARED, fold=fold)
    if round_ == "retrain":
        part, kind = pseudo_part_of(prepared, PseudoLabels(PSEUDO / str(fold)), member), "pseudo-labelled"
    else:
        part, kind = labeled_part_of(prepared, fold, member), "training"
    if not part.samples:
        raise ValueError(f"{PSEUDO / str(fold)}: holds no pseudo-labelled image; section pseudo_label leaves none")
    chosen = evenly_spaced(range(len(part.samples)), images)
    rows = {prepared.entries[part.samples[at].image].file_name: _row(part, at, epochs) for at in chosen}
    heading = f"{name}, {round_}: {len(rows)} of {len(part.samples)} {kind} images of fold {fold}, seed {member.seed}"
    return Sheet(rows, prepared.classes, "\n".join([heading, *_facts(part, prepared.classes), *_numbered(rows)]))


def _row(part: Part, position: int, epochs: int) -> list[Drawn]:
    sample = part.samples[position]
    stored = np.array(part.images[sample.image]), np.array(part.targets[sample.target])
    return [stored, *(part.draw(position, epoch=epoch, repeat=0) for epoch in range(1, epochs + 1))]


def _facts(part: Part, classes: ClassTable) -> Iterator[str]:
    """What the sheet cannot show of pasting and sampling."""
    if part.paste is not None:
        counts = (f"{classes.names[objects.label]} {len(objects.boxes)}" for objects in part.paste.objects)
        yield f"augment.paste: objects to draw from: {', '.join(counts)}"
    if part.weights is not None:
        times = part.weights / part.weights.mean()
        yield f"train.sampling: an image comes {times.min():.2g} to {times.max():.2g} times in an epoch, on average"


def _numbered(rows: dict[str, list[Drawn]]) -> Iterator[str]:
    yield from (f"row {number}: {name}" for number, name in enumerate(rows, start=1))


def write_sheet(sheet: Sheet, out: Path) -> None:
    """Write `out`, a PNG."""
    drawn = sheet_picture(sheet)
    out.parent.mkdir(parents=True, exist_ok=True)
    done, encoded = cv2.imencode(".png", cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))
    assert done
    out.write_bytes(encoded.tobytes())


def sheet_picture(sheet: Sheet) -> np.ndarray:
    """(H, W, 3) uint8 RGB: a row for each image, its labels beneath, and a legend of the classes at the end."""
    cells = [[_cell(*drawn, sheet.classes) for drawn in row] for row in sheet.rows.values()]
    width = max(cell.shape[1] for row in cells for cell in row)
    titles = ["as stored", *(f"epoch {number}" for number in range(1, len(cells[0])))]
    total = len(titles) * (width + GAP) - GAP
    lines = [_beside([text_line(title, width) for title in titles], width)]
    for number, (name, row) in enumerate(zip(sheet.rows, cells, strict=True), start=1):
        lines += [_blank(GAP, total), text_line(f"{number}  {name}", total)[:, :total], _beside(row, width)]
    lines += [_blank(GAP, total), *_legend(sheet, total)]
    full = max(line.shape[1] for line in lines)
    return np.pad(np.vstack([_padded(line, line.shape[0], full) for line in lines]), _MARGIN, constant_values=255)


_MARGIN = ((GAP, GAP), (GAP, GAP), (0, 0))


def _cell(image: np.ndarray, target: np.ndarray, classes: ClassTable) -> np.ndarray:
    """The image with its labels beneath."""
    grown = max(SIDE // max(target.shape), 1)
    if grown > 1:
        picture = image.repeat(grown, axis=0).repeat(grown, axis=1)
        target = target.repeat(grown, axis=0).repeat(grown, axis=1)
    else:
        picture = fit_image(image, shown_size(target.shape, SIDE))
    return np.vstack([picture, _blank(2, picture.shape[1]), label_overlay(picture, target, classes)])


def _beside(pictures: list[np.ndarray], width: int) -> np.ndarray:
    """All in columns of this width, from the top."""
    height = max(picture.shape[0] for picture in pictures)
    columns = [_padded(picture, height, width + GAP) for picture in pictures]
    return np.hstack(columns)[:, :-GAP]


def _legend(sheet: Sheet, width: int) -> Iterator[np.ndarray]:
    """Lines of swatches with the names of the classes that the sheet shows."""
    shown = sorted({int(label) for row in sheet.rows.values() for _, target in row for label in np.unique(target)})
    line: list[np.ndarray] = []
    for label in shown:
        swatch = _swatch(label, sheet.classes)
        if line and sum(each.shape[1] for each in line) + swatch.shape[1] > width:
            yield np.hstack(line)
            line = []
        line.append(swatch)
    yield np.hstack(line)


def _swatch(label: int, classes: ClassTable) -> np.ndarray:
    """A patch drawn as the labels are, over middle grey, and the name."""
    name = "not counted" if label == IGNORE_INDEX else classes.names[label]
    if not name.isascii():  # which is all that OpenCV's fonts have
        name = f"class {label}"
    if label == background_index(classes):
        name += " (grey)"
    text = text_line(name, text_width(name) + 3 * GAP)
    height = text.shape[0]
    patch = label_overlay(
        np.full((height - 4, 2 * height, 3), 128, np.uint8), np.full((height - 4, 2 * height), label, np.uint8), classes
    )
    return np.hstack([_padded(patch, height, 2 * height + GAP), text])


def _blank(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 255, np.uint8)


def _padded(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    missing = (0, height - picture.shape[0]), (0, width - picture.shape[1]), (0, 0)
    return np.pad(picture, missing, constant_values=255)
