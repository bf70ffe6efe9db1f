"""What the teachers of a fold say of the pool: class and confidence of every pixel, agreement of every image.

Nothing here depends on a threshold, so that changing one costs seconds and no inference.
"""

from pathlib import Path

import numpy as np

from segpipe.data.prepared import Prepared
from segpipe.data.store import PackedWriter
from segpipe.inference.predict import predict_probs
from segpipe.models.checkpoint import load_segmenter
from segpipe.params import FoldName
from segpipe.stage import write_json


def teach(prepared: Prepared, fold: FoldName, teachers: list[Path], *, flips: bool, out: Path) -> None:
    """Write `classes` and `confidence` (uint8 stores) and card.json to `out`: the pool's images, then tune images.

    Confidence is the highest mean probability over the teachers, in 255ths. Raises ValueError when a teacher knows
    this fold's held-out images or was trained on other classes.
    """
    held_out = prepared.folds[fold]
    segmenters, lineage = [], None
    for folder in teachers:
        segmenter, card = load_segmenter(folder)
        if card.classes.names != prepared.classes.names:
            raise ValueError(f"{folder}: was trained on {card.classes.names}, this data has {prepared.classes.names}")
        card.lineage.refuse_tuning_on(prepared.named_hashes(held_out.tune), str(folder))
        card.lineage.refuse_judging_on(prepared.named_hashes(held_out.judge), str(folder))
        segmenters.append(segmenter)
        lineage = card.lineage if lineage is None else lineage | card.lineage
    assert lineage is not None
    pool, agreements = prepared.pool(), {}
    indices = [*pool, *held_out.tune]
    with PackedWriter(out / "classes") as classes, PackedWriter(out / "confidence") as confidences:
        predicted = predict_probs(
            segmenters, prepared.images, indices, padded_to=prepared.image_size, flips=flips, label="teach"
        )
        for index, probs, agreement in predicted:
            classes.add(probs.argmax(-1).astype(np.uint8))
            confidences.add(np.rint(probs.max(-1) * 255).astype(np.uint8))
            agreements[index] = float(agreement.mean())
    card = {
        "teachers": [str(folder) for folder in teachers],
        "pool": list(pool),
        "tune": list(held_out.tune),
        "agreement": [agreements[index] for index in indices],
        "lineage": lineage.to_json(),
    }
    write_json(out / "card.json", card)
