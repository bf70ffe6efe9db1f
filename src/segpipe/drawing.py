"""Pictures of label maps: laid over the image, and what a prediction got wrong; for the report and `dvc plots`.

Labels are drawn over a grey copy of the image. The background, which usually covers most of it, stays grey; pixels
without a label are hatched. All pictures are (H, W, 3) uint8 RGB.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from segpipe.data.resize import resize_labels
from segpipe.labels import IGNORE_INDEX, ClassTable

MAX_SIDE = 256  # pixels of the longer side
JPEG_QUALITY = 85
LINE = 22  # pixels: height of a line of text
_FONT, _SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.45
# kinds of mistakes: dark blue, bright yellow and magenta differ in brightness too
MISSED, FALSE_ALARM, CONFUSED = (0, 90, 181), (255, 194, 10), (212, 17, 118)
MISTAKES = ((MISSED, "object missed"), (FALSE_ALARM, "background called an object"), (CONFUSED, "wrong class"))


def shown_size(native: tuple[int, int], side: int = MAX_SIDE) -> tuple[int, int]:
    """(height, width) that keeps the proportions of `native` with a longer side of at most `side`; nothing grows."""
    factor = min(1.0, side / max(native))
    return max(1, round(native[0] * factor)), max(1, round(native[1] * factor))


def fit_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8 at `size` = (height, width), smooth either way."""
    shrinks = size[0] * size[1] < image.shape[0] * image.shape[1]
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def background_index(classes: ClassTable) -> int | None:
    """The class that no annotation names, if there is one."""
    return classes.categories.index(()) if () in classes.categories else None


def label_overlay(image: np.ndarray, labels: np.ndarray, classes: ClassTable) -> np.ndarray:
    """(H, W, 3) uint8: class colours over the grey image; `labels` (any size) may hold IGNORE_INDEX."""
    labels = resize_labels(labels, image.shape[:2])
    palette = np.zeros((256, 3), np.float32)
    palette[: classes.num_classes] = classes.colors
    grey = _grey(image)
    colored = 0.35 * grey + 0.65 * palette[labels]
    background = background_index(classes)
    if background is not None:
        colored = np.where((labels == background)[..., None], 0.85 * grey, colored)
    ignored = (labels == IGNORE_INDEX)[..., None]
    return _rounded(np.where(ignored, 0.5 * grey + 0.5 * _hatch(labels.shape), colored))


def mistakes_overlay(image: np.ndarray, target: np.ndarray, preds: np.ndarray, classes: ClassTable) -> np.ndarray:
    """(H, W, 3) uint8: the image pale and grey, wrong pixels coloured by kind, pixels without truth hatched."""
    target, preds = resize_labels(target, image.shape[:2]), resize_labels(preds, image.shape[:2])
    drawn = 0.35 * _grey(image) + 0.65 * 235
    background, wrong = background_index(classes), target != preds
    missed = wrong & (preds == background) if background is not None else np.zeros_like(wrong)
    false_alarm = wrong & (target == background) if background is not None else np.zeros_like(wrong)
    kinds = ((MISSED, missed), (FALSE_ALARM, false_alarm), (CONFUSED, wrong & ~missed & ~false_alarm))
    for color, mask in kinds:
        drawn[mask] = color
    ignored = target == IGNORE_INDEX
    drawn[ignored] = _hatch(target.shape)[ignored]
    return _rounded(drawn)


def _grey(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)[..., None].repeat(3, axis=2)


def _hatch(shape: tuple[int, ...]) -> np.ndarray:
    rows, columns = np.indices(shape[:2])
    light = ((rows + columns) // 4 % 2 == 0)[..., None]
    return np.where(light, np.float32(225), np.float32(120)).repeat(3, axis=2)


def _rounded(image: np.ndarray) -> np.ndarray:
    return np.rint(image).clip(0, 255).astype(np.uint8)


def evenly_spaced(items: Sequence[int], number: int) -> list[int]:
    """Up to `number` of the items, evenly spaced, both ends among them."""
    chosen = np.linspace(0, len(items) - 1, min(number, len(items))).round().astype(int)
    return [items[i] for i in chosen]


def text_width(text: str) -> int:
    """Pixels that a line of text takes."""
    return cv2.getTextSize(text, _FONT, _SCALE, 1)[0][0] + 2


def text_line(text: str, width: int) -> np.ndarray:
    """(LINE, W, 3) uint8: dark text on white, `width` pixels wide or what it takes; what is not ASCII becomes `?`."""
    text = text.encode("ascii", "replace").decode()
    line = np.full((LINE, max(width, text_width(text)), 3), 255, np.uint8)
    cv2.putText(line, text, (1, LINE - 7), _FONT, _SCALE, (40, 40, 40), 1, cv2.LINE_AA)
    return line


def encode_jpeg(image: np.ndarray) -> bytes:
    """A JPEG file of (H, W, 3) uint8 RGB."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    done, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert done
    return encoded.tobytes()
