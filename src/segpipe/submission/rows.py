"""CSV files of two columns, an id and a long text, row by row: only ids and places of rows are ever held.

Rows are written as bytes and read by the csv module, which writes none of them.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from segpipe.data.source.problems import short

LONGEST_ROW = 1 << 28  # bytes: more than an image of 8,000 x 8,000 pixels takes
csv.field_size_limit(LONGEST_ROW)  # by default a field of 256 x 256 pixels is too long


@dataclass(frozen=True)
class Row:
    """A row of a CSV: where it begins, and its two fields, or else what is wrong with it."""

    line: int
    place: int
    id: str
    text: str
    fault: str | None = None


class CsvFile:
    """A CSV opened for reading, in order or by the places of its rows. `columns` is its header."""

    def __init__(self, path: Path) -> None:
        self.path, self._file = path, path.open("rb")
        self.columns = tuple(_fields(self._file.readline(LONGEST_ROW))[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def rows(self, *, keep_text: bool = True) -> Iterator[Row]:
        """Every row below the header; without `keep_text` as `text` is empty."""
        self._file.seek(0)
        self._file.readline(LONGEST_ROW)
        place, line = self._file.tell(), 2
        while raw := self._file.readline(LONGEST_ROW):
            if len(raw) == LONGEST_ROW:
                yield Row(line, place, "", "", f"is longer than {LONGEST_ROW} bytes; what follows is not read")
                return
            if raw.strip():  # blank lines are no rows, as every reader has it
                yield _row(raw, line, place, keep_text)
            place, line = place + len(raw), line + 1

    def text_at(self, place: int) -> str:
        """The second field of the sound row that begins at `place`."""
        self._file.seek(place)
        return _fields(self._file.readline(LONGEST_ROW))[0][1]


def _row(raw: bytes, line: int, place: int, keep_text: bool) -> Row:
    fields, fault = _fields(raw)
    if not fault and len(fields) != 2:
        fault = f"found {len(fields)} fields, expected 2"
    if fault:
        return Row(line, place, fields[0] if fields else "", "", fault)
    return Row(line, place, fields[0], fields[1] if keep_text else "")


def _fields(raw: bytes) -> tuple[list[str], str | None]:
    try:
        return next(csv.reader([raw.decode("utf-8")], strict=True), []), None
    except UnicodeDecodeError:
        return [], f"is no UTF-8 text ({short(raw[:40])})"
    except csv.Error as error:
        return [], f"is no row of a CSV ({error})"


class CsvWriter:
    """Rows to a CSV as they come; where `order` is given, they stand in that order in the end.

    Of each row only the place is remembered. The file is whole once `finish` has run.
    """

    def __init__(self, path: Path, columns: tuple[str, str], order: Sequence[str]) -> None:
        self.path, self.order = path, tuple(order)
        self._part = path.with_name(path.name + ".part")
        self._file = self._part.open("w+b")
        self._header = _joined(columns[0], columns[1])
        self._file.write(self._header)
        self._places: dict[str, tuple[int, int]] = {}
        self._end = len(self._header)

    def add(self, id_: str, text: bytes) -> None:
        """One row; `text` is plain ASCII that needs no quotes."""
        row = _joined(id_, "")[:-1] + text + b"\n"
        self._file.write(row)
        if self.order:
            self._places[id_] = self._end, len(row)
        self._end += len(row)

    def finish(self) -> None:
        """Put the rows in order, and the file in its place."""
        if self.order and tuple(self._places) != self.order:
            ordered = self.path.with_name(self.path.name + ".ordered")
            with ordered.open("wb") as file:
                file.write(self._header)
                for id_ in self.order:
                    place, length = self._places[id_]
                    self._file.seek(place)
                    file.write(self._file.read(length))
            self._file.close()
            self._part.unlink()
            ordered.replace(self.path)
            return
        self._file.close()
        self._part.replace(self.path)

    def discard(self) -> None:
        """Remove what was written, where `finish` has not run."""
        self._file.close()
        self._part.unlink(missing_ok=True)


def _joined(first: str, second: str) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow([first, second])
    return text.getvalue().encode("utf-8")
