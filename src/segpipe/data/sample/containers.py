"""Things made to hold something: cartons, cans, bottles, cups, and batteries. Each function draws one, upright."""

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
    print_lines,
    roll,
    rounded,
    shade,
    start,
    stroke,
    turn,
    vary,
)

PRINT = [(200, 40, 40), (30, 70, 170), (20, 130, 70), (235, 180, 30), (240, 110, 30), (110, 50, 130)]
STEEL = (186, 190, 196)
CAPS = [(30, 90, 200), (225, 225, 230), (210, 40, 40), (30, 150, 80), (245, 150, 20)]


def milk_carton(rng: np.random.Generator) -> Drawing:
    """A carton with a gable top: a bright front, a darker side, a coloured band and print."""
    edge, colour = 118 + int(rng.integers(-8, 14)), vary(rng, pick(rng, PRINT))
    outline = np.array(
        [(46, 14), (132, 10), (138, 26), (150, 58), (150, 172), (edge, 184), (38, 180), (38, 62), (46, 26)]
    )
    drawing = start([outline], vary(rng, (238, 238, 232), 10))
    paint(drawing, np.array([(38, 62), (46, 26), (138, 26), (edge, 64)]), colour)
    band = int(rng.integers(96, 140))
    paint(drawing, np.array([(30, band), (160, band - 4), (160, 190), (30, 190)]), colour)
    paint(drawing, oval(76, band, 24, 18), pick(rng, [(250, 250, 245), vary(rng, pick(rng, PRINT))]))
    print_lines(drawing, rng, (48, 72, 104, band - 20), 8)
    shade(drawing, np.where(np.arange(192) < edge, 132, 88))  # the side lies in its own shade
    paint(drawing, np.array([(46, 14), (132, 10), (138, 26), (46, 28)]), vary(rng, (222, 222, 214), 10))
    stroke(drawing, [(46, 28), (138, 26)], (120, 120, 120), 2)
    stroke(drawing, [(38, 62), (edge, 64), (138, 28)], (150, 150, 150), 2)
    return drawing


def juice_box(rng: np.random.Generator) -> Drawing:
    """A small drinks carton with a printed fruit and a straw."""
    colour = vary(rng, pick(rng, PRINT))
    straw = np.array([(112, 44), (122, 8), (150, 4), (150, 12), (128, 16), (122, 44)])
    outline = np.array(
        [(44, 44), (112, 44), straw[1], straw[2], straw[3], straw[4], (122, 44), (148, 36), (148, 172), (128, 186)]
    )
    drawing = start([np.vstack([outline, [(44, 186)]])], colour)
    paint(drawing, box(44, 44, 128, 80), (242, 242, 236))
    paint(drawing, oval(86, 128, 27, 27), vary(rng, (240, 150, 40), 40))
    stroke(drawing, [(86, 102), (96, 88)], (60, 130, 50), 5)
    print_lines(drawing, rng, (56, 54, 116, 76), 8)
    shade(drawing, np.where(np.arange(192) < 128, 130, 86))
    paint(drawing, straw, (244, 236, 236))
    return drawing


def paper_cup(rng: np.random.Generator) -> Drawing:
    """A takeaway cup of coated paper, wider at the top, with a printed sleeve and perhaps a lid."""
    drawing = start([mirrored([(48, 12), (42, 22), (48, 32), (64, 180), (74, 186)])], vary(rng, (240, 236, 226), 8))
    sleeve = mirrored([(52, 70), (61, 140)])
    paint(drawing, sleeve, vary(rng, pick(rng, [*PRINT, (150, 105, 65), (150, 105, 65)])))
    paint(drawing, oval(MIDDLE, 105, 17, 19), (240, 236, 226))
    roll(drawing, 44, 148, 20)
    if rng.integers(2):
        paint(drawing, mirrored([(48, 10), (40, 22), (46, 34)]), pick(rng, [(60, 50, 48), (235, 235, 235)]))
    else:
        paint(drawing, oval(MIDDLE, 22, 50, 9), (150, 120, 92))
    stroke(drawing, [(42, 34), (150, 34)], (205, 200, 190), 3)
    return drawing


