"""What the objects lie on, and the light they lie in."""

from dataclasses import dataclass

import cv2
import numpy as np

from segpipe.data.sample.canvas import Colour, clouds, oval, pick, vary


@dataclass(frozen=True)
class Setting:
    """Where and when a set of images is taken: how often each ground occurs, how bright and blue the light is."""

    grounds: tuple[tuple[str, int], ...]  # name and weight
    brightness: tuple[int, int]  # lowest and highest gain, in 128ths
    blue: tuple[int, int]  # how far the light leans from red to blue, in 128ths


TOWN = Setting((("asphalt", 4), ("grass", 3), ("paving", 3), ("soil", 1), ("boards", 1)), (112, 146), (-10, 4))
OUTSKIRTS = Setting((("asphalt", 2), ("grass", 3), ("paving", 2), ("soil", 3), ("boards", 2)), (90, 126), (0, 16))


def draw_ground(rng: np.random.Generator, name: str, size: int) -> np.ndarray:
    """(size, size, 3) uint8 RGB: one of the textures below, with its own colour and wear."""
    return {"asphalt": _asphalt, "grass": _grass, "paving": _paving, "soil": _soil, "boards": _boards}[name](rng, size)


def _tinted(colour: Colour, relief: np.ndarray) -> np.ndarray:
    """`colour` made lighter and darker by `relief`, in 128ths."""
    gain = (np.clip(relief, -128, 127) + 128).astype(np.uint16)
    return cv2.merge([np.minimum(gain * np.uint16(channel) >> 7, 255).astype(np.uint8) for channel in colour])


def _grain(rng: np.random.Generator, size: int, depth: int) -> np.ndarray:
    return rng.integers(-depth, depth + 1, (size, size), np.int16)


