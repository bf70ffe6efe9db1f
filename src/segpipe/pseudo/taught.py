"""What `teach` left of a fold, opened for reading, and the counts by class and confidence that decisions rest on."""

from pathlib import Path

import numpy as np
import pandas as pd

from segpipe.data.lineage import Lineage
from segpipe.data.store import PackedArrays
from segpipe.labels import IGNORE_INDEX
from segpipe.stage import read_json

STEPS = 256  # of confidence: 255ths, both ends included


class Taught:
    """The teachers' answers for the images `pool` and `tune` (indices of the image table).

    `images` holds the columns of images.csv by index. Raises FileNotFoundError without a finished folder, ValueError
    where its parts do not belong together.
    """

    def __init__(self, folder: Path) -> None:
        card = read_json(folder / "card.json")
        self.folder, self.teachers = folder, card["teachers"]
        self.pool, self.tune = tuple(card["pool"]), tuple(card["tune"])
        self.lineage = Lineage.from_json(card["lineage"])
        table = folder / "images.csv"
        if not table.is_file():
            raise FileNotFoundError(f"{table}: not found; `dvc repro` makes it")
        kinds = {"file_name": str}
        self.images = pd.read_csv(
            table,
            index_col="index",
            dtype=kinds,
            keep_default_na=False,
            na_values=[""],
            encoding_errors="surrogatepass",
        )
        self._classes, self._confidence = PackedArrays(folder / "classes"), PackedArrays(folder / "confidence")
        self._position = {index: position for position, index in enumerate((*self.pool, *self.tune))}
        if not len(self._position) == len(self._classes) == len(self._confidence) == len(self.images):
            raise ValueError(f"{folder}: its card, tables and stores have different numbers of images; run `dvc repro`")

    def answer(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """(H, W) uint8 classes of image `index`, and their confidence in 255ths."""
        position = self._position[index]
        return self._classes[position], self._confidence[position]


def joint_counts(classes: np.ndarray, confidence: np.ndarray, num_classes: int) -> np.ndarray:
    """(num_classes, 256) int64: pixels by class and confidence, IGNORE_INDEX left out; both inputs (H, W) uint8."""
    cells = classes.astype(np.uint16)
    cells *= np.uint16(STEPS)
    cells += confidence
    counts = np.bincount(cells.ravel(), minlength=(IGNORE_INDEX + 1) * STEPS)
    return counts.reshape(IGNORE_INDEX + 1, STEPS)[:num_classes].astype(np.int64)


def at_least(counts: np.ndarray) -> np.ndarray:
    """(..., 256) counts by confidence as how many have that confidence or more."""
    return np.flip(np.flip(counts, -1).cumsum(-1), -1)
