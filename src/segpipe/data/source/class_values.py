"""`classes.csv`: what the pixel values of label maps mean, since a PNG does not say it."""

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from segpipe.data.source.problems import Problem, short
from segpipe.data.source.records import Category
from segpipe.labels import IGNORE_INDEX
from segpipe.params import DataParams
from segpipe.params.values import UNPRINTABLE

CLASSES_FILE = "classes.csv"  # in the data root
HEADER = ["value", "name"]
MAX_VALUE = 65_535  # of a PNG with 16 bits
UNLISTED = frozenset({0, IGNORE_INDEX})  # values that need no row: not annotated, and not counted

_LAYOUT = f"the header {','.join(HEADER)} and below it one row for each pixel value that label maps hold"


def read_class_values(root: Path) -> tuple[tuple[Category, ...], list[Problem]]:
    """The categories that `classes.csv` in `root` lists, with pixel values for ids; and all that is wrong with it.

    Sound rows are returned beside problems, so that a caller which stops anyway can check more.
    """
    path = root / CLASSES_FILE
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [(number, row) for number, row in _numbered(csv.reader(file)) if any(cell.strip() for cell in row)]
    except FileNotFoundError:
        return (), [Problem(str(path), "", "the file does not exist", f"a CSV file with {_LAYOUT}")]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        return (), [Problem(str(path), "", f"the file cannot be read ({_reason(error)})", f"a CSV file with {_LAYOUT}")]
    if not rows or [cell.strip() for cell in rows[0][1]] != HEADER:
        first = f"the first line is {short(rows[0][1])}" if rows else "the file is empty"
        return (), [Problem(str(path), "", first, _LAYOUT)]
    if len(rows) == 1:
        return (), [Problem(str(path), "", "no row follows the header", _LAYOUT)]
    return _categories(path, rows[1:])


def background_problem(categories: Sequence[Category], data: DataParams) -> Iterator[Problem]:
    """A background class that no pixel could have: value 0 is listed as something else, and nothing is dropped."""
    named = [category.name for category in categories if category.id == 0]
    if data.background == "class" and named and not data.drop:
        found = f"'class' adds a class for pixels of value 0, which {CLASSES_FILE} calls {short(named[0])}"
        expected = f"ignore, where every class has a row in {CLASSES_FILE}; or {short(named[0])} in data.drop"
        yield Problem("params.yaml", "data.background", found, expected)


def _categories(path: Path, rows: list[tuple[int, list[str]]]) -> tuple[tuple[Category, ...], list[Problem]]:
    values = Counter(value for _, row in rows if (value := _value(row)) is not None)
    names = Counter(row[1].strip() for _, row in rows if len(row) == 2)
    sound, problems = [], []
    for number, row in rows:
        complaints = list(_complaints(row, values, names))
        problems += [Problem(str(path), f"line {number}", *complaint) for complaint in complaints]
        value = _value(row)
        if not complaints and value is not None:
            sound.append(Category(value, row[1].strip()))
    return tuple(sound), problems


def _complaints(row: list[str], values: Counter[int], names: Counter[str]) -> Iterator[tuple[str, str]]:
    """Pairs of what was found in a row and what was expected."""
    if len(row) != 2:
        yield f"the row has {len(row)} fields", "two, value and name; a name that holds a comma stands in quotes"
        return
    value, name = _value(row), row[1].strip()
    if value is None:
        yield f"the value is {short(row[0])}", f"a whole number from 0 to {MAX_VALUE}"
    elif values[value] > 1:
        yield f"{values[value]} rows have the value {value}", "values that occur once"
    if not name or UNPRINTABLE.search(name):
        yield f"the name is {short(row[1])}", "a name to show to people"
    elif names[name] > 1:
        expected = "names that occur once; data.classes can make one class of several"
        yield f"{names[name]} rows have the name {short(name)}", expected


def _value(row: list[str]) -> int | None:
    text = row[0].strip() if row else ""
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(MAX_VALUE))):
        return None
    return value if (value := int(text)) <= MAX_VALUE else None


def _numbered(reader: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    for row in reader:
        yield reader.line_num, row  # type: ignore[attr-defined]  # of csv.reader, which has no type of its own


def _reason(error: Exception) -> str:
    return "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else getattr(error, "strerror", str(error))
