"""Near duplicates: one picture saved twice, at another quality or size, a bit brighter, cropped by a pixel, mirrored.

Not two frames of a video, nor two scenes before one background. Which is which was measured: docs/folds.md.
Every image leaves a small grey picture of itself. Pairs whose coarse shapes are close are fitted to one another by
brightness, contrast, shift and zoom, and are one picture where nothing else is left that differs. Pixel hashes
(imagehash, imagededup) know no such fit: at the threshold that finds cropped copies they also join different scenes.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from scipy.spatial import cKDTree

SIDE = 32  # of the small picture, in cells: an object as large as one or two of them tells two scenes apart
COARSE = 8  # cells of the shape by which candidates are found
FLAT = 2.0  # grey levels: a picture whose cells deviate less has no shape, and is a copy of nothing
RADIUS = 0.25  # distance of coarse shapes, which have length 1; copies have at most 0.2
NEIGHBORS = 8  # candidates of an image: bounds the work where thousands look alike
DIFFERENCE = 0.6  # largest share of (slack + local contrast) by which a cell may still differ after the fit
SLACK = 20.0  # grey levels; less in a picture whose cells deviate less
CHUNK = 512  # pairs fitted at a time, in some 40 MB


def fingerprint(image: np.ndarray) -> bytes:
    """The (H, W, 3) uint8 RGB image as 32 x 32 grey cells, one byte each; about 0.2 ms for 512 x 512 pixels.

    All zeros, of which nothing is a copy, where an axis has fewer pixels than cells: a fit would find everything alike.
    """
    if min(image.shape[:2]) < SIDE:
        return bytes(SIDE * SIDE)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA).tobytes()


def near_duplicates(fingerprints: Sequence[bytes]) -> list[tuple[int, int]]:
    """Pairs i < j of images that are one picture, ascending; the order of the images changes no pair.

    Equal fingerprints are paired with the first of them only, and an image is compared with the NEIGHBORS others that
    are closest to it, so that n copies give no n * n pairs: what hangs together still does. Pictures of one colour
    are in no pair.
    """
    first: dict[bytes, int] = {}
    pairs = {(first[print_], i) for i, print_ in enumerate(fingerprints) if first.setdefault(print_, i) != i}
    distinct = sorted(first)
    cells = np.frombuffer(b"".join(distinct), np.uint8).reshape(-1, SIDE, SIDE)
    shaped = cells.std(axis=(1, 2)) >= FLAT if distinct else np.zeros(0, bool)
    flat = {first[print_] for print_, has_shape in zip(distinct, shaped, strict=True) if not has_shape}
    pairs = {pair for pair in pairs if pair[0] not in flat}
    cells, index = cells[shaped], np.array([first[print_] for print_ in distinct], np.int64)[shaped]
    for mirrored in (False, True):
        for start, end in _same(cells, _candidates(cells, mirrored=mirrored), mirrored=mirrored):
            pairs.add((min(index[start], index[end]).item(), max(index[start], index[end]).item()))
    return sorted(pairs)


def _candidates(cells: np.ndarray, *, mirrored: bool) -> np.ndarray:
    """(P, 2) int64 pairs of rows, the smaller first, whose coarse shapes are close; one may be seen in a mirror."""
    if len(cells) < 2:
        return np.zeros((0, 2), np.int64)
    shapes, seen = _shapes(cells), _shapes(cells[:, :, :: -1 if mirrored else 1])
    # turned to the directions in which the images differ most, or the tree could leave out hardly any: 13 times faster
    axes = np.linalg.eigh(shapes.T @ shapes)[1][:, ::-1]
    count = min(NEIGHBORS + 1, len(cells))  # one of them is the image itself
    distance, other = cKDTree(shapes @ axes, leafsize=64).query(seen @ axes, k=count, distance_upper_bound=RADIUS)
    row, column = np.nonzero(np.isfinite(distance))
    found = np.stack([row, other[row, column]], axis=1)
    found = np.sort(found[found[:, 0] != found[:, 1]], axis=1)
    return np.unique(found, axis=0)


def _shapes(cells: np.ndarray) -> np.ndarray:
    """(N, 64) float32: the coarse pictures without brightness and contrast, each of length 1."""
    block = SIDE // COARSE
    coarse = cells.reshape(-1, COARSE, block, COARSE, block).mean(axis=(2, 4), dtype=np.float32)
    coarse = coarse.reshape(-1, COARSE * COARSE)
    coarse -= coarse.mean(axis=1, keepdims=True)
    return coarse / np.maximum(np.linalg.norm(coarse, axis=1, keepdims=True), 1e-6)


def _same(cells: np.ndarray, candidates: np.ndarray, *, mirrored: bool) -> np.ndarray:
    """Those of the (P, 2) candidates that are one picture."""
    turn = slice(None, None, -1 if mirrored else 1)
    same = np.zeros(len(candidates), bool)
    # whichever is fitted to the other: what was cut off at white or at the border cannot be fitted back
    for one, other in ((0, 1), (1, 0)):
        rest = np.flatnonzero(~same)
        for chunk in (rest[start : start + CHUNK] for start in range(0, len(rest), CHUNK)):
            first, second = cells[candidates[chunk, one], :, turn], cells[candidates[chunk, other]]
            same[chunk] = _differences(first, second) < DIFFERENCE
    return candidates[same]


def _differences(cells: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(P,) largest difference that stays when each of `cells` is fitted to its partner in `others`, (P, 32, 32) both.

    The fit is linear least squares: brightness, contrast, a bend (what is too bright is cut off at white), shift and
    zoom along each axis, these by the slopes of the picture. In units of slack + the local contrast of both.
    """
    first, second = cells.astype(np.float32), others.astype(np.float32)
    spread = first.std(axis=(1, 2), keepdims=True) + 1e-3
    level = (first - first.mean(axis=(1, 2), keepdims=True)) / spread
    down, right = np.gradient(level, axis=1), np.gradient(level, axis=2)
    place = np.linspace(-1, 1, SIDE, dtype=np.float32)
    terms = [np.ones_like(level), level, level**2, down, right, down * place[:, None], right * place]
    basis = np.stack(terms, axis=-1).reshape(len(level), SIDE * SIDE, len(terms))
    turned = basis.transpose(0, 2, 1)
    ridge = 0.01 * np.eye(len(terms), dtype=np.float32)  # a picture of stripes has no slope along them
    factors = np.linalg.solve(turned @ basis + ridge, turned @ second.reshape(len(level), -1, 1))
    rest = np.abs(second - (basis @ factors).reshape(second.shape))
    contrast = np.minimum(_local_contrast(cells), _local_contrast(others))
    return (rest / (np.minimum(SLACK, spread) + contrast)).max(axis=(1, 2))


def _local_contrast(cells: np.ndarray) -> np.ndarray:
    """(P, 32, 32) float32: highest minus lowest of the 3 x 3 cells around each."""
    kernel = np.ones((3, 3), np.uint8)
    ranges = [cv2.dilate(one, kernel) - cv2.erode(one, kernel) for one in np.ascontiguousarray(cells)]
    return np.array(ranges, np.float32).reshape(cells.shape)
