"""What an update is made of: forward pass, loss, backward pass and step, in each precision of this CPU.

FPN on ResNet-18, 192x256, batch 8, 12 classes, cross-entropy with dice, AdamW; processor time of one thread, so that
other work on the machine disturbs little. The loss is also measured with the other way to count overlaps.

    PYTHONPATH=src python benchmarks/update_parts.py
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable

import torch

from segpipe.losses import overlap
from segpipe.losses.weighted_sum import SegmentationLoss, build_loss
from segpipe.models.build import architecture
from segpipe.models.checkpoint import Segmenter, new_segmenter
from segpipe.params import load_params
from segpipe.training.engine import usable_precisions
from segpipe.training.optim import build_optimizer

PARTS = ("forward", "loss", "backward of the loss", "backward of the network", "step")


def update(
    segmenter: Segmenter,
    loss_fn: SegmentationLoss,
    step: Callable[[], None],
    batch: tuple[torch.Tensor, torch.Tensor],
    *,
    bf16: bool,
) -> list[float]:
    """Seconds of processor time of each of PARTS."""
    images, targets = batch
    clock = [time.process_time()]
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        out = segmenter(images)
    clock.append(time.process_time())
    logits = out.float().detach().requires_grad_()
    loss = loss_fn(logits, targets)
    clock.append(time.process_time())
    loss.backward()
    clock.append(time.process_time())
    out.backward(logits.grad.to(out.dtype))
    clock.append(time.process_time())
    step()
    clock.append(time.process_time())
    segmenter.zero_grad(set_to_none=True)
    return [after - before for before, after in itertools.pairwise(clock)]


def main() -> None:
    """Print a line for each precision and way to count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--updates", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    member = load_params().member("main")
    raw = member.model_dump(mode="python")
    raw["model"] |= {"arch": "smp.FPN", "encoder": "resnet18"}
    raw["model"]["dropout"] |= {"encoder": 0.0, "decoder": 0.0, "projection": 0.2}
    raw["optimizer"] |= {"name": "adamw"}
    member = type(member).model_validate(raw)
    segmenter = new_segmenter(architecture(member.model, 12)).to(memory_format=torch.channels_last)
    loss_fn, optimizer = build_loss(member.loss), build_optimizer(segmenter, member.optimizer)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (8, 3, 192, 256), dtype=torch.uint8, generator=generator)
    targets = torch.randint(0, 12, (8, 192, 256), generator=generator)
    ways = {
        "one pass over the pixels": overlap._sums_by_index,
        "a pass a class": overlap._sums_by_comparison,
    }
    for precision in usable_precisions():
        for way, count in ways.items():
            overlap._sums_by_index = count  # the one that a CPU takes
            rows = [
                update(segmenter, loss_fn, optimizer.step, (images, targets), bf16=precision == "bf16")
                for _ in range(arguments.updates + 1)
            ][1:]
            seconds = dict(zip(PARTS, map(statistics.median, zip(*rows, strict=True)), strict=True))
            total = sum(seconds.values())
            share = (seconds["loss"] + seconds["backward of the loss"]) / total
            said = ", ".join(f"{name} {value:.3f}" for name, value in seconds.items())
            print(f"{precision}, {way}: {said}; {total:.2f} s in all, the loss {share:.1%}", flush=True)


if __name__ == "__main__":
    main()
