"""How single arrays are stored: exactly as runs, nearly so as JPEGs, and which JPEGs are kept as they are."""

import io

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from segpipe.data.codecs import LONGEST_RUN, decode, encode, plain_jpeg


def round_trip(array, codec):
    encoded = encode(array, codec)
    return decode(np.frombuffer(encoded.stored, np.uint8), codec, encoded.shape)


# Runs

label_maps = arrays(np.uint8, array_shapes(max_dims=3, max_side=40), elements=st.sampled_from([0, 1, 1, 1, 7, 255]))


@settings(max_examples=200, deadline=None)
@given(labels=label_maps)
def test_any_label_map_comes_back_from_its_runs(labels):
    np.testing.assert_array_equal(round_trip(labels, "runs"), labels, strict=True)


@pytest.mark.parametrize("length", [0, 1, LONGEST_RUN - 1, LONGEST_RUN, LONGEST_RUN + 1, 3 * LONGEST_RUN])
def test_runs_longer_than_16_bits_hold_come_back(length):
    labels = np.concatenate([np.full(length, 3), [1], np.full(2 * length, 3)]).astype(np.uint8)
    np.testing.assert_array_equal(round_trip(labels, "runs"), labels, strict=True)


def test_a_label_map_of_80_megapixels_comes_back():
    labels = np.zeros((8_000, 10_000), np.uint8)
    labels[1_000:7_000, 2_000:9_999] = 255
    labels[::7, 5] = 3
    np.testing.assert_array_equal(round_trip(labels, "runs"), labels, strict=True)
    assert len(encode(labels, "runs").stored) < 50_000


def test_label_maps_shrink_as_runs():
    labels = np.repeat(np.arange(4, dtype=np.uint8), 4096).reshape(128, 128)
    assert len(encode(labels, "runs").stored) < 50


def test_noise_as_runs_takes_at_most_three_times_its_pixels():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    assert len(encode(noise, "runs").stored) < 3 * noise.size
    np.testing.assert_array_equal(round_trip(noise, "runs"), noise)


# JPEG


def photograph(height=48, width=64):
    """(height, width, 3) uint8 RGB: soft colours."""
    coarse = np.random.default_rng(1).integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def test_an_image_comes_back_from_a_jpeg_with_its_colours_in_order_and_a_small_loss():
    image = photograph()
    found = round_trip(image, "jpeg")
    assert found.shape == image.shape and found.dtype == np.uint8
    assert np.abs(found.astype(int) - image).mean() < 2


def test_thin_coloured_lines_survive_in_a_jpeg_because_colour_has_full_resolution():
    image = np.full((32, 32, 3), 128, np.uint8)
    image[:, 15] = (220, 40, 40)
    red = round_trip(image, "jpeg").astype(int)
    assert red[:, 15, 0].min() - red[:, 15, 1].max() > 120  # at half resolution it would be a third of that


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 4), (0, 4, 3)])
def test_as_jpegs_only_rgb_images_are_packed(shape):
    with pytest.raises(ValueError, match=r"as JPEGs only \(H, W, 3\) images are packed"):
        encode(np.zeros(shape, np.uint8), "jpeg")


# Which JPEGs are kept


def jpeg(image, *, orientation=None, **options):
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x010F] = "maker"  # so that orientation is not the first entry
    if orientation:
        exif[0x0112] = orientation
    Image.fromarray(image).convert(options.pop("mode", "RGB")).save(buffer, "JPEG", exif=exif, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0}, {"subsampling": 2}, {"mode": "L"}, {"orientation": 1}]
)
def test_upright_grey_and_colour_jpegs_are_plain(options):
    assert plain_jpeg(jpeg(photograph(), **options))


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_jpeg_that_its_exif_data_turn_is_not_plain(orientation):
    assert not plain_jpeg(jpeg(photograph(), orientation=orientation))


def test_a_turn_written_in_the_other_byte_order_is_noticed():
    little = jpeg(photograph())
    tiff = b"MM\0*\0\0\0\x08" + b"\0\x01" + b"\x01\x12\0\x03\0\0\0\x01\0\x06\0\0" + b"\0\0\0\0"
    segment = b"Exif\0\0" + tiff
    turned = little[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2) + segment + little[2:]
    assert not plain_jpeg(turned)
    assert cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR_RGB).shape == (64, 48, 3)  # OpenCV agrees


def test_cmyk_png_and_garbage_are_not_plain():
    assert not plain_jpeg(jpeg(photograph(), mode="CMYK"))
    assert not plain_jpeg(cv2.imencode(".png", photograph())[1].tobytes())
    for content in (b"", b"\xff\xd8\xff", b"\xff\xd8\xff\xe0\0\0" * 9, b"no image at all"):
        assert not plain_jpeg(content)


@settings(max_examples=100, deadline=None)
@given(cut=st.integers(0, 600), noise=st.binary(max_size=40))
def test_a_jpeg_that_is_cut_off_or_garbled_in_its_head_is_told_without_a_crash(cut, noise):
    plain_jpeg(jpeg(photograph(), orientation=6)[:cut] + noise)
