"""HTML as text: escaping, numbers for people, tables, sections. Nothing here knows what the page is about.

`Markup` is finished HTML; any other string is text and is escaped on its way in, so a class named `<b>` stays a name.
"""

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MISSING = "–"  # a number that does not exist, such as the IoU of a class that no image shows
_MINUS, _SPACE, _THIN = "\u2212", "\u00a0", "\u202f"
_VOID = ("br", "img", "meta")  # elements without an end tag


class Markup(str):
    """HTML that is ready to stand in the page; adding text to it escapes the text."""

    def __add__(self, other: str) -> "Markup":
        return Markup(str.__add__(self, markup(other)))


def markup(value: object) -> Markup:
    """`value` as HTML: as it is when it is Markup, escaped otherwise."""
    return value if isinstance(value, Markup) else Markup(html.escape(str(value)))


def join(parts: Iterable[object], between: str = "\n") -> Markup:
    """All parts as one piece of HTML."""
    return Markup(between.join(markup(part) for part in parts))


def tag(name: str, content: object = "", /, **attributes: object) -> Markup:
    """`<name key="value">content</name>`; `class_` is class, other underscores become hyphens, None is left out."""
    given = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items() if value is not None}
    written = "".join(f' {key}="{html.escape(str(value))}"' for key, value in given.items())
    return Markup(f"<{name}{written}>" + ("" if name in _VOID else f"{markup(content)}</{name}>"))


def fixed(value: float, digits: int = 3) -> str:
    """A number with `digits` decimals, an en dash for what is not finite."""
    # z: what rounds to nothing has no sign
    return f"{value:z.{digits}f}".replace("-", _MINUS) if math.isfinite(value) else MISSING


def signed(value: float, digits: int = 3) -> str:
    """A difference with its sign, unless it rounds to nothing."""
    shown = fixed(value, digits)
    return f"+{shown}" if math.isfinite(value) and float(f"{value:.{digits}f}") > 0 else shown


def percent(share: float, digits: int = 1) -> str:
    """A share of 1 as per cent; a small one that is not nothing never reads 0."""
    if not math.isfinite(share):
        return MISSING
    least = 10.0**-digits
    shown = f"<{least:.{digits}f}" if 0 < share * 100 < least / 2 else f"{share * 100:.{digits}f}"
    return f"{shown}{_SPACE}%"


def chance(p_value: float) -> str:
    """A p-value; a small one never reads 0."""
    return "<0.001" if p_value < 0.0005 else fixed(p_value)


def interval(low: float, high: float, *, sign: bool = False) -> str:
    """`0.471 to 0.552`, or an en dash when there is none."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return MISSING
    show = signed if sign else fixed
    return f"{show(low)} to {show(high)}"


def count(number: int, noun: str) -> str:
    """`1 image`, `12 images`, with thin gaps in long numbers."""
    return f"{thousands(number)}{_SPACE}{noun}" + ("" if number == 1 else "s")


def thousands(number: int) -> str:
    """12 345 678 with gaps that do not break."""
    return f"{number:,}".replace(",", _THIN)


@dataclass(frozen=True)
class Column:
    """A table column; `kind` is text, number (to the right) or chart (takes what width is left)."""

    title: object
    kind: str = "text"


def table(caption: str, columns: Sequence[Column], rows: Iterable[Sequence[object]], *, marked: int = -1) -> Markup:
    """A table in a box of its own to scroll; the first cell of a row names it, row `marked` is set off."""
    head = join((tag("th", column.title, scope="col", class_=column.kind) for column in columns), "")
    lines = []
    for number, row in enumerate(rows):
        cells = [tag("th", row[0], scope="row", class_=columns[0].kind)]
        cells += [tag("td", cell, class_=column.kind) for column, cell in zip(columns[1:], row[1:], strict=True)]
        lines.append(tag("tr", join(cells, ""), class_="marked" if number == marked else None))
    parts = [tag("caption", caption), tag("thead", tag("tr", head)), tag("tbody", join(lines))]
    return scroller(tag("table", join(parts)), caption)


def scroller(content: Markup, label: str) -> Markup:
    """A box that scrolls sideways on a narrow screen, by keyboard too."""
    return tag("div", content, class_="scroll", role="region", tabindex=0, aria_label=label)


def section(identity: str, title: str, lead: object, *body: object) -> Markup:
    """A part of the page: heading, a sentence that says what is seen, and the rest."""
    parts = [tag("h2", title, id=f"{identity}-title"), tag("p", lead, class_="lead"), *body]
    return tag("section", join(parts), id=identity, aria_labelledby=f"{identity}-title")


def facts(pairs: Iterable[tuple[object, object]]) -> Markup:
    """A list of names and values."""
    items = (tag("div", tag("dt", name) + tag("dd", value)) for name, value in pairs)
    return tag("dl", join(items), class_="facts")
