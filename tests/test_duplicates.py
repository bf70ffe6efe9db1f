"""Near duplicates: the same picture saved otherwise is found, what only looks alike is not."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segpipe.data.prepare.duplicates import NEIGHBORS, SIDE, fingerprint, near_duplicates
from segpipe.data.sample.ground import TOWN
from segpipe.data.sample.scenes import draw_scene


def scene(number: int, side: int = 192) -> np.ndarray:
    """A picture of the embedded sample, (side, side, 3) uint8 RGB."""
    return draw_scene(np.random.default_rng([7, number]), TOWN, side, empty=False)[0]


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def scaled(image: np.ndarray, factor: float) -> np.ndarray:
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


def brighter(image: np.ndarray, factor: float) -> np.ndarray:
    return np.clip(image * factor, 0, 255).astype(np.uint8)


COPIES = {
    "the same pixels": lambda image: image,
    "JPEG of quality 30": lambda image: jpeg(image, 30),
    "JPEG of quality 95": lambda image: jpeg(image, 95),
    "half as large": lambda image: scaled(image, 0.5),
    "twice as large": lambda image: scaled(image, 2),
    "of another shape": lambda image: cv2.resize(image, (256, 128), interpolation=cv2.INTER_AREA),
    "a tenth darker": lambda image: brighter(image, 0.9),
    "a tenth brighter": lambda image: brighter(image, 1.1),
    "cropped by a pixel": lambda image: image[1:, 1:],
    "mirrored": lambda image: image[:, ::-1],
    "mirrored, half as large, JPEG of quality 50": lambda image: jpeg(scaled(image[:, ::-1], 0.5), 50),
}


def prints(images) -> list[bytes]:
    return [fingerprint(np.ascontiguousarray(image)) for image in images]


@pytest.mark.parametrize("change", COPIES.values(), ids=COPIES.keys())
def test_a_copy_is_found_among_other_pictures(change):
    originals = [scene(number) for number in range(6)]
    copies = [change(image) for image in originals]
    assert near_duplicates(prints([*originals, *copies])) == [(i, i + 6) for i in range(6)]


def test_different_pictures_are_no_duplicates():
    assert near_duplicates(prints(scene(number) for number in range(40))) == []


def test_the_same_background_with_another_object_on_it_is_another_picture():
    ground = scene(0)
    second = ground.copy()
    cv2.circle(second, (60, 70), 16, (250, 20, 20), -1)  # a 45th of the picture
    assert near_duplicates(prints([ground, second])) == []


def test_what_a_camera_sees_after_a_pan_is_another_picture():
    wide = scene(0, 256)
    assert near_duplicates(prints([wide[:, :192], wide[:, 24:216]])) == []


def test_pictures_of_one_color_are_copies_of_nothing():
    # many sets have black frames: one large group of them would make folds uneven, and there is nothing to leak
    black, grey = np.zeros((40, 40, 3), np.uint8), np.full((40, 40, 3), 128, np.uint8)
    assert near_duplicates(prints([black, black, grey, black])) == []


def test_equal_pictures_are_paired_with_the_first_only():
    assert near_duplicates(prints([scene(0)]) * 2000) == [(0, i) for i in range(1, 2000)]


def test_a_crowd_of_copies_gives_few_pairs_and_still_hangs_together():
    cells = np.frombuffer(fingerprint(scene(0)), np.uint8).astype(int)
    rng = np.random.default_rng(0)
    crowd = [np.clip(cells + rng.integers(-2, 3, cells.size), 0, 255).astype(np.uint8).tobytes() for _ in range(300)]
    pairs = near_duplicates(crowd)
    assert len(pairs) <= NEIGHBORS * 300
    reached = {0}
    for _ in crowd:
        reached |= {one for pair in pairs if reached & set(pair) for one in pair}
    assert len(reached) == 300


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(10)))
def test_the_order_of_the_images_changes_no_pair(order):
    images = prints([scene(number, 64) for number in range(6)] + [jpeg(scene(number, 64), 50) for number in range(4)])
    pairs = {frozenset((order[i], order[j])) for i, j in near_duplicates([images[i] for i in order])}
    assert pairs == {frozenset((i, i + 6)) for i in range(4)}


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (4, 6), (31, 500), (33, 33), (2000, 3)])
def test_pictures_of_any_size_have_a_fingerprint(shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    assert len(fingerprint(image)) == SIDE * SIDE
    # nothing can be said of pictures below 32 pixels, which a fit of brightness, shift and zoom would find alike
    assert near_duplicates(prints([image, image])) == ([(0, 1)] if shape == (33, 33) else [])


def test_no_picture_at_all_has_no_duplicates():
    assert near_duplicates([]) == []
