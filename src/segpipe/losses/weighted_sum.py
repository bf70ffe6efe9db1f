"""The weighted sum of named terms.

A term is computed over all pixels of the batch whose target is not IGNORE_INDEX, in float32 or wider. Terms that need
class probabilities share one log-softmax; those made of overlaps share one count of them as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from segpipe.losses.lovasz import lovasz_loss
from segpipe.losses.overlap import class_overlap, overlap_loss, tanimoto_loss
from segpipe.losses.pixel import PIXEL_TERMS, PixelSums

if TYPE_CHECKING:
    from segpipe.params import LossParams

TERMS = ("ce", "soft_ce", "focal", "dice", "jaccard", "tversky", "tanimoto", "lovasz")
OVERLAP_TERMS = ("dice", "jaccard", "tversky", "tanimoto")
AVERAGES = ("present", "all")


class SegmentationLoss(nn.Module):
    """The weighted sum of the terms whose weight is above 0.

    - ce: cross-entropy.
    - soft_ce: cross-entropy with `label_smoothing` s, (1 - s) of it on the target and s spread over all classes. Since
      a * soft_ce(s) + (1 - a) * ce equals soft_ce(a * s), the two together are one knob.
    - focal: (1 - p)^focal_gamma * cross-entropy, with p the softmax probability of the target (Lin et al. 2017,
      arXiv 1708.02002, for many classes); gamma 0 is ce. smp's FocalLoss is another: a sigmoid per class.
    - dice, jaccard, tversky: see `overlap_loss`; `tversky_alpha` weighs false positives, `tversky_beta` misses.
    - tanimoto: see `tanimoto_loss`. lovasz: see `lovasz_loss`.

    ce, soft_ce and focal are means over the valid pixels, weighted by `class_weights` where they are not None; the
    others are means over classes. Where a batch has no valid pixel, every term is 0 and so is its gradient. Of soft
    labels ce and soft_ce make use (`losses.pixel`); the others go by the pixels' classes.

    Raises ValueError for an unknown term, a weight that is negative or not finite, no weight above 0, or an unknown
    `average`.
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
        class_weights: Sequence[float] | None,
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
        if class_weights is not None and not any(class_weights):
            problems.append("every class has weight 0; give at least one a weight above 0")
        if problems:
            raise ValueError("loss: " + "; ".join(problems))
        self.weights = {name: weights[name] for name in TERMS if weights.get(name, 0) > 0}
        self.scaled = dict(self.weights)
        self.label_smoothing = label_smoothing
        self.focal_gamma = focal_gamma
        self.average = average
        weights_by_class = torch.tensor(class_weights, dtype=torch.float64) if class_weights is not None else None
        self.register_buffer("class_weights", weights_by_class, persistent=False)
        self.index_settings = {"dice": (0.5, 0.5), "jaccard": (1.0, 1.0), "tversky": (tversky_alpha, tversky_beta)}

    def terms(self, logits: Tensor, targets: Tensor, soft: Tensor | None = None) -> dict[str, Tensor]:
        """Each term with a weight above 0, as a scalar, not yet weighted; the others are not computed.

        `logits` is (N, C, H, W) of any float type: half types are computed in float32, float64 stays what it is.
        `targets` is (N, H, W) int64, `soft` the pixels' distributions, (N, C, H, W) uint8. Raises ValueError when the
        shapes do not fit.
        """
        if logits.ndim != 4 or targets.shape != (logits.shape[0], *logits.shape[2:]):
            raise ValueError(
                f"logits are {tuple(logits.shape)} and targets {tuple(targets.shape)}; "
                "expected (N, C, H, W) and (N, H, W) of the same N, H and W"
            )
        if soft is not None and soft.shape != logits.shape:
            raise ValueError(f"soft labels are {tuple(soft.shape)}; expected {tuple(logits.shape)}, as the logits are")
        if logits.dtype in (torch.float16, torch.bfloat16):
            logits = logits.float()
        log_probs = logits.log_softmax(dim=1)
        terms: dict[str, Tensor] = {}
        if any(name in self.weights for name in PIXEL_TERMS):
            terms |= self._pixel_terms(log_probs, targets, soft)
        if any(name in self.weights for name in (*OVERLAP_TERMS, "lovasz")):
            terms |= self._probability_terms(log_probs.exp(), targets)
        return terms

    def _pixel_terms(self, log_probs: Tensor, targets: Tensor, soft: Tensor | None) -> dict[str, Tensor]:
        """Terms that are a mean over valid pixels, from (N, C, H, W) log-probabilities."""
        sums = PixelSums(log_probs, targets, self.class_weights, soft)
        terms = {}
        if "ce" in self.weights:
            terms["ce"] = sums.ce()
        if "soft_ce" in self.weights:
            terms["soft_ce"] = sums.soft_ce(self.label_smoothing)
        if "focal" in self.weights:
            terms["focal"] = sums.focal(self.focal_gamma)
        return terms

    def _probability_terms(self, probs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Terms that are a mean over classes, from (N, C, H, W) probabilities."""
        terms = {}
        if any(name in self.weights for name in OVERLAP_TERMS):
            overlap = class_overlap(probs, targets, squares="tanimoto" in self.weights)
            for name, (alpha, beta) in self.index_settings.items():
                if name in self.weights:
                    terms[name] = overlap_loss(overlap, alpha, beta, self.average)
            if "tanimoto" in self.weights:
                terms["tanimoto"] = tanimoto_loss(overlap, self.average)
        if "lovasz" in self.weights:
            terms["lovasz"] = lovasz_loss(probs, targets, self.average)
        return terms

    @property
    def names(self) -> tuple[str, ...]:
        """The terms with a weight above 0, in the order of `with_terms`."""
        return tuple(self.weights)

    def with_terms(self, logits: Tensor, targets: Tensor, soft: Tensor | None = None) -> Tensor:
        """(1 + T,): the weighted sum, then each of the T terms without its weight; shapes as in `terms`."""
        terms = self.terms(logits, targets, soft)
        total = torch.stack([weight * terms[name] for name, weight in self.scaled.items()]).sum()
        return torch.stack([total, *(terms[name] for name in self.weights)])

    def scale(self, factors: dict[str, float]) -> None:
        """Multiply each term's weight by its factor, instead of by those given before."""
        self.scaled = {name: weight * factors[name] for name, weight in self.weights.items()}

    def gradient_norms(self, logits: Tensor, targets: Tensor) -> Tensor:
        """(T,): Euclidean norm of each weighted term's gradient by the logits, in the order of `names`.

        Shapes as in `terms`. Nothing flows back to what made the logits.
        """
        with torch.enable_grad():
            probe = logits.detach().float().requires_grad_()
            terms = self.terms(probe, targets)
            gradients = [
                torch.autograd.grad(weight * terms[name], probe, retain_graph=True)[0]
                for name, weight in self.scaled.items()
            ]
        return torch.stack([gradient.norm() for gradient in gradients])

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Weighted sum of the terms, a scalar; shapes as in `terms`."""
        return self.with_terms(logits, targets)[0]


def build_loss(params: LossParams, class_weights: Sequence[float] | None = None) -> SegmentationLoss:
    """The loss that the section `loss` of params.yaml describes.

    `class_weights`, one for each class, are what `params.class_weights` comes to for the training images; without them
    all classes weigh alike.
    """
    return SegmentationLoss(
        {name: getattr(params, name) for name in TERMS},
        label_smoothing=params.label_smoothing,
        focal_gamma=params.focal_gamma,
        tversky_alpha=params.tversky_alpha,
        tversky_beta=params.tversky_beta,
        average=params.average,
        class_weights=class_weights,
    )
