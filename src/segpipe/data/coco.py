"""COCO annotation files, read and checked before anything slow begins.

Every fault of a file is collected as a `Problem`, and what is faulty is left out of the `CocoFile`, so that the caller
can show all problems at once or go on without what is broken.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeGuard, TypeVar

import cv2
import numpy as np

from segpipe.data.rasterize import check_segmentation, expected_segmentation, short

MAX_SIDE = 16_384  # pixels; a larger height or width is taken for a mistake in the file

Entry = TypeVar("Entry")
Complaints = Iterator[tuple[str, str]]  # pairs of what was found and what was expected


@dataclass(frozen=True)
class ImageRecord:
    """An image as the annotation file lists it; `file_name` is relative to the data root."""

    id: int
    file_name: str
    height: int
    width: int


@dataclass(frozen=True)
class Annotation:
    """One object; `segmentation` is a list of polygons or an RLE dict that `check_segmentation` accepts."""

    id: int
    image_id: int
    category_id: int
    segmentation: Any
    iscrowd: bool = False


@dataclass(frozen=True)
class Category:
    """A kind of object; ids are arbitrary integers, the class index comes from `segpipe.labels`."""

    id: int
    name: str


@dataclass(frozen=True)
class CocoFile:
    """The sound part of an annotation file, in file order.

    `annotations_by_image` has an entry, perhaps empty, for every image of a labelled file; it and `categories` are
    empty for an unlabelled one. `incomplete` has the ids of images that lost a faulty annotation: what it covered would
    pass for background.
    """

    path: Path
    images: tuple[ImageRecord, ...]
    annotations_by_image: dict[int, tuple[Annotation, ...]]
    categories: tuple[Category, ...]
    incomplete: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Problem:
    """One fault of a data file: where it is, what was found there, and what was expected."""

    file: str
    where: str
    found: str
    expected: str

    def __str__(self) -> str:
        return f"{self.file}: {self.where}: {self.found.rstrip('.')}; expected {self.expected.rstrip('.')}."


def read_coco(path: Path, root: Path, *, labeled: bool) -> tuple[CocoFile, list[Problem]]:
    """Return the sound part of the COCO file `path`, and everything that is wrong with the rest.

    Image files are looked for under `root` but not opened. Of an unlabelled file only the images are read, so that
    labels it may carry cannot reach a pool or test set. Where two entries share an id, or two images a file name,
    each of them is left out, since nothing tells which is meant. An annotation whose image or category was left out
    goes with it, without a problem of its own; an image that is listed but lost an annotation is `incomplete`.

    Raises ValueError when the file is missing, is not JSON, or has no list of images.
    """
    content = _load_json(path)
    reader = _Reader(str(path), [])
    entries = reader.list_under("images", content)
    file_names = Counter(_normal_name(entry["file_name"]) for entry in entries if _has_text(entry, "file_name"))
    image_complaints = partial(_image_complaints, root=root.resolve(), file_names=file_names)
    images = reader.read("image", entries, image_complaints, _image_record)
    if not labeled:
        return CocoFile(path, images, {}, ()), reader.problems

    category_entries = reader.list_under("categories", content)
    names = Counter(entry["name"] for entry in category_entries if _has_text(entry, "name"))
    categories = reader.read("category", category_entries, partial(_category_complaints, names=names), _category)

    sizes: dict[int, tuple[int, int] | None] = dict.fromkeys(_ids(entries))
    sizes |= {image.id: (image.height, image.width) for image in images}
    annotation_complaints = partial(_annotation_complaints, sizes=sizes, category_ids=_ids(category_entries))
    annotation_entries = reader.list_under("annotations", content, may_be_empty=True)
    annotations = reader.read("annotation", annotation_entries, annotation_complaints, _annotation)

    category_ids = {category.id for category in categories}
    by_image: dict[int, list[Annotation]] = {image.id: [] for image in images}
    for annotation in annotations:
        if annotation.image_id in by_image and annotation.category_id in category_ids:
            by_image[annotation.image_id].append(annotation)
    listed = Counter(entry["image_id"] for entry in annotation_entries if _has_image_id(entry))
    no_list = not isinstance(content.get("annotations"), list)
    incomplete = frozenset(id_ for id_, found in by_image.items() if no_list or len(found) < listed[id_])
    annotations_by_image = {id_: tuple(found) for id_, found in by_image.items()}
    return CocoFile(path, images, annotations_by_image, categories, incomplete), reader.problems


def check_image_size(record: ImageRecord, found_height: int, found_width: int) -> Problem | None:
    """Return the problem that a decoded image is not as large as its record says, or None."""
    if (record.height, record.width) == (found_height, found_width):
        return None
    found = f"the image has height {found_height} and width {found_width}"
    if (record.height, record.width) == (found_width, found_height):
        found += " (after the rotation that its EXIF data may ask for)"
    expected = f"height {record.height} and width {record.width}, as the annotation file says"
    return Problem(record.file_name, f"image {record.id}", found, expected)


def decode_image(path: Path) -> np.ndarray:
    """Return an image file as (height, width, 3) uint8 RGB, turned as its EXIF data asks.

    Grey and palette images become RGB, transparency is dropped, 16 bits become 8. Raises ValueError when the file
    cannot be read as an image.
    """
    expected = "expected an image such as JPEG or PNG"
    try:
        # not cv2.imread, which cannot open names beyond ASCII on every system
        encoded = np.fromfile(path, np.uint8)
        image = cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB) if encoded.size else None
    except OSError as error:
        raise ValueError(
            f"{path}: the file cannot be read ({error.strerror}); {expected}. Restore the file."
        ) from error
    except cv2.error as error:
        raise ValueError(f"{path}: OpenCV cannot decode the file ({error.err}); {expected}. Replace it.") from error
    if image is None:
        size = f"its {encoded.size} bytes are damaged or of another format" if encoded.size else "it is empty"
        raise ValueError(f"{path}: OpenCV cannot decode the file: {size}; {expected}. Replace it.")
    return image


def _load_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in `path`, sure to have a list under 'images'; ValueError otherwise."""
    advice = "Check data.root and the file names under 'data' in params.yaml."
    expected = "expected a JSON object in COCO's detection layout, with a list under 'images'"
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"{path}: there is no such file; expected a COCO annotation file. {advice}") from None
    except OSError as error:
        raise ValueError(f"{path}: the file cannot be read ({error.strerror}); {expected}. {advice}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: the file is not JSON ({error}); {expected}. {advice}") from error
    if not isinstance(content, dict):
        found = f"a JSON {type(content).__name__}"
    elif "images" not in content:
        found = f"a JSON object without 'images' (its keys: {short(sorted(content))})"
    elif not isinstance(content["images"], list):
        found = f"{short(content['images'])} under 'images'"
    else:
        return content
    raise ValueError(f"{path}: found {found}; {expected}. {advice}")


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
        found = f"found {short(content[key])}" if key in content else "the key is missing"
        self.problems.append(Problem(self.file, f"'{key}'", found, expected))
        return []

    def read(
        self,
        kind: str,
        entries: list[Any],
        complaints_of: Callable[[dict[str, Any]], Complaints],
        build: Callable[[dict[str, Any]], Entry],
    ) -> tuple[Entry, ...]:
        """Return `build(entry)` for each sound entry, in order; of the others, note what is wrong."""
        id_counts = Counter(entry["id"] for entry in entries if _has_id(entry))
        plural = "categories" if kind == "category" else f"{kind}s"
        sound: list[Entry] = []
        problems: dict[Problem, None] = {}  # a dict, so that entries which share an id are reported once
        for index, entry in enumerate(entries):
            where, complaints = f"{plural}[{index}]", []
            if not isinstance(entry, dict):
                complaints.append((f"found {short(entry)}", "a JSON object"))
            else:
                if not _has_id(entry):
                    complaints.append((_found(entry, "id"), "an integer"))
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


