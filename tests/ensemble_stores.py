"""Prediction stores made by hand, of images of 1 x 4 pixels; shared by the tests of the ensemble."""

import numpy as np
from coco_folder import GLASS, box, pictures, prepare_folder, write_folder

from segpipe.data.lineage import Lineage
from segpipe.data.prepared import Prepared
from segpipe.ensemble.average import Ensemble, load_predictions
from segpipe.inference.probs import PredictionWriter

CLEAN = Lineage(frozenset(), frozenset())
NAMES = ["Background", "Glass"]
SHAPE = {"height": 1, "width": 4}


def prepare_four(folder):
    """Images of 1 x 4 pixels; every held-out one is [Glass, Glass, Background, Background]."""
    write_folder(
        folder / "raw",
        train=pictures("a", **SHAPE),
        val=pictures("c", "d", "e", "f", annotations=[box(GLASS, 0, 0, 2, 1)], **SHAPE),
        test=pictures("x", "y", **SHAPE),
        categories={GLASS: "Glass"},
    )
    return Prepared(prepare_folder(folder / "raw"), judge=True)


def store(folder, glass, indices, *, classes=NAMES, scored_size=None, lineage=CLEAN):
    """A store with the same probabilities of Glass for every image, four pixels; what remains is Background."""
    probs = np.array([[(1 - value, value) for value in glass]], np.float32)
    with PredictionWriter(folder, folder.name, classes, scored_size) as writer:
        for index in indices:
            writer.add(index, probs, (1, 4))
        writer.finish(lineage, {})


def ensemble_of(tmp_path, prepared, glass, *, folds=(0,), odd=None, **odd_settings):
    """The ensemble of the models in `glass`, from (round, member, fold) to probabilities of Glass.

    The store of the model `odd` is written with `odd_settings`.
    """
    keys = [(r, m, f) for r in ("baseline", "retrain") for m in {key[1]: 0 for key in glass} for f in folds]
    for key in keys:
        fold = prepared.folds[key[2]]
        indices = [*fold.judge, *fold.tune, *prepared.sets["test"]]
        folder = tmp_path / "predictions" / "{}-{}-{}".format(*key)
        store(folder, glass.get(key, [0] * 4), indices, **(odd_settings if key == odd else {}))
    members = tuple(dict.fromkeys(key[1] for key in glass))
    return Ensemble(prepared, load_predictions(tmp_path / "predictions", members, folds), folds)
