"""Label maps as text and as PNG. No Python runs for each pixel."""

from collections.abc import Iterable
from io import BytesIO
from itertools import pairwise

import cv2
import numpy as np
from PIL import Image

from segpipe.labels import ClassTable


def _tokens(texts: Iterable[str], width: int) -> np.ndarray:
    """Texts as one number each, filled up with NULs to `width` bytes."""
    return np.frombuffer(b"".join(text.encode().ljust(width, b"\0") for text in texts), f"u{width}")


_ONE_DIGIT = _tokens((f"{value} " for value in range(10)), 2)
_THREE_DIGITS = _tokens((f"{value} " for value in range(256)), 4)
# the last three digits of a number, and three that others follow: first as they are, then with leading zeros
_LAST = _tokens([f"{value} " for value in range(1000)] + [f"{value:03} " for value in range(1000)], 4)
_BEFORE = _tokens(["", *map(str, range(1, 1000)), *(f"{value:03}" for value in range(1000))], 4)


def pixel_text(label_map: np.ndarray) -> bytes:
    """The class indices of a (height, width) uint8 label map, row by row, with single spaces between them.

    Each pixel becomes its text by a look-up of as many bytes for every value; NULs that filled them up are deleted.
    """
    pixels = label_map.ravel()
    if pixels.max() < len(_ONE_DIGIT):
        return _ONE_DIGIT[pixels].tobytes()[:-1]
    return _THREE_DIGITS[pixels].tobytes().translate(None, b"\0")[:-1]


def run_texts(shown: np.ndarray, number: int) -> list[bytes]:
    """Run lengths of the values 1 to `number` of a (height, width) uint8 array, one text each, empty without a pixel.

    Pairs of start and length; pixels are counted from 1, column by column, as Kaggle has it. Runs of all values are
    found in one pass.
    """
    pixels = cv2.transpose(shown).ravel()
    starts = np.concatenate(([0], np.flatnonzero(pixels[1:] != pixels[:-1]) + 1))
    values = pixels[starts]
    order = np.argsort(values, kind="stable")  # by value, each value's runs as they come
    tokens = _number_tokens(np.stack([starts + 1, np.diff(starts, append=pixels.size)], axis=1)[order])
    bounds = np.searchsorted(values[order], np.arange(1, number + 2))
    return [tokens[first:last].tobytes().translate(None, b"\0")[:-1] for first, last in pairwise(bounds.tolist())]


def _number_tokens(numbers: np.ndarray) -> np.ndarray:
    """(..., 3) uint32: numbers below 10**9 as three tokens of up to three digits, the last with a space."""
    numbers = numbers.astype(np.int32)
    thousands = numbers // 1000  # many times as fast as divmod
    millions = thousands // 1000
    ones = numbers - 1000 * thousands + 1000 * (numbers >= 1000)
    before = thousands - 1000 * millions + 1000 * (millions > 0)
    return np.stack([_BEFORE[millions], _BEFORE[before], _LAST[ones]], axis=-1)


def png_bytes(label_map: np.ndarray, palette: ClassTable | None) -> bytes:
    """A PNG whose 8-bit pixels are class indices: grey, or with the classes' colours as its palette."""
    if palette is None:
        return cv2.imencode(".png", label_map)[1].tobytes()
    picture, file = Image.fromarray(label_map), BytesIO()
    picture.putpalette([part for color in palette.colors for part in color])
    picture.save(file, "PNG")
    return file.getvalue()
