"""How one 8-bit array is stored: as it is, as a JPEG, or as runs of equal values."""

import hashlib
import zlib
from dataclasses import dataclass
from typing import Literal, Self

import cv2
import numpy as np

Codec = Literal["raw", "jpeg", "runs"]

LONGEST_RUN = 65_535  # of 16 bits; longer ones are stored in parts
# photographs look alike at 95, and colour at full resolution keeps thin coloured objects
JPEG = (cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)


@dataclass(frozen=True)
class Encoded:
    """One array as it is stored, with a checksum for each reading and a digest that tells contents apart."""

    codec: Codec
    shape: tuple[int, ...]
    stored: bytes
    crc: int
    digest: bytes

    @classmethod
    def of(cls, codec: Codec, shape: tuple[int, ...], stored: bytes) -> Self:
        """With checksum and digest of `stored`."""
        return cls(codec, shape, stored, zlib.crc32(stored), hashlib.sha256(stored).digest())


def encode(array: np.ndarray, codec: Codec) -> Encoded:
    """A uint8 array of any shape; `jpeg` takes (H, W, 3) RGB alone and changes its values a little.

    Raises ValueError for another dtype, or another shape of a JPEG.
    """
    if array.dtype != np.uint8:
        raise ValueError(f"found an array of {array.dtype}; packed arrays are uint8")
    if codec == "raw":
        stored = array.tobytes()
    elif codec == "jpeg":
        stored = _to_jpeg(array)
    else:
        # deflated runs take less time than deflated pixels, and a third of their room
        stored = zlib.compress(_to_runs(array.ravel()), 1)
    return Encoded.of(codec, array.shape, stored)


def decode(stored: np.ndarray, codec: Codec, shape: tuple[int, ...]) -> np.ndarray:
    """The array that `encode` was given, from its stored bytes (uint8): a view of them where they are raw."""
    if codec == "raw":
        return stored.reshape(shape)
    if codec == "jpeg":
        return cv2.imdecode(stored, cv2.IMREAD_COLOR_RGB)
    return _from_runs(zlib.decompress(stored)).reshape(shape)


def _to_jpeg(image: np.ndarray) -> bytes:
    if image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f"found an array of shape {image.shape}; as JPEGs only (H, W, 3) images are packed")
    return cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), JPEG)[1].tobytes()


def _to_runs(values: np.ndarray) -> bytes:
    """The values of all runs, 8 bits each, and then their lengths, 16 bits each."""
    starts = np.concatenate([[0], np.flatnonzero(values[1:] != values[:-1]) + 1])[: values.size]
    lengths, run_values = np.diff(starts, append=values.size), values[starts]
    if lengths.size and lengths.max() > LONGEST_RUN:
        parts = -(-lengths // LONGEST_RUN)
        last = lengths - (parts - 1) * LONGEST_RUN
        run_values, lengths = np.repeat(run_values, parts), np.full(parts.sum(), LONGEST_RUN)
        lengths[np.cumsum(parts) - 1] = last
    return run_values.tobytes() + lengths.astype("<u2").tobytes()


def _from_runs(runs: bytes) -> np.ndarray:
    count = len(runs) // 3
    return np.repeat(np.frombuffer(runs, np.uint8, count), np.frombuffer(runs, "<u2", count, count))


def plain_jpeg(encoded: bytes) -> bool:
    """Whether these bytes are a JPEG that every reader decodes to the same upright grey or RGB image.

    It is baseline or progressive with 8 bits a channel, not CMYK, and its EXIF data ask for no turn.
    """
    position, frame = 2, False
    if not encoded.startswith(b"\xff\xd8\xff"):
        return False
    while position + 4 <= len(encoded) and encoded[position] == 0xFF:
        marker, length = encoded[position + 1], int.from_bytes(encoded[position + 2 : position + 4])
        segment = encoded[position + 4 : position + 2 + length]
        if marker in (0xC0, 0xC1, 0xC2):
            frame = len(segment) > 5 and segment[0] == 8 and segment[5] in (1, 3)
        elif marker == 0xE1 and segment.startswith(b"Exif\0\0") and _exif_turns(segment[6:]):
            return False
        elif marker == 0xDA:  # the pixels begin
            return frame
        position += 2 + length
    return False


def _exif_turns(tiff: bytes) -> bool:
    """Whether the orientation in the first directory of EXIF data is other than upright; so is what is garbled."""
    order: Literal["little", "big"] = "little" if tiff[:2] == b"II" else "big"

    def number(start: int, size: int) -> int:
        return int.from_bytes(tiff[start : start + size], order)

    directory = number(4, 4)
    for entry in range(directory + 2, directory + 2 + 12 * number(directory, 2), 12):
        if number(entry, 2) == 0x0112:
            return number(entry + 8, 2) != 1
    return False
