"""What one training stage works on, and all that its outcome depends on."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from lightning_fabric import Fabric

import segpipe
from segpipe.data.augment import Augment
from segpipe.data.class_counts import count_classes
from segpipe.data.cutmix import CutMix
from segpipe.data.dataset import Part, Sample
from segpipe.data.leaks import refuse_leaks
from segpipe.data.lineage import Lineage
from segpipe.data.paste import make_paste
from segpipe.data.prepared import Prepared
from segpipe.data.pseudo_labels import PseudoLabels
from segpipe.data.sampling import balanced_weights
from segpipe.data.soft_labels import SoftLabels
from segpipe.data.store import PackedArrays
from segpipe.libraries import TRAINING, library_versions
from segpipe.losses.class_weights import weights_by_count
from segpipe.models.checkpoint import read_card
from segpipe.models.encoder_weights import files_of
from segpipe.params import FoldName, LossParams, MemberParams, stop_on
from segpipe.sources import code_deps, code_digest, file_digest
from segpipe.training.engine import check_ratio, pseudo_per_batch
from segpipe.training.evaluate import Tune

Round = Literal["baseline", "retrain"]


@dataclass(frozen=True)
class Job:
    """What one training stage works on; `pseudo` and `baseline` (its own baseline's folder) for `retrain` only.

    `run` is the key of a claim's run, which has both rounds in one stage; `soft` belongs to `pseudo` where
    `retrain.labels` is soft.
    """

    round: Round
    params: MemberParams
    prepared: Prepared
    fold: FoldName
    scored_size: tuple[int, int] | None
    out: Path
    pseudo: PseudoLabels | None = None
    baseline: Path | None = None
    run: str | None = None
    soft: SoftLabels | None = None

    @property
    def tune(self) -> Tune:
        """The images that choose the epoch; none for the fold `all`, whose last epoch it is."""
        return Tune(self.prepared, self.prepared.folds[self.fold].tune, self.scored_size)

    @property
    def stage(self) -> str:
        """Its name, as DVC gives it where DVC runs it; of a claim's run, its key and the round.

        No two rounds share one: the finished state of a round goes when its stage starts something else.
        """
        if self.run is not None:
            return f"{self.run} {self.round}"
        return os.environ.get("DVC_STAGE", f"{self.round} {self.out.name}")

    @property
    def epochs(self) -> int:
        """Of this round."""
        return self.params.train.epochs if self.round == "baseline" else self.params.retrain.epochs


def labeled_part(
    images: PackedArrays,
    targets: PackedArrays,
    indices: Sequence[int],
    params: MemberParams,
    padded_to: tuple[int, int] | None,
) -> Part:
    """The images at `indices` of two stores with the same order, augmented and batched as the member's params say.

    Without pasting and balanced sampling, for which every target must be read: `labeled_part_of` adds them.
    """
    augment = Augment(params.augment.train, params.seed, "augment.train")
    samples = [Sample(index, index) for index in indices]
    return Part(images, targets, samples, augment, params.train.batch_size, padded_to)


def labeled_part_of(prepared: Prepared, fold: FoldName, params: MemberParams) -> Part:
    """The fold's training images as the member's params have them drawn, pasted on and augmented.

    Raises ValueError for names in augment.paste.classes that no class has.
    """
    train = prepared.folds[fold].train
    targets = prepared.target_store(train)
    part = labeled_part(prepared.images, targets, train, params, prepared.image_size)
    weights = balanced_weights(targets[index] for index in train) if params.train.sampling == "balanced" else None
    paste = make_paste(prepared.images, targets, train, prepared.classes.names, params.augment.paste, params.seed)
    return replace(part, paste=paste, weights=weights)


def class_weight_rows(prepared: Prepared, fold: FoldName, loss: LossParams) -> list[dict[str, Any]]:
    """Of each class: class, pixels and images of the fold's training targets, weight; none for `class_weights: none`.

    Raises ValueError for a list of another length.
    """
    names = prepared.classes.names
    if loss.class_weights == "none":
        return []
    if not isinstance(loss.class_weights, str) and len(loss.class_weights) != len(names):
        raise ValueError(
            f"loss.class_weights: found {len(loss.class_weights)} weights; expected {len(names)}, one for each class: "
            f"{', '.join(names)}"
        )
    train = prepared.folds[fold].train
    targets = prepared.target_store(train)
    pixels, images = count_classes((targets[index] for index in train), len(names))
    if isinstance(loss.class_weights, str):
        weights = weights_by_count(loss.class_weights, pixels, images, loss.effective_beta).tolist()
    else:
        weights = list(loss.class_weights)
    columns = zip(names, pixels.tolist(), images.tolist(), weights, strict=True)
    return [{"class": name, "pixels": p, "images": i, "weight": weight} for name, p, i, weight in columns]


def pseudo_part_of(
    prepared: Prepared, pseudo: PseudoLabels, params: MemberParams, soft: SoftLabels | None = None
) -> Part:
    """Pseudo-labelled images: none gives an object, none is pasted on, each comes as often as any other.

    Raises ValueError where `soft` belongs to other labels.
    """
    if soft is not None:
        soft.refuse_others(pseudo.indices, pseudo.labels, prepared.classes.num_classes)
    return Part(
        prepared.images,
        pseudo.labels,
        [Sample(index, position) for position, index in enumerate(pseudo.indices)],
        Augment(params.augment.pseudo, params.seed, "augment.pseudo"),
        pseudo_per_batch(params),
        prepared.image_size,
        cutmix=CutMix(params.retrain.cutmix, params.seed) if params.retrain.cutmix else None,
        soft=soft,
    )


def parts_of(job: Job) -> list[Part]:
    """Labelled images, and beside them the pseudo-labelled ones where there are any."""
    params = job.params
    labeled = labeled_part_of(job.prepared, job.fold, params)
    if job.pseudo is None or not job.pseudo.indices:
        return [labeled]
    stop_on("params.yaml", check_ratio(params, parts=1))
    assert (job.soft is not None) == (params.retrain.labels == "soft")
    return [labeled, pseudo_part_of(job.prepared, job.pseudo, params, job.soft)]


def lineage_of(job: Job) -> Lineage:
    """What the model will have seen; refuses parents that know this fold's held-out images."""
    prepared, fold = job.prepared, job.prepared.folds[job.fold]
    lineage = Lineage(frozenset(prepared.hashes(fold.train)), frozenset(prepared.hashes(fold.tune)))
    parents: list[tuple[str, Lineage]] = []
    if job.pseudo is not None:
        parents.append((str(job.pseudo.folder), job.pseudo.lineage))
    kept = job.pseudo is not None and not job.pseudo.indices  # the baseline itself, as there is nothing to learn from
    if job.baseline is not None and (kept or job.params.retrain.init == "baseline"):
        parents.append((str(job.baseline), read_card(job.baseline).lineage))
    for who, parent in [("its own training images", lineage), *parents]:
        refuse_leaks(prepared, job.fold, parent, who)
        lineage |= parent
    return lineage


def identity(job: Job, fabric: Fabric) -> dict[str, Any]:
    """All that the outcome depends on to the last bit: parameters, data, code, libraries, kind and number of devices.

    The number of loader processes and how often the state is saved change nothing.
    """
    params = job.params.model_dump(mode="json", exclude={"train": {"workers", "save_seconds"}})
    if job.round == "baseline":
        del params["retrain"], params["augment"]["pseudo"]
    files = files_of(job.params.model)
    files += [job.baseline / "model.safetensors"] if job.baseline else []
    root = Path(segpipe.__file__).resolve().parent.parent
    code = code_deps(root / "segpipe" / "training" / "member.py", root)
    return {
        "round": job.round,
        "fold": job.fold,
        "params": params,
        "scored_size": job.scored_size,
        "data": job.prepared.fingerprint(),
        "pseudo": [job.pseudo.labels.digest, list(job.pseudo.indices)] if job.pseudo else None,
        "soft": job.soft.digest if job.soft else None,
        "files": [file_digest(path) for path in files],
        "code": code_digest(code, root),
        "libraries": library_versions(TRAINING),
        "devices": [fabric.device.type, fabric.world_size],
    }
