"""Predict held-out images and test images with one model; store probabilities compactly."""

import argparse
from pathlib import Path

from segpipe.data.prepared import Prepared
from segpipe.data.split import fold_name
from segpipe.inference.predict import predict_probs, set_threads
from segpipe.inference.probs import PredictionWriter
from segpipe.inference.space import megabytes, refuse_full_disk, stored_bytes
from segpipe.models.checkpoint import load_segmenter
from segpipe.progress import say
from segpipe.stage import open_stage, run_stage


def main() -> None:
    """One model folder in, one probability store out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fold", type=fold_name, required=True)
    parser.add_argument("--prepared", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    params = open_stage(__file__)
    set_threads(params.train.threads)
    prepared = Prepared(arguments.prepared, fold=arguments.fold)
    segmenter, card = load_segmenter(arguments.model)
    fold = prepared.folds[arguments.fold]
    indices = [*fold.judge, *fold.tune, *prepared.sets["test"]]
    sizes = [(prepared.entries[index].height, prepared.entries[index].width) for index in indices]
    needed = stored_bytes(sizes, prepared.image_size, params.submission.size, card.classes.num_classes)
    free = refuse_full_disk(arguments.out, needed)
    say(f"predict: up to {megabytes(needed)} for {len(indices)} images; the disk has {megabytes(free)} free")
    with PredictionWriter(
        arguments.out, str(arguments.model), list(card.classes.names), params.submission.size
    ) as writer:
        flips, size = params.predict.flips, prepared.image_size
        predicted = predict_probs([segmenter], prepared.images, indices, padded_to=size, flips=flips, label="predict")
        for index, probs, _ in predicted:
            entry = prepared.entries[index]
            writer.add(index, probs, (entry.height, entry.width))
        writer.finish(card.lineage, card.libraries)


if __name__ == "__main__":
    run_stage(main)
