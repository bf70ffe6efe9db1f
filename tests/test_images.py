import struct
import zlib

import cv2
import numpy as np
import pytest

from segpipe.data.source.images import ImageFault, decode_image, open_image
from segpipe.data.source.records import ImageRecord

RED, BLUE = [255, 0, 0], [0, 0, 255]


def encode(pixels: np.ndarray, extension: str = ".png") -> bytes:
    return cv2.imencode(extension, pixels)[1].tobytes()


def palette_png(indices: list[list[int]], palette: list[list[int]]) -> bytes:
    """A PNG of 8-bit palette indices, which OpenCV cannot write."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", len(indices[0]), len(indices), 8, 3, 0, 0, 0)
    rows = b"".join(b"\0" + bytes(row) for row in indices)
    colors = bytes(part for color in palette for part in color)
    chunks = chunk(b"IHDR", header) + chunk(b"PLTE", colors) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def turned_jpeg(jpeg: bytes, orientation: int) -> bytes:
    """The JPEG with an EXIF block that asks for a rotation."""
    tiff = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    exif = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


@pytest.mark.parametrize(
    "encoded, expected",
    [
        (encode(np.array([[RED[::-1], BLUE[::-1]]], np.uint8)), [[RED, BLUE]]),  # OpenCV writes blue first
        (encode(np.array([[9, 200]], np.uint8)), [[[9, 9, 9], [200, 200, 200]]]),
        (encode(np.array([[[0, 0, 255, 0], [255, 0, 0, 255]]], np.uint8)), [[RED, BLUE]]),
        (encode(np.array([[[0, 0, 65535], [65535, 0, 0]]], np.uint16)), [[RED, BLUE]]),
        (palette_png([[1, 0]], [BLUE, RED]), [[RED, BLUE]]),
    ],
    ids=["color", "grey", "alpha", "16 bits", "palette"],
)
def test_every_kind_of_image_becomes_rgb_of_8_bits(tmp_path, encoded, expected):
    path = tmp_path / "ä 图.png"  # a name beyond ASCII
    path.write_bytes(encoded)
    image = decode_image(path)
    assert image.dtype == np.uint8 and image.tolist() == expected


def test_an_image_is_turned_as_its_exif_data_asks(tmp_path):
    path = tmp_path / "turned.jpg"
    path.write_bytes(turned_jpeg(encode(np.zeros((8, 24, 3), np.uint8), ".jpg"), orientation=6))
    assert decode_image(path).shape == (24, 8, 3)


def test_an_image_is_opened_with_the_hash_of_its_file(tmp_path):
    (tmp_path / "a.png").write_bytes(encode(np.full((4, 6, 3), 9, np.uint8)))
    (tmp_path / "copy.png").write_bytes((tmp_path / "a.png").read_bytes())
    (tmp_path / "other.png").write_bytes(encode(np.full((4, 6, 3), 8, np.uint8)))
    opened = [open_image(tmp_path, ImageRecord(1, name, 4, 6)) for name in ("a.png", "copy.png", "other.png")]
    assert opened[0][0].tolist() == np.full((4, 6, 3), 9).tolist()
    assert opened[0][1] == opened[1][1] != opened[2][1]


@pytest.mark.parametrize("height, width, turned", [(6, 4, True), (5, 6, False)])
def test_an_image_of_another_size_than_recorded_is_a_fault_that_may_hint_at_exif(tmp_path, height, width, turned):
    (tmp_path / "a.png").write_bytes(encode(np.zeros((4, 6, 3), np.uint8)))
    record = ImageRecord(1, "a.png", height, width)
    with pytest.raises(ImageFault) as fault:
        open_image(tmp_path, record)
    assert fault.value.found.startswith("a.png has height 4 and width 6") and ("EXIF" in fault.value.found) == turned
    assert fault.value.expected == f"height {height} and width {width}, as the annotation file says"


@pytest.mark.parametrize("extension", [".jpg", ".png", ".bmp", ".webp", ".tif"])
def test_a_file_that_lacks_its_last_byte_is_not_taken_for_an_image(tmp_path, extension):
    path = tmp_path / f"cut{extension}"
    path.write_bytes(encode(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8), extension)[:-1])
    with pytest.raises(ValueError, match=f"cut{extension} cannot be decoded"):
        decode_image(path)


def test_an_image_file_that_is_gone_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"gone.png cannot be read \(No such file or directory\); expected an image"):
        decode_image(tmp_path / "gone.png")
