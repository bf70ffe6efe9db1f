"""What the teachers of a fold say of the pool: class and confidence of every pixel, numbers about every image.

Nothing here depends on a threshold, so that changing one costs seconds and no inference.
"""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from segpipe.data.soft_labels import write_card
from segpipe.data.store import PackedWriter
from segpipe.inference.fold import Keeping, Work, predicted
from segpipe.inference.portions import Row, Rows
from segpipe.inference.probs import quantise, winners
from segpipe.inference.ranks import start_ranks
from segpipe.inference.space import free_bytes, megabytes
from segpipe.inference.teachers import check_teachers, seen_pixels, steadiness
from segpipe.models.checkpoint import load_segmenter
from segpipe.params import FoldName
from segpipe.progress import say
from segpipe.stage import told_once, write_json


def teach(work: Work, fold: FoldName, teachers: list[Path], *, checkpoints: bool, soft: Path | None = None) -> None:
    """Write `classes` and `confidence` (uint8 stores), images.csv and card.json of the work's images: pool, then tune.

    Confidence is the highest mean probability over the teachers, in 255ths. images.csv has a row for each: `index` of
    the image table, `file_name`, `member_agreement` (share of pixels of which all teachers name the same class),
    `checkpoint_agreement` (`teachers.steadiness`; empty without `checkpoints`), `mean_confidence`. The folder `soft`
    gets the mean probabilities of the pool's images (`data.soft_labels`); None: they are not kept. Raises ValueError as
    `check_teachers` does, before any image is predicted.
    """
    prepared, indices = work.prepared, work.indices
    with told_once():
        lineage = check_teachers(prepared, fold, teachers)
        models = {folder: load_segmenter(folder) for folder in teachers}
    ranks = start_ranks(work.train.devices)
    stored, pool = 2 * seen_pixels(work), prepared.pool()
    if soft is not None:
        stored += _said_to_need(replace(work, indices=pool), soft)
    in_whole = frozenset(pool if soft is not None else ())

    def keep(index: int, probs: np.ndarray, agreement: np.ndarray) -> Row:
        row = _keep(probs, agreement)
        if in_whole:  # a portion has as many arrays of each image, and tune images may be among them
            row.append(quantise(probs) if index in in_whole else np.empty(0, np.uint8))
        return row

    keeping = Keeping(keep, stored + 16 * len(indices), __file__, {"probs": bool(in_whole)})
    with predicted(work, models, keeping, outputs=stored, ranks=ranks) as rows, ExitStack() as stack:
        steady = steadiness(work, teachers, ranks, stack) if checkpoints else np.full(len(indices), np.nan)
        if rows is None:
            return
        if soft is not None:
            _write_probabilities(soft, rows, [position for position, index in enumerate(indices) if index in in_whole])
        numbers = []
        with PackedWriter(work.out / "classes") as classes, PackedWriter(work.out / "confidence") as confidences:
            for position in range(len(indices)):
                labels, confidence, of_image, *_ = rows[position]
                classes.add(labels)
                confidences.add(confidence)
                numbers.append(of_image.view(np.float64))
        agreement, confidence = np.array(numbers).reshape(-1, 2).T
        table = pd.DataFrame(
            {
                "index": list(indices),
                "file_name": [prepared.entries[index].file_name for index in indices],
                "member_agreement": agreement,
                "checkpoint_agreement": steady,
                "mean_confidence": confidence,
            }
        )
        table.to_csv(work.out / "images.csv", index=False, errors="surrogatepass")
        tune = prepared.folds[fold].tune
        assert [*indices] == [*pool, *tune]
        card = {"teachers": [str(folder) for folder in teachers], "pool": list(pool), "tune": list(tune)}
        write_json(work.out / "card.json", card | {"fold": fold, "lineage": lineage.to_json()})
        if soft is not None:
            write_card(soft, pool)


def _said_to_need(pool: Work, soft: Path) -> int:
    """Bytes of the pool's probabilities, after a line that says how many."""
    needed = seen_pixels(pool) * pool.prepared.classes.num_classes
    say(
        f"teach: {megabytes(needed)} for the probabilities of {len(pool.indices)} images (teach.probs), twice that "
        f"while it runs; the disk has {megabytes(free_bytes(soft))} free"
    )
    return needed


def _write_probabilities(soft: Path, rows: Rows, positions: list[int]) -> None:
    with PackedWriter(soft / "probs") as probs:
        for position in positions:
            probs.add(rows[position][-1])


def _keep(probs: np.ndarray, agreement: np.ndarray) -> Row:
    """Classes and confidence (H, W); agreement and confidence of the image as the bytes of two float64."""
    confidence = probs.max(-1)
    numbers = np.array([agreement.mean(), confidence.mean(dtype=np.float64)], np.float64)
    return [winners(probs), np.rint(confidence * 255).astype(np.uint8), numbers.view(np.uint8)]
