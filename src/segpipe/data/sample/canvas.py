"""The board on which one object is drawn upright, and the strokes that the kinds share.

Everything is drawn with integers, so that every build draws the same bytes: coordinates are whole grid cells, gains are
128ths, angles enter through `turn`, and the one resize is OpenCV's bit-exact one. Colours are RGB.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np

GRID = 192  # side of the board in cells; an object's long side spans most of it
MIDDLE = GRID // 2
PLAIN = 128  # the gain that leaves a colour as it is

Colour = tuple[int, int, int]
Item = TypeVar("Item")


@dataclass
class Drawing:
    """One object: its colours, how much of the ground it hides, and its outline.

    `rgb` is (GRID, GRID, 3) uint8 and filled beyond the outline too, so that no border shows when the object is scaled.
    `opacity` is (GRID, GRID) uint8, 0 outside `outlines`, which holds one (n, 2) int array of x, y cells for each part.
    """

    rgb: np.ndarray
    opacity: np.ndarray
    outlines: list[np.ndarray]


def pick(rng: np.random.Generator, choices: Sequence[Item]) -> Item:
    """One of `choices`, each equally likely."""
    return choices[int(rng.integers(len(choices)))]


def vary(rng: np.random.Generator, colour: Colour, spread: int = 18) -> Colour:
    """`colour` made lighter or darker by at most `spread`, and its hue moved by a third of that."""
    hue = spread // 3
    shifts = rng.integers(-hue, hue + 1, 3) + rng.integers(-spread, spread + 1)
    red, green, blue = (min(max(channel + int(shift), 0), 255) for channel, shift in zip(colour, shifts, strict=True))
    return red, green, blue


def turn(degrees: int, reach: int) -> tuple[int, int]:
    """The point `reach` cells from the origin in direction `degrees`, rounded to cells."""
    radians = math.radians(degrees)
    return round(math.cos(radians) * reach), round(math.sin(radians) * reach)


def box(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    """The four corners of an upright rectangle."""
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])


def oval(x: int, y: int, across: int, down: int, corners: int = 24) -> np.ndarray:
    """An upright ellipse around (x, y) with the half axes `across` and `down`."""
    rim = [turn(360 * corner // corners, 1024) for corner in range(corners)]
    return np.array([(x + px * across // 1024, y + py * down // 1024) for px, py in rim])


def lump(rng: np.random.Generator, across: int, down: int, rough: int, corners: int = 13) -> np.ndarray:
    """An uneven shape around the middle; each corner is drawn in by up to `rough` per cent."""
    shape = oval(0, 0, across, down, corners)
    keep = 100 - rng.integers(0, rough + 1, (corners, 1))
    return MIDDLE + shape * keep // 100


def rounded(corners: Sequence[tuple[int, int]] | np.ndarray, passes: int = 2) -> np.ndarray:
    """`corners` cut off again and again (Chaikin's curve), which turns a polygon into a soft outline."""
    points = np.asarray(corners)
    for _ in range(passes):
        following = np.roll(points, -1, axis=0)
        points = np.stack([(3 * points + following) // 4, (points + 3 * following) // 4], axis=1).reshape(-1, 2)
    return points


def mirrored(left_side: Sequence[tuple[int, int]]) -> np.ndarray:
    """A closed shape from its left side, given from top to bottom, and the same side mirrored at the middle."""
    return np.array([*left_side, *((GRID - 1 - x, y) for x, y in reversed(left_side))])


def start(outlines: list[np.ndarray], colour: Colour, opacity: int = 255) -> Drawing:
    """A drawing of one plain colour inside `outlines`."""
    hidden = np.zeros((GRID, GRID), np.uint8)
    for outline in outlines:
        cv2.fillPoly(hidden, [outline.astype(np.int32)], opacity)
    rgb = np.empty((GRID, GRID, 3), np.uint8)
    cv2.rectangle(rgb, (0, 0), (GRID, GRID), colour, -1)
    return Drawing(rgb, hidden, outlines)


def paint(drawing: Drawing, points: np.ndarray, colour: Colour, solid: bool = False) -> None:
    """Colour the inside of `points`; `solid` makes it hide the ground where the drawing is translucent."""
    corners = [points.astype(np.int32)]
    cv2.fillPoly(drawing.rgb, corners, colour)
    if solid:
        inside = cv2.fillPoly(np.zeros((GRID, GRID), np.uint8), corners, 255)
        drawing.opacity[(inside > 0) & (drawing.opacity > 0)] = 255


def stroke(
    drawing: Drawing, points: Sequence[tuple[int, int]] | np.ndarray, colour: Colour, thickness: int = 3
) -> None:
    """Draw an open line through `points`."""
    cv2.polylines(drawing.rgb, [np.asarray(points, np.int32)], False, colour, thickness)


def shade(drawing: Drawing, gain: np.ndarray, glow: np.ndarray | int = 0) -> None:
    """Multiply the colours by `gain` / 128, then add `glow`; both broadcast to (GRID, GRID)."""
    gain, glow = np.asarray(gain, np.uint16), np.asarray(glow, np.uint16)
    lit = [(channel * gain >> 7) + glow for channel in cv2.split(drawing.rgb)]  # a gain of 257 or more would overflow
    cv2.merge([np.minimum(channel, 255).astype(np.uint8) for channel in lit], drawing.rgb)


def roll(drawing: Drawing, left: int, right: int, gloss: int) -> None:
    """Light the drawing as an upright cylinder between two columns, with a highlight of strength `gloss`."""
    across = np.clip((np.arange(GRID) - left) * 256 // (right - left), 0, 255)
    gain = 150 - (across - 84) ** 2 * 92 // 172**2 - 2 * np.maximum(24 - across, 0)
    glow = np.maximum(gloss - np.abs(across - 66) * gloss // 22, 0) + np.maximum(gloss // 3 - np.abs(across - 205), 0)
    shade(drawing, gain, glow)


def clouds(rng: np.random.Generator, cells: int, height: int, width: int) -> np.ndarray:
    """Soft noise from -128 to 127 as (height, width) int16, with about `cells` bumps along its longer side."""
    return _bumps(rng, cells, height, width).astype(np.int16) - 128


def _bumps(rng: np.random.Generator, cells: int, height: int, width: int) -> np.ndarray:
    longer = max(height, width)
    rows, columns = max(2, cells * height // longer), max(2, cells * width // longer)
    coarse = rng.integers(0, 256, (rows, columns), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)


def crumple(drawing: Drawing, rng: np.random.Generator, cells: int, depth: int) -> None:
    """Fold the surface: creases run where soft noise crosses its mean, each lit on one flank and dark on the other."""
    half = GRID // 2  # folds are soft: half the resolution will do
    coarse, fine = (cv2.GaussianBlur(_bumps(rng, count, half, half), (9, 9), 0) for count in (cells, 2 * cells))
    relief = np.abs(coarse.astype(np.int16) - 128) + np.abs(fine.astype(np.int16) - 128) * 2 // 3
    slope = np.pad(relief[:-2, :-2] - relief[2:, 2:], 1)
    gain = np.clip(PLAIN + slope * depth // 16, 40, 200).astype(np.uint8)
    shade(drawing, cv2.resize(gain, (GRID, GRID), interpolation=cv2.INTER_LINEAR_EXACT))


def speckle(drawing: Drawing, rng: np.random.Generator, depth: int, grain: int = 2) -> None:
    """Cover the surface with dots of `grain` cells, each lighter or darker by at most `depth` 128ths."""
    dots = rng.integers(-depth, depth + 1, (GRID // grain, GRID // grain), np.int16)
    shade(drawing, PLAIN + np.repeat(np.repeat(dots, grain, axis=0), grain, axis=1))


def print_lines(drawing: Drawing, rng: np.random.Generator, area: tuple[int, int, int, int], gap: int) -> None:
    """Lines of small print inside `area` (left, top, right, bottom), `gap` cells apart, of uneven length."""
    left, top, right, bottom = area
    ink = pick(rng, [(70, 70, 75), (95, 95, 105), (60, 60, 110)])
    for y in range(top, bottom, gap):
        end = right - int(rng.integers(0, max(1, (right - left) // 3)))
        stroke(drawing, [(left, y), (end, y)], ink, max(2, gap // 3))
