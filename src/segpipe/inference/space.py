"""The disk space that stored probabilities need, said before it is taken. Needs no torch."""

import shutil
from collections.abc import Iterable
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


def refuse_full_disk(folder: Path, needed: int) -> int:
    """The free bytes of the disk that `folder` is or will be on; ValueError where they are fewer than `needed`."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise ValueError(
            f"{folder}: the predictions need up to {megabytes(needed)}, of which the disk has {megabytes(free)} free; "
            "make room there (`dvc gc --workspace` removes what no commit here names), or lower submission.size"
        )
    return free


def megabytes(number: int) -> str:
    """`26 MB`, rounded up: nothing is ever said to need none."""
    return f"{-(-number // 1_000_000):,} MB"