def _image_complaints(entry: dict[str, Any], root: Path, file_names: Counter) -> Complaints:
    for key in ("height", "width"):
        if not _is_int(entry.get(key)) or not 0 < entry[key] <= MAX_SIDE:
            yield _found(entry, key), f"an integer from 1 to {MAX_SIDE}"
    if not _has_text(entry, "file_name"):
        yield _found(entry, "file_name"), "the path of an image relative to the data root"
        return
    name = entry["file_name"]
    if (count := file_names[_normal_name(name)]) > 1:
        yield f"{count} images have the file_name {short(name)}", "file names that occur once"
    if fault := _file_name_fault(name, root):
        yield f"file_name {short(name)} {fault}", f"an image file within the data root {root}"


def _file_name_fault(name: str, root: Path) -> str | None:
    """Return why `name` does not lead to a file within the resolved folder `root`, or None."""
    if any(ord(character) < 32 for character in name):
        return "holds a control character"
    if PurePosixPath(name).is_absolute():
        return "is an absolute path"
    if ".." in PurePosixPath(name).parts:
        return "leads upwards through '..'"
    try:
        path = (root / name).resolve()
        if not path.is_relative_to(root):
            return "leads out of the data root through a symbolic link"
        if not path.is_file():
            return "does not exist" + (" (write / between folders, not \\)" if "\\" in name else "")
    except (OSError, ValueError, RuntimeError) as error:  # a name too long, not encodable, a circle of links
        return f"cannot be looked up ({error})"
    return None


