"""What one model, or all teachers, of a fold say of prepared images, by any number of processes, interrupted or not."""

import os
from collections.abc import Callable, Iterator, Sequence
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
from segpipe.inference.probs import PredictionWriter, as_stored, quantise, sampled_size
from segpipe.inference.ranks import Ranks, start_ranks
from segpipe.inference.space import free_bytes, megabytes, refuse_full_disks, stored_bytes
from segpipe.models.checkpoint import ModelCard, Segmenter, load_segmenter
from segpipe.params import TrainParams, ViewParams
from segpipe.progress import say
from segpipe.stage import told_once
from segpipe.state import FOLDER, run_key, workspace


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


@dataclass(frozen=True)
class Keeping:
    """What is kept of the images: `keep` makes it, given an index of the image table; at most so many bytes in all.

    `depends_on` says on what else that depends, JSON values by name, and `code` is the module, its `__file__`.
    `sampled` gives the size at which an image is answered, given its index, where that is not the size that it is seen
    at.
    """

    keep: Keep
    num_bytes: int
    code: str
    depends_on: dict[str, Any]
    sampled: Callable[[int], tuple[int, int] | None] | None = None


def predict_fold(work: Work, model: Path, scored_size: tuple[int, int] | None) -> None:
    """Write the probability store of one model; nothing where this is not the first of several processes."""
    with told_once():
        segmenter, card = load_segmenter(model)
    entries = work.prepared.entries
    native = [(entries[index].height, entries[index].width) for index in work.indices]
    needed = stored_bytes(native, work.prepared.image_size, scored_size, card.classes.num_classes)
    say(
        f"predict: up to {megabytes(needed)} for {len(work.indices)} images, twice that while it runs; the disk has "
        f"{megabytes(free_bytes(work.out))} free"
    )

    def size_of(index: int) -> tuple[int, int]:
        return entries[index].height, entries[index].width

    def sampled(index: int) -> tuple[int, int] | None:
        return sampled_size(work.prepared.images.shape(index)[:2], size_of(index), scored_size)

    def keep(index: int, probs: np.ndarray, agreement: np.ndarray) -> Row:
        return [quantise(probs) if sampled(index) else as_stored(probs, size_of(index), scored_size)]

    keeping = Keeping(keep, needed, __file__, {"scored_size": scored_size}, sampled)
    with predicted(work, {model: (segmenter, card)}, keeping, outputs=needed) as rows:
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
    keeping: Keeping,
    *,
    outputs: int = 0,
    ranks: Ranks | None = None,
    part: str = "",
) -> Iterator[Rows | None]:
    """What is kept of each of the work's images, by their place in it; None in all processes but the first.

    `outputs` are the bytes that the block will write. `ranks` are those of this process where it has started them
    before; `part` names this piece of a stage that has several, each with a state of its own. The networks are taken
    out of `models` and gone when the block begins, unless the caller holds them. Raises ValueError where a disk has no
    room for what is to be written; what an earlier process has kept needs none.
    """
    ranks = ranks or start_ranks(work.train.devices)
    set_threads(work.train.threads)
    prepared, indices = work.prepared, work.indices
    identity = _identity(work, list(models), ranks.device, keeping.code) | keeping.depends_on
    state = workspace() / FOLDER / run_key(identity)
    held = sum(path.stat().st_size for path in state.glob("*"))
    with told_once():
        refuse_full_disks({work.out: outputs, state: max(keeping.num_bytes - held, 0)})
    with predicted_rows(
        _predictor(work, models, ranks.device),
        lambda position: prepared.images[indices[position]],
        [prepared.images.shape(index)[:2] for index in indices],
        lambda position, probs, agreement: keeping.keep(indices[position], probs, agreement),
        sampled=[keeping.sampled(index) for index in indices] if keeping.sampled else None,
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


def _identity(work: Work, models: Sequence[Path], device: torch.device, code: str) -> dict[str, Any]:
    """All that the answers depend on, but for how many processes share the work."""
    looked = identity_of(models, work.views, threads=work.train.threads, device=device, code=code)
    data = {"data": work.prepared.fingerprint(), "indices": list(work.indices)}
    return {"stage": work.stage} | data | looked
