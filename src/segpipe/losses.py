"""Losses as named terms and their weighted sum.

A term is computed over all pixels of the batch whose target is not IGNORE_INDEX, in float32 or wider. Terms that need
class probabilities share one log-softmax; dice, jaccard and tversky share one count of overlaps as well.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segpipe.labels import IGNORE_INDEX

if TYPE_CHECKING:
    from segpipe.params import LossParams

TERMS = ("ce", "soft_ce", "focal", "dice", "jaccard", "tversky")
PIXEL_TERMS = ("ce", "soft_ce", "focal")
AVERAGES = ("present", "all")


class Overlap(NamedTuple):
    """What a batch's probabilities and targets share, summed over its valid pixels; each but `pixels` is (C,)."""

    intersection: Tensor  # probability of the class, summed over the pixels that are of the class
    predicted: Tensor  # probability of the class, summed over all valid pixels
    actual: Tensor  # number of pixels that are of the class
    pixels: Tensor  # number of valid pixels, a scalar


def class_overlap(probs: Tensor, targets: Tensor) -> Overlap:
    """Sum (N, C, H, W) probabilities per class against (N, H, W) targets.

    The sums run over the axes 0, 2 and 3 together: images, rows and columns, never classes. A class is therefore
    judged by all its pixels in the batch at once, and an image without it is not a case of its own.
    """
    valid = targets != IGNORE_INDEX
    known = torch.where(valid, targets, 0)
    of_target = probs.gather(1, known.unsqueeze(1)).squeeze(1) * valid
    # sums, not matrix products, because autocast would carry those out in half precision
    predicted = (probs * valid.unsqueeze(1)).sum((0, 2, 3))
    # each is slow where the other is fast, and adding by index changes its last bits from run to run on CUDA
    count = _sums_by_index if probs.device.type == "cpu" else _sums_by_comparison
    intersection, actual = count(of_target, known, valid, probs.shape[1])
    return Overlap(intersection, predicted, actual, valid.sum())


