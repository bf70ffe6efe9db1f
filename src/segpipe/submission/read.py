"""Files of a submission opened for reading, image by image in any order: a CSV, or a folder or zip of label maps.

Opening looks at ids alone. A CSV in a zip is unpacked to a file of the system's temporary folder first.
"""

import lzma
import shutil
import tempfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from segpipe.data.source.problems import short, shown_id, some_ids
from segpipe.submission.decode import read_pixels, read_runs
from segpipe.submission.layout import Format, Layout
from segpipe.submission.png import decode_png, png_name, png_problems
from segpipe.submission.rows import CsvFile

SHOWN = 3  # ids that a message names
BYTES_A_PIXEL = 16  # more than any text has for one
# what zipfile ends in for a file that is damaged, encrypted (RuntimeError) or packed by a method it lacks
ZIP_FAULTS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, RuntimeError)


class SubmissionFile(ABC):
    """A file of a submission for the images `sizes`, (height, width) by file name in order.

    `faults` says what is wrong with the file as a whole, `order_fault` whether it is in another order than expected.
    """

    format_: Format
    sizes: Mapping[str, tuple[int, int]]
    faults: list[str]
    order_fault: str | None

    @abstractmethod
    def label_map(self, file_name: str) -> tuple[np.ndarray | None, list[str]]:
        """(height, width) uint8 as `Layout.shown` gives it, or None and what is wrong with it, each with an id.

        None without a fault is an image whose rows are missing, which `faults` says.
        """


class CsvSubmission(SubmissionFile):
    """Formats `pixels` and `rle`."""

    def __init__(self, file: CsvFile, format_: Format, layout: Layout, sizes: Mapping[str, tuple[int, int]]) -> None:
        self.format_, self._file, self._layout, self.sizes = format_, file, layout, sizes
        self.faults, self.order_fault = [], None
        self._places: dict[str, int] = {}
        if file.columns != layout.columns(format_):
            found, expected = list(file.columns), list(layout.columns(format_))
            self.faults.append(f"found columns {short(found)}, expected {expected}")
        if len(file.columns) != 2:
            return  # every row would be told besides
        ids: list[str] = []
        for row in file.rows(keep_text=False):
            if row.fault:
                self.faults.append(f"line {row.line}: {row.fault}")
            if not row.fault or row.id:  # what has an id is not missing besides
                ids.append(row.id)
            if not row.fault:
                self._places.setdefault(row.id, row.place)
        own = [id_ for name in sizes for id_ in layout.ids(format_, name)]
        self.faults += id_faults(ids, own)
        expected_order = list(layout.sample.ids) if layout.sample and layout.sample.ids else own
        if not self.faults and ids != expected_order:
            what = "the sample submission" if layout.sample and layout.sample.ids else "the test file"
            self.order_fault = f"the ids are not in the order of {what}"

    def label_map(self, file_name: str) -> tuple[np.ndarray | None, list[str]]:
        """See SubmissionFile."""
        ids, size = self._layout.ids(self.format_, file_name), self.sizes[file_name]
        if not all(id_ in self._places for id_ in ids):
            return None, []
        if self.format_ == "pixels":
            text = self._file.text_at(self._places[file_name])
            label_map, faults = read_pixels(text, size, self._layout.classes.num_classes)
            return label_map, [f"{shown_id(file_name)}: {fault}" for fault in faults]
        return self._painted(ids, size)

    def _painted(self, ids: list[str], size: tuple[int, int]) -> tuple[np.ndarray | None, list[str]]:
        """The masks of an image in one map."""
        painted, faults = np.zeros(size, np.uint8), []
        for label, id_ in enumerate(ids, start=1):
            mask, wrong = read_runs(self._file.text_at(self._places[id_]), size)
            faults += [f"{shown_id(id_)}: {fault}" for fault in wrong]
            if mask is None:
                continue
            if shared := int(np.count_nonzero(painted[mask])):
                faults.append(f"{shown_id(id_)}: {shared} pixels are another class's, too; expected one class a pixel")
            painted[mask] = label
        return (None, faults) if faults else (painted, [])


