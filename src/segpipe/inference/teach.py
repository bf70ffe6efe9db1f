"""What the teachers of a fold say of the pool: class and confidence of every pixel, numbers about every image.

Nothing here depends on a threshold, so that changing one costs seconds and no inference.
"""

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd

from segpipe.data.store import PackedWriter
from segpipe.inference.fold import Keeping, Work, predicted
from segpipe.inference.portions import Row
from segpipe.inference.probs import winners
from segpipe.inference.ranks import start_ranks
from segpipe.inference.teachers import check_teachers, seen_pixels, steadiness
from segpipe.models.checkpoint import load_segmenter
from segpipe.params import FoldName
from segpipe.stage import told_once, write_json


def teach(work: Work, fold: FoldName, teachers: list[Path], *, checkpoints: bool) -> None:
    """Write `classes` and `confidence` (uint8 stores), images.csv and card.json of the work's images: pool, then tune.

    Confidence is the highest mean probability over the teachers, in 255ths. images.csv has a row for each: `index` of
    the image table, `file_name`, `member_agreement` (share of pixels of which all teachers name the same class),
    `checkpoint_agreement` (`teachers.steadiness`; empty without `checkpoints`), `mean_confidence`. Raises ValueError
    as `check_teachers` does, before any image is predicted.
    """
    prepared, indices = work.prepared, work.indices
    with told_once():
        lineage = check_teachers(prepared, fold, teachers)
        models = {folder: load_segmenter(folder) for folder in teachers}
    ranks = start_ranks(work.train.devices)
    stored = 2 * seen_pixels(work)
    keeping = Keeping(_keep, stored + 16 * len(indices), __file__, {})
    with predicted(work, models, keeping, outputs=stored, ranks=ranks) as rows, ExitStack() as stack:
        steady = steadiness(work, teachers, ranks, stack) if checkpoints else np.full(len(indices), np.nan)
        if rows is None:
            return
        numbers = []
        with PackedWriter(work.out / "classes") as classes, PackedWriter(work.out / "confidence") as confidences:
            for position in range(len(indices)):
                labels, confidence, of_image = rows[position]
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
        pool, tune = prepared.pool(), prepared.folds[fold].tune
        assert [*indices] == [*pool, *tune]
        card = {"teachers": [str(folder) for folder in teachers], "pool": list(pool), "tune": list(tune)}
        write_json(work.out / "card.json", card | {"fold": fold, "lineage": lineage.to_json()})


def _keep(index: int, probs: np.ndarray, agreement: np.ndarray) -> Row:
    """Classes and confidence (H, W); agreement and confidence of the image as the bytes of two float64."""
    confidence = probs.max(-1)
    numbers = np.array([agreement.mean(), confidence.mean(dtype=np.float64)], np.float64)
    return [winners(probs), np.rint(confidence * 255).astype(np.uint8), numbers.view(np.uint8)]
