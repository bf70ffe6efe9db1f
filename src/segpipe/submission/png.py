"""PNG label maps by the names of their images: where each goes, and what is in one."""

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from segpipe.data.map_names import map_name, shared_names
from segpipe.data.source.images import ImageFault
from segpipe.data.source.png import damage, decode, read_header


def png_name(file_name: str) -> PurePosixPath:
    """The name of an image's label map: the same folders and name, ending in .png.

    Raises ValueError for a name that would lead out of the folder that it is written to.
    """
    name = PurePosixPath(file_name)
    if name.is_absolute() or ".." in name.parts or not name.name or "\\" in file_name or "\0" in file_name:
        raise ValueError(f"{file_name!r}: would be written outside the folder of label maps, or has no valid name")
    return map_name(file_name)


def png_path(folder: Path, file_name: str) -> Path:
    """Where the label map of `file_name` goes; never outside `folder`, also not by a link within it."""
    path = folder / png_name(file_name)
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{file_name!r}: would be written outside {folder}, through a link")
    return path


def png_problems(file_names: Iterable[str]) -> Iterator[str]:
    """Images whose label map has no place, or would be another's."""
    placed = []
    for file_name in file_names:
        try:
            png_name(file_name)
            placed.append(file_name)
        except ValueError as error:
            yield str(error)
    for name, several in shared_names(placed):
        both = "both" if len(several) == 2 else "all"
        yield f"{' and '.join(several)} would {both} be {name}; rename one, or leave png out of the formats"


def read_png(path: Path, size: tuple[int, int], num_classes: int) -> np.ndarray:
    """The (height, width) uint8 label map at `path`.

    Raises ValueError, which leaves it to the caller to name the file, for none, another size or type, or no class.
    """
    if not path.is_file():
        raise ValueError("missing")
    return decode_png(path.read_bytes(), size, num_classes)


def decode_png(encoded: bytes, size: tuple[int, int], num_classes: int) -> np.ndarray:
    """The (height, width) uint8 label map of a PNG, grey or with a palette; ValueError as for `read_png`."""
    try:
        header = read_header(encoded, "it")
        if (header.height, header.width) != tuple(size):  # before it is decoded: a small file may hold a huge picture
            raise ValueError(f"found {header.height} x {header.width} pixels, expected {size[0]} x {size[1]}")
        if harm := damage(encoded):
            raise ValueError(f"it {harm}")
        values = decode(encoded, header, "it")
    except ImageFault as fault:
        raise ValueError(str(fault)) from fault
    if values.dtype != np.uint8:
        raise ValueError(f"found {header.depth} bits a pixel, expected 8")
    if values.max() >= num_classes:
        raise ValueError(f"found class {values.max()}, expected 0 to {num_classes - 1}")
    return values