class PngSubmission(SubmissionFile):
    """Format `png`: files by name in a folder or a zip."""

    format_: Format = "png"

    def __init__(self, place: Path | zipfile.ZipFile, layout: Layout, sizes: Mapping[str, tuple[int, int]]) -> None:
        self._place, self._layout, self.sizes = place, layout, sizes
        names = place.namelist() if isinstance(place, zipfile.ZipFile) else _files_below(place)
        found = [name for name in names if name.lower().endswith(".png")]
        self._found, expected = set(found), [png_name(name).as_posix() for name in sizes]
        self.order_fault = None
        self.faults = [*png_problems(sizes), *id_faults(found, list(dict.fromkeys(expected)), "file")]

    def label_map(self, file_name: str) -> tuple[np.ndarray | None, list[str]]:
        """See SubmissionFile."""
        name = png_name(file_name).as_posix()
        if name not in self._found:
            return None, []
        size, place = self.sizes[file_name], self._place
        try:
            encoded = _in_zip(place, name) if isinstance(place, zipfile.ZipFile) else (place / name).read_bytes()
            return decode_png(encoded, size, self._layout.classes.num_classes), []
        except (ValueError, *ZIP_FAULTS) as error:
            return None, [f"{shown_id(name)}: {error}"]


@contextmanager
def open_submission(
    path: Path, format_: Format, layout: Layout, sizes: Mapping[str, tuple[int, int]]
) -> Iterator[SubmissionFile]:
    """The file, folder or zip at `path`; ValueError where it is nothing of the kind."""
    with ExitStack() as stack:
        place: Path | zipfile.ZipFile = path
        if path.is_file() and zipfile.is_zipfile(path):
            place = stack.enter_context(open_zip(path))
        if format_ == "png":
            yield PngSubmission(place, layout, sizes)
            return
        if isinstance(place, zipfile.ZipFile):
            ids = sum(len(id_) + BYTES_A_PIXEL for name in sizes for id_ in layout.ids(format_, name))
            most = 2 * ids + BYTES_A_PIXEL * sum(height * width for height, width in sizes.values()) + (1 << 20)
            place = _unpacked(place, Path(stack.enter_context(tempfile.TemporaryDirectory())), path, most)
        yield CsvSubmission(stack.enter_context(CsvFile(place)), format_, layout, sizes)


def open_zip(path: Path) -> zipfile.ZipFile:
    """The zip at `path`; ValueError for one whose list of files is damaged."""
    try:
        return zipfile.ZipFile(path)
    except ZIP_FAULTS as error:
        raise ValueError(f"{path}: is a zip that cannot be read ({error}); pack it anew") from error


def id_faults(found: list[str], expected: list[str], what: str = "id") -> list[str]:
    """Ids that are missing, not asked for, or there more than once, one line a kind."""
    counts, wanted = Counter(found), set(expected)
    kinds = {
        "missing": [id_ for id_ in expected if id_ not in counts],
        "not of the test set": [id_ for id_ in counts if id_ not in wanted],
        "there more than once": [id_ for id_, count in counts.items() if count > 1],
    }
    return [
        f"{len(ids)} {what}{' is' if len(ids) == 1 else 's are'} {kind}: {some_ids(ids, SHOWN)}"
        for kind, ids in kinds.items()
        if ids
    ]


def _files_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _in_zip(place: zipfile.ZipFile, name: str) -> bytes:
    limit = 1 << 28
    if place.getinfo(name).file_size > limit:
        raise ValueError(f"is larger than {limit} bytes when it is unpacked")
    return place.read(name)


def _unpacked(place: zipfile.ZipFile, folder: Path, path: Path, most: int) -> Path:
    tables = [name for name in place.namelist() if name.lower().endswith(".csv")]
    if len(tables) != 1:
        raise ValueError(f"{path}: found {len(tables)} CSV files in it, expected one")
    if (size := place.getinfo(tables[0]).file_size) > most:  # a small zip may hold what fills the disk
        raise ValueError(f"{path}: holds {size} bytes, far more than a submission of these images could have")
    out = folder / "submission.csv"
    try:
        with place.open(tables[0]) as source, out.open("wb") as target:
            shutil.copyfileobj(source, target)
    except ZIP_FAULTS as error:
        found = f"{shown_id(tables[0])} in it cannot be read ({error})"
        raise ValueError(f"{path}: {found}; expected a whole zip without a password, so pack it anew") from error
    return out
