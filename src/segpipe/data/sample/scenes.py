"""One scene: which objects lie where, drawn from the largest to the smallest, and their outlines as polygons.

Positions in the image are kept in tenths of a pixel, the precision of the annotation file, and measured from the
corner of the first pixel, as COCO does.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from segpipe.data.sample import containers, scraps, soft
from segpipe.data.sample.canvas import GRID, MIDDLE, Drawing, pick
from segpipe.data.sample.ground import Setting, draw_ground, light_scene

Polygon = list[tuple[int, int]]  # x, y in tenths of a pixel


@dataclass(frozen=True)
class Kind:
    """A category: its name, how often it is drawn, and its drawings, each with its length in a 256-pixel image."""

    name: str
    weight: int
    drawings: tuple[tuple[Callable[[np.random.Generator], Drawing], int, int], ...]


# The weights soften the contest's instance counts, roughly to their square roots, and lift the rarest kinds further:
# at the contest's own rates a training set of 160 images would hold two or three batteries.
KINDS = (
    Kind("UNKNOWN", 24, ((scraps.dark_lump, 60, 130), (scraps.rubber_strip, 80, 140))),
    Kind(
        "General trash",
        46,
        (
            (scraps.tissue, 60, 110),
            (scraps.cigarette_end, 28, 56),
            (scraps.apple_core, 60, 104),
            (scraps.banana_peel, 76, 130),
            (scraps.face_mask, 70, 120),
        ),
    ),
    Kind("Paper", 76, ((scraps.printed_sheet, 60, 130), (scraps.paper_ball, 50, 100), (scraps.cardboard, 70, 140))),
    Kind(
        "Paper pack",
        24,
        ((containers.milk_carton, 80, 140), (containers.juice_box, 64, 110), (containers.paper_cup, 70, 120)),
    ),
    Kind("Metal", 26, ((containers.drinks_can, 70, 120), (containers.drinks_can, 70, 120), (containers.tin, 70, 110))),
    Kind(
        "Glass",
        26,
        ((containers.glass_bottle, 100, 170), (containers.glass_bottle, 80, 150), (containers.glass_jar, 70, 120)),
    ),
    Kind(
        "Plastic",
        46,
        (
            (containers.pet_bottle, 90, 150),
            (containers.pet_bottle, 80, 150),
            (containers.plastic_cup, 70, 120),
            (containers.detergent_bottle, 80, 130),
        ),
    ),
    Kind("Styrofoam", 28, ((soft.foam_tray, 70, 130), (soft.foam_block, 60, 120))),
    Kind("Plastic bag", 66, ((soft.carrier_bag, 80, 150), (soft.carrier_bag, 80, 150), (soft.tied_bag, 70, 140))),
    Kind("Battery", 14, ((containers.battery, 56, 96), (containers.battery, 56, 96), (containers.button_cell, 24, 44))),
    Kind("Clothing", 20, ((soft.t_shirt, 100, 170), (soft.trousers, 100, 160), (soft.socks, 76, 130))),
)
TINY = (1, 2, 4, 6)  # places in KINDS of what is also drawn tiny: trash, paper, metal, plastic


@dataclass(frozen=True)
class Spot:
    """How an object lies: its middle, its length, a turn in degrees, and its width in per cent (negative: mirrored)."""

    x: int
    y: int
    length: int
    angle: int
    stretch: int


@dataclass(frozen=True)
class Annotation:
    """One object of a scene: its place in KINDS and its outline, one polygon for each part."""

    kind: int
    polygons: list[Polygon]


def draw_scene(
    rng: np.random.Generator, setting: Setting, size: int, *, empty: bool
) -> tuple[np.ndarray, list[Annotation]]:
    """A (size, size, 3) uint8 RGB scene and its annotations; an `empty` one shows only the ground."""
    ground_names = [name for name, weight in setting.grounds for _ in range(weight)]
    picture = draw_ground(rng, pick(rng, ground_names), size)
    shadow = (int(rng.integers(-5, 6)), int(rng.integers(1, 7)))
    annotations = []
    for kind, drawing, spot in [] if empty else _plan(rng, size):
        polygons = [clip(outline, size) for outline in place_outlines(drawing, spot)]
        polygons = [polygon for polygon in polygons if area(polygon) > 600]  # below 6 pixels nobody would mark it
        if polygons:
            put(picture, drawing, spot, shadow)
            annotations.append(Annotation(kind, polygons))
    return light_scene(rng, picture, setting), annotations


def _plan(rng: np.random.Generator, size: int) -> list[tuple[int, Drawing, Spot]]:
    """Choose the objects of a scene and where they lie, in the order of painting: large ones first."""
    kinds = [place for place, kind in enumerate(KINDS) for _ in range(kind.weight)]
    chosen = [(pick(rng, kinds), False) for _ in range(int(rng.integers(3, 9)))]
    if rng.integers(4) == 0:
        chosen += [(pick(rng, TINY), True) for _ in range(int(rng.integers(1, 4)))]
    planned: list[tuple[int, Drawing, Spot]] = []
    for place, tiny in chosen:
        draw, shortest, longest = pick(rng, KINDS[place].drawings)
        length = int(rng.integers(10, 19)) if tiny else int(rng.integers(shortest, longest))
        angle, stretch = int(rng.integers(360)), int(rng.integers(84, 116)) * pick(rng, (1, -1))
        x, y = _free_place(rng, length * size // 256, size, [spot for _, _, spot in planned])
        planned.append((place, draw(rng), Spot(x, y, max(length * size // 256, 4), angle, stretch)))
    return sorted(planned, key=lambda item: -item[2].length)


def _free_place(rng: np.random.Generator, length: int, size: int, taken: list[Spot]) -> tuple[int, int]:
    """The best of a few random places: objects may overlap, but seldom bury each other."""
    candidates = [(int(x), int(y)) for x, y in rng.integers(size // 20, size - size // 20, (7, 2))]

    def worst_overlap(place: tuple[int, int]) -> int:
        x, y = place
        gaps = [math.isqrt((spot.x - x) ** 2 + (spot.y - y) ** 2) * 3 - (spot.length + length) for spot in taken]
        return -min(gaps, default=0)

    return min(candidates, key=worst_overlap)


def _cosine_and_sine(angle: int) -> tuple[int, int]:
    """In 65536ths, so that everything after this line is whole numbers."""
    return round(math.cos(math.radians(angle)) * 65536), round(math.sin(math.radians(angle)) * 65536)


def place_outlines(drawing: Drawing, spot: Spot) -> list[Polygon]:
    """The outlines of `drawing` as it lies at `spot`; they may leave the image."""
    cosine, sine = _cosine_and_sine(spot.angle)
    placed = []
    for outline in drawing.outlines:
        halves = 2 * outline.astype(np.int64) + 1 - GRID  # from the middle of the board to the middle of the cell
        across, down = halves[:, 0] * spot.stretch // 100, halves[:, 1]
        x = 10 * spot.x + ((cosine * across - sine * down) * 5 * spot.length // GRID >> 16)
        y = 10 * spot.y + ((sine * across + cosine * down) * 5 * spot.length // GRID >> 16)
        placed.append(list(zip(x.tolist(), y.tolist(), strict=True)))
    return placed


def put(picture: np.ndarray, drawing: Drawing, spot: Spot, shadow: tuple[int, int]) -> None:
    """Paint `drawing` and its shadow into `picture`, which is changed in place.

    Four samples of the board make one pixel, so that edges are soft.
    """
    size, corners = len(picture), np.concatenate([np.array(outline) for outline in place_outlines(drawing, spot)]) // 10
    left, top = np.clip(corners.min(axis=0) - 8, 0, size).tolist()
    right, bottom = np.clip(corners.max(axis=0) + 10, 0, size).tolist()
    cosine, sine = _cosine_and_sine(spot.angle)
    dx = 2 * np.arange(2 * left, 2 * right) + 1 - 4 * spot.x  # quarters of a pixel from the object's middle
    dy = (2 * np.arange(2 * top, 2 * bottom) + 1 - 4 * spot.y)[:, None]
    cells = _cells(cosine * dx, sine * dy, spot.length * spot.stretch, 100)
    cells += _cells(-sine * dx, cosine * dy, spot.length, 1) * GRID
    board = cv2.merge([*cv2.split(drawing.rgb), drawing.opacity]).view(np.uint32).ravel()
    samples = board[cells].view(np.uint8).reshape(*cells.shape, 4)
    patch = cv2.resize(samples, (right - left, bottom - top), interpolation=cv2.INTER_AREA)
    opacity, under = patch[..., 3].astype(np.uint16), picture[top:bottom, left:right]
    light = 255 - _shadow(patch[..., 3], shadow)
    ground = (light * (255 - opacity) + 127) // 255
    for channel in range(3):
        under[..., channel] = (under[..., channel] * ground + patch[..., channel] * opacity + 127) // 255


def _cells(along_x: np.ndarray, along_y: np.ndarray, divisor: int, factor: int) -> np.ndarray:
    """One coordinate on the board, kept on it, for every sample: two terms in 65536ths of quarter pixels, scaled."""
    scaled = [(term * (GRID * factor) // (4 * divisor)).astype(np.int32) for term in (along_x, along_y)]
    cells = scaled[0] + scaled[1] + (MIDDLE << 16) >> 16
    return np.minimum(np.maximum(cells, 0, out=cells), GRID - 1, out=cells)


def _shadow(opacity: np.ndarray, shift: tuple[int, int]) -> np.ndarray:
    """How much light, of 255, an object keeps from the ground: its own shape, blurred and moved by `shift`."""
    height, width = opacity.shape
    soft = cv2.copyMakeBorder(cv2.GaussianBlur(opacity, (7, 7), 0), 8, 8, 8, 8, cv2.BORDER_CONSTANT)
    across, down = shift
    return soft[8 - down : 8 - down + height, 8 - across : 8 - across + width].astype(np.uint16) * 120 // 255


def clip(polygon: Polygon, size: int) -> Polygon:
    """The part of `polygon` inside the image (Sutherland and Hodgman's way: cut along one border after another)."""
    for axis, limit, sign in ((0, 0, 1), (0, 10 * size, -1), (1, 0, 1), (1, 10 * size, -1)):
        kept: Polygon = []
        for start, end in zip(polygon, polygon[1:] + polygon[:1], strict=True):
            start_depth, end_depth = sign * (start[axis] - limit), sign * (end[axis] - limit)
            if start_depth >= 0:
                kept.append(start)
            if (start_depth > 0 > end_depth) or (start_depth < 0 < end_depth):
                other = 1 - axis
                crossing = start[other] + (end[other] - start[other]) * start_depth // (start_depth - end_depth)
                kept.append((limit, crossing) if axis == 0 else (crossing, limit))
        polygon = kept
    return polygon


def area(polygon: Polygon) -> int:
    """The area of `polygon` in hundredths of a pixel, rounded down (the shoelace formula)."""
    following = polygon[1:] + polygon[:1]
    return abs(sum(x * next_y - next_x * y for (x, y), (next_x, next_y) in zip(polygon, following, strict=True))) // 2
