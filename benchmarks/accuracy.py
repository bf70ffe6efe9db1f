"""Do the loops of training.py learn as much in as many epochs?

The naive, the competent and segpipe's own loop start from the same weights, train for the same number of epochs on the
same images, and are scored on the same held-out scenes: mIoU, and the paired difference to the naive loop with its 95 %
interval over scenes. Only the order of images and the draw of mirror images differ.

    PYTHONPATH=src python benchmarks/accuracy.py
"""

import argparse
import tempfile
from pathlib import Path

import torch
from training import COUNTS, Loops, prepare_images, settings

from segpipe.metrics.bootstrap import compare_miou, miou
from segpipe.params import load_params
from segpipe.training.evaluate import Tune, evaluate


def main() -> None:
    """Train all three in turn, then score them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=12)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        prepared = prepare_images(None, "train.json", "val.json", Path(folder), COUNTS | {"val": 128})
        loops = Loops(Path(folder) / "sample", "train.json", prepared, settings(load_params(), "fp32"), False)
        tune, confusions = Tune(prepared, prepared.folds[0].tune, None), {}
        trained = {"naive": loops.naive_own, "competent": loops.competent_own, "segpipe": loops.own}
        for name, segmenter in trained.items():
            segmenter.train()
            torch.manual_seed(0)
            for _ in range(arguments.epochs):
                getattr(loops, name)()
            segmenter.eval()
            confusions[name], _ = evaluate(segmenter, tune)
    scenes = [prepared.entries[index].group for index in tune.indices]
    for name, of_loop in confusions.items():
        found = compare_miou(of_loop, confusions["naive"], scenes)
        print(
            f"{name}: mIoU {miou(of_loop):.3f} after {arguments.epochs} epochs, {found.difference:+.3f} "
            f"({found.low:+.3f} to {found.high:+.3f}) to naive"
        )


if __name__ == "__main__":
    main()
