"""The disk space that stored probabilities need, said before it is taken. Needs no torch."""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path


def stored_bytes(
    native_sizes: Iterable[tuple[int, int]],
    image_size: tuple[int, int] | None,
    scored_size: tuple[int, int] | None,
    num_classes: int,
) -> int:
    """At most so many bytes for images of these (height, width): one a class and pixel, at the smaller of two sizes.

    `image_size` is what the networks see, `scored_size` what is scored; None is each image's own.
    """
    total = 0
    for native in native_sizes:
        seen, scored = image_size or native, scored_size or native
        total += min(seen[0] * seen[1], scored[0] * scored[1]) * num_classes
    return total


def free_bytes(folder: Path) -> int:
    """Of the disk that `folder` is or will be on."""
    return shutil.disk_usage(_there(folder)).free


def refuse_full_disks(needed: Mapping[Path, int]) -> None:
    """ValueError where the folders' disks have less free than these bytes; folders of one disk are taken together."""
    by_disk: dict[int, list[Path]] = {}
    for folder in needed:
        by_disk.setdefault(_disk(folder), []).append(folder)
    for first, *others in by_disk.values():
        total, free = sum(needed[folder] for folder in (first, *others)), free_bytes(first)
        if total > free:
            raise ValueError(
                f"{first}: the predictions need up to {megabytes(total)}, of which the disk has {megabytes(free)} "
                "free; make room there (`dvc gc --workspace` removes what no commit here names), or lower "
                "submission.size or data.image_size"
            )


def _disk(folder: Path) -> int:
    return _there(folder).stat().st_dev


def _there(folder: Path) -> Path:
    """It, or the nearest folder above it that exists."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def megabytes(number: int) -> str:
    """`26 MB`, rounded up: nothing is ever said to need none."""
    return f"{-(-number // 1_000_000):,} MB"
