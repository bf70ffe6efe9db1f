"""Images with PNG label maps beside them, listed as the records that COCO files give.

A list is a folder that holds `images/` and `masks/`, or a text file whose lines name an image and its label map. Both
are read like a COCO file: every fault is a `Problem`, and what is faulty is left out.
"""

import csv
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from segpipe.data.source.entries import file_name_fault, normal_name
from segpipe.data.source.images import ImageFault, image_size
from segpipe.data.source.png import HEADER_BYTES, read_header, size_fault
from segpipe.data.source.problems import Problem, short
from segpipe.data.source.records import Annotation, Category, CocoFile, ImageRecord, LabelMap

IMAGES, LABEL_MAPS = "images", "masks"
TEXT_SUFFIXES = (".txt", ".csv")

Complaint = tuple[str, str]  # what was found, what was expected


class NoList(ValueError):
    """What was found in place of a list, and what was expected."""


@dataclass
class Pair:
    """An image and its label map (None in an unlabelled list), by names relative to the data root, and what is wrong.

    `where` is its place in the list. `image` is None where none is named.
    """

    where: str
    image: str | None
    label_map: str | None = None
    complaints: list[Complaint] = field(default_factory=list)


def read_label_maps(
    path: Path,
    root: Path,
    *,
    labeled: bool,
    may_be_empty: bool = False,
    categories: tuple[Category, ...] = (),
    categories_sound: bool = True,
) -> tuple[CocoFile | None, list[Problem]]:
    """Return the sound part of the list `path`, and everything that is wrong with the rest, as `read_coco` does.

    Of images and label maps only headers are read. Images are numbered from 1, in order of lines or of names. Of an
    unlabelled list no label map is looked at. `categories` are those of `classes.csv`; unless they are
    `categories_sound`, the values of label maps cannot be checked.
    """
    try:
        pairs = list_pairs(path, root, labeled=labeled)
    except NoList as error:
        return None, [Problem(str(path), "", *error.args)]
    problems, images = [], []
    if not pairs and not may_be_empty:
        problems.append(Problem(str(path), "'images'", "the list is empty", "at least one entry"))
    values = frozenset(category.id for category in categories) if categories_sound else None
    counts = Counter(normal_name(pair.image) for pair in pairs if pair.image)
    for number, pair in enumerate(pairs, start=1):
        if pair.image and counts[normal_name(pair.image)] > 1:
            pair.complaints.append((f"{short(pair.image)} is listed more than once", "each image once"))
        record = None if pair.complaints else _record(number, pair, values, root)
        problems += [Problem(str(path), pair.where, *complaint) for complaint in pair.complaints]
        images += [record] if record and not pair.complaints else []
    listed = tuple(pair.image for pair in pairs if pair.image)
    if not labeled:
        return CocoFile(path, tuple(images), {}, (), file_names=listed), problems
    no_annotations: dict[int, tuple[Annotation, ...]] = {image.id: () for image in images}
    return CocoFile(path, tuple(images), no_annotations, categories, frozenset(), listed, categories_sound), problems


def list_pairs(path: Path, root: Path, *, labeled: bool) -> list[Pair]:
    """What a folder or a text file lists, whether or not the files are sound; NoList for anything else."""
    return _folder_pairs(path, root, labeled) if path.is_dir() else _text_pairs(path, labeled)


def _record(number: int, pair: Pair, values: frozenset[int] | None, root: Path) -> ImageRecord | None:
    """The record of an image whose files can be looked at; what is wrong with them is added to the complaints."""
    assert pair.image is not None
    for name, kind in ((pair.image, "an image"), (pair.label_map, "a label map")):
        if name is not None and (fault := file_name_fault(name, root.resolve())):
            expected = f"the path of {kind} within data.root, relative to it"
            pair.complaints.append((f"{short(name)} {fault}", expected))
    if pair.complaints:
        return None
    try:
        height, width = image_size(root / pair.image, pair.image)
        record = ImageRecord(number, pair.image, height, width)
        if pair.label_map is None:
            return record
        record = replace(record, label_map=LabelMap(pair.label_map, values))
        with (root / pair.label_map).open("rb") as file:
            header = read_header(file.read(HEADER_BYTES), pair.label_map)
    except ImageFault as fault:
        pair.complaints.append((fault.found, fault.expected))
        return None
    except OSError as error:
        pair.complaints.append((f"{pair.label_map} cannot be read ({error.strerror})", "a file that may be read"))
        return None
    pair.complaints += filter(None, [size_fault(header, record)])
    return record