def _category_complaints(entry: dict[str, Any], names: Counter) -> Complaints:
    if not _has_text(entry, "name"):
        yield _found(entry, "name"), "the name of the category"
    elif names[entry["name"]] > 1:
        yield f"{names[entry['name']]} categories have the name {short(entry['name'])}", "names that occur once"


def _annotation_complaints(
    entry: dict[str, Any], sizes: dict[int, tuple[int, int] | None], category_ids: set[int]
) -> Complaints:
    """Yield what is wrong with an annotation; `sizes` holds None for a listed image that is itself faulty."""
    image_id, category_id = entry.get("image_id"), entry.get("category_id")
    if not _is_int(image_id):
        yield _found(entry, "image_id"), "the integer id of an image"
    elif image_id not in sizes:
        yield f"image_id is {short(image_id)}, which 'images' does not list", "the id of a listed image"
    if not _is_int(category_id):
        yield _found(entry, "category_id"), "the integer id of a category"
    elif category_ids and category_id not in category_ids:  # a file without categories is one problem, not thousands
        expected = f"one of {short(sorted(category_ids))}"
        yield f"category_id is {short(category_id)}, which 'categories' does not list", expected
    if entry.get("iscrowd", 0) not in (0, 1):
        yield _found(entry, "iscrowd"), "0 or 1"
    if "segmentation" not in entry:
        yield _found(entry, "segmentation"), "polygons or an RLE"
        return
    size = sizes.get(image_id) if _is_int(image_id) else None
    if size and (fault := check_segmentation(entry["segmentation"], *size)):
        yield fault, expected_segmentation(entry["segmentation"], *size)


def _image_record(entry: dict[str, Any]) -> ImageRecord:
    return ImageRecord(entry["id"], entry["file_name"], entry["height"], entry["width"])


def _category(entry: dict[str, Any]) -> Category:
    return Category(entry["id"], entry["name"])


def _annotation(entry: dict[str, Any]) -> Annotation:
    ids = (entry["id"], entry["image_id"], entry["category_id"])
    return Annotation(*ids, entry["segmentation"], bool(entry.get("iscrowd", 0)))


def _is_int(value: Any) -> TypeGuard[int]:
    return type(value) is int  # isinstance would accept true and false


def _has_id(entry: Any) -> bool:
    return isinstance(entry, dict) and _is_int(entry.get("id"))


def _has_image_id(entry: Any) -> bool:
    return isinstance(entry, dict) and _is_int(entry.get("image_id"))


def _ids(entries: list[Any]) -> set[int]:
    return {entry["id"] for entry in entries if _has_id(entry)}


def _has_text(entry: Any, key: str) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get(key), str) and entry[key].strip() != ""


def _normal_name(name: str) -> PurePosixPath:
    """Return `name` such that 'a/./b.jpg' equals 'a/b.jpg'."""
    return PurePosixPath(name)


def _found(entry: dict[str, Any], key: str) -> str:
    return f"'{key}' is {short(entry[key])}" if key in entry else f"'{key}' is missing"
