"""Losses as named terms and their weighted sum; docs/losses.md has the formulas."""

from segpipe.losses.class_weights import weights_by_count
from segpipe.losses.overlap import class_overlap, overlap_loss, tanimoto_loss
from segpipe.losses.weighted_sum import TERMS, SegmentationLoss, build_loss

__all__ = [
    "TERMS",
    "SegmentationLoss",
    "build_loss",
    "class_overlap",
    "overlap_loss",
    "tanimoto_loss",
    "weights_by_count",
]
