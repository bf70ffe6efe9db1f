"""Names of PNG label maps that are written for images: each by the name of its image, and none for two."""

from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath


def map_name(file_name: str) -> PurePosixPath:
    """The name of an image's label map: the same folders and name, ending in .png; ValueError for no valid name."""
    return PurePosixPath(file_name).with_suffix(".png")


def shared_names(file_names: Iterable[str]) -> Iterator[tuple[PurePosixPath, list[str]]]:
    """Label maps of several images, which differ in their suffixes only, with those; ValueError as for `map_name`."""
    alike: dict[PurePosixPath, list[str]] = {}
    for file_name in dict.fromkeys(file_names):
        alike.setdefault(map_name(file_name), []).append(file_name)
    yield from ((name, several) for name, several in alike.items() if len(several) > 1)
