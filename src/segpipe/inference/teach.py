"""What the teachers of a fold say of the pool: class and confidence of every pixel, agreement of every image.

Nothing here depends on a threshold, so that changing one costs seconds and no inference.
"""

from pathlib import Path

import numpy as np

from segpipe.data.lineage import Lineage
from segpipe.data.store import PackedWriter
from segpipe.inference.fold import Work, predicted
from segpipe.inference.portions import Row
from segpipe.models.checkpoint import ModelCard, Segmenter, load_segmenter
from segpipe.params import FoldName
from segpipe.stage import told_once, write_json

Teachers = dict[Path, tuple[Segmenter, ModelCard]]


def teach(work: Work, fold: FoldName, teachers: list[Path]) -> None:
    """Write `classes` and `confidence` (uint8 stores) and card.json: of the work's images, first the pool, then tune.

    Confidence is the highest mean probability over the teachers, in 255ths. Raises ValueError when a teacher knows
    this fold's held-out images or was trained on other classes.
    """
    with told_once():
        models = {folder: load_segmenter(folder) for folder in teachers}
        lineage = _refuse_leaks(work, fold, models)
    agreements = []
    with predicted(work, models, _keep, {}) as rows:
        if rows is None:
            return
        with PackedWriter(work.out / "classes") as classes, PackedWriter(work.out / "confidence") as confidences:
            for position in range(len(work.indices)):
                labels, confidence, agreement = rows[position]
                classes.add(labels)
                confidences.add(confidence)
                agreements.append(float(agreement.view(np.float64)[0]))
        pool, tune = work.prepared.pool(), work.prepared.folds[fold].tune
        assert [*work.indices] == [*pool, *tune]
        card = {
            "teachers": [str(folder) for folder in teachers],
            "pool": list(pool),
            "tune": list(tune),
            "agreement": agreements,
            "lineage": lineage.to_json(),
        }
        write_json(work.out / "card.json", card)


def _keep(index: int, probs: np.ndarray, agreement: np.ndarray) -> Row:
    """Classes and confidence (H, W), and the share of pixels that the teachers agree on as the bytes of a float64."""
    confidence = np.rint(probs.max(-1) * 255).astype(np.uint8)
    return [probs.argmax(-1).astype(np.uint8), confidence, np.array([agreement.mean()], np.float64).view(np.uint8)]


def _refuse_leaks(work: Work, fold: FoldName, models: Teachers) -> Lineage:
    """What all teachers have seen, if they may teach this fold."""
    prepared, held_out, lineage = work.prepared, work.prepared.folds[fold], Lineage(frozenset(), frozenset())
    for folder, (_, card) in models.items():
        if card.classes.names != prepared.classes.names:
            raise ValueError(f"{folder}: was trained on {card.classes.names}, this data has {prepared.classes.names}")
        card.lineage.refuse_tuning_on(prepared.named_hashes(held_out.tune), str(folder))
        card.lineage.refuse_judging_on(prepared.named_hashes(held_out.judge), str(folder))
        lineage |= card.lineage
    return lineage
