"""What one model, or all teachers, of a fold say of prepared images, by any number of processes, interrupted or not."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segpipe.data.prepared import Prepared
from segpipe.inference.identity import identity_of
from segpipe.inference.portions import Keep, Row, Rows, predicted_rows
from segpipe.inference.predict import Predictor, set_threads
from segpipe.inference.probs import PredictionWriter, as_stored
from segpipe.inference.ranks import Ranks, start_ranks
from segpipe.inference.space import megabytes, refuse_full_disk, stored_bytes
from segpipe.models.checkpoint import ModelCard, Segmenter, load_segmenter
from segpipe.params import TrainParams, ViewParams
from segpipe.progress import say
from segpipe.stage import told_once


@dataclass(frozen=True)
class Work:
    """What the stage `stage` does: look at these images of the prepared data, and write the folder `out`.

    Of `train` the processes that share it and their threads count.
    """

    stage: str
    prepared: Prepared
    indices: Sequence[int]
    views: ViewParams
    train: TrainParams
    out: Path


def predict_fold(work: Work, model: Path, scored_size: tuple[int, int] | None) -> None:
    """Write the probability store of one model; nothing where this is not the first of several processes."""
    with told_once():
        segmenter, card = load_segmenter(model)
    entries = work.prepared.entries
    native = [(entries[index].height, entries[index].width) for index in work.indices]
    needed = stored_bytes(native, work.prepared.image_size, scored_size, card.classes.num_classes)
    with told_once():
        free = refuse_full_disk(work.out, 2 * needed)  # as much again for the portions, until all are there
    say(
        f"predict: up to {megabytes(needed)} for {len(work.indices)} images, twice that while it runs; the disk has "
        f"{megabytes(free)} free"
    )

    def keep(index: int, probs: np.ndarray, agreement: np.ndarray) -> Row:
        return [as_stored(probs, (entries[index].height, entries[index].width), scored_size)]

    with predicted(work, {model: (segmenter, card)}, keep, {"scored_size": scored_size}) as rows:
        if rows is None:
            return
        with PredictionWriter(work.out, str(model), list(card.classes.names), scored_size) as writer:
            for position, index in enumerate(work.indices):
                writer.add_stored(index, rows[position][0])
            writer.finish(card.lineage, card.libraries)


@contextmanager
def predicted(
    work: Work,
    models: dict[Path, tuple[Segmenter, ModelCard]],
    keep: Keep,
    kept: dict[str, Any],
    *,
    ranks: Ranks | None = None,
    part: str = "",
) -> Iterator[Rows | None]:
    """What `keep` keeps, given an index of the image table, of each of the work's images, by their place in it.

    `kept` says what `keep` depends on. None in all processes but the first. `ranks` are those of this process where it
    has started them before; `part` names this piece of a stage that has several, each with a state of its own. The
    networks are taken out of `models` and gone when the block begins, unless the caller holds them.
    """
    ranks = ranks or start_ranks(work.train.devices)
    set_threads(work.train.threads)
    prepared, indices = work.prepared, work.indices
    identity = _identity(work, list(models), ranks.device) | kept
    with predicted_rows(
        _predictor(work, models, ranks.device),
        lambda position: prepared.images[indices[position]],
        [prepared.images.shape(index)[:2] for index in indices],
        lambda position, probs, agreement: keep(indices[position], probs, agreement),
        ranks=ranks,
        identity=identity,
        stage=f"{os.environ.get('DVC_STAGE', f'{work.stage} {work.out.name}')} {part}".strip(),
        label=f"{work.stage} {part}".strip(),
    ) as rows:
        yield rows


def _predictor(work: Work, models: dict[Path, tuple[Segmenter, ModelCard]], device: torch.device) -> Predictor:
    """With all that is in `models`, which is empty then: only the predictor holds the networks."""
    segmenters = [segmenter for segmenter, _ in models.values()]
    models.clear()
    return Predictor(segmenters, work.views, work.prepared.image_size, device=device)


def _identity(work: Work, models: Sequence[Path], device: torch.device) -> dict[str, Any]:
    """All that the answers depend on, but for how many processes share the work."""
    looked = identity_of(models, work.views, threads=work.train.threads, device=device, code=__file__)
    data = {"data": work.prepared.fingerprint(), "indices": list(work.indices)}
    return {"stage": work.stage} | data | looked
