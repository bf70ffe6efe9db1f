"""Label maps of a folder of images: `segpipe predict` against the loop of the contest's notebooks, network apart.

Both use one network of one look; its own forward passes are timed and taken off, so that what is compared is all
around them: reading, softmax or none, bringing label maps to a size, keeping them. Ratios of paired turns in one run,
by processor time, which other work on the cores changes least.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import albumentations as A
import cv2
import numpy as np
import torch
from turns import seconds, spread

from segpipe.data.lineage import Lineage
from segpipe.data.sample.write import write_sample
from segpipe.inference.folder import predict_folder
from segpipe.labels import ClassTable, distinct_colors
from segpipe.libraries import TRAINING, library_versions
from segpipe.models.build import architecture
from segpipe.models.checkpoint import ModelCard, Segmenter, load_segmenter, new_segmenter, save_weights, write_card
from segpipe.models.encoder_weights import normalisation
from segpipe.params import Params, load_params

SIZE, SUBMITTED, BATCH = 512, 256, 3
CLASSES = 12


class Clock:
    """Adds up the forward passes of every segmenter while it is on."""

    def __init__(self) -> None:
        self.seconds, self._forward = 0.0, Segmenter.forward

    def __enter__(self) -> "Clock":
        clock, forward = self, self._forward

        def timed(segmenter: Segmenter, images: torch.Tensor) -> torch.Tensor:
            start = time.process_time()
            logits = forward(segmenter, images)
            clock.seconds += time.process_time() - start
            return logits

        Segmenter.forward = timed
        return self

    def __exit__(self, *error: object) -> None:
        Segmenter.forward = self._forward


def naive(model: Path, images: list[Path]) -> np.ndarray:
    """As in the notebooks: three at a time, int64, each (3, H, W) image resized beside its mask, a growing array."""
    segmenter, _ = load_segmenter(model)
    # the versions of that time did not look at shapes: an image of (3, 512, 512) passed for one of 512 channels
    resize = A.Compose([A.Resize(SUBMITTED, SUBMITTED)], is_check_shapes=False)
    found = np.empty((0, SUBMITTED * SUBMITTED), dtype=np.int64)
    with torch.no_grad():
        for start in range(0, len(images), BATCH):
            read = [cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in images[start : start + BATCH]]
            batch = torch.from_numpy(np.stack(read).transpose(0, 3, 1, 2).copy())
            masks = torch.argmax(segmenter(batch), dim=1).numpy()
            pairs = zip(batch.float().numpy() / 255, masks, strict=True)
            resized = [resize(image=image, mask=mask)["mask"] for image, mask in pairs]
            found = np.vstack((found, np.array(resized).reshape(len(resized), -1)))
    return found


def numbered_classes() -> ClassTable:
    """As many as the contest has, without names."""
    names = tuple(f"class {number}" for number in range(CLASSES))
    return ClassTable(names, tuple((name,) for name in names), distinct_colors(CLASSES, background=False))


def write_model(folder: Path, params: Params, classes: ClassTable) -> Path:
    """A small network with random weights."""
    small = params.model.model_copy(update={"encoder": "test_efficientnet", "decoder_channels": 16})
    description = architecture(small, classes.num_classes)
    mean, std = normalisation(small)
    card = ModelCard(
        architecture=description,
        image_size=None,
        resize="stretch",
        mean=mean,
        std=std,
        classes=classes,
        lineage=Lineage(frozenset(), frozenset()),
        parents=[],
        chosen_epoch=1,
        chosen_weights="raw",
        libraries=library_versions(TRAINING),
    )
    save_weights(new_segmenter(description), folder / "model.safetensors")
    write_card(card, folder)
    return folder


def main() -> None:
    """Print images a second of both, and the ratio of what they take beside the network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    params = load_params()
    one_look = params.predict.model_copy(update={"flips": False})
    params = params.model_copy(update={"predict": one_look})
    torch.set_num_threads(params.train.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        counts = {"train": 1, "val": 1, "test": arguments.images, "unlabeled": 1, "judge": 1}
        write_sample(folder / "raw", folder / "judge", seed=0, size=SIZE, **counts)
        photos = folder / "photos"
        photos.mkdir()
        found = sorted(path for path in (folder / "raw").rglob("*.jpg"))[: arguments.images]
        for number, path in enumerate(found):
            path.rename(photos / f"{number:04}.jpg")
        model, images = write_model(folder / "model", params, numbered_classes()), sorted(photos.iterdir())
        ways = {
            "naive": lambda turn: naive(model, images),
            "segpipe": lambda turn: predict_folder(
                [model], photos, folder / f"out-{turn}", params, device="cpu", overlays=False, coco=None
            ),
        }
        whole: dict[str, list[float]] = {way: [] for way in ways}
        outside: dict[str, list[float]] = {way: [] for way in ways}
        for turn in range(-1, arguments.turns):  # the first warms up
            for way, run in ways.items():
                with Clock() as clock:
                    taken = seconds(lambda run=run, turn=turn: run(turn), time.process_time)
                if turn >= 0:
                    whole[way].append(taken)
                    outside[way].append(taken - clock.seconds)
    for way in ways:
        rate, beside = len(images) / statistics.median(whole[way]), statistics.median(outside[way]) / len(images)
        print(
            f"{way}: {rate:.1f} images a second of processor time, {1000 * beside:.1f} ms an image beside the network"
        )
    for what, times in (("in all", whole), ("beside the network", outside)):
        ratios = [slow / fast for slow, fast in zip(times["naive"], times["segpipe"], strict=True)]
        print(f"naive / segpipe, time {what}: {spread(ratios)}")


if __name__ == "__main__":
    main()
