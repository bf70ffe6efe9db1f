"""The training loop: one epoch, one evaluation, and the run that chooses the best epoch on tune images."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from segpipe.data.prepared import Prepared
from segpipe.data.resize import resize_labels
from segpipe.inference.predict import predict_probs
from segpipe.inference.probs import to_scored_size
from segpipe.losses import SegmentationLoss
from segpipe.metrics.confusion import confusion_matrix, pooled_miou
from segpipe.models.checkpoint import Segmenter, save_weights
from segpipe.params import MemberParams
from segpipe.tables import write_history
from segpipe.training.display import TrainingDisplay
from segpipe.training.optim import build_optimizer, build_scheduler
from segpipe.training.tracking.listener import Example, Row
from segpipe.training.tracking.tracker import Tracker


@dataclass(frozen=True)
class Tune:
    """Held-out images that choose the epoch, and the size at which they are scored; without any the last is chosen."""

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
    after_update: Callable[[int, torch.Tensor], None],
) -> float:
    """Fit `model` on one pass over `loader`; return the mean loss of the updates.

    The first `num_labeled` images of a batch carry true labels; the loss of the others counts `pseudo_weight`.
    `after_update` is told the number of images and the sum of the losses so far, a scalar on the device.
    """
    model.train()
    loss_sum = torch.zeros((), device=fabric.device)  # not read after each update: reading it waits for the device
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
        after_update(len(images), loss_sum)
    return loss_sum.item() / len(loader)


def evaluate(segmenter: Segmenter, tune: Tune, show: int = 0) -> tuple[np.ndarray, list[Example]]:
    """(N, C, C) int64, the confusion matrix of every tune image at the scored size; and `show` of them to look at.

    Those are the same images each time, spread over the list, at the networks' size.
    """
    prepared, confusions, examples = tune.prepared, [], []
    count = min(show, len(tune.indices))
    shown = {tune.indices[place * len(tune.indices) // count] for place in range(count)}
    for index, probs, _ in predict_probs([segmenter], prepared.images, tune.indices, flips=False, label="tune"):
        entry = prepared.entries[index]
        preds = to_scored_size(probs, (entry.height, entry.width), tune.scored_size).argmax(-1).astype(np.uint8)
        target = resize_labels(prepared.native_target(index), tune.scored_size)
        confusions.append(confusion_matrix(preds, target, prepared.classes.num_classes))
        if index in shown:
            image = prepared.images[index]
            sized = [resize_labels(labels, image.shape[:2]) for labels in (preds, target)]
            examples.append(Example(entry.file_name, image, *sized))
    return np.stack(confusions), examples


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
    history_file: Path,
    tracker: Tracker,
) -> Fitted:
    """Train for `epochs`, score tune images now and then, and keep the weights of the best epoch in `out`.

    Writes `model` (best pooled mIoU on tune; the first of equals), `third`, `two_thirds` and `last` as safetensors, and
    `history_file` anew after each epoch, so that `dvc plots show` draws curves while training runs. Without tune images
    nothing is scored, and `model` is the last epoch's.
    """
    optimizer = build_optimizer(segmenter, params.optimizer)
    model, optimizer = fabric.setup(segmenter, optimizer)
    loader = fabric.setup_dataloaders(loader, move_to_device=False, use_distributed_sampler=False)
    scheduler = build_scheduler(optimizer, params.scheduler, len(loader), len(loader) * epochs)
    snapshots = {"third": max(epochs // 3, 1), "two_thirds": max(2 * epochs // 3, 1), "last": epochs}
    history: list[Row] = []
    best_miou, best_epoch, best_confusions = 0.0, 0, np.empty(0)
    scored = [epoch for epoch in range(1, epochs + 1) if epoch % params.train.validate_every == 0 or epoch == epochs]
    scored = scored if tune.indices else []
    with TrainingDisplay(epochs, len(loader), len(scored), len(tune.indices)) as display:
        for epoch in range(1, epochs + 1):
            lr, miou = scheduler.get_last_lr()[0], float("nan")
            loader.batch_sampler.epoch = epoch
            display.start_epoch(epoch)
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
                after_update=display.after_update,
            )
            if not math.isfinite(loss):
                raise ValueError(f"training diverged in epoch {epoch}: its mean loss is {loss}; lower optimizer.lr")
            if epoch in scored:
                with display.scoring():
                    confusions, examples = evaluate(segmenter, tune, tracker.images)
                miou = pooled_miou(confusions)
                if best_epoch == 0 or miou > best_miou:
                    best_miou, best_epoch, best_confusions = miou, epoch, confusions
                    save_weights(segmenter, out / "model.safetensors")
                tracker.show(epoch, examples)
            elif not tune.indices and epoch == epochs:
                best_epoch = epoch
                save_weights(segmenter, out / "model.safetensors")
            for name, last_epoch in snapshots.items():
                if epoch == last_epoch:
                    save_weights(segmenter, out / f"{name}.safetensors")
            history.append({"epoch": epoch, "lr": lr, "train_loss": loss, "tune_miou": miou})
            write_history(history, history_file)
            tracker.log(history[-1])
            display.end_epoch(history[-1], scored=epoch in scored)
    return Fitted(history, best_epoch, best_confusions)
