"""Lumps, leftovers and paper. Each function draws one, upright."""

import cv2
import numpy as np

from segpipe.data.sample.canvas import (
    GRID,
    MIDDLE,
    PLAIN,
    Drawing,
    box,
    crumple,
    lump,
    mirrored,
    oval,
    paint,
    pick,
    print_lines,
    roll,
    rounded,
    shade,
    speckle,
    start,
    stroke,
    turn,
    vary,
)

INK = [(190, 50, 50), (40, 80, 160), (50, 130, 80), (230, 160, 40), (60, 60, 70)]


def dark_lump(rng: np.random.Generator) -> Drawing:
    """A dark clod that nobody can name: angular, rough, damp in places."""
    drawing = start([lump(rng, 88, 70, 42, 11)], vary(rng, pick(rng, [(44, 38, 36), (62, 50, 40), (34, 38, 46)]), 10))
    crumple(drawing, rng, 6, 40)
    speckle(drawing, rng, 38, 3)
    for _ in range(int(rng.integers(2, 6))):
        x, y = (int(at) for at in rng.integers(50, 142, 2))
        paint(drawing, oval(x, y, int(rng.integers(4, 13)), int(rng.integers(3, 7)), 8), vary(rng, (104, 96, 96), 20))
    return drawing


def rubber_strip(rng: np.random.Generator) -> Drawing:
    """A torn, bent strip of dark rubber with a tread."""
    bend = int(rng.integers(20, 60))
    outer = [(MIDDLE + turn(angle, 150)[0], 150 + turn(angle, 140)[1]) for angle in range(215, 326, 10)]
    inner = [(x + (MIDDLE - x) // 4, y + bend // 2 + 28) for x, y in reversed(outer)]
    drawing = start([np.clip(np.array(outer + inner), 4, 187)], vary(rng, (48, 46, 48), 8))
    for x in range(8, 188, 14):
        stroke(drawing, [(x, 0), (x + 16, 191)], (24, 22, 24), 5)
    speckle(drawing, rng, 24, 3)
    return drawing


def tissue(rng: np.random.Generator) -> Drawing:
    """A used tissue: a soft, off-white, deeply creased wad, sometimes stained."""
    drawing = start([rounded(lump(rng, 86, 74, 38), 1)], vary(rng, (226, 216, 204), 10))
    if rng.integers(2):
        paint(drawing, lump(rng, 34, 26, 40, 9), vary(rng, (186, 140, 92)))
    crumple(drawing, rng, 9, 26)
    return drawing


def cigarette_end(rng: np.random.Generator) -> Drawing:
    """A stubbed-out cigarette: orange filter, white paper, burnt end."""
    burnt = int(rng.integers(120, 168))
    drawing = start(
        [np.array([(70, 8), (122, 8), (122, burnt), (112, burnt + 12), (84, burnt + 16), (70, burnt)])], (232, 228, 220)
    )
    paint(drawing, box(60, 0, 132, 74), vary(rng, (214, 142, 66), 14))
    stroke(drawing, [(60, 76), (132, 76)], (190, 160, 90), 4)
    roll(drawing, 68, 124, 20)
    paint(drawing, box(60, burnt - 6, 132, 191), (52, 48, 46))
    speckle(drawing, rng, 16, 3)
    return drawing


def apple_core(rng: np.random.Generator) -> Drawing:
    """What is left of an apple: skin at both ends, pale bitten flesh between, pips and a stalk."""
    waist = int(rng.integers(66, 80))
    side = [(92, 6), (92, 22), (60, 20), (42, 40), (56, 60), (waist, 84), (waist, 112), (54, 138), (48, 160), (72, 182)]
    drawing = start([mirrored(side)], vary(rng, (228, 206, 140), 12))
    skin = vary(rng, pick(rng, [(176, 36, 36), (120, 160, 50), (206, 150, 50)]))
    paint(drawing, mirrored([(40, 8), (36, 44), (60, 54), (80, 44)]), skin)
    paint(drawing, mirrored([(72, 154), (44, 146), (44, 186)]), skin)
    for x, y in ((88, 92), (104, 96), (94, 112)):
        paint(drawing, oval(x, y, 4, 8, 8), (70, 40, 22))
    roll(drawing, 44, 148, 20)
    paint(drawing, box(90, 4, 101, 26), (86, 58, 34))
    return drawing


def banana_peel(rng: np.random.Generator) -> Drawing:
    """A banana peel: three yellow flaps with brown spots around a stem."""
    flaps = [angle + int(rng.integers(-14, 15)) for angle in (20, 100, 190, 280)]
    reaches = [int(rng.integers(66, 94)) for _ in flaps]
    shape = []
    for angle, reach in zip(flaps, reaches, strict=True):
        shape += [
            turn(angle - 36, 26),
            turn(angle - 14, reach * 3 // 4),
            turn(angle + 6, reach),
            turn(angle + 22, reach * 2 // 3),
        ]
    drawing = start([rounded(np.array(shape) + MIDDLE, 2)], vary(rng, (226, 190, 60), 12))
    for angle, reach in zip(flaps, reaches, strict=True):
        middle_line = [turn(angle, 8), turn(angle - 3, reach // 2), turn(angle + 4, reach - 12)]
        stroke(drawing, np.array(middle_line) + MIDDLE, (248, 232, 168), 13)
    for _ in range(9):
        x, y = (int(at) for at in rng.integers(20, 172, 2))
        paint(drawing, oval(x, y, int(rng.integers(3, 10)), 4, 8), (110, 72, 30))
    paint(drawing, oval(MIDDLE, MIDDLE, 12, 12, 10), (92, 62, 30))
    crumple(drawing, rng, 5, 14)
    return drawing


def face_mask(rng: np.random.Generator) -> Drawing:
    """A pleated face mask, pale blue or white, with loops folded over its ends."""
    drawing = start(
        [rounded([(6, 50), (186, 50), (186, 142), (130, 150), (60, 150), (6, 142)], 1)], vary(rng, (150, 196, 214), 14)
    )
    for y in range(66, 140, 16):
        stroke(drawing, [(16, y), (176, y)], (104, 146, 168), 5)
        stroke(drawing, [(16, y + 5), (176, y + 5)], (196, 224, 236), 3)
    for x in (14, 178):
        stroke(drawing, [(x, 54), (MIDDLE + (x - MIDDLE) // 2, 96), (x, 138)], (245, 245, 245), 5)
    crumple(drawing, rng, 4, 12)
    return drawing


def printed_sheet(rng: np.random.Generator) -> Drawing:
    """A sheet with a headline, a picture and lines of text; sometimes torn in two."""
    right = int(rng.integers(136, 156))
    drawing = start([box(36, 8, right, 184)], vary(rng, (240, 238, 228), 10))
    if rng.integers(3) == 0:
        gap = [(36, 100), (70, 88), (104, 102), (right, 90)]
        upper, lower = [(36, 8), (right, 8), *reversed(gap)], [(x, y + 14) for x, y in gap] + [(right, 184), (36, 184)]
        drawing = start([np.array(upper), np.array(lower)], vary(rng, (240, 238, 228), 10))
    paint(drawing, box(48, 20, right - 12, 36), vary(rng, pick(rng, INK)))
    paint(drawing, box(48, 46, 88, 84), vary(rng, pick(rng, [*INK, (150, 170, 190)])))
    print_lines(drawing, rng, (96, 50, right - 10, 84), 10)
    print_lines(drawing, rng, (48, 96, right - 10, 178), 10)
    crumple(drawing, rng, 4, 9)
    return drawing


def paper_ball(rng: np.random.Generator) -> Drawing:
    """A crumpled sheet: flat white facets with sharp creases, a few lines of print lost among them."""
    drawing = start([lump(rng, 84, 80, 22, 12)], vary(rng, (236, 234, 226), 10))
    if rng.integers(2):
        left, top = (int(at) for at in rng.integers(30, 90, 2))
        print_lines(drawing, rng, (left, top, left + 70, top + 50), 9)
    facets = np.full((GRID, GRID), PLAIN, np.uint8)
    for _ in range(9):
        corners = rng.integers(10, 182, (3, 2), np.int32)
        cv2.fillPoly(facets, [corners], int(rng.integers(96, 148)))
    shade(drawing, facets)
    crumple(drawing, rng, 4, 14)
    return drawing


def cardboard(rng: np.random.Generator) -> Drawing:
    """A piece of a brown box: two panels with a fold, tape and a torn edge."""
    torn = [(int(x), 176 - int(rng.integers(0, 20))) for x in range(176, 10, -20)]
    drawing = start([np.array([(14, 26), (178, 20), (180, 100), *torn])], vary(rng, (186, 146, 100), 14))
    fold = int(rng.integers(80, 118))
    paint(drawing, box(0, fold, 191, 191), vary(rng, (166, 126, 84), 10))
    paint(drawing, box(84, 0, 108, 191), vary(rng, (206, 180, 136), 8))
    print_lines(drawing, rng, (24, 40, 74, 70), 10)
    stroke(drawing, [(0, fold), (191, fold)], (120, 88, 56), 4)
    speckle(drawing, rng, 8, 2)
    return drawing
