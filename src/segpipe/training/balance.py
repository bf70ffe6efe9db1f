"""Factors that make the terms of the loss equally large before the first update, each by its weight.

The values of a term depend on what it is: cross-entropy begins near log(classes), an overlap term below 1. Weights of 1
and 1 so say nothing of which term leads. With v the mean value of a term over the first batches, w its weight and
V = sum(w v) / sum(w), its factor is V / v: then each term begins with w V, and the whole loss with what it would have
begun with anyway, so that the learning rate keeps its meaning.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader

from segpipe.data.dataset import EpochBatches
from segpipe.progress import first_process, say
from segpipe.stage import told_once
from segpipe.tables import write_rows
from segpipe.training.engine import mean_over_ranks
from segpipe.training.learner import Learner

UPDATES = 8  # whose batches are measured: terms differ by some per cent between batches

Rows = list[dict[str, Any]]  # of each term: term, weight, value (at the start), factor


def balance(learner: Learner, loader: DataLoader, batches: EpochBatches, path: Path) -> None:
    """Scale the learner's terms, tell by what, and write it to the CSV `path`.

    Measured once in a run: one that goes on has its factors from its state, as the weights are no longer those of the
    start. Raises ValueError as `balanced_terms` does.
    """
    if not learner.balance:
        learner.balance_terms(balanced_terms(learner, loader, batches))
    told = ", ".join(f"{row['term']} {row['value']:.4g} x {row['factor']:.4g}" for row in learner.balance)
    say(f"train: loss.balance: {told}")
    if first_process():
        write_rows(learner.balance, path)


def balanced_terms(learner: Learner, loader: DataLoader, batches: EpochBatches) -> Rows:
    """What `loss.balance` comes to: measured on the batches of the first updates, as the first epoch will have them.

    All ranks get the same rows. Neither the network nor any random number of training changes. Raises ValueError where
    a term is not finite.
    """
    values = mean_over_ranks(_measured(learner, loader, batches), learner.fabric).tolist()
    weights = learner.loss_fn.weights
    by_term = dict(zip(weights, values, strict=True))
    if bad := [f"{name} {value}" for name, value in by_term.items() if not 0 <= value < float("inf")]:
        with told_once():
            raise ValueError(
                f"loss.balance: found {', '.join(bad)} before the first update; expected finite values. Where the "
                "weights come from a file, are they sound? Else set loss.balance: false"
            )
    factors = balance_factors(weights, by_term)
    return [
        {"term": name, "weight": weight, "value": by_term[name], "factor": factors[name]}
        for name, weight in weights.items()
    ]


def balance_factors(weights: dict[str, float], values: dict[str, float]) -> dict[str, float]:
    """V / v of each term, see above; 1 for a term that is 0, as all are where no pixel of those batches counts."""
    mean = sum(weight * values[name] for name, weight in weights.items()) / sum(weights.values())
    return {name: mean / values[name] if values[name] > 0 else 1.0 for name in weights}


def _measured(learner: Learner, loader: DataLoader, batches: EpochBatches) -> torch.Tensor:
    """(T,): this rank's mean value of each term."""
    batches.epoch, batches.start = 1, 0
    pieces = list(islice(iter(batches), UPDATES * len(batches.mine)))
    total = torch.zeros(len(learner.loss_fn.names), dtype=torch.float64, device=learner.fabric.device)
    with _at_rest(learner.segmenter), torch.no_grad():
        for keys in pieces:
            # not through loader processes, which would have to be stopped in the middle of an epoch
            batch = loader.collate_fn([loader.dataset[key] for key in keys])
            images, targets, *soft = learner.fabric.to_device(batch)
            with learner.fabric.autocast():
                logits = learner.segmenter(images)
            total += learner.loss_of(logits, targets.long(), *soft)[1:]
    return total / len(pieces)


@contextmanager
def _at_rest(module: nn.Module) -> Iterator[None]:
    """Nothing is drawn, and norms take the batch's statistics as in training; afterwards all is as it was before."""
    modes = {part: part.training for part in module.modules()}
    kept = [buffer.clone() for buffer in module.buffers()]
    module.eval()
    for part in modes:
        if isinstance(part, _BatchNorm):
            part.train()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode
        with torch.no_grad():
            for buffer, before in zip(module.buffers(), kept, strict=True):
                buffer.copy_(before)