def _scatter(
    rng: np.random.Generator, picture: np.ndarray, count: int, radii: tuple[int, int], colours: list[Colour]
) -> None:
    """Strew `count` small flat stones or leaves over `picture`."""
    size = len(picture)
    for _ in range(count):
        x, y = (int(at) for at in rng.integers(0, size, 2))
        across, down = (max(1, int(reach) * size // 256) for reach in rng.integers(*radii, 2))
        cv2.fillPoly(picture, [oval(x, y, across, down, 8).astype(np.int32)], vary(rng, pick(rng, colours), 14))


def _asphalt(rng: np.random.Generator, size: int) -> np.ndarray:
    """Grey with a coarse grain, worn patches, and often a crack or a painted line."""
    base = vary(rng, pick(rng, [(104, 104, 108), (132, 130, 126), (84, 86, 90)]), 8)
    picture = _tinted(base, _grain(rng, size, 26) + clouds(rng, 6, size, size) // 6)
    if rng.integers(3) == 0:
        wander = int(rng.integers(0, size)) + np.cumsum(rng.integers(-size // 24, size // 24 + 1, 25))
        crack = np.stack([np.arange(25) * size // 24, wander], axis=1)[:, pick(rng, [(0, 1), (1, 0)])]
        cv2.polylines(picture, [crack.astype(np.int32)], False, (54, 54, 56), max(1, size // 160))
    if rng.integers(5) == 0:
        left, lean = int(rng.integers(0, size)), int(rng.integers(-size // 3, size // 3))
        stripe = np.array([(left, 0), (left + size // 12, 0), (left + lean + size // 12, size), (left + lean, size)])
        cv2.fillPoly(picture, [stripe.astype(np.int32)], vary(rng, (206, 204, 192)))
    return picture


def _grass(rng: np.random.Generator, size: int) -> np.ndarray:
    """Green with patches and a few hundred blades, some of them dry."""
    base = vary(rng, pick(rng, [(84, 112, 52), (100, 122, 60), (110, 112, 66)]), 10)
    picture = _tinted(base, _grain(rng, size, 20) + clouds(rng, 9, size, size) // 4)
    for shade in ((64, 94, 38), (122, 142, 74), (92, 124, 52), (148, 142, 92)):
        roots = rng.integers(0, size, (110, 2))
        blades = np.stack([roots, roots + rng.integers(-size // 24, size // 24 + 1, (110, 2))], axis=1)
        cv2.polylines(picture, list(blades.astype(np.int32)), False, vary(rng, shade, 8), 1)
    return picture


def _paving(rng: np.random.Generator, size: int) -> np.ndarray:
    """Rows of slabs or bricks, each of its own shade, with dark joints; every second row is shifted."""
    base = vary(rng, pick(rng, [(160, 152, 142), (150, 116, 98), (176, 172, 164), (128, 130, 134)]), 8)
    height = size * int(rng.integers(28, 64)) // 256
    width = height * int(rng.integers(1, 3))
    rows = (np.arange(size) + int(rng.integers(height))) // height
    columns = np.arange(size) + int(rng.integers(width)) + (rows % 2 * width // 2)[:, None]
    slabs = rng.integers(-14, 15, (size // height + 2, size // width + 4))
    relief = slabs[rows[:, None], columns // width] + _grain(rng, size, 13) + clouds(rng, 5, size, size) // 9
    joint = max(2, size // 100)
    in_joint = (columns % width < joint) | (np.r_[True, rows[1:] != rows[:-1]][:, None])
    return _tinted(base, np.where(in_joint, relief - 46, relief))


def _soil(rng: np.random.Generator, size: int) -> np.ndarray:
    """Brown earth or sand with clods, pebbles and dead leaves."""
    base = vary(rng, pick(rng, [(122, 98, 72), (156, 134, 102), (102, 84, 66)]), 10)
    relief = clouds(rng, 8, size, size) // 4 + clouds(rng, 40, size, size) // 5
    picture = _tinted(base, relief + _grain(rng, size, 18))
    _scatter(rng, picture, 26, (1, 4), [(150, 142, 130), (96, 88, 80), (132, 112, 84)])
    _scatter(rng, picture, 8, (2, 7), [(118, 80, 44), (96, 66, 40)])
    return picture


def _boards(rng: np.random.Generator, size: int) -> np.ndarray:
    """Planks side by side: long grain, a shade for each plank, dark gaps."""
    base = vary(rng, pick(rng, [(166, 126, 86), (134, 104, 78), (150, 142, 130)]), 10)
    width = size * int(rng.integers(34, 70)) // 256
    planks = (np.arange(size) + int(rng.integers(width))) // width
    grain = np.repeat(rng.integers(-18, 19, (size, 4)), size // 4 + 1, axis=1)[:, :size]
    relief = grain + rng.integers(-22, 23, size // width + 2)[planks][:, None] + clouds(rng, 4, size, size) // 10
    relief[np.r_[False, planks[1:] != planks[:-1]]] = -76
    return _tinted(base, relief + _grain(rng, size, 6)).transpose(pick(rng, [(0, 1, 2), (1, 0, 2)]))


def light_scene(rng: np.random.Generator, picture: np.ndarray, setting: Setting) -> np.ndarray:
    """`picture` under the light of `setting`: brightness, colour, a fall-off to one side, a camera's noise."""
    size = len(picture)
    gain, blue = int(rng.integers(*setting.brightness)), int(rng.integers(*setting.blue))
    ramp = np.arange(size) - size // 2
    falls = rng.integers(-40, 41, 2) * 256 // size
    slope = (ramp * falls[0] >> 8)[:, None] + (ramp * falls[1] >> 8)
    noise = rng.integers(0, 11, (size, size), np.uint16)
    channels = []
    for channel, lean in zip(cv2.split(picture), (-blue, 0, blue), strict=True):
        lit = channel * (gain + lean + slope).astype(np.uint16)  # gains stay far below 257, where this would overflow
        channels.append(np.minimum((lit >> 7) + noise, 255).astype(np.uint8))
    return cv2.merge(channels)
