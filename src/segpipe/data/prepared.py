"""What `prepare` leaves behind, opened for reading: images, targets, classes, folds.

Opened for one fold (`fold=0`) it is the view of training and tuning: the targets of that fold's judge images
cannot be read. Only the stages that decide and report open it with `judge=True`. The fold `all` learns from every
labelled image but those of a judge file of its own, and has nothing to tune or judge on.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from segpipe.data.fold_table import read_folds
from segpipe.data.near_copies import FILE as NEAR_COPIES
from segpipe.data.near_copies import read_near_copies
from segpipe.data.split import Fold
from segpipe.data.store import PackedArrays
from segpipe.labels import ClassTable
from segpipe.params import ALL, FoldName
from segpipe.stage import read_json


@dataclass(frozen=True)
class ImageEntry:
    """One row of the image table. `height` and `width` are native; `group` is the scene that bootstraps resample."""

    file_name: str
    image_id: int
    height: int
    width: int
    group: str
    content_hash: str

    def to_json(self) -> dict:
        """A plain dict."""
        return asdict(self)


class Prepared:
    """The prepared data set at `path`.

    Attributes: `classes`; `entries`, one for each image; `sets`, indices into them by name (labeled, judge, test,
    unlabeled); `folds`, by number and `all`; `images`, (H, W, 3) uint8 RGB at the networks' size `image_size` (None:
    their own), of which a letterboxed one (`resize`) is the part without margin.
    """

    def __init__(self, path: Path, *, fold: FoldName | None = None, judge: bool = False) -> None:
        table = read_json(path / "table.json")
        self.path = path
        self.classes = ClassTable.from_json(read_json(path / "classes.json"))
        self.entries = tuple(ImageEntry(**entry) for entry in table["images"])
        self.sets = {name: tuple(indices) for name, indices in table["sets"].items()}
        self.image_size = tuple(table["image_size"]) if table["image_size"] else None
        self.resize: Literal["stretch", "letterbox"] = table["resize"]
        self._index = {entry.file_name: i for i, entry in enumerate(self.entries)}
        drawn = read_folds(path / "folds.csv", self._index)
        self.folds: dict[FoldName, Fold] = dict(enumerate(drawn))
        self.folds[ALL] = Fold(train=tuple(sorted(self.sets["labeled"])), tune=(), judge=())
        self.images = PackedArrays(path / "images")
        self._targets = PackedArrays(path / "targets")
        self._native_targets = PackedArrays(path / "native_targets")
        if fold is None and not judge:
            raise ValueError("open the prepared data for one fold, or with judge=True where scores are decided")
        if fold is not None and fold not in self.folds:
            raise ValueError(f"{path}: no fold {fold}; it has {', '.join(map(str, self.folds))}")
        self._closed = frozenset() if judge else frozenset((*self.folds[fold].judge, *self.sets["judge"]))

    def target(self, index: int) -> np.ndarray:
        """(H, W) uint8 label map of image `index` at the networks' size; PermissionError for a closed judge image."""
        return self._targets[self._labeled(index)]

    def target_store(self, indices: tuple[int, ...]) -> PackedArrays:
        """The targets at the networks' size, to read those of `indices` in workers; PermissionError as for `target`."""
        for index in indices:
            self._labeled(index)
        return self._targets

    def native_target(self, index: int) -> np.ndarray:
        """(H, W) uint8 label map at the image's own size; PermissionError for a closed judge image."""
        return self._native_targets[self._labeled(index)]

    def hashes(self, indices: Iterable[int]) -> set[str]:
        """Content hashes of these images."""
        return {self.entries[index].content_hash for index in indices}

    def named_hashes(self, indices: Iterable[int]) -> list[tuple[str, str]]:
        """(file name, content hash) of these images, as Lineage asks for them."""
        return [(self.entries[index].file_name, self.entries[index].content_hash) for index in indices]

    def pool(self) -> tuple[int, ...]:
        """The images to pseudo-label: the unlabelled ones, or the test images where none are given."""
        return self.sets["unlabeled"]

    def near_copies(self) -> dict[int, str]:
        """What picture they show, of the images that stand in a labelled and in an unlabelled list, by index."""
        return read_near_copies(self.path / NEAR_COPIES, self._index)

    def fingerprint(self) -> str:
        """SHA-256 of all that is stored here, in hexadecimal digits; reads the tables, not the images."""
        digest = hashlib.sha256()
        for name in ("table.json", "classes.json", "folds.csv"):
            digest.update((self.path / name).read_bytes())
        for store in (self.images, self._targets, self._native_targets):
            digest.update(store.digest.encode())
        return digest.hexdigest()

    def _labeled(self, index: int) -> int:
        if index in self._closed:
            raise PermissionError(
                f"{self.entries[index].file_name} is a judge image of this fold: only the ensemble and report stages, "
                "which decide, may read its target"
            )
        if index >= len(self._targets):
            raise IndexError(f"{self.entries[index].file_name}: has no target; it is not a labelled image")
        return index
