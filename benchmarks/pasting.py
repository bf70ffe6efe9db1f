"""What pasting and balanced sampling cost: milliseconds an image, and the look at every target when training starts.

Drawn scenes at each size, their targets stored as `prepare` stores them. Pasting is always applied here (p: 1), with up
to three objects; beside it, in turns, the augmentation list of params.yaml. Figures are medians of passes.

    PYTHONPATH=src python benchmarks/pasting.py
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from segpipe.data.augment import Augment
from segpipe.data.paste import Paste, find_objects
from segpipe.data.prepare.prepare import prepare
from segpipe.data.prepared import Prepared
from segpipe.data.sample.write import write_sample
from segpipe.data.sampling import balanced_weights
from segpipe.params import Params, load_params

SIDES, IMAGES, PASSES = (128, 512), 48, 9
RARE = ("Battery", "Clothing", "Metal")
MANY = 20_000  # the set that the first look is reckoned for


def prepared_scenes(params: Params, side: int, folder: Path) -> Prepared:
    """IMAGES scenes drawn and prepared at `side` pixels."""
    counts = {"train": IMAGES, "val": 2, "test": 1, "unlabeled": 1, "judge": 1}
    write_sample(folder / "raw", folder / "judge", seed=0, size=max(side, 256), **counts)
    data = params.data.model_copy(update={"root": str(folder / "raw"), "image_size": (side, side)})
    prepare(data, params.split, folder / "prepared")
    return Prepared(folder / "prepared", fold=0)


def milliseconds(action: Callable[[int], object]) -> float:
    """Of one image, on the average of a pass over all."""
    start = time.perf_counter()
    for number in range(IMAGES):
        action(number)
    return 1000 * (time.perf_counter() - start) / IMAGES


def measure(params: Params, side: int, folder: Path) -> dict[str, float]:
    """Medians in milliseconds an image, by what was timed; the kinds take turns."""
    prepared = prepared_scenes(params, side, folder)
    train = prepared.folds[0].train
    images, targets = prepared.images, prepared.target_store(train)
    labels = [prepared.classes.names.index(name) for name in RARE]
    asked = params.augment.paste.model_copy(update={"p": 1.0, "classes": RARE})
    paste = Paste(images, targets, train, labels=labels, params=asked, seed=0)
    augment = Augment(params.augment.train, 0, "augment.train")

    def read(number: int) -> tuple[np.ndarray, np.ndarray]:
        return np.array(images[train[number]]), np.array(targets[train[number]])

    kinds: dict[str, Callable[[int], object]] = {
        "read": read,
        "read, paste": lambda n: paste(*read(n), epoch=1, index=n, repeat=0),
        "read, augment": lambda n: augment(*read(n), epoch=1, index=n),
        "find objects": lambda n: find_objects(targets, [train[n]], labels, asked.min_pixels),
        "weigh": lambda n: balanced_weights([targets[train[n]]]),
    }
    passes: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(PASSES):
        for kind, action in kinds.items():
            passes[kind].append(milliseconds(action))
    return {kind: statistics.median(times) for kind, times in passes.items()}


def main() -> None:
    """Measure at each size and print a table."""
    params = load_params()
    for side in SIDES:
        with tempfile.TemporaryDirectory() as folder:
            found = measure(params, side, Path(folder))
        paste, augment = found["read, paste"] - found["read"], found["read, augment"] - found["read"]
        share = paste / augment
        print(f"{side} px: reading {found['read']:.3f} ms, pasting {paste:.3f} ms ({share:.2f} of augment.train)")
        print(f"  at the start, for {MANY} images: find objects of {len(RARE)} classes", end=" ")
        print(f"{found['find objects'] * MANY / 1000:.1f} s, weigh {found['weigh'] * MANY / 1000:.1f} s")


if __name__ == "__main__":
    main()