def _sums_by_index(of_target: Tensor, known: Tensor, valid: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """(C,) sums of `of_target` and numbers of valid pixels by class, in one pass over the pixels."""
    bins, index = torch.zeros(num_classes, dtype=torch.float64), known.flatten()
    # in float64, because it adds one value after another
    intersection = bins.index_add(0, index, of_target.flatten().double()).to(of_target.dtype)
    return intersection, bins.index_add(0, index, valid.flatten().double()).long()


def _sums_by_comparison(of_target: Tensor, known: Tensor, valid: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """The same, in one pass for each class."""
    classes = [(known == index) & valid for index in range(num_classes)]
    return (
        torch.stack([(of_target * of_class).sum() for of_class in classes]),
        torch.stack([of_class.sum() for of_class in classes]),
    )


def overlap_loss(overlap: Overlap, alpha: float, beta: float, average: str) -> Tensor:
    """Mean over classes of 1 - Tversky index, I / (I + alpha * FP + beta * FN), each count a sum of probabilities.

    alpha = beta = 1/2 is the Dice index, alpha = beta = 1 the Jaccard index (Salehi et al. 2017, arXiv 1706.05721).
    Nothing is added to numerator and denominator ("smooth" = 0); a denominator of 0 counts as a tiny one.

    `average` decides about a class with no pixel in the batch:
    - "present": left out of the mean.
    - "all": its index is 0 / FP: always 0, without a gradient. What it adds is the share of valid pixels that it is
      falsely given, FP / pixels, which is the Jaccard loss of its complement; so every class is in the mean, and
      one that is rightly predicted nowhere costs nothing.
    """
    intersection, predicted, actual, pixels = overlap
    denominator = intersection + alpha * (predicted - intersection) + beta * (actual - intersection)
    loss = 1 - intersection / denominator.clamp_min(torch.finfo(denominator.dtype).eps)
    present = actual > 0
    if average == "present":
        return (loss * present).sum() / present.sum().clamp_min(1)
    return torch.where(present, loss, predicted / pixels.clamp_min(1)).mean()


class SegmentationLoss(nn.Module):
    """The weighted sum of the terms whose weight is above 0.

    - ce: cross-entropy.
    - soft_ce: cross-entropy with `label_smoothing` s, (1 - s) of it on the target and s spread over all classes. Since
      a * soft_ce(s) + (1 - a) * ce equals soft_ce(a * s), the two together are one knob.
    - focal: (1 - p)^focal_gamma * cross-entropy, with p the softmax probability of the target (Lin et al. 2017,
      arXiv 1708.02002, for many classes); gamma 0 is ce. smp's FocalLoss is another: a sigmoid per class.
    - dice, jaccard, tversky: see `overlap_loss`; `tversky_alpha` weighs false positives, `tversky_beta` misses.

    ce, soft_ce and focal are means over the valid pixels. Where a batch has none, every term is 0 and so is its
    gradient. Raises ValueError for an unknown term, a weight that is negative or not finite, no weight above 0, or an
    unknown `average`.
    """

    def __init__(
        self,
        weights: dict[str, float],
        *,
        label_smoothing: float,
        focal_gamma: float,
        tversky_alpha: float,
        tversky_beta: float,
        average: str,
    ) -> None:
        super().__init__()
        problems = [f"there is no term {name!r} (known: {', '.join(TERMS)})" for name in weights if name not in TERMS]
        problems += [
            f"{name} has weight {weight}; give a number from 0 up"
            for name, weight in weights.items()
            if not (math.isfinite(weight) and weight >= 0)
        ]
        if not any(weights.values()):
            problems.append("every term has weight 0; give at least one a weight above 0")
        if average not in AVERAGES:
            problems.append(f"average is {average!r}; choose one of {', '.join(AVERAGES)}")
        if problems:
            raise ValueError("loss: " + "; ".join(problems))
        self.weights = {name: weights[name] for name in TERMS if weights.get(name, 0) > 0}
        self.label_smoothing = label_smoothing
        self.focal_gamma = focal_gamma
        self.average = average
        self.index_settings = {"dice": (0.5, 0.5), "jaccard": (1.0, 1.0), "tversky": (tversky_alpha, tversky_beta)}

    def terms(self, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Each term with a weight above 0, as a scalar, not yet weighted; the others are not computed.

        `logits` is (N, C, H, W) of any float type: half types are computed in float32, float64 stays what it is.
        `targets` is (N, H, W) int64. Raises ValueError when the shapes do not fit.
        """
        if logits.ndim != 4 or targets.shape != (logits.shape[0], *logits.shape[2:]):
            raise ValueError(
                f"logits are {tuple(logits.shape)} and targets {tuple(targets.shape)}; "
                "expected (N, C, H, W) and (N, H, W) of the same N, H and W"
            )
        if logits.dtype in (torch.float16, torch.bfloat16):
            logits = logits.float()
        valid = targets != IGNORE_INDEX
        log_probs = logits.log_softmax(dim=1)
        terms: dict[str, Tensor] = {}
        if any(name in self.weights for name in PIXEL_TERMS):
            terms |= self._pixel_terms(log_probs, targets, valid)
        if any(name in self.weights for name in self.index_settings):
            overlap = class_overlap(log_probs.exp(), targets)
            for name, (alpha, beta) in self.index_settings.items():
                if name in self.weights:
                    terms[name] = overlap_loss(overlap, alpha, beta, self.average)
        return terms

    def _pixel_terms(self, log_probs: Tensor, targets: Tensor, valid: Tensor) -> dict[str, Tensor]:
        """Terms that are a mean over valid pixels, from (N, C, H, W) log-probabilities."""
        # reduction="none" is 0 at ignored pixels and, unlike torch's own mean, is not summed by atomics on CUDA
        nll = F.nll_loss(log_probs, targets, ignore_index=IGNORE_INDEX, reduction="none")
        # pseudo labels can leave no valid pixel: 0 / 1, as asking for it in Python would wait for the device
        count = valid.sum().clamp_min(1)
        terms = {}
        if "ce" in self.weights:
            terms["ce"] = nll.sum() / count
        if "soft_ce" in self.weights:
            spread = -(log_probs.mean(dim=1) * valid).sum() / count
            terms["soft_ce"] = (1 - self.label_smoothing) * nll.sum() / count + self.label_smoothing * spread
        if "focal" in self.weights:
            # 1 - exp(-nll) without cancellation, and never 0: the gradient of 0^gamma is infinite for gamma below 1
            wrongness = (-torch.expm1(-nll)).clamp_min(torch.finfo(nll.dtype).eps)
            terms["focal"] = (wrongness**self.focal_gamma * nll).sum() / count
        return terms

    @property
    def names(self) -> tuple[str, ...]:
        """The terms with a weight above 0, in the order of `with_terms`."""
        return tuple(self.weights)

    def with_terms(self, logits: Tensor, targets: Tensor) -> Tensor:
        """(1 + T,): the weighted sum, then each of the T terms without its weight; shapes as in `terms`."""
        terms = self.terms(logits, targets)
        total = torch.stack([weight * terms[name] for name, weight in self.weights.items()]).sum()
        return torch.stack([total, *(terms[name] for name in self.weights)])

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Weighted sum of the terms, a scalar; shapes as in `terms`."""
        return self.with_terms(logits, targets)[0]


def build_loss(params: LossParams) -> SegmentationLoss:
    """The loss that the section `loss` of params.yaml describes."""
    return SegmentationLoss(
        {name: getattr(params, name) for name in TERMS},
        label_smoothing=params.label_smoothing,
        focal_gamma=params.focal_gamma,
        tversky_alpha=params.tversky_alpha,
        tversky_beta=params.tversky_beta,
        average=params.average,
    )
