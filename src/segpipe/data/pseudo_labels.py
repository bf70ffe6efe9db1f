"""A finished set of pseudo labels, opened for reading: by training and by the report."""

from pathlib import Path

from segpipe.data.lineage import Lineage
from segpipe.data.store import PackedArrays
from segpipe.stage import read_json


class PseudoLabels:
    """A finished set: `labels[i]` (H, W) uint8 with IGNORE_INDEX belongs to image `indices[i]` of the image table."""

    def __init__(self, folder: Path) -> None:
        card = read_json(folder / "card.json")
        self.folder, self.indices = folder, tuple(card["indices"])
        self.lineage = Lineage.from_json(card["lineage"])
        self.labels = PackedArrays(folder / "labels")
