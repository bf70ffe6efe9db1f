"""Writers of the submission, and the reader that checks what was written. Needs no torch.

`pixels` is the contest's CSV: image_id (the file name) and PredictionString, the class indices of the label map row
by row, single spaces between. `png` is one 8-bit label map an image with classes.json beside them.
"""

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
import pandas as pd

from segpipe.labels import ClassTable

HEADER = ("image_id", "PredictionString")
LabelMaps = Iterable[tuple[str, np.ndarray]]  # (file name, (height, width) uint8)


def pixel_string(label_map: np.ndarray) -> str:
    """The class indices of a (height, width) uint8 label map, row by row, separated by single spaces."""
    digits = [str(value) for value in range(256)]
    return " ".join(map(digits.__getitem__, label_map.ravel().tolist()))


def write_submission(folder: Path, formats: tuple[str, ...], label_maps: LabelMaps, classes: ClassTable) -> None:
    """Write every format in one pass over `label_maps`; nothing is held but one image.

    Raises ValueError for a file name that would be written outside `folder`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "submission.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        for file_name, label_map in label_maps:
            if "pixels" in formats:
                writer.writerow((file_name, pixel_string(label_map)))
            if "png" in formats:
                _write_png(folder / "png", file_name, label_map)
    if "pixels" not in formats:
        (folder / "submission.csv").unlink()
    if "png" in formats:
        (folder / "png").mkdir(exist_ok=True)  # without test images nothing has made it
        names = {"names": list(classes.names), "categories": [list(names) for names in classes.categories]}
        (folder / "png" / "classes.json").write_text(json.dumps(names, indent=2, ensure_ascii=False) + "\n", "utf-8")


def check_submission(
    folder: Path, formats: tuple[str, ...], expected: list[tuple[str, tuple[int, int]]], num_classes: int
) -> None:
    """Read back what was written and hold it against `expected`, (file name, (height, width)) in order.

    Raises ValueError with every problem: ids missing, extra, doubled or out of order, wrong size, class out of range.
    """
    problems: list[str] = []
    if "pixels" in formats:
        problems += check_pixels(folder / "submission.csv", expected, num_classes)
    if "png" in formats:
        problems += _check_png(folder / "png", expected, num_classes)
    if problems:
        raise ValueError(f"{folder}: the submission is wrong:\n" + "\n".join(f"  {problem}" for problem in problems))


def check_pixels(path: Path, expected: list[tuple[str, tuple[int, int]]], num_classes: int) -> list[str]:
    """What is wrong with a CSV of pixels, one line a problem; read by pandas, in parts, independently of the writer."""
    sizes, seen, problems = dict(expected), [], []
    for part in pd.read_csv(path, dtype=str, keep_default_na=False, chunksize=64):
        if tuple(part.columns) != HEADER:
            return [f"{path.name}: found columns {list(part.columns)}, expected {list(HEADER)}"]
        for image_id, text in part.itertuples(index=False):
            seen.append(image_id)
            if image_id in sizes:
                problems += [f"{image_id}: {fault}" for fault in _pixel_faults(text, sizes[image_id], num_classes)]
    return problems + _id_faults(seen, list(sizes))


def _pixel_faults(text: str, size: tuple[int, int], num_classes: int) -> Iterator[str]:
    parts = text.split(" ")
    if not all(part.isascii() and part.isdigit() for part in parts):
        yield "found something other than whole numbers separated by single spaces"
        return
    values = [int(part) for part in parts]  # of any length: the file may come from elsewhere
    if len(values) != size[0] * size[1]:
        yield f"found {len(values)} pixels, expected {size[0]} x {size[1]} = {size[0] * size[1]}"
    if max(values) >= num_classes:
        yield f"found class {max(values)}, expected 0 to {num_classes - 1}"


def _id_faults(seen: list[str], expected: list[str]) -> list[str]:
    doubled = sorted({name for name in seen if seen.count(name) > 1}) if len(set(seen)) < len(seen) else []
    missing, extra = sorted(set(expected) - set(seen)), sorted(set(seen) - set(expected))
    faults = [
        f"{len(names)} ids are {what}, such as {', '.join(names[:3])}"
        for what, names in (("missing", missing), ("not in the test set", extra), ("doubled", doubled))
        if names
    ]
    if not faults and seen != expected:
        faults.append("the ids are not in the order of the test file")
    return faults


def _write_png(folder: Path, file_name: str, label_map: np.ndarray) -> None:
    path = png_path(folder, file_name)
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = cv2.imencode(".png", label_map)[1]
    path.write_bytes(encoded.tobytes())


def png_path(folder: Path, file_name: str) -> Path:
    """Where the label map of `file_name` goes: the same folders and name, ending in .png; never outside `folder`."""
    name = PurePosixPath(file_name)
    if name.is_absolute() or ".." in name.parts:
        raise ValueError(f"{file_name!r}: would be written outside {folder}")
    return folder / name.with_suffix(".png")


def read_png(path: Path, size: tuple[int, int], num_classes: int) -> np.ndarray:
    """The (height, width) uint8 label map at `path`.

    Raises ValueError, which leaves it to the caller to name the file, for none, another size or type, or no class.
    """
    found = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED) if path.is_file() else None
    if found is None:
        raise ValueError("missing or not a PNG")
    if found.shape != tuple(size) or found.dtype != np.uint8:
        raise ValueError(f"found {found.shape} {found.dtype}, expected {tuple(size)} uint8")
    if found.max() >= num_classes:
        raise ValueError(f"found class {found.max()}, expected 0 to {num_classes - 1}")
    return found


def _check_png(folder: Path, expected: list[tuple[str, tuple[int, int]]], num_classes: int) -> list[str]:
    problems: list[str] = []
    file_name_of: dict[Path, str] = {}
    for file_name, size in expected:
        path = png_path(folder, file_name)
        if (first := file_name_of.setdefault(path, file_name)) != file_name:
            problems.append(f"{first} and {file_name} would both be {path.name}; rename one, or leave out png")
        try:
            read_png(path, size, num_classes)
        except ValueError as error:
            problems.append(f"{path.name}: {error}")
    extra = len(list(folder.rglob("*.png"))) - len(expected)
    return [*problems, f"{folder}: {extra} more PNG files than test images"] if extra > 0 else problems
