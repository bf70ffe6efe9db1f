"""One member of one fold, from prepared data to a finished model folder: the baseline, and its retraining."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric

from segpipe.data.dataset import EpochBatches, Key, Part, make_loader
from segpipe.data.lineage import Lineage
from segpipe.interrupt import interruptible
from segpipe.libraries import TRAINING, library_versions
from segpipe.metrics.confusion import pooled_miou
from segpipe.models.atrous import rate_warnings
from segpipe.models.build import Architecture, architecture
from segpipe.models.checkpoint import (
    STAGES_OF_TRAINING,
    ModelCard,
    Segmenter,
    load_weights,
    read_card,
    write_card,
)
from segpipe.models.encoder_weights import load_encoder_weights, normalisation
from segpipe.progress import first_process, say
from segpipe.stage import told_once
from segpipe.state import open_state, run_key
from segpipe.tables import write_confusion, write_history, write_iou, write_rows
from segpipe.training.engine import split_batch, start_engine
from segpipe.training.evaluate import evaluate
from segpipe.training.job import Job, class_weight_rows, identity, lineage_of, parts_of
from segpipe.training.learner import Learner
from segpipe.training.loop import Around, Training
from segpipe.training.outcome import Best, Fitted
from segpipe.training.schedule import floor_warning
from segpipe.training.shortage import short_of_memory_in_words
from segpipe.training.tracking.tracker import Tracker


def train_member(job: Job, plots: Path, tracker: Tracker) -> float | None:
    """Train, write the model folder and the plots; return the best pooled mIoU on the fold's tune images.

    None where the fold has none; the last weights are then kept, and nothing is scored.

    A run that was interrupted goes on from its state. Raises ValueError, before any training, for names that no library
    knows and for labels that come from a teacher which saw this fold's held-out images.
    """
    with told_once():
        description = architecture(job.params.model, job.prepared.classes.num_classes)
    fabric = start_engine(job.params.train, job.params.seed)
    with told_once():
        parts, lineage = parts_of(job), lineage_of(job)
        weighed = class_weight_rows(job.prepared, job.fold, job.params.loss)
    if job.round == "retrain" and len(parts) == 1:
        say("retrain: there are no pseudo labels, so the baseline stays as it is")
        card, fitted = _keep_baseline(job)
        tracker.log(fitted.history[-1])
        if first_process() and job.baseline is not None:
            _copy_weights(job.baseline, "model.safetensors", job.out)
            write_history(fitted.history, plots / "history.csv")
    else:
        if weighed and first_process():
            _tell_class_weights(weighed, plots / "class_weights.csv")
        weights = [row["weight"] for row in weighed] or None
        fitted = _train(job, fabric, description, parts, weights, plots / "history.csv", tracker)
        card = _card(job, description, lineage, fitted.best)
    if first_process():
        write_card(card, job.out)
        _write_plots(fitted, job, plots)
    return pooled_miou(fitted.confusions) if job.tune.indices else None


def _train(
    job: Job,
    fabric: Fabric,
    description: Architecture,
    parts: list[Part],
    class_weights: list[float] | None,
    history_file: Path,
    tracker: Tracker,
) -> Fitted:
    """Train from the run's state on, and copy the weights that it keeps to the model folder."""
    params, pieces = job.params, split_batch(job.params, fabric)
    rank, world_size = fabric.global_rank, fabric.world_size
    fine = job.epochs - params.retrain.finetune_epochs + 1 if job.round == "retrain" else None
    batches = EpochBatches(parts, params.seed, pieces=pieces, rank=rank, world_size=world_size, first_alone_from=fine)
    # on CPUs and GPUs alike convolutions prefer channels last: 22 -> 28 images/s for FPN on two cores
    segmenter = Segmenter(description, *normalisation(params.model)).to(memory_format=torch.channels_last)
    _initialise(segmenter, job)
    learner = Learner(
        fabric,
        segmenter,
        params,
        updates_per_epoch=batches.updates,
        epochs=job.epochs,
        num_labeled=params.train.batch_size // pieces,
        pseudo_weight=params.retrain.pseudo_weight,
        ramp_updates=params.retrain.ramp_epochs * batches.updates,
        class_weights=class_weights,
    )
    if warning := floor_warning(params.optimizer, params.scheduler, batches.updates, learner.total_updates):
        say(f"warning: {warning}")
    for warning in rate_warnings(params.model, job.prepared.image_size):
        say(f"warning: {warning}")
    names = _FileNames(job, parts)
    with open_state(run_key(identity(job, fabric)), job.stage, writes=first_process()) as state:
        fabric.barrier()  # the first rank holds the state, or has refused to
        with interruptible() as interruption, short_of_memory_in_words(job.stage):
            around = Around(state, interruption, tracker, history_file, names)
            loader = make_loader(parts, batches, params.train.workers)
            fitted = Training(learner, loader, batches, job.tune, job.epochs, around).run()
        if first_process():  # only now that training is over: DVC empties a stage's outputs before it starts
            _copy_weights(state.folder, fitted.best.file, job.out)
    return fitted


