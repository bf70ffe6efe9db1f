"""Image files: opened, turned upright, held against what the annotation file says of them.

cv2 decodes them; Pillow reads what stands in their headers, so that a file which unpacks to something huge, or holds
several pictures, is refused before it is decoded.
"""

import hashlib
import warnings
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

import cv2
import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin

from segpipe.data.source.entries import MAX_SIDE
from segpipe.data.source.records import ImageRecord

Image.MAX_IMAGE_PIXELS = None  # Pillow's bound is lower than large photographs; sides are held against ours instead

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


class Header(NamedTuple):
    """What an image file says of itself: sides of the picture, turned upright, and how many pictures there are."""

    height: int
    width: int
    pictures: int


def open_image(root: Path, record: ImageRecord) -> ImageFile:
    """The image file of `record` beneath `root`; ImageFault unless it is as `record` says."""
    encoded = read_file(root / record.file_name, record.file_name)
    header = _header(BytesIO(encoded))
    if header and {header.height, header.width} != {record.height, record.width}:
        raise _size_fault(header.height, header.width, record)
    image = _decode(encoded, header, record.file_name)
    height, width = image.shape[:2]
    if (height, width) != (record.height, record.width):
        raise _size_fault(height, width, record)
    return ImageFile(image, hashlib.sha256(encoded).hexdigest()[:32], encoded.tobytes())


def decode_image(path: Path) -> np.ndarray:
    """Return an image file as (height, width, 3) uint8 RGB, turned as its EXIF data asks.

    Grey and palette images become RGB, transparency is dropped, 16 bits become 8. Raises ImageFault, a ValueError,
    when the file cannot be read as an image.
    """
    encoded = read_file(path, str(path))
    return _decode(encoded, _header(BytesIO(encoded)), str(path))


def image_size(path: Path, name: str) -> tuple[int, int]:
    """(height, width) of an image file called `name`, as `decode_image` will give it, from its header alone."""
    expected = "a whole image such as JPEG or PNG"
    try:
        with path.open("rb") as file:
            header = _header(file)
            empty = not file.seek(0, 2)
    except OSError as error:
        raise _unreadable(name, error) from error
    if header is None:
        what = "is an empty file" if empty else "is no image, of another format, or damaged at its beginning"
        raise ImageFault(f"{name} {what}", expected)
    if not 0 < min(header[:2]) <= max(header[:2]) <= MAX_SIDE:
        raise ImageFault(f"{name} has height {header.height} and width {header.width}", f"sides from 1 to {MAX_SIDE}")
    return header.height, header.width


def read_file(path: Path, name: str) -> np.ndarray:
    """The bytes of the file called `name`, uint8; ImageFault where it cannot be read."""
    try:
        # not cv2.imread, which cannot open names beyond ASCII on every system
        return np.fromfile(path, np.uint8)
    except OSError as error:
        raise _unreadable(name, error) from error


def _unreadable(name: str, error: OSError) -> ImageFault:
    return ImageFault(f"{name} cannot be read ({error.strerror})", "an image file that may be read")


def _size_fault(height: int, width: int, record: ImageRecord) -> ImageFault:
    found = f"{record.file_name} has height {height} and width {width}"
    if (height, width) == (record.width, record.height):
        found += " (after the rotation that its EXIF data may ask for)"
    return ImageFault(found, f"height {record.height} and width {record.width}, as the annotation file says")


def _header(file: BinaryIO) -> Header | None:
    """The header of an image file; None where Pillow does not know the format or what follows is damaged."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(file) as picture:
            width, height = picture.size
            if isinstance(picture, TiffImagePlugin.TiffImageFile):  # some versions of Pillow have turned the size
                width, height = picture.tag_v2[ExifTags.Base.ImageWidth], picture.tag_v2[ExifTags.Base.ImageLength]
                orientation = picture.tag_v2.get(ExifTags.Base.Orientation, 1)
            else:
                exif = Image.Exif()  # not getexif(), which decodes a whole PNG to look for EXIF data at its end
                exif.load(picture.info.get("exif", b""))
                orientation = exif.get(ExifTags.Base.Orientation, 1)
            # the second picture of an MPO, a JPEG of many cameras, is a preview
            pictures = 1 if picture.format == "MPO" else getattr(picture, "n_frames", 1)
    except Exception:  # a reader of untrusted bytes ends in whatever they lead to; cv2 has the last word
        return None
    return Header(width, height, pictures) if orientation in (5, 6, 7, 8) else Header(height, width, pictures)


def _decode(encoded: np.ndarray, header: Header | None, name: str) -> np.ndarray:
    expected = "a whole image such as JPEG or PNG"
    if not encoded.size:
        raise ImageFault(f"{name} is an empty file", expected)
    if header and header.pictures > 1:
        raise ImageFault(f"{name} holds {header.pictures} pictures", "one: save the annotated one as a file of its own")
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
