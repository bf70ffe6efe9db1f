"""What may be wrong with one entry of an annotation file: an image, a category, an annotation.

Each function yields complaints about an entry, pairs of what was found and what was expected.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeGuard

from segpipe.data.source.problems import short
from segpipe.data.source.rasterize import check_segmentation, expected_segmentation
from segpipe.params.values import UNPRINTABLE

MAX_SIDE = 16_384  # pixels; a larger height or width is taken for a mistake in the file

Complaints = Iterator[tuple[str, str]]
_CACHED = re.compile(r"files/md5/[0-9a-f]{2}/[0-9a-f]{30}")  # how DVC's cache names a file


def image_complaints(
    entry: dict[str, Any], root: Path, folders: list[Path], file_names: Counter[PurePosixPath]
) -> Complaints:
    """Sides, and a file name that occurs once in `file_names` and leads to a file within the resolved `root`.

    For a file that is not there, `folders` of the root are searched, so that the complaint can say where it is.
    """
    for key in ("height", "width"):
        if not is_int(entry.get(key)) or not 0 < entry[key] <= MAX_SIDE:
            yield found(entry, key), f"an integer from 1 to {MAX_SIDE}"
    if not has_text(entry, "file_name"):
        yield found(entry, "file_name"), "the path of an image relative to data.root"
        return
    name = entry["file_name"]
    if (count := file_names[normal_name(name)]) > 1:
        yield f"{count} images have the file_name {short(name)}", "file names that occur once"
    if fault := file_name_fault(name, root, folders):
        yield f"file_name {short(name)} {fault}", "the path of an image within data.root, relative to it"


def category_complaints(entry: dict[str, Any], names: Counter[str]) -> Complaints:
    """A name, and one that occurs once in `names`."""
    if not has_text(entry, "name"):
        yield found(entry, "name"), "the name of the category"
    elif UNPRINTABLE.search(entry["name"]):
        yield f"{found(entry, 'name')}, which holds a character that cannot be shown", "a name to show to people"
    elif names[entry["name"]] > 1:
        yield f"{names[entry['name']]} categories have the name {short(entry['name'])}", "names that occur once"


def annotation_complaints(
    entry: dict[str, Any], sizes: dict[int, tuple[int, int] | None], category_ids: set[int]
) -> Complaints:
    """Ids that are listed, a segmentation that fits; `sizes` holds None for a listed image that is itself faulty."""
    image_id, category_id = entry.get("image_id"), entry.get("category_id")
    if not is_int(image_id):
        yield found(entry, "image_id"), "the integer id of an image"
    elif image_id not in sizes:
        yield f"image_id is {short(image_id)}, which 'images' does not list", "the id of a listed image"
    if not is_int(category_id):
        yield found(entry, "category_id"), "the integer id of a category"
    elif category_ids and category_id not in category_ids:  # a file without categories is one problem, not thousands
        expected = f"one of {short(sorted(category_ids))}"
        yield f"category_id is {short(category_id)}, which 'categories' does not list", expected
    if entry.get("iscrowd", 0) not in (0, 1):
        yield found(entry, "iscrowd"), "0 or 1"
    if "segmentation" not in entry:
        alone = " (its bbox says nothing of pixels)" if "bbox" in entry else ""
        yield found(entry, "segmentation") + alone, "polygons or an RLE"
        return
    size = sizes.get(image_id) if is_int(image_id) else None
    if size and (fault := check_segmentation(entry["segmentation"], *size)):
        yield fault, expected_segmentation(entry["segmentation"], *size)


def link_leads_out(path: Path, root: Path) -> bool:
    """Whether `path`, links followed, lies outside the resolved folder `root`; DVC's links to its cache do not count.

    Raises OSError, ValueError or RuntimeError for a path that cannot be followed.
    """
    resolved = path.resolve()
    return not resolved.is_relative_to(root) and not _CACHED.fullmatch("/".join(resolved.parts[-4:]))


def named_file_fault(root: Path, name: str) -> str | None:
    """Why `name`, which params.yaml gives, leads to no file in the folder `root`, or None."""
    path = root / name
    try:
        if link_leads_out(path, root.resolve()):
            return f"leads out of data.root, {root}: DVC would not see the file change"
        if path.is_dir():
            return "is a folder"
        return None if path.is_file() else f"does not exist in {root}"
    except (OSError, ValueError, RuntimeError) as error:
        return f"cannot be looked up ({lookup_fault(error)})"


def file_name_fault(name: str, root: Path, folders: Sequence[Path] = ()) -> str | None:
    """Return why `name` does not lead to a file within the resolved folder `root`, or None.

    A file that is not there is looked for in `folders` of the root, so that the answer can say where it is.
    """
    if any(ord(character) < 32 for character in name):
        return "holds a control character"
    if PurePosixPath(name).is_absolute():
        return "is an absolute path"
    if ".." in PurePosixPath(name).parts:
        return "leads upwards through '..'"
    try:
        if link_leads_out(root / name, root):
            return "leads out of data.root through a symbolic link"
        if not (root / name).is_file():
            return f"does not exist{_where_instead(name, root, folders)}"
    except (OSError, ValueError, RuntimeError) as error:
        return f"cannot be looked up ({lookup_fault(error)})"
    return None


def lookup_fault(error: Exception) -> str:
    """Why `link_leads_out` or a look at the disk failed, without the folders of this machine."""
    if isinstance(error, OSError):
        return error.strerror or "no reason is given"  # such as a name too long
    return "a circle of symbolic links" if isinstance(error, RuntimeError) else "a character that no file name can hold"


def _where_instead(name: str, root: Path, folders: Sequence[Path]) -> str:
    if "\\" in name:
        return " (write / between folders, not \\)"
    if (root / name).is_dir():
        return " as a file (it is a folder)"
    instead = next((f"{folder.name}/{name}" for folder in folders if (folder / name).is_file()), None)
    return f" ({short(instead)} does)" if instead else ""


def is_int(value: Any) -> TypeGuard[int]:
    """Whether it is an integer and no boolean, which isinstance would accept."""
    return type(value) is int


def has_id(entry: Any) -> bool:
    """Whether it is an object with an integer 'id'."""
    return isinstance(entry, dict) and is_int(entry.get("id"))


def has_text(entry: Any, key: str) -> bool:
    """Whether it is an object with something readable under `key`."""
    return isinstance(entry, dict) and isinstance(entry.get(key), str) and entry[key].strip() != ""


def found(entry: dict[str, Any], key: str) -> str:
    """What stands under `key`, in words."""
    return f"'{key}' is {short(entry[key])}" if key in entry else f"'{key}' is missing"


def normal_name(name: str) -> PurePosixPath:
    """Return `name` such that 'a/./b.jpg' equals 'a/b.jpg'."""
    return PurePosixPath(name)
