"""Terms made of how far probabilities and targets overlap, class by class: dice, jaccard, tversky, tanimoto.

They share one count of overlaps. Class weights do not touch them: each class counts alike already, however rare.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from segpipe.labels import IGNORE_INDEX


class Overlap(NamedTuple):
    """What a batch's probabilities and targets share, summed over its valid pixels; each but `pixels` is (C,)."""

    intersection: Tensor  # probability of the class, summed over the pixels that are of the class
    predicted: Tensor  # probability of the class, summed over all valid pixels
    actual: Tensor  # number of pixels that are of the class
    pixels: Tensor  # number of valid pixels, a scalar
    squared: Tensor | None = None  # as `predicted`, of squared probabilities; only where asked for


def class_overlap(probs: Tensor, targets: Tensor, *, squares: bool = False) -> Overlap:
    """Sum (N, C, H, W) probabilities per class against (N, H, W) targets.

    The sums run over the axes 0, 2 and 3 together: images, rows and columns, never classes. A class is therefore
    judged by all its pixels in the batch at once, and an image without it is not a case of its own.
    """
    valid = targets != IGNORE_INDEX
    known = torch.where(valid, targets, 0)
    intersection, predicted, actual, *rest = _Sums.apply(probs, known, valid, squares)
    return Overlap(intersection, predicted, actual, valid.sum(), *rest)


class _Sums(torch.autograd.Function):
    """What `class_overlap` sums, with a gradient written in two passes, where autograd's own takes five."""

    @staticmethod
    def forward(ctx: Any, probs: Tensor, known: Tensor, valid: Tensor, squares: bool) -> tuple[Tensor, ...]:
        of_target = probs.gather(1, known.unsqueeze(1)).squeeze(1) * valid
        # sums, not matrix products, because autocast would carry those out in half precision
        counted = probs * valid.unsqueeze(1)
        predicted = counted.sum((0, 2, 3))
        # each is slow where the other is fast, and adding by index changes its last bits from run to run on CUDA
        count = _sums_by_index if probs.device.type == "cpu" else _sums_by_comparison
        intersection, actual = count(of_target, known, valid, probs.shape[1])
        ctx.mark_non_differentiable(actual)
        ctx.save_for_backward(known, valid, probs)
        return intersection, predicted, actual, *([counted.square_().sum((0, 2, 3))] if squares else [])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        by_intersection, by_predicted, _, *by_squared = grads
        known, valid, probs = ctx.saved_tensors
        by_class = by_predicted[:, None, None]
        if by_squared:
            by_class = by_class + 2 * by_squared[0][:, None, None] * probs
        by_probs = torch.empty_like(probs)  # in its order in memory, which may be channels last
        torch.mul(valid.unsqueeze(1), by_class, out=by_probs)
        by_probs.scatter_add_(1, known.unsqueeze(1), (by_intersection[known] * valid).unsqueeze(1))
        return by_probs, None, None, None


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
    intersection, predicted, actual, pixels, _ = overlap
    denominator = intersection + alpha * (predicted - intersection) + beta * (actual - intersection)
    loss = 1 - intersection / denominator.clamp_min(torch.finfo(denominator.dtype).eps)
    return class_mean(loss, predicted / pixels.clamp_min(1), actual > 0, average)


def tanimoto_loss(overlap: Overlap, average: str) -> Tensor:
    """Mean over classes of 1 - I / (S + A - I): the Jaccard index with the sum S of *squared* probabilities.

    I and A are as for `overlap_loss`; targets are 0 or 1, so that their squares sum up to A as well (Diakogiannis et
    al. 2020, ResUNet-a, arXiv 1904.00592, eq. 6, with all classes weighted alike).

    A class with no pixel in the batch is left out where `average` is "present". With "all" it adds the Tanimoto loss
    of its complement, S / (pixels - P + S) with P the sum of its probabilities, as that paper does for every class.
    """
    intersection, predicted, actual, pixels, squared = overlap
    assert squared is not None
    tiny = torch.finfo(squared.dtype).eps
    loss = 1 - intersection / (squared + actual - intersection).clamp_min(tiny)
    return class_mean(loss, squared / (pixels - predicted + squared).clamp_min(tiny), actual > 0, average)


def class_mean(loss: Tensor, loss_if_absent: Tensor, present: Tensor, average: str) -> Tensor:
    """Mean over the classes of (C,) losses: of those present in the batch, or of all, each by its own rule."""
    if average == "present":
        return (loss * present).sum() / present.sum().clamp_min(1)
    return torch.where(present, loss, loss_if_absent).mean()
