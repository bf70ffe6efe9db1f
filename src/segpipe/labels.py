"""Facts about classes: their names in index order, the categories they are made of, their colours, the ignore label.

`build_class_table` makes a `ClassTable` of the categories of the annotation files once, in the prepare stage; every
later stage reads it from the prepared data. Categories are known by name: ids belong to the one file that lists them.
"""

import colorsys
import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

IGNORE_INDEX = 255  # unlabelled pixel; 255 because targets are stored as 8 bits
MAX_CLASSES = 254  # indices 0..253: 255 is the ignore label, 254 stays free for tools that want a second mark
BACKGROUND_NAME = "Background"

Color = tuple[int, int, int]
ClassEntry = str | Mapping[str, Sequence[str]]  # a category, or {name of the class: its categories}


class CategoryLike(Protocol):
    """A category of an annotation file, as `segpipe.data.source.records.Category` describes it."""

    @property
    def id(self) -> int:
        """Any integer; its size and gaps mean nothing, and another file may have another."""

    @property
    def name(self) -> str:
        """The name shown to people, and used in `data.classes`, `data.drop` and `data.ignore`."""


@dataclass(frozen=True)
class ClassTable:
    """Class names in index order; `names[target]` names a pixel. Built once, from the annotation files.

    `categories[index]` are the names of the categories that make up a class, none for a background that no category
    names; `colors[index]` is (red, green, blue), each 0..255. `ignored` and `dropped` name the categories that belong
    to no class: pixels of the former become IGNORE_INDEX, annotations of the latter are as if not there. Raises
    ValueError when there is no class, more than MAX_CLASSES, a doubled name or category, or tuples of unequal length.
    """

    names: tuple[str, ...]
    categories: tuple[tuple[str, ...], ...]
    colors: tuple[Color, ...]
    ignored: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a table that could not index 8-bit targets without confusion."""
        if not self.names:
            raise ValueError("the class table has no classes: at least one is needed. List one under 'categories'.")
        if len(self.names) > MAX_CLASSES:
            raise ValueError(
                f"the class table has {len(self.names)} classes, but targets of 8 bits hold at most {MAX_CLASSES} "
                "beside the ignore label. Merge categories in data.classes, or leave some out by data.drop."
            )
        if not len(self.names) == len(self.categories) == len(self.colors):
            raise ValueError(
                f"the class table has {len(self.names)} names, {len(self.categories)} lists of categories and "
                f"{len(self.colors)} colors; expected as many of each."
            )
        if doubled := _doubled(self.names):
            raise ValueError(
                f"the class table names {doubled} more than once; expected each class name once. "
                "Rename classes in data.classes."
            )
        every_category = [*(name for names in self.categories for name in names), *self.ignored, *self.dropped]
        if doubled := _doubled(every_category):
            raise ValueError(f"the class table uses the categories {doubled} more than once; expected each once.")

    @property
    def num_classes(self) -> int:
        """How many class indices there are, the background among them and IGNORE_INDEX not."""
        return len(self.names)

    def class_index(self, categories: Sequence[CategoryLike]) -> dict[int, int | None]:
        """Class indices of a file's category ids: IGNORE_INDEX for ignored, None for dropped, ValueError for others."""
        meaning: dict[str, int | None] = dict.fromkeys(self.dropped) | dict.fromkeys(self.ignored, IGNORE_INDEX)
        meaning |= {name: index for index, names in enumerate(self.categories) for name in names}
        if unknown := [category.name for category in categories if category.name not in meaning]:
            raise ValueError(f"the class table knows no category {unknown}; it knows {list(meaning)}.")
        return {category.id: meaning[category.name] for category in categories}

    def lacking(self, categories: Sequence[CategoryLike]) -> list[int]:
        """The classes that none of a file's categories belongs to, without a background that no category names."""
        listed = {category.name for category in categories}
        return [index for index, names in enumerate(self.categories) if names and listed.isdisjoint(names)]

    def to_json(self) -> dict[str, Any]:
        """Return a plain dict that `json.dumps` accepts and `from_json` reads back to an equal table."""
        return {
            "names": list(self.names),
            "categories": [list(names) for names in self.categories],
            "colors": [list(color) for color in self.colors],
            "ignored": list(self.ignored),
            "dropped": list(self.dropped),
        }

    @classmethod
    def from_json(cls, table: dict[str, Any]) -> "ClassTable":
        """Return the table that `to_json` wrote; ValueError when a key is missing, unknown or not a list."""
        expected = {"names", "categories", "colors", "ignored", "dropped"}
        if not isinstance(table, dict) or set(table) != expected:
            has = sorted(table) if isinstance(table, dict) else type(table).__name__
            raise ValueError(f"a class table in JSON has {has}; expected the keys {sorted(expected)}.")
        for key in sorted(expected):
            if not isinstance(table[key], list):
                raise ValueError(f"'{key}' of a class table in JSON is {table[key]!r}; expected a list.")
        return cls(
            names=tuple(table["names"]),
            categories=tuple(tuple(names) for names in table["categories"]),
            colors=tuple(tuple(color) for color in table["colors"]),
            ignored=tuple(table["ignored"]),
            dropped=tuple(table["dropped"]),
        )


