"""Charts as inline SVG and coloured tables: lines over epochs, values with their intervals, a confusion matrix.

Colours come from the style sheet, so that the charts follow light and dark. Lines differ in dashes and in the shape of
their mark as well as in colour.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from segpipe.labels import ClassTable
from segpipe.report.markup import (
    Column,
    Markup,
    fixed,
    interval,
    join,
    markup,
    percent,
    scroller,
    table,
    tag,
    thousands,
)

Scale = Callable[[float], float]
COLORS, DASHES = 8, ("none", "7 3", "2 3", "10 3 2 3", "14 5", "5 2 1 2 1 2")
MAX_MATRIX = 24  # classes; a larger confusion matrix is shown as a list of its largest entries
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 380, 236, 54, 10, 12, 36


@dataclass(frozen=True)
class Line:
    """Values `ys` at `xs`, what is not finite left out, with a mark at `marked` where that is one of the xs."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    marked: float

    @property
    def points(self) -> list[tuple[float, float]]:
        """The finite ones."""
        pairs = zip(self.xs, self.ys, strict=True)
        return [(float(x), float(y)) for x, y in pairs if math.isfinite(x) and math.isfinite(y)]


def ticks(low: float, high: float, number: int = 5) -> list[float]:
    """About `number` round values from at most `low` to at least `high`."""
    if high <= low:
        low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    raw = (high - low) / number
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{index * step:.12g}") for index in range(first, last + 1)]


def line_chart(title: str, lines: Sequence[Line], identity: str, across: str = "epoch") -> Markup:
    """A figure with one line each over epochs, or what `across` says; `identity` is unique on the page."""
    points = [point for line in lines for point in line.points]
    if not points:
        return tag("figure", tag("figcaption", title) + tag("p", "No values were recorded.", class_="note"))
    xs, ys = [x for x, _ in points], [y for _, y in points]
    y_ticks = ticks(min(ys), max(ys))
    widened = (min(xs), max(xs)) if max(xs) > min(xs) else (xs[0] - 1, xs[0] + 1)
    x_scale = _scale(*widened, _LEFT + 6, _WIDTH - _RIGHT)
    y_scale = _scale(y_ticks[0], y_ticks[-1], _HEIGHT - _BOTTOM, _TOP)
    x_ticks = [tick for tick in ticks(*widened) if tick == int(tick) and min(xs) <= tick <= max(xs)]
    described = f"{identity}-values"
    parts = [
        tag("title", f"{title} by {across}", id=identity),
        tag("desc", "; ".join(_said(line) for line in lines), id=described),
        _axes({tick: x_scale(tick) for tick in x_ticks}, {tick: y_scale(tick) for tick in y_ticks}, across),
        *(_drawn(line, number, x_scale, y_scale) for number, line in enumerate(lines)),
    ]
    box = f"0 0 {_WIDTH} {_HEIGHT}"
    svg = tag("svg", join(parts, ""), viewBox=box, role="img", aria_labelledby=identity, aria_describedby=described)
    return tag("figure", tag("figcaption", title) + svg)


def _scale(low: float, high: float, start: float, end: float) -> Scale:
    return lambda value: round(start + (value - low) / (high - low) * (end - start), 1)


def _axes(x_ticks: dict[float, float], y_ticks: dict[float, float], across: str) -> Markup:
    """Grid and labels; both map a value to its place."""
    right, base = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    parts = [f'<line class="base" x1="{_LEFT}" x2="{right}" y1="{base}" y2="{base}"/>']
    for tick, y in y_ticks.items():
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{tick:g}</text>')
    for tick, x in x_ticks.items():
        parts.append(f'<text x="{x}" y="{base + 15}" text-anchor="middle">{tick:g}</text>')
    parts.append(f'<text x="{(_LEFT + right) / 2}" y="{_HEIGHT - 4}" text-anchor="middle">{across}</text>')
    return Markup("".join(parts))


def _said(line: Line) -> str:
    at = {x: y for x, y in line.points}
    if not at:
        return f"{line.name}: no values"
    chosen = f", {at[line.marked]:.4g} at the chosen epoch {line.marked:g}" if line.marked in at else ""
    return f"{line.name}: {line.points[0][1]:.4g} at first, {line.points[-1][1]:.4g} at last{chosen}"


def _drawn(line: Line, number: int, x_scale: Scale, y_scale: Scale) -> Markup:
    placed = [(x_scale(x), y_scale(y)) for x, y in line.points]
    path = " ".join(f"{x},{y}" for x, y in placed)
    marks = [mark(number, x_scale(x), y_scale(y)) for x, y in line.points if x == line.marked]
    return _stroke(number, path) + join(marks, "")


def _stroke(number: int, path: str) -> Markup:
    style = f"stroke:var(--c{number % COLORS});stroke-dasharray:{DASHES[number % len(DASHES)]}"
    return Markup(f'<polyline class="line" points="{path}" style="{style}"/>')


