"""Predict held-out images and test images with one model; store probabilities compactly."""

import argparse
from pathlib import Path

from segpipe.data.prepared import Prepared
from segpipe.data.split import fold_name
from segpipe.inference.fold import Work, predict_fold
from segpipe.stage import open_stage, run_stage, told_once


def main() -> None:
    """One model folder in, one probability store out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fold", type=fold_name, required=True)
    parser.add_argument("--prepared", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    with told_once():
        params = open_stage(__file__)
        prepared = Prepared(arguments.prepared, fold=arguments.fold)
        fold = prepared.folds[arguments.fold]
        indices = [*fold.judge, *fold.tune, *prepared.sets["test"]]
        work = Work("predict", prepared, indices, params.predict, params.train, arguments.out)
    predict_fold(work, arguments.model, params.submission.size)


if __name__ == "__main__":
    run_stage(main)
