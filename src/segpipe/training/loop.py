"""The training loop: one epoch, one evaluation, and the run that chooses the best epoch on tune images."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader
from tqdm import tqdm

from segpipe.data.prepared import Prepared
from segpipe.data.resize import resize_labels
from segpipe.inference.predict import predict_probs
from segpipe.inference.probs import to_scored_size
from segpipe.losses import SegmentationLoss
from segpipe.metrics.confusion import confusion_matrix, pooled_miou
from segpipe.models.checkpoint import Segmenter, save_weights
from segpipe.params import MemberParams
from segpipe.training.optim import build_optimizer, build_scheduler

Row = dict[str, float]


@dataclass(frozen=True)
class Tune:
    """Held-out images that choose the epoch, and the size at which they are scored."""

    prepared: Prepared
    indices: Sequence[int]
    scored_size: tuple[int, int] | None


@dataclass(frozen=True)
class Fitted:
    """The outcome of a run: one row an epoch, the chosen epoch (from 1), its confusion matrix of each tune image."""

    history: list[Row]
    best_epoch: int
    confusions: np.ndarray


def train_one_epoch(
    fabric: Fabric,
    model: torch.nn.Module,
    loader: DataLoader,
    loss_fn: SegmentationLoss,
    optimizer: Optimizer,
    scheduler: LRScheduler,
    *,
    num_labeled: int,
    pseudo_weight: float,
    clip_norm: float,
) -> float:
    """Fit `model` on one pass over `loader`; return the mean loss of the updates.

    The first `num_labeled` images of a batch carry true labels; the loss of the others counts `pseudo_weight`.
    """
    model.train()
    loss_sum = torch.zeros((), device=fabric.device)  # read once an epoch: reading it waits for the device
    for images, targets in loader:
        images, targets = fabric.to_device((images, targets))
        logits, targets = model(images), targets.long()
        loss = loss_fn(logits[:num_labeled], targets[:num_labeled])
        if len(images) > num_labeled:
            loss = loss + pseudo_weight * loss_fn(logits[num_labeled:], targets[num_labeled:])
        optimizer.zero_grad(set_to_none=True)
        fabric.backward(loss)
        if clip_norm:
            fabric.clip_gradients(model, optimizer, max_norm=clip_norm, error_if_nonfinite=False)
        optimizer.step()
        scheduler.step()  # the schedule is counted in updates, not epochs
        loss_sum += loss.detach()
    return loss_sum.item() / len(loader)


def evaluate(segmenter: Segmenter, tune: Tune) -> np.ndarray:
    """(N, C, C) int64: the confusion matrix of every tune image at the scored size, each image once."""
    prepared, confusions = tune.prepared, []
    for index, probs, _ in predict_probs([segmenter], prepared.images, tune.indices, flips=False, label="tune"):
        entry = prepared.entries[index]
        preds = to_scored_size(probs, (entry.height, entry.width), tune.scored_size).argmax(-1).astype(np.uint8)
        target = resize_labels(prepared.native_target(index), tune.scored_size)
        confusions.append(confusion_matrix(preds, target, prepared.classes.num_classes))
    return np.stack(confusions)


def fit(
    fabric: Fabric,
    segmenter: Segmenter,
    loader: DataLoader,
    loss_fn: SegmentationLoss,
    tune: Tune,
    params: MemberParams,
    *,
    epochs: int,
    pseudo_weight: float,
    out: Path,
    listen: Callable[[Row], None],
) -> Fitted:
    """Train for `epochs`, score tune images after each, and keep the weights of the best epoch in `out`.

    Writes `model` (best pooled mIoU on tune; the first of equals), `third`, `two_thirds` and `last` as safetensors.
    """
    optimizer = build_optimizer(segmenter, params.optimizer)
    model, optimizer = fabric.setup(segmenter, optimizer)
    loader = fabric.setup_dataloaders(loader, move_to_device=False, use_distributed_sampler=False)
    scheduler = build_scheduler(optimizer, params.scheduler, len(loader), len(loader) * epochs)
    snapshots = {"third": max(epochs // 3, 1), "two_thirds": max(2 * epochs // 3, 1), "last": epochs}
    history: list[Row] = []
    best_miou, best_epoch, best_confusions = 0.0, 0, np.empty(0)
    bar = tqdm(range(1, epochs + 1), desc="train", unit="epoch", disable=None)
    for epoch in bar:
        started, lr = time.perf_counter(), scheduler.get_last_lr()[0]
        loader.batch_sampler.epoch = epoch
        loss = train_one_epoch(
            fabric,
            model,
            loader,
            loss_fn,
            optimizer,
            scheduler,
            num_labeled=params.train.batch_size,
            pseudo_weight=pseudo_weight,
            clip_norm=params.train.clip_norm,
        )
        if not math.isfinite(loss):
            raise ValueError(f"training diverged in epoch {epoch}: its mean loss is {loss}; lower optimizer.lr")
        seconds, miou = time.perf_counter() - started, float("nan")
        if epoch % params.train.validate_every == 0 or epoch == epochs:
            confusions = evaluate(segmenter, tune)
            miou = pooled_miou(confusions)
            if best_epoch == 0 or miou > best_miou:
                best_miou, best_epoch, best_confusions = miou, epoch, confusions
                save_weights(segmenter, out / "model.safetensors")
        for name, last_epoch in snapshots.items():
            if epoch == last_epoch:
                save_weights(segmenter, out / f"{name}.safetensors")
        history.append({"epoch": epoch, "lr": lr, "train_loss": loss, "tune_miou": miou})
        listen(history[-1])
        _say(bar, epoch, epochs, history[-1], len(loader) * params.train.batch_size / seconds)
    return Fitted(history, best_epoch, best_confusions)


def _say(bar: tqdm, epoch: int, epochs: int, row: Row, images_per_second: float) -> None:
    """One line an epoch in a log; on a terminal the bar says the same."""
    said = f"loss {row['train_loss']:.3f}, mIoU {row['tune_miou']:.3f}, {images_per_second:.0f} images/s"
    if bar.disable:
        print(f"epoch {epoch}/{epochs}: {said}", flush=True)
    else:
        bar.set_postfix_str(said)
