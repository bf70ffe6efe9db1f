"""COCO annotation files, read and checked before anything slow begins.

Every fault of a file is collected as a `Problem`, and what is faulty is left out of the `CocoFile`, so that the caller
can show all problems at once or go on without what is broken.
"""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from segpipe.data.source.entries import (
    Complaints,
    annotation_complaints,
    category_complaints,
    found,
    has_id,
    has_text,
    image_complaints,
    is_int,
    normal_name,
)
from segpipe.data.source.problems import Problem, short
from segpipe.data.source.records import Annotation, Category, CocoFile, ImageRecord

FOLDERS_SEARCHED = 20

Entry = TypeVar("Entry")

_ARCHIVES = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}


def read_coco(
    path: Path, root: Path, *, labeled: bool, may_be_empty: bool = False
) -> tuple[CocoFile | None, list[Problem]]:
    """Return the sound part of the COCO file `path`, and everything that is wrong with the rest.

    Image files are looked for under `root` but not opened. Of an unlabelled file only the images are read, so that
    labels it may carry cannot reach a pool or test set; with `may_be_empty` it may list none. Where two entries share
    an id, or two images a file name, each of them is left out, since nothing tells which is meant. An annotation whose
    image or category was left out goes with it, without a problem of its own; an image that is listed but lost an
    annotation is `incomplete`.

    The file is None when it cannot be read, is not JSON, or has no list of images.
    """
    try:
        content = _load_json(path)
    except ValueError as error:
        expected = "a JSON object in COCO's detection layout, with a list under 'images'"
        return None, [Problem(str(path), "", str(error), expected)]
    reader = _Reader(str(path), [])
    entries = reader.list_under("images", content, may_be_empty=may_be_empty)
    file_names = Counter(normal_name(entry["file_name"]) for entry in entries if has_text(entry, "file_name"))
    complaints = partial(image_complaints, root=root.resolve(), folders=_folders(root), file_names=file_names)
    images = reader.read("image", entries, complaints, _image_record)
    listed = tuple(entry["file_name"] for entry in entries if has_text(entry, "file_name"))
    if not labeled:
        return CocoFile(path, images, {}, (), file_names=listed), reader.problems

    category_entries = reader.list_under("categories", content)
    names = Counter(entry["name"] for entry in category_entries if has_text(entry, "name"))
    categories = reader.read("category", category_entries, partial(category_complaints, names=names), _category)
    annotations_by_image, incomplete = _annotations(reader, content, images, categories, _ids(category_entries))
    sound = 0 < len(category_entries) == len(categories)
    return CocoFile(path, images, annotations_by_image, categories, incomplete, listed, sound), reader.problems


def _annotations(
    reader: "_Reader",
    content: dict[str, Any],
    images: tuple[ImageRecord, ...],
    categories: tuple[Category, ...],
    listed_categories: set[int],
) -> tuple[dict[int, tuple[Annotation, ...]], frozenset[int]]:
    """The sound annotations of each sound image, and the ids of sound images that lost one."""
    sizes: dict[int, tuple[int, int] | None] = dict.fromkeys(_ids(content["images"]))
    sizes |= {image.id: (image.height, image.width) for image in images}
    complaints = partial(annotation_complaints, sizes=sizes, category_ids=listed_categories)
    entries = reader.list_under("annotations", content, may_be_empty=True)
    annotations = reader.read("annotation", entries, complaints, _annotation)

    category_ids = {category.id for category in categories}
    by_image: dict[int, list[Annotation]] = {image.id: [] for image in images}
    for annotation in annotations:
        if annotation.image_id in by_image and annotation.category_id in category_ids:
            by_image[annotation.image_id].append(annotation)
    listed = Counter(
        entry["image_id"] for entry in entries if isinstance(entry, dict) and is_int(entry.get("image_id"))
    )
    no_list = not isinstance(content.get("annotations"), list)
    incomplete = frozenset(id_ for id_, kept in by_image.items() if no_list or len(kept) < listed[id_])
    return {id_: tuple(kept) for id_, kept in by_image.items()}, incomplete


def _folders(root: Path) -> list[Path]:
    """The first few folders in `root`, where an image may lie whose file_name leaves its folder out."""
    return sorted(path for path in root.iterdir() if path.is_dir())[:FOLDERS_SEARCHED] if root.is_dir() else []


