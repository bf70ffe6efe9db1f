"""Lovasz-Softmax, the convex surrogate of the Jaccard loss (Berman et al. 2018, arXiv 1705.08790).

For one class let e be the pixels' errors: 1 - p where the pixel is of the class, p elsewhere. With the errors sorted
from the largest, the loss is the sum of e times g, where g says how much the Jaccard loss grows when that pixel joins
those before it as another mistake. Before a pixel come k of the class's n pixels and j others; then

    g = 1 / (n + j)                           for a pixel of the class
    g = (n - k) / ((n + j) * (n + j + 1))     for another one

The published code takes g as differences of a running index, which leaves one or two digits of it in float32 where a
batch has a million pixels; these fractions keep all of them. g depends on the order alone, so that the gradient by e is
g itself: sorting needs no gradient.
"""

import numpy as np
import torch
from torch import Tensor

from segpipe.labels import IGNORE_INDEX
from segpipe.losses.overlap import class_mean


def lovasz_loss(probs: Tensor, targets: Tensor, average: str) -> Tensor:
    """Mean over classes of their losses, each over all valid pixels of the batch; `targets` is (N, H, W) int64.

    `probs` is (N, C, H, W) of float32 or float64. A class with no pixel in the batch is left out where `average` is
    "present". With "all" it adds the share of valid pixels falsely given to it, which is this loss of its complement.
    Without a valid pixel the loss is 0, and so is its gradient.
    """
    num_classes = probs.shape[1]
    flat, of_pixel = probs.movedim(1, 0).flatten(1), targets.flatten()
    valid = of_pixel != IGNORE_INDEX
    actual = torch.stack([(of_pixel == index).sum() for index in range(num_classes)])
    # asking a CPU costs nothing, and there absent classes are most of the work; a GPU is never waited for
    asked = actual.tolist() if probs.device.type == "cpu" else [1] * num_classes
    losses = []
    for index in range(num_classes):
        if asked[index] == 0:
            losses.append(flat.new_zeros(()))
            continue
        of_class = of_pixel == index
        with torch.no_grad():
            detached = flat[index].detach()
            slope = growth(torch.where(of_class, 1 - detached, detached), of_class, valid, actual[index])
        # e is 1 - p or p: what p does not enter is a sum of its own
        losses.append((slope * of_class).sum() + (torch.where(of_class, -slope, slope) * flat[index]).sum())
    of_present = torch.stack(losses)
    falsely_given = (flat * valid).sum(1) / valid.sum().clamp_min(1) if average == "all" else of_present
    return class_mean(of_present, falsely_given, actual > 0, average)


def growth(errors: Tensor, of_class: Tensor, valid: Tensor, number: Tensor) -> Tensor:
    """(P,): g of each pixel by its (P,) error and whether it is of the class, of which there are `number` pixels.

    Ignored pixels come last and get 0. Of equal errors the one that comes first in the batch comes first.
    """
    on_cpu = errors.device.type == "cpu" and errors.dtype == torch.float32
    order, hits = (_sorted_by_keys if on_cpu else _sorted)(errors, of_class, valid)
    before = hits.cumsum(0) - hits.long()  # k
    others = torch.arange(len(order), device=order.device) - before  # j, until the ignored ones
    union = (number + others).clamp_min(1).to(errors.dtype)  # 0 only where no pixel is of the class
    missing = (number - before).to(errors.dtype)
    grown = torch.where(hits, 1 / union, missing / union / (union + 1))
    slope = torch.empty_like(errors).scatter_(0, order, grown)
    return torch.where(valid, slope, 0)


def _sorted(errors: Tensor, of_class: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Positions of the pixels from the largest error down, and which of them are of the class."""
    order = torch.where(valid, errors, -1).sort(descending=True, stable=True).indices
    return order, of_class[order]


def _sorted_by_keys(errors: Tensor, of_class: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """The same for float32: one integer a pixel, of error, position and class; numpy sorts those 18 times as fast.

    As no two are equal, every algorithm, and so every processor, gives the same order.
    """
    bits = torch.where(valid, -errors.view(torch.int32), 1).long()  # the bits of a float from 0 up are ordered as it is
    keys = (bits << 32) | (torch.arange(len(errors)) << 1) | of_class
    in_order = torch.from_numpy(np.sort(keys.numpy()))
    return (in_order & 0xFFFFFFFF) >> 1, (in_order & 1).bool()
