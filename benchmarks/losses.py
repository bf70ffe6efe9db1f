"""Each loss against smp's (torch's where smp has none that is right) on the same tensors, forward and backward.

12 classes, a tenth of the pixels ignored; both take turns, and the ratio is the median of the pairs' ratios. Time is
that of the processor on one thread, so that other work on the machine disturbs little.
smp has no Tanimoto and no softmax focal: those meet its JaccardLoss and its FocalLoss (a sigmoid for each class),
the nearest that it has. Its JaccardLoss knows no ignored pixels and counts them as what 0 stands for.

    PYTHONPATH=src:benchmarks python benchmarks/losses.py
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from turns import seconds, spread

from segpipe.labels import IGNORE_INDEX
from segpipe.losses.weighted_sum import TERMS, SegmentationLoss, build_loss
from segpipe.params import LossParams, load_params

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
CLASSES = 12


def judges() -> dict[str, tuple[str, Loss]]:
    """For each term the library's loss, and its name."""
    ignoring = {"mode": "multiclass", "ignore_index": IGNORE_INDEX}
    jaccard = smp.losses.JaccardLoss("multiclass")

    def without_ignored(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return jaccard(logits, targets.where(targets != IGNORE_INDEX, 0))

    def ce(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits, targets, ignore_index=IGNORE_INDEX)

    return {
        "ce": ("torch cross_entropy", ce),
        "soft_ce": ("smp SoftCrossEntropyLoss", smp.losses.SoftCrossEntropyLoss(smooth_factor=0.1, ignore_index=255)),
        "focal": ("smp FocalLoss", smp.losses.FocalLoss(**ignoring)),
        "dice": ("smp DiceLoss", smp.losses.DiceLoss(**ignoring)),
        "jaccard": ("smp JaccardLoss", without_ignored),
        "tversky": ("smp TverskyLoss", smp.losses.TverskyLoss(**ignoring, alpha=0.3, beta=0.7)),
        "tanimoto": ("smp JaccardLoss", without_ignored),
        "lovasz": ("smp LovaszLoss", smp.losses.LovaszLoss(**ignoring)),
    }


def only(name: str, params: LossParams) -> SegmentationLoss:
    """One term alone."""
    return build_loss(params.model_copy(update=dict.fromkeys(TERMS, 0.0) | {name: 1.0}))


def make_batch(images: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and targets in blocks, as annotations are."""
    generator = torch.Generator().manual_seed(0)
    blocks = torch.randint(CLASSES, (images, size // 16, size // 16), generator=generator)
    targets = blocks.repeat_interleave(16, 1).repeat_interleave(16, 2)
    logits = torch.randn(images, CLASSES, size, size, generator=generator)
    logits += 2 * F.one_hot(targets, CLASSES).movedim(-1, 1)
    targets[torch.rand(targets.shape, generator=generator) < 0.1] = IGNORE_INDEX
    return logits, targets


def step(loss: Loss, logits: torch.Tensor, targets: torch.Tensor) -> None:
    """Forward and backward, to the logits."""
    loss(logits.requires_grad_(), targets).backward()
    logits.grad = None


def main() -> None:
    """Print a table for each size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    params = load_params().loss
    for images, size in ((4, 512), (8, 128)):
        logits, targets = make_batch(images, size)
        print(f"{images}x{CLASSES}x{size}x{size}, {arguments.pairs} pairs")
        print("| term | ms | against | ms | times as fast |\n|---|---|---|---|---|")
        for name, (label, judge) in judges().items():
            ours = only(name, params)
            times: list[tuple[float, float]] = []
            for number in range(arguments.pairs + 1):
                pair = [seconds(partial(step, loss, logits, targets), time.process_time) for loss in (ours, judge)]
                if number:  # the first is a warm-up
                    times.append((pair[0], pair[1]))
            ms = [f"{statistics.median(column) * 1e3:.1f}" for column in zip(*times, strict=True)]
            print(f"| `{name}` | {ms[0]} | {label} | {ms[1]} | {spread([b / a for a, b in times])} |", flush=True)


if __name__ == "__main__":
    main()