def _folder_pairs(folder: Path, root: Path, labeled: bool) -> list[Pair]:
    """The images of a folder in order of their names, each with the label map of the same name but for the suffix.

    An unlabelled folder may hold its images without `images/` between.
    """
    missing = [f"{name}/" for name in (IMAGES, LABEL_MAPS) if not (folder / name).is_dir()] if labeled else []
    if missing:
        there = sorted(entry.name for entry in folder.iterdir())
        found = f"the folder has no {' and no '.join(missing)}; in it are {short(there)}"
        raise NoList(found, f"{IMAGES}/ and {LABEL_MAPS}/ with files of the same names, or a text file of pairs")
    base = folder / IMAGES if (folder / IMAGES).is_dir() else folder
    images = _by_stem(base)
    maps = _by_stem(folder / LABEL_MAPS) if labeled else {}
    pairs = []
    for stem, file in [(stem, file) for stem, files in sorted(images.items()) for file in files]:
        pair = Pair(file.relative_to(folder).as_posix(), file.relative_to(root).as_posix())
        if labeled:
            pair.complaints += _match_complaints(images[stem], maps.get(stem, []), stem)
            pair.label_map = maps[stem][0].relative_to(root).as_posix() if stem in maps else None
        pairs.append(pair)
    for stem in sorted(maps.keys() - images.keys()):
        complaint = (f"there is no {IMAGES}/{stem} with some suffix", "an image for each label map, named like it")
        pairs.append(Pair(maps[stem][0].relative_to(folder).as_posix(), None, None, [complaint]))
    return pairs


def _match_complaints(images: list[Path], maps: list[Path], stem: str) -> Iterator[Complaint]:
    if len(images) > 1:
        yield f"{len(images)} images are called {short(stem)}, by different suffixes", "one image for a label map"
    if len(maps) != 1:
        files = f"{len(maps)} files in {LABEL_MAPS}/ match it" if maps else f"no file in {LABEL_MAPS}/ matches it"
        yield files, f"one for each image: {LABEL_MAPS}/{stem}.png"


def _by_stem(folder: Path) -> dict[str, list[Path]]:
    """The files beneath `folder` by their names there without suffix; hidden ones are left out, links followed."""
    found: dict[str, list[Path]] = {}
    seen = {folder.resolve()}
    for place, folders, files in os.walk(folder, followlinks=True):
        real = {name: (Path(place) / name).resolve() for name in folders if not name.startswith(".")}
        folders[:] = [name for name in sorted(real) if real[name] not in seen]  # or links might go round for ever
        seen |= set(real.values())
        for file in (Path(place) / name for name in sorted(files) if not name.startswith(".")):
            found.setdefault(file.relative_to(folder).with_suffix("").as_posix(), []).append(file)
    return found


def _text_pairs(path: Path, labeled: bool) -> list[Pair]:
    """The lines of a text file: an image and its label map, or an image alone, by names relative to the data root."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise NoList(f"the file cannot be read ({error.strerror})", "a text file of names") from error
    except UnicodeDecodeError as error:
        raise NoList("the file is not UTF-8 text", "a text file of names, in UTF-8") from error
    pairs = []
    for number, line in enumerate(lines, start=1):
        names = _fields(line.strip("\r"), labeled)
        is_header = number == 1 and [name.lower() for name in names] in (["image"], ["image", "mask"])
        if not names or is_header:
            continue
        pair = Pair(f"line {number}", names[0], names[1] if labeled and len(names) > 1 else None)
        enough = len(names) == 2 if labeled else len(names) <= 2
        if not enough or not all(names):
            wanted = "an image and its label map" if labeled else "an image"
            expected = f"{wanted}; between two names a tab (where names hold commas or blanks), a comma or a blank"
            pair.complaints.append((f"the line is {short(line.strip())}", expected))
        pairs.append(pair)
    return pairs


def _fields(line: str, labeled: bool) -> list[str]:
    """The names on a line; a blank stands between them only where there must be two, and no tab or comma does."""
    if not line.strip():
        return []
    separator = next((character for character in "\t," if character in line), None)
    if separator is None:
        return line.split() if labeled else [line.strip()]
    return [name.strip() for name in next(csv.reader([line], delimiter=separator))]