def _load_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in `path`, sure to have a list under 'images'; ValueError that says what is there."""
    try:
        encoded = path.read_bytes()
    except OSError as error:
        raise ValueError(f"the file cannot be read ({error.strerror})") from error
    if not encoded.strip():
        raise ValueError("the file is empty")
    if archive := next((name for start, name in _ARCHIVES.items() if encoded.startswith(start)), None):
        raise ValueError(f"the file is compressed ({archive}): unpack it")
    try:
        content = json.loads(encoded, object_pairs_hook=_without_doubled_keys)
    except UnicodeDecodeError as error:
        wrong = f"byte {encoded[error.start]:#04x} at position {error.start}"
        raise ValueError(f"the file is not UTF-8 text ({wrong})") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"the file is not JSON ({error.msg}, line {error.lineno}, column {error.colno})") from error
    except RecursionError as error:
        raise ValueError("the file is nested too deeply") from error
    except _DoubledKey:
        raise
    except ValueError as error:  # Python reads no integer of more digits
        raise ValueError("the file holds an integer of more than 4300 digits") from error
    if not isinstance(content, dict):
        raise ValueError(f"the file holds a JSON {type(content).__name__}")
    if "images" not in content:
        raise ValueError(f"the file holds a JSON object without 'images' (its keys: {short(sorted(content))})")
    if not isinstance(content["images"], list):
        raise ValueError(f"the file has {short(content['images'])} under 'images'")
    return content


class _DoubledKey(ValueError):
    """An object that has a key twice: JSON readers keep one of the values and drop the other without a word."""


def _without_doubled_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entry = dict(pairs)
    if len(entry) < len(pairs):
        doubled = Counter(key for key, _ in pairs).most_common(1)[0][0]
        place = f"the object with id {short(entry['id'])}" if "id" in entry else "an object of the file"
        raise _DoubledKey(f"{place} has the key {short(doubled)} twice")
    return entry


@dataclass
class _Reader:
    """Reads the lists of one file, and keeps the problems found on the way."""

    file: str
    problems: list[Problem]

    def list_under(self, key: str, content: dict[str, Any], *, may_be_empty: bool = False) -> list[Any]:
        """Return the list `content[key]`; an empty one, and a problem, when there is none."""
        entries = content.get(key)
        if isinstance(entries, list):
            if not entries and not may_be_empty:
                self.problems.append(Problem(self.file, f"'{key}'", "the list is empty", "at least one entry"))
            return entries
        expected = "a list, because the file is read as a labelled one"
        there = f"found {short(content[key])}" if key in content else "the key is missing"
        self.problems.append(Problem(self.file, f"'{key}'", there, expected))
        return []

    def read(
        self,
        kind: str,
        entries: list[Any],
        complaints_of: Callable[[dict[str, Any]], Complaints],
        build: Callable[[dict[str, Any]], Entry],
    ) -> tuple[Entry, ...]:
        """Return `build(entry)` for each sound entry, in order; of the others, note what is wrong."""
        id_counts = Counter(entry["id"] for entry in entries if has_id(entry))
        plural = "categories" if kind == "category" else f"{kind}s"
        sound: list[Entry] = []
        problems: dict[Problem, None] = {}  # a dict, so that entries which share an id are reported once
        for index, entry in enumerate(entries):
            where, complaints = f"{plural}[{index}]", []
            if not isinstance(entry, dict):
                complaints.append((f"found {short(entry)}", "a JSON object"))
            else:
                if not has_id(entry):
                    complaints.append((found(entry, "id"), "an integer"))
                else:
                    where, count = f"{kind} {short(entry['id'])}", id_counts[entry["id"]]
                    if count > 1:
                        complaints.append((f"{count} {plural} have this id", "ids that occur once"))
                complaints += complaints_of(entry)
            if complaints:
                problems |= dict.fromkeys(Problem(self.file, where, *complaint) for complaint in complaints)
            else:
                sound.append(build(entry))
        self.problems += problems
        return tuple(sound)


def _image_record(entry: dict[str, Any]) -> ImageRecord:
    return ImageRecord(entry["id"], entry["file_name"], entry["height"], entry["width"])


def _category(entry: dict[str, Any]) -> Category:
    return Category(entry["id"], entry["name"])


def _annotation(entry: dict[str, Any]) -> Annotation:
    ids = (entry["id"], entry["image_id"], entry["category_id"])
    return Annotation(*ids, entry["segmentation"], bool(entry.get("iscrowd", 0)))


def _ids(entries: list[Any]) -> set[int]:
    return {entry["id"] for entry in entries if has_id(entry)}
