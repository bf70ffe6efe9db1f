"""One member of one fold, from prepared data to a finished model folder: the baseline, and its retraining."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from segpipe.data.augment import Augment, build_transforms
from segpipe.data.dataset import EpochBatches, Part, Sample, make_loader
from segpipe.data.lineage import Lineage
from segpipe.data.prepared import Prepared
from segpipe.data.pseudo_labels import PseudoLabels
from segpipe.data.store import PackedArrays
from segpipe.libraries import TRAINING, library_versions
from segpipe.losses import build_loss
from segpipe.metrics.confusion import pooled_miou
from segpipe.models.build import architecture, check_names, load_encoder_weights
from segpipe.models.checkpoint import (
    STAGES_OF_TRAINING,
    ModelCard,
    Segmenter,
    load_weights,
    new_segmenter,
    normalisation,
    read_card,
    write_card,
)
from segpipe.params import FoldName, MemberParams, Params
from segpipe.tables import write_confusion, write_history, write_iou
from segpipe.training.engine import start_engine
from segpipe.training.loop import Fitted, Tune, evaluate, fit
from segpipe.training.tracking.tracker import Tracker

Round = Literal["baseline", "retrain"]


@dataclass(frozen=True)
class Job:
    """What one training stage works on; `pseudo` and `baseline` (its own baseline's folder) for `retrain` only."""

    round: Round
    params: MemberParams
    prepared: Prepared
    fold: FoldName
    scored_size: tuple[int, int] | None
    out: Path
    pseudo: PseudoLabels | None = None
    baseline: Path | None = None

    @property
    def tune(self) -> Tune:
        """The images that choose the epoch; none for the fold `all`, whose last epoch it is."""
        return Tune(self.prepared, self.prepared.folds[self.fold].tune, self.scored_size)

    @property
    def epochs(self) -> int:
        """Of this round."""
        return self.params.train.epochs if self.round == "baseline" else self.params.retrain.epochs


def train_member(job: Job, plots: Path, tracker: Tracker) -> float | None:
    """Train, write the model folder and the plots; return the best pooled mIoU on the fold's tune images.

    None where the fold has no tune images.

    Raises ValueError, before any training, for names that no library knows and for labels that come from a teacher
    which saw this fold's held-out images.
    """
    description = architecture(job.params.model, job.prepared.classes.num_classes)
    fabric = start_engine(job.params.train, job.params.seed)
    parts = _parts(job)
    lineage = _lineage(job)
    if job.round == "retrain" and len(parts) == 1:
        print("retrain: there are no pseudo labels, so the baseline stays as it is", flush=True)
        card, fitted = _keep_baseline(job)
        write_history(fitted.history, plots / "history.csv")
        tracker.log(fitted.history[-1])
    else:
        # on CPUs and GPUs alike convolutions prefer channels last: 22 -> 28 images/s for FPN on two cores
        segmenter = new_segmenter(description).to(memory_format=torch.channels_last)
        _initialise(segmenter, job)
        batches = EpochBatches(parts, job.params.seed)
        fitted = fit(
            fabric,
            segmenter,
            make_loader(parts, batches, job.params.train.workers),
            build_loss(job.params.loss),
            job.tune,
            job.params,
            epochs=job.epochs,
            pseudo_weight=job.params.retrain.pseudo_weight,
            out=job.out,
            history_file=plots / "history.csv",
            tracker=tracker,
        )
        mean, std = normalisation(description["encoder"])
        parents = [str(path) for path in (job.baseline, job.pseudo and job.pseudo.folder) if path]
        card = ModelCard(
            architecture=description,
            image_size=job.prepared.image_size,
            mean=mean,
            std=std,
            classes=job.prepared.classes,
            lineage=lineage,
            parents=parents,
            chosen_epoch=fitted.best_epoch,
            libraries=library_versions(TRAINING),
        )
    write_card(card, job.out)
    _write_plots(fitted, job, plots)
    return pooled_miou(fitted.confusions) if job.tune.indices else None


def check_members(params: Params) -> None:
    """Raise ValueError for names of any member that no library knows: a typo must not wait for the stage that meets it.

    Checked before data are read: architectures, encoders, weights and both augmentation lists of every member.
    """
    for name in params.member_names:
        member = params.member(name)
        check_names(member.model)
        build_transforms(member.augment.train, "augment.train")
        build_transforms(member.augment.pseudo, "augment.pseudo")


def labeled_part(images: PackedArrays, targets: PackedArrays, indices: Sequence[int], params: MemberParams) -> Part:
    """The images at `indices` of two stores with the same order, augmented and batched as the member's params say."""
    augment = Augment(params.augment.train, params.seed, "augment.train")
    return Part(images, targets, [Sample(index, index) for index in indices], augment, params.train.batch_size)


def _parts(job: Job) -> list[Part]:
    """Labelled images, and beside them the pseudo-labelled ones where there are any."""
    prepared, params = job.prepared, job.params
    train = prepared.folds[job.fold].train
    labeled = labeled_part(prepared.images, prepared.target_store(train), train, params)
    per_batch = round(params.train.batch_size * params.retrain.ratio)
    if job.pseudo is None or not job.pseudo.indices:
        return [labeled]
    if per_batch == 0:
        raise ValueError(
            f"retrain.ratio: found {params.retrain.ratio}, which is no image in an update of {params.train.batch_size} "
            f"labelled ones; give at least {0.5 / params.train.batch_size:.3f}"
        )
    pseudo = Part(
        prepared.images,
        job.pseudo.labels,
        [Sample(index, position) for position, index in enumerate(job.pseudo.indices)],
        Augment(params.augment.pseudo, params.seed, "augment.pseudo"),
        per_batch,
    )
    return [labeled, pseudo]


def _lineage(job: Job) -> Lineage:
    """What the model will have seen; refuses parents that know this fold's held-out images."""
    prepared, fold = job.prepared, job.prepared.folds[job.fold]
    lineage = Lineage(frozenset(prepared.hashes(fold.train)), frozenset(prepared.hashes(fold.tune)))
    parents: list[tuple[str, Lineage]] = []
    if job.pseudo is not None:
        parents.append((str(job.pseudo.folder), job.pseudo.lineage))
    if job.baseline is not None and job.params.retrain.init == "baseline":
        parents.append((str(job.baseline), read_card(job.baseline).lineage))
    for who, parent in [("its own training images", lineage), *parents]:
        parent.refuse_tuning_on(prepared.named_hashes(fold.tune), who)
        parent.refuse_judging_on(prepared.named_hashes(fold.judge), who)
        lineage |= parent
    return lineage


def _initialise(segmenter: Segmenter, job: Job) -> None:
    if job.round == "retrain" and job.params.retrain.init == "baseline":
        assert job.baseline is not None
        load_weights(segmenter, job.baseline / "model.safetensors")
    else:
        load_encoder_weights(segmenter.network, job.params.model)


def _keep_baseline(job: Job) -> tuple[ModelCard, Fitted]:
    """The baseline's weights as this round's model, scored again so that every file of a model is there."""
    assert job.baseline is not None
    job.out.mkdir(parents=True, exist_ok=True)
    for name in ("model", *STAGES_OF_TRAINING):
        shutil.copyfile(job.baseline / f"{name}.safetensors", job.out / f"{name}.safetensors")
    card = read_card(job.baseline)
    segmenter = Segmenter(card.architecture, card.mean, card.std)
    load_weights(segmenter, job.out / "model.safetensors")
    confusions, miou = np.empty(0), float("nan")
    if job.tune.indices:
        confusions, _ = evaluate(segmenter, job.tune)
        miou = pooled_miou(confusions)
    row = {"epoch": 0, "lr": 0.0, "train_loss": float("nan"), "tune_miou": miou}
    return card, Fitted([row], card.chosen_epoch, confusions)


def _write_plots(fitted: Fitted, job: Job, plots: Path) -> None:
    if not job.tune.indices:
        return
    entries = [job.prepared.entries[index] for index in job.tune.indices]
    groups = [entry.group for entry in entries]
    names = job.prepared.classes.names
    write_iou(fitted.confusions, groups, names, plots / "iou.csv")
    write_confusion(np.sum(fitted.confusions, axis=0), names, plots / "confusion.csv")
