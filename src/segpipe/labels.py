"""Facts about classes: their names in index order, their category ids, their colours, and the ignore label.

`build_class_table` turns the categories of an annotation file into a `ClassTable` once, in the prepare stage; every
later stage reads that table from the prepared data. Nothing else in the package derives class names or indices.
"""

import colorsys
import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

IGNORE_INDEX = 255  # unlabelled pixel; 255 because targets are stored as 8 bits
MAX_CLASSES = 254  # indices 0..253: 255 is the ignore label, 254 stays free for tools that want a second mark
BACKGROUND_NAME = "Background"

Color = tuple[int, int, int]


class CategoryLike(Protocol):
    """A category of an annotation file, as `segpipe.data.source.records.Category` describes it."""

    @property
    def id(self) -> int:
        """Any integer; its size and gaps mean nothing."""
        ...

    @property
    def name(self) -> str:
        """The name shown to people, and used in `data.classes`."""
        ...


@dataclass(frozen=True)
class ClassTable:
    """Class names in index order; `names[target]` names a pixel. Built once, from the annotation file.

    `category_ids[index]` is the id a class has in the annotation file, None for a background that no category names;
    `colors[index]` is (red, green, blue), each 0..255. Raises ValueError when there is no class, more than
    MAX_CLASSES, a doubled name or category id, or tuples of unequal length.
    """

    names: tuple[str, ...]
    category_ids: tuple[int | None, ...]
    colors: tuple[Color, ...]

    def __post_init__(self) -> None:
        """Refuse a table that could not index 8-bit targets without confusion."""
        if not self.names:
            raise ValueError("the class table has no classes: at least one is needed. List one under 'categories'.")
        if len(self.names) > MAX_CLASSES:
            raise ValueError(
                f"the class table has {len(self.names)} classes, but targets of 8 bits hold at most {MAX_CLASSES} "
                "beside the ignore label. Merge or leave out categories in the annotation file."
            )
        if not len(self.names) == len(self.category_ids) == len(self.colors):
            raise ValueError(
                f"the class table has {len(self.names)} names, {len(self.category_ids)} category ids and "
                f"{len(self.colors)} colors; expected as many of each."
            )
        if doubled := _doubled(self.names):
            raise ValueError(
                f"the class table names {doubled} more than once; expected each class name once. "
                "Rename the categories in the annotation file."
            )
        if doubled := _doubled([category_id for category_id in self.category_ids if category_id is not None]):
            raise ValueError(f"the class table uses category ids {doubled} more than once; expected each id once.")

    @property
    def num_classes(self) -> int:
        """How many class indices there are, the background among them and IGNORE_INDEX not."""
        return len(self.names)

    @property
    def class_index(self) -> dict[int, int]:
        """From category id to class index, for the classes that annotations can have."""
        return {category_id: index for index, category_id in enumerate(self.category_ids) if category_id is not None}

    def to_json(self) -> dict[str, Any]:
        """Return a plain dict that `json.dumps` accepts and `from_json` reads back to an equal table."""
        return {
            "names": list(self.names),
            "category_ids": list(self.category_ids),
            "colors": [list(color) for color in self.colors],
        }

    @classmethod
    def from_json(cls, table: dict[str, Any]) -> "ClassTable":
        """Return the table that `to_json` wrote; ValueError when a key is missing, unknown or not a list."""
        expected = {"names", "category_ids", "colors"}
        if not isinstance(table, dict) or set(table) != expected:
            found = sorted(table) if isinstance(table, dict) else type(table).__name__
            raise ValueError(f"a class table in JSON has {found}; expected the keys {sorted(expected)}.")
        for key in sorted(expected):
            if not isinstance(table[key], list):
                raise ValueError(f"'{key}' of a class table in JSON is {table[key]!r}; expected a list.")
        return cls(
            names=tuple(table["names"]),
            category_ids=tuple(table["category_ids"]),
            colors=tuple(tuple(color) for color in table["colors"]),
        )


def build_class_table(
    categories: Sequence[CategoryLike],
    *,
    background: Literal["class", "ignore"],
    order: Sequence[str] | None = None,
) -> ClassTable:
    """Return the class table of an annotation file's `categories`.

    With background "class", index 0 is named Background and the categories follow; with "ignore", they start at 0.
    They stand in ascending category id unless `order` lists all their names in another order. Raises ValueError when
    `order` leaves out, invents or doubles a name (all three are reported at once), or when a category is itself named
    Background beside the background class.
    """
    if background not in ("class", "ignore"):
        raise ValueError(f"data.background is {background!r}; expected 'class' or 'ignore'.")
    chosen = sorted(categories, key=lambda category: category.id)
    if background == "class" and any(category.name == BACKGROUND_NAME for category in chosen):
        raise ValueError(
            f"a category is named {BACKGROUND_NAME!r}, and data.background: class adds a class of that name for the "
            "pixels that no annotation covers. Rename the category, or set data.background: ignore."
        )
    names = [category.name for category in chosen]
    if doubled := _doubled(names):  # before `order`, which looks categories up by name
        raise ValueError(
            f"'categories' names {doubled} more than once; expected each name once. Rename the categories."
        )
    if order is not None:
        _check_order(order, names)
        chosen = [chosen[names.index(name)] for name in order]
        names = list(order)
    category_ids: list[int | None] = [category.id for category in chosen]
    if background == "class":
        names, category_ids = [BACKGROUND_NAME, *names], [None, *category_ids]
    return ClassTable(tuple(names), tuple(category_ids), distinct_colors(len(names), background=background == "class"))


def distinct_colors(count: int, *, background: bool) -> tuple[Color, ...]:
    """Return `count` colours, all different up to MAX_CLASSES; the first is black when `background`.

    Hues step by the golden ratio, so that neighbours in the table lie far apart on the colour wheel however many there
    are; saturation and brightness change every few classes, since hue alone tells only about ten apart.
    """
    colors: list[Color] = [(0, 0, 0)] if background else []
    for step in range(count - len(colors)):
        hue = (step * 0.6180339887498949) % 1.0
        saturation = (0.85, 0.55, 1.0)[step // 8 % 3]
        brightness = (0.95, 0.65, 0.80)[step // 4 % 3]
        red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue, saturation, brightness))
        colors.append((red, green, blue))
    return tuple(colors)


def _check_order(order: Sequence[str], names: Sequence[str]) -> None:
    """Raise ValueError unless `order` holds each of `names` exactly once."""
    complaints = []
    if missing := [name for name in names if name not in order]:
        complaints.append(f"leaves out {missing}")
    for name in dict.fromkeys(order):
        if name not in names:
            nearest = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
            if name == BACKGROUND_NAME:
                hint = " (data.background: class adds it by itself, at index 0)"
            else:
                hint = f" (did you mean {nearest[0]!r}?)" if nearest else ""
            complaints.append(f"names {name!r}, which is no category{hint}")
    if doubled := _doubled(order):
        complaints.append(f"names {doubled} more than once")
    if complaints:
        raise ValueError(
            f"data.classes {'; '.join(complaints)}. Expected each category of the annotation file exactly once: "
            f"{list(names)}; or null, for ascending category id."
        )


def _doubled(values: Sequence[Any]) -> list[Any]:
    """Return the values that occur more than once, in order of first appearance."""
    values = list(values)
    return [value for value in dict.fromkeys(values) if values.count(value) > 1]