def _tell_class_weights(rows: list[dict[str, Any]], path: Path) -> None:
    told = ", ".join(f"{row['class']} {row['weight']:.3g}" for row in rows)
    say(f"train: weights of the classes in the loss: {told}")
    write_rows(rows, path)


class _FileNames:
    """File names of training images by their keys in EpochBatches."""

    def __init__(self, job: Job, parts: list[Part]) -> None:
        self._entries, self._parts = job.prepared.entries, parts

    def __call__(self, keys: list[Key]) -> list[str]:
        samples = [self._parts[key.part].samples[key.position] for key in keys]
        return [self._entries[sample.image].file_name for sample in samples]


def _copy_weights(source: Path, chosen: str, out: Path) -> None:
    """The file `chosen` of `source` as the model's weights, and those of three times of training beside them."""
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source / chosen, out / "model.safetensors")
    for name in STAGES_OF_TRAINING:
        shutil.copyfile(source / f"{name}.safetensors", out / f"{name}.safetensors")


def _card(job: Job, description: Architecture, lineage: Lineage, best: Best) -> ModelCard:
    mean, std = normalisation(job.params.model)
    return ModelCard(
        architecture=description,
        image_size=job.prepared.image_size,
        resize=job.prepared.resize,
        mean=mean,
        std=std,
        classes=job.prepared.classes,
        lineage=lineage,
        parents=[str(path) for path in (job.baseline, job.pseudo and job.pseudo.folder) if path],
        chosen_epoch=best.epoch,
        chosen_weights=best.weights,
        libraries=library_versions(TRAINING),
    )


def _initialise(segmenter: Segmenter, job: Job) -> None:
    if job.round == "retrain" and job.params.retrain.init == "baseline":
        assert job.baseline is not None
        load_weights(segmenter, job.baseline / "model.safetensors")
    else:
        load_encoder_weights(segmenter.network, job.params.model)


def _keep_baseline(job: Job) -> tuple[ModelCard, Fitted]:
    """The baseline as this round's model, scored again so that every file of a model is there."""
    assert job.baseline is not None
    card = read_card(job.baseline)
    segmenter = Segmenter(card.architecture, card.mean, card.std)
    load_weights(segmenter, job.baseline / "model.safetensors")
    confusions, miou = np.empty(0), float("nan")
    if job.tune.indices:
        confusions, _ = evaluate(segmenter, job.tune)
        miou = pooled_miou(confusions)
    row = {"epoch": 0, "lr": 0.0, "train_loss": float("nan"), "tune_miou": miou}
    return card, Fitted([row], Best(card.chosen_epoch, card.chosen_weights, row["tune_miou"]), confusions)


def _write_plots(fitted: Fitted, job: Job, plots: Path) -> None:
    if not job.tune.indices:
        return
    entries = [job.prepared.entries[index] for index in job.tune.indices]
    groups = [entry.group for entry in entries]
    classes = job.prepared.classes
    write_iou(fitted.confusions, groups, classes, plots / "iou.csv")
    write_confusion(np.sum(fitted.confusions, axis=0), classes.names, plots / "confusion.csv")
