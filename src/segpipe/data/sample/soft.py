"""Foam, bags and clothes. Each function draws one, upright."""

import numpy as np

from segpipe.data.sample.canvas import (
    MIDDLE,
    Drawing,
    box,
    crumple,
    mirrored,
    oval,
    paint,
    pick,
    roll,
    rounded,
    speckle,
    start,
    stroke,
    vary,
)

CLOTH = [(36, 48, 96), (150, 32, 44), (84, 88, 96), (46, 96, 70), (208, 172, 60), (112, 62, 120), (60, 130, 170)]
MARKS = [(190, 50, 50), (40, 80, 160), (50, 130, 80)]  # what shops print on bags


def foam_tray(rng: np.random.Generator) -> Drawing:
    """A shallow tray of foam: a white rim, a shaded hollow, and beads all over."""
    drawing = start([rounded([(8, 36), (184, 36), (184, 156), (8, 156)], 2)], vary(rng, (238, 242, 244), 6))
    paint(drawing, rounded([(26, 52), (166, 52), (166, 140), (26, 140)], 2), (190, 198, 206))
    paint(drawing, rounded([(36, 64), (166, 64), (166, 140), (36, 140)], 2), (222, 228, 232))
    speckle(drawing, rng, 17, 3)
    return drawing


def foam_block(rng: np.random.Generator) -> Drawing:
    """A broken corner of packing foam: a bright top, two shaded sides, beads all over."""
    top, depth = [(20, 66), (84, 20), (174, 56), (112, 104)], int(rng.integers(44, 74))
    bite = int(rng.integers(6, 22))
    base = [(174, 56 + depth), (142, 84 + depth - bite), (112, 104 + depth), (66, 88 + depth - bite), (20, 66 + depth)]
    drawing = start([np.array([top[0], top[1], top[2], *base])], (240, 243, 245))
    paint(drawing, np.array([top[0], top[3], (112, 191), (20, 191)]), (206, 212, 218))
    paint(drawing, np.array([top[3], top[2], (174, 191), (112, 191)]), (166, 174, 184))
    speckle(drawing, rng, 19, 3)
    return drawing


def carrier_bag(rng: np.random.Generator) -> Drawing:
    """A crumpled carrier bag with two handles, in a thin plastic with many folds and sometimes a printed mark."""
    wide = rng.integers(0, 22, 4)
    left = [(66, 4), (52, 4), (44, 50), (30 - wide[0], 76), (10 + wide[1], 124), (24, 180)]
    right = [
        (100, 187),
        (168, 180),
        (182 - wide[2], 124),
        (162 + wide[3], 76),
        (148, 50),
        (140, 4),
        (126, 4),
        (120, 56),
        (72, 56),
    ]
    colour = pick(
        rng,
        [
            (236, 238, 240),
            (228, 230, 226),
            (40, 40, 46),
            (70, 130, 200),
            (236, 200, 70),
            (210, 70, 80),
            (120, 190, 130),
        ],
    )
    drawing = start(
        [rounded(np.clip(left + right, 4, 187), 1)], vary(rng, colour, 12), opacity=int(rng.integers(205, 250))
    )
    if rng.integers(3) == 0:
        paint(drawing, oval(96, 122, 30, 24), vary(rng, pick(rng, MARKS)))
    for handle in (58, 134):  # folds fan out from the handles, where the bag hangs
        for _ in range(5):
            end = handle + int(rng.integers(-60, 61))
            stroke(
                drawing,
                [(handle, 40), ((handle + end) // 2, 84), (end, 180)],
                vary(rng, colour, 48),
                int(rng.integers(2, 6)),
            )
    crumple(drawing, rng, 7, 30)
    return drawing


def tied_bag(rng: np.random.Generator) -> Drawing:
    """A full rubbish bag: a bulging sack below a knot with two ears, folds running to the knot."""
    side = [(70, 4), (62, 20), (84, 40), (50, 66), (16 + int(rng.integers(0, 20)), 116), (26, 168), (70, 187)]
    colour = vary(rng, pick(rng, [(34, 34, 40), (60, 64, 72), (240, 240, 240), (60, 110, 170), (236, 210, 120)]), 10)
    drawing = start([rounded(mirrored(side), 1)], colour)
    for x in range(24, 180, 22):
        stroke(drawing, [(MIDDLE, 44), (x, 96), (x, 150)], vary(rng, colour, 34), 4)
    crumple(drawing, rng, 6, 40)
    roll(drawing, 10, 182, 34)
    stroke(drawing, [(80, 42), (112, 42)], (20, 20, 24), 5)
    return drawing


def t_shirt(rng: np.random.Generator) -> Drawing:
    """A T-shirt laid flat: sleeves, a round neck, stripes or a print, soft folds and a weave."""
    flare = int(rng.integers(0, 14))
    side = [(78, 22), (62, 12), (8, 52), (24, 88), (50, 72), (46 - flare // 2, 182)]
    outline = mirrored(side)
    colour = vary(rng, pick(rng, CLOTH))
    drawing = start([outline], colour)
    style = int(rng.integers(3))
    if style == 0:
        for y in range(40, 180, 24):
            paint(drawing, box(0, y, 191, y + 11), vary(rng, (226, 222, 214), 8))
    elif style == 1:
        paint(drawing, oval(96, 96, 28, 28), vary(rng, pick(rng, [*CLOTH, (230, 226, 216)])))
    stroke(drawing, [(78, 20), (84, 34), (96, 40), (108, 34), (114, 20)], vary(rng, (226, 222, 214), 10), 7)
    speckle(drawing, rng, 10, 2)
    crumple(drawing, rng, 5, 26)
    return drawing


def trousers(rng: np.random.Generator) -> Drawing:
    """A pair of trousers: waistband, two legs, seams and folds."""
    spread = int(rng.integers(0, 20))
    side = [(54, 8), (50, 40), (30 - spread, 184), (72 - spread, 187), (95, 84)]
    drawing = start(
        [np.clip(mirrored(side), 3, 188)],
        vary(rng, pick(rng, [(52, 74, 118), (40, 44, 54), (150, 126, 92), (86, 88, 92)])),
    )
    paint(drawing, box(0, 0, 191, 20), vary(rng, (40, 40, 48), 12))
    for x in (66, 125):
        stroke(drawing, [(x, 22), (x + (x - 96), 186)], (150, 150, 150), 2)
    stroke(drawing, [(95, 20), (95, 84)], (30, 32, 40), 3)
    speckle(drawing, rng, 12, 2)
    crumple(drawing, rng, 5, 26)
    return drawing


def socks(rng: np.random.Generator) -> Drawing:
    """Two socks of a pair, side by side, with bands at the top and darker toes."""
    sock = np.array([(8, 10), (46, 10), (48, 110), (84, 136), (88, 160), (70, 176), (44, 166), (8, 128)])
    colour = vary(rng, pick(rng, CLOTH))
    drawing = start([rounded(sock, 1), rounded(sock + np.array((96, 8)), 1)], colour)
    for y in (26, 46):
        paint(drawing, box(0, y, 191, y + 9), vary(rng, (226, 222, 214), 8))
    for x in (70, 166):
        paint(drawing, oval(x, 166, 24, 20, 12), vary(rng, pick(rng, CLOTH)))
    speckle(drawing, rng, 12, 2)
    crumple(drawing, rng, 6, 22)
    return drawing
