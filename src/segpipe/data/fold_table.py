"""`folds.csv`: one row for each labelled image, to be read and written by people as by programs.

| column | |
|---|---|
| `file_name` | of the image |
| `group` | the images that stay together; those of one name are one scene, or copies of one another |
| `fold` | number of the fold that holds the image out; empty: every fold learns from it |
| `half` | `tune` or `judge`, what the image does where it is held out; `judge` without a fold: it judges every fold |
"""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from segpipe.data.split import Fold
from segpipe.params import MOST_FOLDS

Half = Literal["tune", "judge"]
HALVES = ("tune", "judge")
COLUMNS = ("file_name", "group", "fold", "half")
NEEDED = ("file_name", "fold")


@dataclass(frozen=True)
class FoldRow:
    """What folds do with an image; of its own `group` where none is given."""

    file_name: str
    group: str
    fold: int | None
    half: Half | None


def write_fold_rows(path: Path, rows: Iterable[FoldRow]) -> None:
    """Write the table; names may hold anything that a file name can."""
    # surrogates stand for the bytes of a name that is not UTF-8
    with path.open("w", encoding="utf-8", errors="surrogatepass", newline="") as file:
        file.write(_line(COLUMNS))
        for row in rows:
            file.write(_line((row.file_name, row.group, "" if row.fold is None else row.fold, row.half or "")))


def read_fold_rows(path: Path) -> tuple[list[tuple[int, FoldRow]], list[tuple[str, str, str]]]:
    """The sound rows of the table, each with the line on which it ends, and its faults: where, found, expected.

    Columns may stand in any order; `group` and `half` may be missing. What a spreadsheet leaves behind is understood:
    a mark at the beginning, semicolons or tabs for commas, empty lines.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig", errors="surrogatepass")
    except UnicodeDecodeError as error:
        return [], [("", f"is not UTF-8 ({error.reason} at byte {error.start})", "a CSV file in UTF-8")]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        if faults := list(_header_faults(header)):
            return [], faults
        return _rows(reader, header)
    except csv.Error as error:
        return [], [(f"line {reader.line_num}", f"is no CSV ({error})", "a quoted name to end with a quote")]


def folds_of(rows: Sequence[FoldRow], index: dict[str, int]) -> list[Fold]:
    """The numbered folds; `index` leads from file names into the image table. Raises KeyError for another name."""
    numbers = range(max((row.fold for row in rows if row.fold is not None), default=-1) + 1)
    placed = sorted((index[row.file_name], row) for row in rows)
    own_judge = [i for i, row in placed if row.fold is None and row.half == "judge"]
    folds = []
    for number in numbers:
        held = {half: [i for i, row in placed if row.fold == number and row.half == half] for half in HALVES}
        train = [i for i, row in placed if learns_from(number, row)]
        folds.append(Fold(tuple(train), tuple(held["tune"]), tuple(held["judge"] + own_judge)))
    return folds


def num_folds(rows: Iterable[FoldRow]) -> int:
    """How many folds hold out at least one of the images."""
    return len({row.fold for row in rows} - {None})


def learns_from(number: int, row: FoldRow) -> bool:
    """Whether the models of fold `number` learn from the image."""
    return row.fold != number if row.fold is not None else row.half is None


def read_folds(path: Path, index: dict[str, int]) -> list[Fold]:
    """The folds of a table that `prepare` wrote; ValueError when it was damaged since."""
    rows, faults = read_fold_rows(path)
    found = [": ".join(filter(None, fault[:2])) for fault in faults]
    found += [f"line {line}: no image {row.file_name!r}" for line, row in rows if row.file_name not in index]
    if found:
        raise ValueError(f"{path}: {found[0]}; the file was changed: run `dvc checkout` or `dvc repro prepare`")
    return folds_of([row for _, row in rows], index)


def _line(cells: Sequence[str | int]) -> str:
    """One row as CSV."""
    written = io.StringIO()
    # Python 3.11 quotes a carriage return only where it may end a row
    csv.writer(written, lineterminator="\r\n").writerow(cells)
    return written.getvalue().removesuffix("\r\n") + "\n"


def _delimiter(text: str) -> str:
    header = text.partition("\n")[0]
    return max(",;\t", key=header.count)


def _header_faults(header: list[str]) -> Iterator[tuple[str, str, str]]:
    expected = f"the columns {', '.join(COLUMNS)}, of which group and half may be missing"
    if missing := [name for name in NEEDED if name not in header]:
        yield "line 1", f"the header {', '.join(header)[:200]!r} lacks {', '.join(missing)}", expected
    # a misspelt `half` would be drawn anew, and nobody would know
    elif unknown := [name for name in header if name not in COLUMNS]:
        yield "line 1", f"the header names {', '.join(map(repr, unknown))[:200]}", expected
    elif len(set(header)) < len(header):
        yield "line 1", f"the header names a column twice: {', '.join(header)}", expected


def _rows(
    reader: Iterator[list[str]], header: list[str]
) -> tuple[list[tuple[int, FoldRow]], list[tuple[str, str, str]]]:
    rows, faults = [], []
    for cells in reader:
        line = reader.line_num  # type: ignore[attr-defined]
        if not cells:
            continue
        if len(cells) != len(header):
            faults.append((f"line {line}", f"{len(cells)} cells", f"{len(header)}, as in the header"))
            continue
        row = dict(zip(header, cells, strict=True))
        name, fold, half = row["file_name"], row["fold"].strip(), row.get("half", "").strip()
        if fold and not (fold.isascii() and fold.isdigit() and int(fold[:9]) < MOST_FOLDS and len(fold) < 9):
            expected = f"a whole number from 0 to {MOST_FOLDS - 1}, or nothing for an image that no fold holds out"
            faults.append((f"line {line}", f"the fold of {name!r} is {fold[:50]!r}", expected))
        elif half and half not in HALVES:
            faults.append((f"line {line}", f"the half of {name!r} is {half[:50]!r}", "tune, judge or nothing"))
        else:
            number = int(fold) if fold else None
            rows.append((line, FoldRow(name, row.get("group") or name, number, cast(Half | None, half or None))))
    return rows, faults
