"""Lovasz-Softmax, the convex surrogate of the Jaccard loss (Berman et al. 2018, arXiv 1705.08790).

For one class let e be the pixels' errors: 1 - p where the pixel is of the class, p elsewhere. With the errors sorted
from the largest, the loss is the sum of e times g, where g says how much the Jaccard loss grows when that pixel joins
those before it as another mistake. Before a pixel come k of the class's n pixels and j others; then

    g = 1 / (n + j)                           for a pixel of the class
    g = (n - k) / ((n + j) * (n + j + 1))     for another one

The published code takes g as differences of a running index, of which float32 keeps one or two digits where a batch has
a million pixels; these fractions keep all. g depends on the order alone, so that it is the gradient by e as well.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from segpipe.labels import IGNORE_INDEX
from segpipe.losses.overlap import class_mean


def lovasz_loss(probs: Tensor, targets: Tensor, average: str) -> Tensor:
    """Mean over classes of their losses, each over all valid pixels of the batch; `targets` is (N, H, W) int64.

    `probs` is (N, C, H, W) of float32 or float64. A class with no pixel in the batch is left out where `average` is
    "present". With "all" it adds the share of valid pixels falsely given to it, which is this loss of its complement.
    Without a valid pixel the loss is 0, and so is its gradient.
    """
    flat, of_pixel = probs.movedim(1, 0).flatten(1), targets.flatten()
    valid = of_pixel != IGNORE_INDEX
    actual = torch.stack([(of_pixel == index).sum() for index in range(len(flat))])
    losses = _OfClasses.apply(flat, of_pixel, valid, actual)
    falsely_given = (flat * valid).sum(1) / valid.sum().clamp_min(1) if average == "all" else losses
    return class_mean(losses, falsely_given, actual > 0, average)


class _OfClasses(torch.autograd.Function):
    """(C,) losses of the classes, 0 for absent ones, from (C, P) probabilities."""

    @staticmethod
    def forward(ctx: Any, flat: Tensor, of_pixel: Tensor, valid: Tensor, actual: Tensor) -> Tensor:
        # asking a CPU costs nothing, and absent classes may be most of the work; a GPU is never waited for
        asked = actual.tolist() if flat.device.type == "cpu" else [1] * len(flat)
        losses, slopes = flat.new_zeros(len(flat)), torch.zeros_like(flat)
        for index, number in enumerate(asked):
            if number > 0:
                of_class = of_pixel == index
                errors = torch.where(of_class, 1 - flat[index], flat[index])
                slope = growth(errors, of_class, valid, actual[index])
                losses[index] = (slope * errors).sum()
                slopes[index] = torch.where(of_class, -slope, slope)  # by p
        ctx.save_for_backward(slopes)
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (slopes,) = ctx.saved_tensors
        return slopes * grad[:, None], None, None, None


def growth(errors: Tensor, of_class: Tensor, valid: Tensor, number: Tensor) -> Tensor:
    """(P,): g of each pixel by its (P,) error and whether it is of the class, of which there are `number` pixels.

    Ignored pixels come last and get 0. Of equal errors the one that comes first in the batch comes first.
    """
    fast = errors.device.type == "cpu" and errors.dtype == torch.float32
    order, hits = (_sorted_by_keys if fast else _sorted)(errors, of_class, valid)
    found = hits.cumsum(0, dtype=torch.int32)  # k, and 1 more at the class's own pixels
    union = torch.arange(1, len(order) + 1, dtype=torch.int32, device=order.device) + number.int() - found
    missing = (number.int() - found).to(errors.dtype)
    union = union.to(errors.dtype)  # n + j at the class's pixels, n + j + 1 at others
    grown = torch.where(hits, 1, missing / (union - 1).clamp_min(1)) / union.clamp_min(1)
    slope = torch.empty_like(errors).scatter_(0, order, grown)
    return slope * valid


def _sorted(errors: Tensor, of_class: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Positions of the pixels from the largest error down, and which of them are of the class."""
    order = torch.where(valid, errors, -1).sort(descending=True, stable=True).indices
    return order, of_class[order]


def _sorted_by_keys(errors: Tensor, of_class: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """The same for float32: one integer a pixel, of error, position and class; numpy sorts those 18 times as fast.

    As no two are equal, every algorithm, and so every processor, gives the same order.
    """
    # the bits of floats from 0 up are ordered as the floats are
    keys = torch.where(valid, -errors.view(torch.int32), 1).long().mul_(1 << 32)
    keys.add_(torch.arange(len(errors)), alpha=2).add_(of_class)
    in_order = torch.from_numpy(np.sort(keys.numpy()))
    return (in_order >> 1) & 0x7FFFFFFF, (in_order & 1).bool()