def mark(number: int, x: float, y: float) -> Markup:
    """A dot for the lines 0 to 5, then a square, a triangle, a diamond for six each, where dashes repeat."""
    fill = f'class="dot" style="fill:var(--c{number % COLORS})"'
    corners = (
        None,
        ((-4, -4), (4, -4), (4, 4), (-4, 4)),
        ((0, -5), (5, 4), (-5, 4)),
        ((0, -6), (5, 0), (0, 6), (-5, 0)),
    )[number // len(DASHES) % 4]
    if corners is None:
        return Markup(f'<circle {fill} cx="{x}" cy="{y}" r="4.5"/>')
    around = " ".join(f"{round(x + dx, 1)},{round(y + dy, 1)}" for dx, dy in corners)
    return Markup(f'<polygon {fill} points="{around}"/>')


def line_legend(names: Sequence[str]) -> Markup:
    """Which line is which, by the same numbers as in `line_chart`."""
    items = []
    for number, name in enumerate(names):
        drawn = _stroke(number, "1,8 59,8") + mark(number, 30, 8)
        items.append(tag("li", tag("svg", drawn, viewBox="0 0 60 16", aria_hidden="true") + tag("span", name)))
    return tag("ul", join(items), class_="legend")


@dataclass(frozen=True)
class Axis:
    """The range that the small charts of a table column share; `reference` is a value to compare with, or NaN."""

    low: float
    high: float
    reference: float = math.nan

    @classmethod
    def around(cls, values: Sequence[float], reference: float = math.nan) -> "Axis":
        """Round ends that hold all finite `values`."""
        finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
        ends = ticks(min(finite), max(finite), 4)
        return cls(ends[0], ends[-1], reference)

    @property
    def title(self) -> Markup:
        """Head of the column: the ends and the middle."""
        shown = (self.low, (self.low + self.high) / 2, self.high)
        return tag("span", join((tag("span", f"{value:.3g}") for value in shown), ""), class_="axis")


def range_row(name: str, value: float, low: float, high: float, axis: Axis, *, bar: bool) -> Markup:
    """One value with its interval as a whisker, for a table cell; `bar` fills from the axis' low end."""
    if not math.isfinite(value):
        return markup("")
    scale = _scale(axis.low, axis.high, 0, 200)
    at = scale(value)
    known = math.isfinite(low) and math.isfinite(high)
    said = f"{name}: {fixed(value)}" + (f", 95\u00a0% interval {interval(low, high)}" if known else "")
    parts = [tag("title", said)]
    parts += [Markup(f'<path class="grid" d="M{x} 0V24"/>') for x in (0, 50, 100, 150, 200)]
    if bar:
        parts.append(Markup(f'<rect class="fill" x="0" y="6" width="{max(at, 0)}" height="12"/>'))
    if math.isfinite(axis.reference):
        parts.append(Markup(f'<path class="reference" d="M{scale(axis.reference)} 0V24"/>'))
    if known:
        left, right = scale(low), scale(high)
        parts.append(Markup(f'<path class="whisker" d="M{left} 12H{right}M{left} 8V16M{right} 8V16"/>'))
    if not bar:
        parts.append(Markup(f'<path class="point" d="M{at} 5V19"/>'))
    return tag("svg", join(parts, ""), viewBox="0 0 200 24", preserveAspectRatio="none", class_="row", role="img")


def class_name(classes: ClassTable, index: int) -> Markup:
    """The name with a swatch of its colour."""
    red, green, blue = classes.colors[index]
    swatch = tag("span", class_="swatch", style=f"background:rgb({red} {green} {blue})")
    return tag("span", swatch + tag("span", classes.names[index]), class_="class")


def confusion_table(names: Sequence[Markup], confusion: np.ndarray) -> Markup:
    """(C, C) pixel counts, rows = truth, as per cent of each row; many classes as a list of the largest mistakes."""
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = confusion / confusion.sum(axis=1, keepdims=True)
    if len(names) > MAX_MATRIX:
        return _largest_confusions(names, confusion, shares)
    caption = "Confusion matrix: of all pixels of the class on the left, the per cent predicted as the class on top."
    head = join((tag("th", tag("span", name), scope="col") for name in names), "")
    rows = [tag("tr", tag("td", "") + head)]
    for i, name in enumerate(names):
        cells = [_heat_cell(share, same=i == j) for j, share in enumerate(shares[i])]
        rows.append(tag("tr", tag("th", name, scope="row") + join(cells, "")))
    parts = [tag("caption", caption), tag("thead", rows[0]), tag("tbody", join(rows[1:]))]
    return scroller(tag("table", join(parts), class_="heat"), caption)


def _heat_cell(share: float, *, same: bool) -> Markup:
    if not math.isfinite(share):
        return tag("td", fixed(share))
    nothing = "0" if same else "·"
    some = f"{share * 100:.0f}" if share >= 0.005 else "<1"
    shown = some if share > 0 else nothing
    return tag("td", shown, class_=f"h{round(10 * math.sqrt(share))}" + (" same" if same else ""))


def _largest_confusions(names: Sequence[Markup], confusion: np.ndarray, shares: np.ndarray) -> Markup:
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:40]
    pairs = [divmod(int(flat), len(names)) for flat in order if wrong.flat[flat]]
    rows = [(names[i], names[j], percent(shares[i, j]), thousands(int(wrong[i, j]))) for i, j in pairs]
    columns = [Column("Truth"), Column("Predicted"), Column("Of the true class", "number"), Column("Pixels", "number")]
    return table(f"The {len(rows)} largest of {len(names) * (len(names) - 1)} possible confusions.", columns, rows)
