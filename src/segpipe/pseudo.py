"""Pseudo labels: which of the teachers' pixels are kept, and how good they are likely to be. Needs no torch."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from segpipe.data.lineage import Lineage
from segpipe.data.prepared import Prepared
from segpipe.data.store import PackedArrays, PackedWriter
from segpipe.labels import IGNORE_INDEX
from segpipe.params import PseudoLabelParams
from segpipe.stage import read_json, write_json


def keep_confident(classes: np.ndarray, confidence: np.ndarray, threshold: float) -> np.ndarray:
    """(H, W) uint8 `classes` with IGNORE_INDEX wherever `confidence` (uint8, 255ths) is below `threshold` (0 to 1)."""
    return np.where(confidence >= threshold * 255, classes, IGNORE_INDEX).astype(np.uint8)


def make_pseudo_labels(prepared: Prepared, taught: Path, params: PseudoLabelParams, out: Path, plots: Path) -> float:
    """Write the labels of the pool to `out` and their quality to `plots`; return the share of pixels kept.

    Images with no pixel above the threshold are left out. An empty pool, or a threshold that keeps nothing, gives an
    empty set with a warning.
    """
    card = read_json(taught / "card.json")
    classes, confidences = PackedArrays(taught / "classes"), PackedArrays(taught / "confidence")
    indices = card["pool"] + card["tune"]
    tally = Tally(prepared.classes.num_classes)
    kept_indices = []
    with PackedWriter(out / "labels") as labels:
        for position, index in enumerate(indices):
            predicted, confidence = classes[position], confidences[position]
            label = keep_confident(predicted, confidence, params.confidence)
            if position >= len(card["pool"]):
                tally.add_tune(label, prepared.target(index))
                continue
            tally.add_pool(predicted, confidence, label)
            if (label != IGNORE_INDEX).any():
                labels.add(label)
                kept_indices.append(index)
    if not card["pool"]:
        print("pseudo_label: there are no unlabelled images, so there are no pseudo labels", flush=True)
    elif not kept_indices:
        print(
            f"pseudo_label: nothing of {len(card['pool'])} images is kept at confidence {params.confidence}", flush=True
        )
    learned_from = Lineage(frozenset(prepared.hashes(kept_indices)), frozenset())
    lineage = Lineage.from_json(card["lineage"]) | learned_from
    write_json(out / "card.json", {"indices": kept_indices, "teachers": card["teachers"], "lineage": lineage.to_json()})
    plots.mkdir(parents=True, exist_ok=True)
    tally.table(prepared.classes.names).to_csv(plots / "quality.csv", index=False)
    agreement = pd.DataFrame(
        {"image": indices[: len(card["pool"])], "agreement": card["agreement"][: len(card["pool"])]}
    )
    agreement["image"] = [prepared.entries[index].file_name for index in agreement["image"]]
    agreement.to_csv(plots / "agreement.csv", index=False)
    return tally.share_kept


@dataclass
class Tally:
    """Counts per class over the pool, and over tune images, where the truth is known."""

    num_classes: int

    def __post_init__(self) -> None:
        self._predicted, self._kept, self._confidence, self._tune_kept, self._tune_right = np.zeros((5, 256), np.int64)

    def add_pool(self, predicted: np.ndarray, confidence: np.ndarray, label: np.ndarray) -> None:
        """An image of the pool: all (H, W) uint8."""
        valid = label != IGNORE_INDEX
        self._predicted += np.bincount(predicted.ravel(), minlength=256)
        self._kept += np.bincount(label[valid], minlength=256)
        # weighted bincount sums in float64, exact for these integers
        self._confidence += np.bincount(label[valid], weights=confidence[valid], minlength=256).astype(np.int64)

    def add_tune(self, label: np.ndarray, target: np.ndarray) -> None:
        """A tune image: both (H, W) uint8; pixels without a true label do not count."""
        counts = (label != IGNORE_INDEX) & (target != IGNORE_INDEX)
        self._tune_kept += np.bincount(label[counts], minlength=256)
        self._tune_right += np.bincount(label[counts & (label == target)], minlength=256)

    @property
    def share_kept(self) -> float:
        """Of all pixels of the pool, 0 to 1; 0 for an empty pool."""
        return int(self._kept.sum()) / max(int(self._predicted.sum()), 1)

    def table(self, names: tuple[str, ...]) -> pd.DataFrame:
        """One row a class: share of the kept pixels, share kept of those predicted, confidence, precision on tune."""
        rows = slice(0, self.num_classes)
        with np.errstate(invalid="ignore", divide="ignore"):
            return pd.DataFrame(
                {
                    "class": names,
                    "pixels_kept": self._kept[rows],
                    "share_of_kept": self._kept[rows] / max(int(self._kept.sum()), 1),
                    "kept_of_predicted": self._kept[rows] / self._predicted[rows],
                    "mean_confidence": self._confidence[rows] / self._kept[rows] / 255,
                    "tune_precision": self._tune_right[rows] / self._tune_kept[rows],
                }
            )
