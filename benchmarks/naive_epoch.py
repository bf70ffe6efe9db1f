"""One training epoch with data loading: this pipeline against the loop of the contest's notebooks, as a ratio.

Both train the same network (same initial weights) on the same images, with the same loss, optimiser, batch size, image
size and augmentation (a mirror image), in fp32. They differ in what surrounds the network:

- naive: the image is decoded and its masks are rasterised from polygons in every `__getitem__`, resized and normalised
  there to float32, with no worker process.
- segpipe: packed arrays from `prepare`, 8 bits through the loader, normalised inside the model, channels last.

Epochs alternate naive, segpipe, naive, ... in one process; the figure is the median of the paired ratios. The images
are those of the embedded sample. `model alone` is the same number of updates on one batch already in memory.

    PYTHONPATH=src python benchmarks/naive_epoch.py
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from pycocotools.coco import COCO
from torch.utils.data import DataLoader, Dataset

from segpipe.data.augment import Augment
from segpipe.data.dataset import EpochBatches, Part, Sample, make_loader
from segpipe.data.prepare import prepare
from segpipe.data.prepared import Prepared
from segpipe.data.sample.write import write_sample
from segpipe.data.store import PackedArrays
from segpipe.losses import build_loss
from segpipe.models.build import architecture
from segpipe.models.checkpoint import Segmenter, new_segmenter
from segpipe.params import Params, load_params
from segpipe.training.optim import build_optimizer

FLIP = [{"HorizontalFlip": {"p": 0.5}}]


class NaiveDataset(Dataset):
    """As the notebooks did it: everything anew for every item."""

    def __init__(self, root: Path, size: tuple[int, int]) -> None:
        self.coco, self.root, self.size = COCO(root / "train.json"), root, size
        self.augment = Augment(FLIP, 0, "flip")

    def __len__(self) -> int:
        return len(self.coco.getImgIds())

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        info = self.coco.loadImgs(index)[0]
        image = cv2.cvtColor(cv2.imread(str(self.root / info["file_name"])), cv2.COLOR_BGR2RGB)
        target = np.zeros((info["height"], info["width"]), np.uint8)
        for annotation in self.coco.loadAnns(self.coco.getAnnIds(index)):
            target = np.maximum(self.coco.annToMask(annotation) * np.uint8(annotation["category_id"] + 1), target)
        height, width = self.size
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        target = cv2.resize(target, (width, height), interpolation=cv2.INTER_NEAREST)
        image, target = self.augment(image, target, epoch=0, index=index)
        normalised = (image.astype(np.float32) / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
        return torch.from_numpy(normalised.astype(np.float32).transpose(2, 0, 1)), torch.from_numpy(
            target.astype(np.int64)
        )


def updates(step: Callable, batches: object) -> int:
    """Train on every batch; return the number of images."""
    count = 0
    for images, targets in batches:
        step(images, targets)
        count += len(images)
    return count


def make_step(segmenter: Segmenter, params: Params, *, normalised: bool) -> Callable:
    """One update of the network; `normalised` images go to it directly, 8-bit ones through the segmenter."""
    loss_fn, optimizer = build_loss(params.loss), build_optimizer(segmenter, params.optimizer)
    network = segmenter.network if normalised else segmenter

    def step(images: torch.Tensor, targets: torch.Tensor) -> None:
        loss = loss_fn(network(images), targets.long())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def timed(action: Callable[[], int]) -> float:
    """Images per second."""
    start = time.perf_counter()
    return action() / (time.perf_counter() - start)


def main() -> None:
    """Print every pair and the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--member", default="main")
    arguments = parser.parse_args()
    params = load_params()
    member = params.member(arguments.member)
    torch.set_num_threads(member.train.threads)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "sample"
        counts = params.sample.model_dump() | {"unlabeled": 1, "judge": 1, "test": 1}
        write_sample(root, Path(folder) / "judge", **counts)
        prepare(params.data.model_copy(update={"root": str(root)}), params.split, Path(folder) / "prepared")
        prepared = Prepared(Path(folder) / "prepared", fold=0)
        train, size = prepared.folds[0].train, prepared.image_size
        part = Part(
            prepared.images,
            PackedArrays(prepared.path / "targets"),
            [Sample(i, i) for i in train],
            Augment(FLIP, 0, "flip"),
            member.train.batch_size,
        )
        batches = EpochBatches([part], 0)
        ours = make_loader([part], batches, member.train.workers)
        naive = DataLoader(NaiveDataset(root, size), member.train.batch_size, shuffle=True, drop_last=True)
        torch.manual_seed(0)
        segmenter = new_segmenter(architecture(member.model, prepared.classes.num_classes))
        twin = new_segmenter(architecture(member.model, prepared.classes.num_classes))
        twin.load_state_dict(segmenter.state_dict())
        naive_step = make_step(twin, params, normalised=True)
        own_step = make_step(segmenter.to(memory_format=torch.channels_last), params, normalised=False)
        in_memory = [next(iter(ours))] * len(batches)
        for action in (lambda: updates(naive_step, in_memory_float(in_memory)), lambda: updates(own_step, in_memory)):
            action()  # warm-up, not counted
        rows = []
        for pair in range(arguments.pairs):
            batches.epoch = pair
            row = [timed(lambda: updates(naive_step, naive)), timed(lambda: updates(own_step, ours))]
            row.append(timed(lambda: updates(own_step, in_memory)))
            rows.append(row)
            print(
                f"pair {pair + 1}: naive {row[0]:.1f}, segpipe {row[1]:.1f}, model alone {row[2]:.1f} images/s",
                flush=True,
            )
        print(f"segpipe / naive: {statistics.median(r[1] / r[0] for r in rows):.2f} x (median of {len(rows)} pairs)")
        print(f"segpipe / model alone: {statistics.median(r[1] / r[2] for r in rows):.2f}")
        naive_rate, own_rate = (statistics.median(loading_rate(loader) for _ in range(3)) for loader in (naive, ours))
        print(f"data loading alone, segpipe / naive: {own_rate / naive_rate:.1f} x")


def loading_rate(loader: DataLoader) -> float:
    """Images per second of one pass that trains nothing."""
    return timed(lambda: updates(lambda *_: None, loader))


def in_memory_float(batches: list) -> list:
    """The same batches as the naive network takes them."""
    return [(images.float() / 255, targets) for images, targets in batches[:2]]


if __name__ == "__main__":
    main()
