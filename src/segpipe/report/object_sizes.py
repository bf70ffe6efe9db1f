"""Sizes of objects as a table with a small chart a row: range, middle half and median on a logarithmic axis."""

import math

from segpipe.labels import ClassTable
from segpipe.report.charts import class_name
from segpipe.report.markup import Column, Markup, join, percent, table, tag, thousands

SMALL, MEDIUM = 32**2, 96**2  # pixels; where COCO's medium and large objects begin
_WIDTH = 200


def object_sizes(classes: ClassTable, sizes: dict) -> Markup:
    """The table of `object_sizes` of a census; a sentence where no list has an object."""
    if not sizes["all"]["objects"]:
        return tag("p", "The lists name no single objects, so nothing is known of their sizes.", class_="note")
    powers = max(math.ceil(math.log10(max(sizes["all"]["max"], 10))), 1)
    rows = [_row(tag("b", "All"), "All classes", sizes["all"], powers)]
    rows += [
        _row(class_name(classes, index), name, sizes["classes"][name], powers)
        for index, name in enumerate(classes.names)
        if name in sizes["classes"]
    ]
    columns = [Column("Class"), Column(_axis(powers), "chart"), Column("Median", "number"), Column("Small", "number")]
    columns += [Column("Medium", "number"), Column("Large", "number"), Column("Objects", "number")]
    caption = (
        "Sizes of annotated objects in pixels of their images, whether or not others lie on top: from the smallest to "
        "the largest, the middle half as a bar, the median as a mark. Small is below 32\u00a0×\u00a032 pixels, large "
        "from 96\u00a0×\u00a096 (dashed)."
    )
    return table(caption, columns, rows)


def _row(head: Markup, name: str, sizes: dict, powers: int) -> list[object]:
    total = sizes["objects"]
    shares = [percent(sizes[kind] / total) for kind in ("small", "medium", "large")]
    return [head, _chart(name, sizes, powers), thousands(sizes["median"]), *shares, thousands(total)]


def _axis(powers: int) -> Markup:
    """Head of the column: 1, the middle, the end."""
    middle = f"{10 ** (powers // 2):,}" if powers % 2 == 0 else ""
    shown = ("1", middle.replace(",", "\u202f"), thousands(10**powers))
    return tag("span", join((tag("span", value) for value in shown), ""), class_="axis")


def _chart(name: str, sizes: dict, powers: int) -> Markup:
    at = {key: _place(sizes[key], powers) for key in ("min", "q1", "median", "q3", "max")}
    said = (
        f"{name}: {thousands(sizes['min'])} to {thousands(sizes['max'])} pixels, half of them from "
        f"{thousands(sizes['q1'])} to {thousands(sizes['q3'])}, median {thousands(sizes['median'])}"
    )
    grid = [Markup(f'<path class="grid" d="M{_WIDTH * power / powers:.1f} 0V24"/>') for power in range(powers + 1)]
    bounds = [_place(bound, powers) for bound in (SMALL, MEDIUM) if bound < 10**powers]
    references = [Markup(f'<path class="reference" d="M{bound} 0V24"/>') for bound in bounds]
    drawn = [
        Markup(f'<path class="whisker" d="M{at["min"]} 12H{at["max"]}M{at["min"]} 8V16M{at["max"]} 8V16"/>'),
        Markup(f'<rect class="fill" x="{at["q1"]}" y="6" width="{max(at["q3"] - at["q1"], 1):.1f}" height="12"/>'),
        Markup(f'<path class="point" d="M{at["median"]} 5V19"/>'),
    ]
    parts = [tag("title", said), *grid, *references, *drawn]
    box = f"0 0 {_WIDTH} 24"
    return tag("svg", join(parts, ""), viewBox=box, preserveAspectRatio="none", class_="row", role="img")


def _place(pixels: int, powers: int) -> float:
    return round(_WIDTH * math.log10(max(pixels, 1)) / powers, 1)
