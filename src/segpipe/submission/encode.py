"""Label maps as text and as PNG. No Python runs for each pixel."""

from io import BytesIO

import cv2
import numpy as np
from PIL import Image

from segpipe.labels import ClassTable


def _tokens(width: int, dtype: type[np.unsignedinteger], values: int) -> np.ndarray:
    texts = [f"{value} ".encode().ljust(width, b"\0") for value in range(values)]
    return np.frombuffer(b"".join(texts), dtype)


_ONE_DIGIT = _tokens(2, np.uint16, 10)  # "7 " as one number
_THREE_DIGITS = _tokens(4, np.uint32, 256)  # "7 " and two NULs, "10 " and one, "253 "


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
    pixels = shown.ravel(order="F")
    starts = np.concatenate(([0], np.flatnonzero(pixels[1:] != pixels[:-1]) + 1))
    runs = np.stack([starts + 1, np.diff(starts, append=pixels.size)], axis=1)
    values = pixels[starts]
    return [" ".join(map(str, runs[values == value].ravel().tolist())).encode() for value in range(1, number + 1)]


def png_bytes(label_map: np.ndarray, palette: ClassTable | None) -> bytes:
    """A PNG whose 8-bit pixels are class indices: grey, or with the classes' colours as its palette."""
    if palette is None:
        return cv2.imencode(".png", label_map)[1].tobytes()
    picture, file = Image.fromarray(label_map), BytesIO()
    picture.putpalette([part for color in palette.colors for part in color])
    picture.save(file, "PNG")
    return file.getvalue()
