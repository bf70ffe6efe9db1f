"""Label maps: the pixel values of an indexed, palette or grey PNG, and the class indices that they stand for.

Pillow decodes them, because cv2 gives the colours of a palette instead of its indices. What Pillow lets pass is checked
first: checksums, and files that are large only when decoded.
"""

import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from segpipe.data.source.class_values import CLASSES_FILE, UNLISTED
from segpipe.data.source.images import ImageFault, read_file
from segpipe.data.source.records import ImageRecord, LabelMap
from segpipe.labels import IGNORE_INDEX

SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEADER_BYTES = 33  # the signature and the whole first chunk
SHOWN = 8  # values of a label map that a message names

_GREY, _PALETTE = 0, 3
_COLORS = {2: "colours (RGB)", 4: "grey with transparency", 6: "colours with transparency (RGBA)"}
_EXPECTED = "a PNG whose pixels are class numbers, grey or with a palette"


class PngHeader(NamedTuple):
    """What a PNG says of itself; `depth` is in bits a sample."""

    height: int
    width: int
    depth: int
    color_type: int


def open_label_map(root: Path, record: ImageRecord) -> np.ndarray:
    """The pixel values of an image's label map, (height, width) uint8 or uint16; ImageFault unless as `record` says."""
    label_map = record.label_map
    assert label_map is not None
    encoded = read_file(root / label_map.file_name, label_map.file_name).tobytes()
    header = read_header(encoded, label_map.file_name)
    if fault := size_fault(header, record):  # before it is decoded: a small file may hold a huge picture
        raise ImageFault(*fault)
    if harm := damage(encoded):
        raise ImageFault(f"{label_map.file_name} {harm}", "a whole PNG file")
    values = decode(encoded, header, label_map.file_name)
    _check_values(values, label_map)
    return values


def to_classes(values: np.ndarray, class_index: dict[int, int | None], fill: int) -> np.ndarray:
    """(height, width) uint8 class indices of pixel `values`; what stands for no class (None, or not listed) is `fill`.

    IGNORE_INDEX as a value stands for itself, unless it is listed. `class_index` leads from values to class indices.
    """
    table = np.full(np.iinfo(values.dtype).max + 1, fill, np.uint8)
    table[IGNORE_INDEX] = IGNORE_INDEX
    for value, index in class_index.items():
        if value < len(table):
            table[value] = fill if index is None else index
    return table[values]


def read_header(start: bytes, name: str) -> PngHeader:
    """The header of a PNG label map from its first HEADER_BYTES; ImageFault where it can hold no class numbers."""
    if not start:
        raise ImageFault(f"{name} is an empty file", _EXPECTED)
    if start.startswith(b"\xff\xd8\xff"):
        raise ImageFault(f"{name} is a JPEG, whose compression changes class numbers", _EXPECTED)
    if not start.startswith(SIGNATURE) or len(start) < HEADER_BYTES or start[12:16] != b"IHDR":
        cut = "is a damaged PNG" if start.startswith(SIGNATURE) else "is no PNG"
        raise ImageFault(f"{name} {cut} (its first bytes are {start[:8]!r})", _EXPECTED)
    width, height, depth, color_type = struct.unpack(">IIBB", start[16:26])
    if color_type not in (_GREY, _PALETTE):
        colors = _COLORS.get(color_type, f"pixels of the unknown kind {color_type}")
        raise ImageFault(f"{name} holds {colors}, not class numbers", _EXPECTED)
    return PngHeader(height, width, depth, color_type)


def size_fault(header: PngHeader, record: ImageRecord) -> tuple[str, str] | None:
    """What was found and expected where a label map has another size than its image."""
    if (header.height, header.width) == (record.height, record.width):
        return None
    assert record.label_map is not None
    found = f"{record.label_map.file_name} has height {header.height} and width {header.width}"
    if (header.height, header.width) == (record.width, record.height):
        found += " (its image is turned by the rotation that its EXIF data ask for, or the label map is)"
    return found, f"height {record.height} and width {record.width}, as {record.file_name} has"


def damage(encoded: bytes) -> str | None:
    """What is wrong with the chunks: Pillow gives pixels of a file that was cut off late or changed since."""
    place, kind = len(SIGNATURE), b""
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", encoded, place) if place + 8 <= len(encoded) else (0, b"")
        end = place + 8 + length + 4
        if not kind or end > len(encoded):
            return "is cut off"
        if zlib.crc32(encoded[place + 4 : end - 4]) != int.from_bytes(encoded[end - 4 : end], "big"):
            return f"is damaged: the checksum of its chunk {kind.decode('latin-1')!r} is wrong"
        place = end
    return None


def decode(encoded: bytes, header: PngHeader, name: str) -> np.ndarray:
    """The pixel values, (height, width) uint8 or uint16, of a file whose header was read; ImageFault where it fails."""
    try:
        with Image.open(BytesIO(encoded), formats=("PNG",)) as picture:
            values = np.asarray(picture)
    except Exception as error:  # a reader of untrusted bytes ends in whatever they lead to
        raise ImageFault(f"{name} cannot be decoded ({type(error).__name__}: {error})", _EXPECTED) from error
    if values.dtype == np.bool_ or values.dtype.itemsize > 1:
        values = values.astype(np.uint8 if values.dtype == np.bool_ else np.uint16)
    elif header.color_type == _GREY and header.depth in (2, 4):
        values = values // (255 // (2**header.depth - 1))  # Pillow spreads them over 0 to 255
    return values


def _check_values(values: np.ndarray, label_map: LabelMap) -> None:
    """Raise ImageFault that counts the pixels of each value which `classes.csv` does not list."""
    if label_map.values is None:
        return
    counts = np.bincount(values.ravel())
    strangers = [value for value in np.flatnonzero(counts).tolist() if value not in label_map.values | UNLISTED]
    if not strangers:
        return
    shown = ", ".join(f"{value} ({counts[value]} pixels)" for value in strangers[:SHOWN])
    more = f" and {len(strangers) - SHOWN} more" if len(strangers) > SHOWN else ""
    expected = f"values that {CLASSES_FILE} lists, 0 where nothing is annotated, or {IGNORE_INDEX} where nothing counts"
    raise ImageFault(f"{label_map.file_name} holds values without a row in {CLASSES_FILE}: {shown}{more}", expected)
