"""What the teachers of a fold say of the pool: class and confidence of every pixel, numbers about every image.

Nothing here depends on a threshold, so that changing one costs seconds and no inference.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from segpipe.data.prepared import Prepared
from segpipe.data.store import PackedWriter
from segpipe.inference.predict import predict_probs
from segpipe.inference.teachers import check_teachers, steadiness
from segpipe.models.checkpoint import load_segmenter
from segpipe.params import FoldName
from segpipe.stage import write_json


def teach(
    prepared: Prepared, fold: FoldName, teachers: list[Path], *, flips: bool, checkpoints: bool, out: Path
) -> None:
    """Write `classes` and `confidence` (uint8 stores), images.csv and card.json: the pool's images, then tune images.

    Confidence is the highest mean probability over the teachers, in 255ths. images.csv has a row for each: `index` of
    the image table, `file_name`, `member_agreement` (share of pixels of which all teachers name the same class),
    `checkpoint_agreement` (`teachers.steadiness`; empty without `checkpoints`), `mean_confidence`. Raises ValueError
    as `check_teachers` does, before any image is predicted.
    """
    lineage = check_teachers(prepared, fold, teachers)
    pool, tune = prepared.pool(), prepared.folds[fold].tune
    indices, rows = [*pool, *tune], []
    segmenters = [load_segmenter(folder)[0] for folder in teachers]
    with PackedWriter(out / "classes") as classes, PackedWriter(out / "confidence") as confidences:
        predicted = predict_probs(
            segmenters, prepared.images, indices, padded_to=prepared.image_size, flips=flips, label="teach"
        )
        for index, probs, agreement in predicted:
            confidence = probs.max(-1)
            classes.add(probs.argmax(-1).astype(np.uint8))
            confidences.add(np.rint(confidence * 255).astype(np.uint8))
            rows.append((index, float(agreement.mean()), float(confidence.mean(dtype=np.float64))))
    steady = dict(steadiness(teachers, prepared, indices, label="teach")) if checkpoints else {}
    table = pd.DataFrame(
        {
            "index": [index for index, _, _ in rows],
            "file_name": [prepared.entries[index].file_name for index, _, _ in rows],
            "member_agreement": [agreement for _, agreement, _ in rows],
            "checkpoint_agreement": [steady.get(index, np.nan) for index, _, _ in rows],
            "mean_confidence": [confidence for _, _, confidence in rows],
        }
    )
    table.to_csv(out / "images.csv", index=False, errors="surrogatepass")
    card = {"teachers": [str(folder) for folder in teachers], "pool": list(pool), "tune": list(tune)}
    write_json(out / "card.json", card | {"fold": fold, "lineage": lineage.to_json()})
