import struct
import warnings
import zlib
from io import BytesIO

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from segpipe.data.source.images import ImageFault, decode_image, image_size, open_image
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


# Pillow as a second opinion: every format, kind of pixel and orientation that both can read

PHOTO = Image.fromarray(cv2.resize(np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8), (40, 28)))
GREY_16 = Image.fromarray(np.asarray(PHOTO)[..., 0].astype(np.uint16) * 257)


def saved(picture: Image.Image, format_: str, **options: object) -> bytes:
    file = BytesIO()
    picture.save(file, format_, **options)
    return file.getvalue()


KINDS = {
    "progressive.jpg": saved(PHOTO, "JPEG", progressive=True),
    "grey.jpg": saved(PHOTO.convert("L"), "JPEG"),
    "cmyk.jpg": saved(PHOTO.convert("CMYK"), "JPEG"),
    "UPPER CASE.JPG": saved(PHOTO, "JPEG"),
    "wrong suffix.png": saved(PHOTO, "JPEG"),
    "grey.png": saved(PHOTO.convert("L"), "PNG"),
    "two colours.png": saved(PHOTO.convert("1"), "PNG"),
    "grey with transparency.png": saved(PHOTO.convert("LA"), "PNG"),
    "with transparency.png": saved(PHOTO.convert("RGBA"), "PNG"),
    "palette.png": saved(PHOTO.quantize(16), "PNG"),
    "palette with transparency.png": saved(PHOTO.quantize(16), "PNG", transparency=3),
    "palette.bmp": saved(PHOTO.quantize(16), "BMP"),
    "lzw.tif": saved(PHOTO, "TIFF", compression="tiff_lzw"),
    "palette.tif": saved(PHOTO.quantize(16), "TIFF"),
    "cmyk.tif": saved(PHOTO.convert("CMYK"), "TIFF"),
    "lossless.webp": saved(PHOTO, "WEBP", lossless=True),
    "lossy.webp": saved(PHOTO, "WEBP"),
    "still.gif": saved(PHOTO.quantize(16), "GIF"),
    "two pictures of one camera.jpg": saved(PHOTO, "MPO", save_all=True, append_images=[PHOTO]),
    "ünïcode 图.jpg": saved(PHOTO, "JPEG"),
}


@pytest.mark.parametrize("name", KINDS)
def test_pillow_reads_the_same_pixels(tmp_path, name):
    (tmp_path / name).write_bytes(KINDS[name])
    found = decode_image(tmp_path / name)
    expected = np.asarray(Image.open(BytesIO(KINDS[name])).convert("RGB"))
    assert found.shape == expected.shape
    # of CMYK one rounds down and the other to the nearest
    assert np.abs(found.astype(int) - expected).max() <= ("cmyk" in name)
    assert image_size(tmp_path / name, name) == expected.shape[:2]


def test_of_16_bits_the_upper_8_are_kept(tmp_path):
    (tmp_path / "a.png").write_bytes(saved(GREY_16, "PNG"))
    (tmp_path / "a.tif").write_bytes(saved(GREY_16, "TIFF"))
    for name in ("a.png", "a.tif"):
        np.testing.assert_array_equal(decode_image(tmp_path / name)[..., 0], np.asarray(GREY_16) >> 8)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_every_orientation_is_turned_as_pillow_turns_it_and_so_is_the_size_in_the_header(
    tmp_path, format_, orientation
):
    exif = Image.Exif()
    exif[0x112] = orientation
    options = {"tiffinfo": {0x112: orientation}} if format_ == "TIFF" else {"exif": exif}
    encoded = saved(PHOTO, format_, **options | ({"lossless": True} if format_ == "WEBP" else {}))
    (tmp_path / "a").write_bytes(encoded)
    with Image.open(BytesIO(encoded)) as picture:
        expected = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    found = decode_image(tmp_path / "a")
    np.testing.assert_array_equal(found, expected)
    assert image_size(tmp_path / "a", "a") == found.shape[:2] == ((40, 28) if orientation > 4 else (28, 40))


@pytest.mark.parametrize("format_", ["GIF", "WEBP", "PNG", "TIFF"])
def test_a_file_of_several_pictures_is_refused(tmp_path, format_):
    frames = [PHOTO.rotate(angle).quantize(16) if format_ == "GIF" else PHOTO.rotate(angle) for angle in (0, 90, 180)]
    (tmp_path / "a").write_bytes(saved(frames[0], format_, save_all=True, append_images=frames[1:]))
    with pytest.raises(ImageFault, match="holds 3 pictures; expected one: save the annotated one as a file of its own"):
        decode_image(tmp_path / "a")


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
def test_a_jpeg_that_is_cut_off_is_not_filled_up_with_grey(tmp_path, progressive, part):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8))
    encoded = saved(noise, "JPEG", progressive=progressive)
    (tmp_path / "a.jpg").write_bytes(encoded[: int(part * len(encoded))])
    with pytest.raises(ImageFault, match="begins as a JPEG but is cut off or damaged"):
        decode_image(tmp_path / "a.jpg")


def test_a_small_file_that_unpacks_to_something_huge_is_not_unpacked(tmp_path, monkeypatch):
    encoded = bytearray(saved(Image.new("L", (8, 8)), "PNG"))
    encoded[16:24] = struct.pack(">II", 40_000, 40_000)
    encoded[29:33] = struct.pack(">I", zlib.crc32(encoded[12:29]))
    (tmp_path / "a.png").write_bytes(encoded)
    monkeypatch.setattr("segpipe.data.source.images._decode", lambda *_: pytest.fail("it was decoded"))
    with warnings.catch_warnings(action="error"), pytest.raises(ImageFault, match="has height 40000 and width 40000"):
        open_image(tmp_path, ImageRecord(1, "a.png", 8, 8))
    with pytest.raises(ImageFault, match="expected sides from 1 to 16384"):
        image_size(tmp_path / "a.png", "a.png")


@pytest.mark.parametrize("encoded", [b"", b"no image", saved(PHOTO, "JPEG")[:10]], ids=["empty", "text", "cut"])
def test_a_header_that_cannot_be_read_is_a_fault(tmp_path, encoded):
    (tmp_path / "a.jpg").write_bytes(encoded)
    with pytest.raises(ImageFault, match=r"^a.jpg is (an empty file|no image, of another format, or damaged)"):
        image_size(tmp_path / "a.jpg", "a.jpg")