def drinks_can(rng: np.random.Generator) -> Drawing:
    """A drinks can: a coloured cylinder between bright rims, whole or crushed, with its lid in view."""
    dents = rng.integers(0, 26, 4) * int(rng.integers(2))
    left = [(60, 20), (48, 34), (48 + dents[0], 80), (46 + dents[1] // 3, 116), (48, 164), (60, 180)]
    right = [(132, 180), (144, 164), (146 - dents[2] // 3, 110), (144 - dents[3], 72), (144, 34), (132, 20), (96, 10)]
    drawing = start([np.array(left + right)], vary(rng, pick(rng, [*PRINT, STEEL, (30, 30, 34)])))
    if rng.integers(2):
        paint(drawing, np.array([(40, 120), (150, 60), (150, 92), (40, 152)]), vary(rng, (235, 235, 235), 15))
    else:
        paint(drawing, oval(88, 98, 30, 34), vary(rng, pick(rng, [*PRINT, STEEL, (245, 240, 230)])))
    paint(drawing, box(40, 158, 152, 190), STEEL)
    paint(drawing, box(40, 8, 152, 38), STEEL)
    roll(drawing, 46, 146, 95)
    if dents.any():
        crumple(drawing, rng, 7, 22)
    paint(drawing, oval(96, 22, 40, 11), (226, 228, 232))
    paint(drawing, oval(96, 23, 33, 7), (142, 146, 152))
    paint(drawing, oval(98, 23, 11, 3), (236, 238, 240))
    return drawing


def tin(rng: np.random.Generator) -> Drawing:
    """A food tin: bare ribbed metal, sometimes with a paper band, seen from a little above."""
    drawing = start(
        [np.vstack([oval(96, 44, 62, 24)[12:], [(158, 150)], oval(96, 150, 62, 24)[:13], [(34, 44)]])], STEEL
    )
    for y in range(70, 170, 12):
        stroke(drawing, [(34, y), (64, y + 12), (96, y + 16), (128, y + 12), (158, y)], (126, 130, 136), 4)
    if rng.integers(2):
        band = np.array([(34, 76), (96, 98), (158, 76), (158, 134), (96, 156), (34, 134)])
        paint(drawing, band, vary(rng, pick(rng, PRINT)))
        paint(drawing, oval(90, 116, 26, 18), (240, 236, 220))
    roll(drawing, 34, 158, 100)
    paint(drawing, oval(96, 44, 62, 24), (232, 234, 238))
    paint(drawing, oval(96, 45, 54, 19), pick(rng, [(112, 116, 122), (170, 174, 180), (84, 70, 62)]))
    stroke(drawing, oval(96, 45, 36, 12), (205, 208, 212), 2)
    return drawing


def glass_bottle(rng: np.random.Generator) -> Drawing:
    """A green, brown or pale bottle with a long neck; the ground shines through, and a highlight runs down one side."""
    colour = vary(rng, pick(rng, [(28, 92, 42), (40, 120, 60), (104, 58, 18), (86, 46, 16), (138, 178, 158)]), 12)
    body, shoulder = int(rng.integers(58, 66)), int(rng.integers(62, 90))
    side = [(86, 6), (84, 16), (86, 20), (85, shoulder - 22), (body, shoulder + 12), (body, 176), (body + 6, 184)]
    drawing = start([mirrored(side)], colour, opacity=222)
    if rng.integers(3):
        top = shoulder + 24
        paint(
            drawing,
            box(50, top, 142, top + 44),
            vary(rng, pick(rng, [(236, 226, 196), (240, 240, 236), (200, 40, 40)])),
            True,
        )
        print_lines(drawing, rng, (72, top + 10, 124, top + 40), 9)
    roll(drawing, body, 191 - body, 120)
    dark = vary(rng, (colour[0] // 3, colour[1] // 3, colour[2] // 3), 4)
    stroke(drawing, side, dark, 7)  # glass is darkest where one looks along it
    stroke(drawing, [(191 - x, y) for x, y in side], dark, 7)
    stroke(drawing, [(92, 20), (91, shoulder - 20)], (215, 235, 220), 3)
    if rng.integers(2):
        paint(drawing, box(80, 4, 112, 18), vary(rng, pick(rng, [(212, 178, 60), (190, 30, 30), STEEL])), True)
    return drawing


def glass_jar(rng: np.random.Generator) -> Drawing:
    """A wide jar of pale green glass with a metal lid; its thick walls are dark, its middle clear."""
    side = [(58, 12), (54, 36), (60, 42), (42, 62), (42, 168), (52, 182)]
    drawing = start([mirrored(side)], vary(rng, (120, 165, 140), 12), opacity=175)
    if rng.integers(2):
        paint(drawing, box(40, 92, 152, 148), vary(rng, (232, 222, 190)), True)
        print_lines(drawing, rng, (60, 104, 130, 144), 10)
    roll(drawing, 42, 150, 110)
    for x in (46, 145):
        stroke(drawing, [(x, 62), (x, 172)], (24, 62, 40), 6)
    stroke(drawing, [(46, 178), (146, 178)], (24, 62, 40), 6)
    stroke(drawing, [(66, 66), (66, 162)], (232, 248, 240), 6)
    paint(drawing, box(50, 8, 142, 38), vary(rng, pick(rng, [(210, 176, 70), (180, 36, 36), STEEL])), True)
    stroke(drawing, [(54, 30), (138, 30)], (70, 60, 40), 3)
    return drawing


def pet_bottle(rng: np.random.Generator) -> Drawing:
    """A clear bluish bottle with ribs, a bright label and a coloured cap; sometimes squashed in the middle."""
    dent = int(rng.integers(2)) * int(rng.integers(6, 16))
    side = [(84, 6), (84, 22), (86, 30), (62, 62), (60, 94), (62 + dent, 112), (60, 134), (60, 176), (68, 186)]
    drawing = start(
        [mirrored(side)], vary(rng, pick(rng, [(196, 222, 238), (170, 208, 232), (208, 228, 226)]), 10), opacity=165
    )
    for y in (*range(72, 92, 9), *range(142, 180, 9)):
        stroke(drawing, [(58, y), (96, y + 3), (134, y)], (112, 146, 172), 3)
    if rng.integers(4):
        paint(drawing, mirrored([(56, 94), (56 + dent, 114), (56, 134)]), vary(rng, pick(rng, PRINT)), True)
        paint(drawing, oval(92, 114, 22, 12), (245, 245, 245), True)
    roll(drawing, 60, 131, 90)
    stroke(drawing, [(76, 64), (74, 92)], (255, 255, 255), 4)
    stroke(drawing, [(74, 140), (74, 176)], (255, 255, 255), 4)
    paint(drawing, box(80, 4, 112, 24), vary(rng, pick(rng, CAPS)), True)
    for x in range(86, 110, 6):
        stroke(drawing, [(x, 10), (x, 22)], (110, 110, 120), 1)
    return drawing


def plastic_cup(rng: np.random.Generator) -> Drawing:
    """A clear cold-drink cup with a domed lid, a bright straw and the rest of a drink."""
    straw = [(96, 34), (112, 4), (122, 6), (108, 36)]
    left, right = [(62, 36), (44, 56), (62, 184)], [(130, 184), (148, 56), (130, 36)]
    drawing = start([np.array([*left, *right, *reversed(straw)])], vary(rng, (214, 226, 232), 8), opacity=170)
    drink = vary(rng, pick(rng, [(120, 76, 40), (205, 120, 60), (90, 160, 120), (214, 226, 232)]))
    paint(drawing, mirrored([(56, int(rng.integers(100, 150))), (66, 180)]), drink)
    roll(drawing, 46, 146, 70)
    paint(drawing, mirrored([(40, 50), (42, 60)]), (246, 248, 250), True)
    stroke(drawing, [(62, 72), (72, 172)], (255, 255, 255), 5)
    paint(drawing, np.array(straw), vary(rng, pick(rng, CAPS)), True)
    return drawing


def detergent_bottle(rng: np.random.Generator) -> Drawing:
    """An opaque coloured bottle with a broad label and a screw cap to one side."""
    outline = rounded(
        [(64, 8), (100, 8), (104, 36), (140, 50), (150, 80), (150, 182), (44, 182), (42, 70), (60, 40)], 1
    )
    drawing = start(
        [outline],
        vary(rng, pick(rng, [(40, 130, 210), (235, 120, 160), (250, 200, 50), (70, 180, 140), (240, 240, 240)])),
    )
    paint(drawing, oval(96, 124, 40, 42), vary(rng, (245, 245, 240), 8))
    paint(drawing, oval(96, 118, 26, 18), vary(rng, pick(rng, PRINT)))
    print_lines(drawing, rng, (76, 144, 118, 160), 8)
    roll(drawing, 42, 150, 60)
    paint(drawing, box(58, 4, 106, 34), vary(rng, pick(rng, CAPS)))
    stroke(drawing, [(60, 32), (104, 32)], (80, 80, 90), 3)
    return drawing


def battery(rng: np.random.Generator) -> Drawing:
    """A round cell, or two side by side: a dark or bright sleeve, a coloured band, and metal at both ends."""
    sleeve, band = pick(
        rng, [((26, 26, 30), (206, 120, 48)), ((30, 90, 60), (222, 222, 226)), ((190, 40, 40), (236, 200, 60))]
    )
    pair = int(rng.integers(3)) == 0
    centres, parts = ((56, 136), []) if pair else ((MIDDLE,), [])
    for x in centres:
        nub = [(x - 10, 16), (x - 10, 6), (x + 10, 6), (x + 10, 16)]
        parts.append(
            np.array([(x - 30, 22), (x - 24, 16), *nub, (x + 24, 16), (x + 30, 22), (x + 30, 180), (x - 30, 180)])
        )
    drawing = start(parts, vary(rng, sleeve, 8))
    paint(drawing, box(0, 0, 191, 66), vary(rng, band, 10))
    paint(drawing, box(0, 0, 191, 24), (206, 208, 212))
    paint(drawing, box(0, 172, 191, 191), (206, 208, 212))
    for x in centres:
        stroke(drawing, [(x - 9, 48), (x + 9, 48)], (250, 250, 250), 4)
        stroke(drawing, [(x, 39), (x, 57)], (250, 250, 250), 4)
        paint(drawing, box(x - 12, 88, x + 8, 150), (232, 232, 226))
    gain = [150 - ((column - centres[column * len(centres) // 192] + 12) ** 2) // 12 for column in range(192)]
    glow = [max(70 - 9 * abs(column - centres[column * len(centres) // 192] + 13), 0) for column in range(192)]
    shade(drawing, np.maximum(gain, 40), np.array(glow))
    return drawing


def button_cell(rng: np.random.Generator) -> Drawing:
    """A coin cell: a bright steel disc with a stepped rim and a stamped plus."""
    drawing = start([oval(MIDDLE, MIDDLE, 84, 84, 32)], (176, 180, 186))
    paint(drawing, oval(MIDDLE, MIDDLE, 70, 70, 32), (214, 217, 222))
    paint(drawing, np.array([turn(angle, 68) for angle in (200, 230, 20, 50)]) + MIDDLE, (240, 242, 245))
    for end in ((turn(0, 22), turn(180, 22)), (turn(90, 22), turn(270, 22))):
        stroke(drawing, np.array(end) + MIDDLE, (110, 112, 118), 7)
    return drawing
