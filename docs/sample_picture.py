"""Draw docs/sample.png from the outputs of `dvc repro` on the sample: photograph, truth, prediction, disagreement.

PYTHONPATH=src python docs/sample_picture.py
"""

from pathlib import Path

import cv2
import numpy as np

from segpipe.data.prepared import Prepared
from segpipe.data.resize import resize_image
from segpipe.ensemble.average import Ensemble, load_predictions
from segpipe.ensemble.candidates import fitted_of, list_candidates
from segpipe.params import load_params
from segpipe.stage import read_json

GAP = 6  # pixels of white between pictures
NUM_IMAGES = 4


def main() -> None:
    """The first judge images that show at least three classes beside background."""
    params = load_params()
    folds = params.split.train_folds
    prepared = Prepared(Path("data/prepared"), judge=True)
    ensemble = Ensemble(prepared, load_predictions(Path("data/predictions"), params.member_names, folds), folds)
    selection = read_json(Path("data/submission/selection.json"))
    candidates = [*list_candidates(params.member_names), *fitted_of(selection, params.member_names)]
    candidate = next(each for each in candidates if each.name == selection["chosen"])
    colors = np.zeros((256, 3), np.uint8)
    colors[: prepared.classes.num_classes] = prepared.classes.colors
    columns = []
    for index in ensemble.judge_indices:
        truth = prepared.native_target(index)
        if len(np.unique(truth)) < 4 or len(columns) == NUM_IMAGES:
            continue
        image = cv2.imread(f"{params.data.root}/{prepared.entries[index].file_name}", cv2.IMREAD_COLOR_RGB)
        preds = ensemble.label_map(candidate, index)
        wrong = np.where((preds != truth)[..., None], np.array([214, 40, 40], np.uint8), image // 2 + 64)
        pictures = [resize_image(picture, (192, 192)) for picture in (image, colors[truth], colors[preds], wrong)]
        columns.append(np.vstack([np.vstack([p, np.full((GAP, 192, 3), 255, np.uint8)]) for p in pictures]))
    gap = np.full((columns[0].shape[0], GAP, 3), 255, np.uint8)
    sheet = np.hstack([part for column in columns for part in (column, gap)])[:-GAP, :-GAP]
    cv2.imwrite("docs/sample.png", sheet[..., ::-1])


if __name__ == "__main__":
    main()