def build_class_table(
    *category_lists: Sequence[CategoryLike],
    background: Literal["class", "ignore"],
    classes: Sequence[ClassEntry] | None = None,
    drop: Sequence[str] = (),
    ignore: Sequence[str] = (),
    part: bool = False,
) -> ClassTable:
    """Return the class table of the categories that annotation files list, one list a file; names decide.

    With background "class", index 0 is named Background and the other classes follow; with "ignore", they start at 0.
    Without `classes` each category that neither `drop` nor `ignore` names is a class: in ascending id, those that only
    later files list after those of the first. With it every category must be named exactly once in `classes`, `drop`
    or `ignore`, unless `part` says that other files of the set are not here, whose categories may be named, too.

    Raises ValueError with all names that are left out, unknown or doubled; no class can be another Background.
    """
    if background not in ("class", "ignore"):
        raise ValueError(f"data.background is {background!r}; expected 'class' or 'ignore'.")
    known = _known_names(category_lists)
    entries = [name for name in known if name not in {*drop, *ignore}] if classes is None else classes
    made_of = [_read_entry(entry) for entry in entries]
    named = {
        "data.classes": [category for _, categories in made_of for category in categories],
        "data.drop": list(drop),
        "data.ignore": list(ignore),
    }
    adds_background = background == "class"
    complaints = [*_name_complaints(made_of, known, adds_background)]
    complaints += _unaccounted(named, known, adds_background, part)
    if complaints:
        raise ValueError(" ".join(complaints))
    if known and not made_of:
        raise ValueError(f"data.drop and data.ignore name every category there is, {known}: no class is left.")
    table = [(BACKGROUND_NAME, ()), *made_of] if adds_background else made_of
    names, categories = tuple(name for name, _ in table), tuple(categories for _, categories in table)
    colors = distinct_colors(len(table), background=adds_background)
    return ClassTable(names, categories, colors, ignored=tuple(ignore), dropped=tuple(drop))


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


def _known_names(category_lists: Sequence[Sequence[CategoryLike]]) -> list[str]:
    """Names in ascending id of the first list, then what only later ones have; ValueError for one that is not sound."""
    known: dict[str, None] = {}
    for categories in category_lists:
        by_id = sorted(categories, key=lambda category: category.id)
        if doubled := _doubled([category.name for category in by_id]):
            raise ValueError(f"'categories' names {doubled} more than once; expected each name once. Rename them.")
        if doubled := _doubled([category.id for category in by_id]):
            raise ValueError(f"'categories' uses the ids {doubled} more than once; expected each id once.")
        known |= dict.fromkeys(category.name for category in by_id)
    return list(known)


def _read_entry(entry: ClassEntry) -> tuple[str, tuple[str, ...]]:
    """The name of a class and its categories."""
    if isinstance(entry, str):
        return entry, (entry,)
    ((name, categories),) = entry.items()
    return name, tuple(categories)


def _name_complaints(
    made_of: list[tuple[str, tuple[str, ...]]], known: list[str], adds_background: bool
) -> Iterator[str]:
    """What is wrong with the names that classes shall have, unless it is that they are no categories."""
    names, categories = [name for name, _ in made_of], [name for _, listed in made_of for name in listed]
    taken = adds_background and BACKGROUND_NAME in names
    if taken and BACKGROUND_NAME in categories and BACKGROUND_NAME in known:
        yield (
            f"a category is named {BACKGROUND_NAME!r}, and data.background: class adds a class of that name for the "
            "pixels that no annotation covers. Rename the category, or set data.background: ignore; an entry of "
            "data.classes can rename it, and data.drop makes it background."
        )
    elif taken and BACKGROUND_NAME not in categories:
        yield (
            f"data.classes calls a class {BACKGROUND_NAME!r}, and data.background: class adds one of that name. Choose "
            "another, or name its categories in data.drop: they become background."
        )
    if doubled := [name for name in _doubled(names) if categories.count(name) < 2]:  # else told of the category
        yield f"data.classes calls more than one class {doubled}; expected each class name once."


def _unaccounted(named: dict[str, list[str]], known: list[str], adds_background: bool, part: bool) -> Iterator[str]:
    """Which categories the parameters `named` leave out, invent or name twice, and what they should say."""
    complaints, seen = dict[str, list[str]](), dict[str, str]()
    for key, names in named.items():
        said = complaints.setdefault(key, [])
        everywhere = [name for other in named.values() for name in other]
        if key == "data.classes" and (missing := [name for name in known if name not in everywhere]):
            said.append(f"leaves out {missing}")
        unknown = [] if part else [name for name in dict.fromkeys(names) if name not in known]
        said += [f"names {name!r}, which is no category{_hint(name, known, key, adds_background)}" for name in unknown]
        if doubled := _doubled(names):
            said.append(f"names {doubled} more than once")
        said += [f"names {name!r}, as does {seen[name]}" for name in dict.fromkeys(names) if name in seen]
        seen |= dict.fromkeys(names, key)
    if any(complaints.values()):
        yield from (f"{key} {'; '.join(said)}." for key, said in complaints.items() if said)
        yield (
            "Expected each category of the annotation files exactly once in data.classes, data.drop or data.ignore: "
            f"{known}; or data.classes empty, for the rest in ascending category id."
        )


def _hint(name: str, known: list[str], key: str, adds_background: bool) -> str:
    if key == "data.classes" and name == BACKGROUND_NAME and adds_background:
        return " (data.background: class adds it by itself, at index 0)"
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f" (did you mean {nearest[0]!r}?)" if nearest else ""


def _doubled(values: Sequence[Any]) -> list[Any]:
    """Return the values that occur more than once, in order of first appearance."""
    values = list(values)
    return [value for value in dict.fromkeys(values) if values.count(value) > 1]
