"""What the classes look like: cut out of a few training images, the class outlined."""

from collections.abc import Iterator
from itertools import islice

import cv2
import numpy as np

from segpipe.data.resize import resize_labels
from segpipe.drawing import background_index, fit_image
from segpipe.labels import Color
from segpipe.report.charts import class_name
from segpipe.report.figures import jpeg_uri
from segpipe.report.gather import Run
from segpipe.report.markup import Markup, join, tag

PICTURES, EACH = 60, 3  # on the whole page, and at most of one class
SIDE = 128  # pixels of a picture's longer side


def examples(run: Run) -> Markup:
    """Some pictures of each class but the background, from the training images of the first fold that is trained."""
    classes, background = run.prepared.classes, background_index(run.prepared.classes)
    shown = [index for index in range(classes.num_classes) if index != background]
    each = max(1, min(EACH, PICTURES // max(len(shown), 1)))
    figures, none = [], []
    for index in shown[:PICTURES]:
        pictures = list(islice(_pictures(run, index), each))
        if pictures:
            row = tag("div", join(pictures), class_="thumbs")
            figures.append(tag("figure", row + tag("figcaption", class_name(classes, index))))
        else:
            none.append(classes.names[index])
    notes = [f"Of {len(shown)} classes the first {PICTURES} are shown."] if len(shown) > PICTURES else []
    notes += [f"No training image shows enough of: {', '.join(none)}."] if none else []
    return tag("div", join(figures), class_="examples") + join(tag("p", note, class_="note") for note in notes)


def _pictures(run: Run, index: int) -> Iterator[Markup]:
    """One after another, as they are asked for; none of images that this fold holds out."""
    training = frozenset(run.prepared.folds[run.params.split.train_folds[0]].train)
    name, color = run.prepared.classes.names[index], run.prepared.classes.colors[index]
    for file_name in run.data_check["census"]["examples"].get(name, []):
        image = run.index_of.get(file_name)
        if image not in training:
            continue
        mask = run.prepared.target(image) == index
        if mask.any():
            picture = outlined(run.prepared.images[image], mask, color)
            height, width = picture.shape[:2]
            yield tag("img", src=jpeg_uri(picture), alt=f"{name} in {file_name}", width=width, height=height)


def outlined(image: np.ndarray, mask: np.ndarray, color: Color) -> np.ndarray:
    """A part of (H, W, 3) uint8 around the largest piece of `mask`, of any size, outlined; SIDE pixels long."""
    mask = resize_labels(mask.astype(np.uint8), image.shape[:2])
    top, bottom, left, right = _window(mask)
    cut, piece = image[top:bottom, left:right], mask[top:bottom, left:right]
    factor = SIDE / max(cut.shape[:2])
    size = tuple(max(1, round(side * factor)) for side in cut.shape[:2])
    picture = np.ascontiguousarray(fit_image(cut, size))
    contours, _ = cv2.findContours(resize_labels(piece, size), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    for shade, thickness in (((255, 255, 255), 4), (color, 2)):  # a light edge, so that any colour stands out
        cv2.drawContours(picture, contours, -1, shade, thickness)
    return picture


def _window(mask: np.ndarray) -> tuple[int, int, int, int]:
    """(top, bottom, left, right) of a square around the largest piece, twice as large and within the image."""
    if not mask.any():
        return 0, mask.shape[0], 0, mask.shape[1]
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask)
    left, top, width, height, _ = stats[1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))]
    side = max(2 * width, 2 * height, min(mask.shape) // 3, 1)
    (first, last), (start, end) = (
        _within(middle, side, length)
        for middle, length in ((top + height // 2, mask.shape[0]), (left + width // 2, mask.shape[1]))
    )
    return first, last, start, end


def _within(middle: int, side: int, length: int) -> tuple[int, int]:
    first = min(max(middle - side // 2, 0), max(length - side, 0))
    return first, min(first + side, length)
