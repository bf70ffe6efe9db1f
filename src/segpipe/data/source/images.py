"""Image files: opened, turned upright, held against what the annotation file says of them."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from segpipe.data.source.records import ImageRecord

_SIGNATURES = {b"\xff\xd8\xff": "a JPEG", b"\x89PNG\r\n\x1a\n": "a PNG"}


class ImageFault(ValueError):
    """An image file that cannot be used: what was found, and what was expected."""

    def __init__(self, found: str, expected: str) -> None:
        super().__init__(f"{found}; expected {expected}")
        self.found, self.expected = found, expected

    def __reduce__(self) -> tuple:
        """An exception is sent to other processes as its class and message, which here are two."""
        return type(self), (self.found, self.expected)


class ImageFile(NamedTuple):
    """An image as (height, width, 3) uint8 RGB, a hash of its file, and the file's bytes."""

    image: np.ndarray
    content_hash: str
    encoded: bytes


def open_image(root: Path, record: ImageRecord) -> ImageFile:
    """The image file of `record` beneath `root`; ImageFault unless it is as `record` says."""
    encoded = _read(root / record.file_name, record.file_name)
    image = _decode(encoded, record.file_name)
    height, width = image.shape[:2]
    if (height, width) != (record.height, record.width):
        found = f"{record.file_name} has height {height} and width {width}"
        if (height, width) == (record.width, record.height):
            found += " (after the rotation that its EXIF data may ask for)"
        raise ImageFault(found, f"height {record.height} and width {record.width}, as the annotation file says")
    return ImageFile(image, hashlib.sha256(encoded).hexdigest()[:32], encoded.tobytes())


def decode_image(path: Path) -> np.ndarray:
    """Return an image file as (height, width, 3) uint8 RGB, turned as its EXIF data asks.

    Grey and palette images become RGB, transparency is dropped, 16 bits become 8. Raises ImageFault, a ValueError,
    when the file cannot be read as an image.
    """
    return _decode(_read(path, str(path)), str(path))


def _read(path: Path, name: str) -> np.ndarray:
    try:
        # not cv2.imread, which cannot open names beyond ASCII on every system
        return np.fromfile(path, np.uint8)
    except OSError as error:
        raise ImageFault(f"{name} cannot be read ({error.strerror})", "an image file that may be read") from error


def _decode(encoded: np.ndarray, name: str) -> np.ndarray:
    expected = "a whole image such as JPEG or PNG"
    if not encoded.size:
        raise ImageFault(f"{name} is an empty file", expected)
    try:
        image = cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:
        raise ImageFault(f"{name} cannot be decoded ({error.err})", expected) from error
    if image is None:
        start = encoded[:8].tobytes()
        kind = next((kind for signature, kind in _SIGNATURES.items() if start.startswith(signature)), None)
        fault = f"begins as {kind} but is cut off or damaged" if kind else "is of another format or damaged"
        raise ImageFault(f"{name} cannot be decoded: it {fault} ({encoded.size} bytes, the first {start!r})", expected)
    return image
