"""Training batches: prepared images with their targets, augmented by seed, in an order that the seed fixes."""

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from segpipe.data.augment import Augment
from segpipe.data.cutmix import CutMix
from segpipe.data.paste import Paste
from segpipe.data.resize import GREY, padded
from segpipe.data.sampling import epoch_order, repeats
from segpipe.data.soft_labels import SoftLabels, fetched, origins
from segpipe.data.store import PackedArrays
from segpipe.labels import IGNORE_INDEX

Drawn = tuple[np.ndarray, ...]  # image, target, and where there are soft labels the pixels' distributions


class Sample(NamedTuple):
    """Positions of one training image and of its target in their stores."""

    image: int
    target: int


@dataclass(frozen=True)
class Part:
    """Images of one kind (labelled, or pseudo-labelled) with their targets and augmentation."""

    images: PackedArrays
    targets: PackedArrays
    samples: Sequence[Sample]
    augment: Augment
    per_batch: int  # how many of each update's images come from this part
    padded_to: tuple[int, int] | None  # height, width to which smaller images get a margin, so that batches are alike
    paste: Paste | None = None  # what comes before `augment`
    weights: np.ndarray | None = None  # (N,) float64: how often each sample comes, relative to the others; None: alike
    cutmix: CutMix | None = None  # what comes after `augment`
    soft: SoftLabels | None = None  # of images whose targets are pseudo labels

    def draw(self, position: int, *, epoch: int, repeat: int) -> Drawn:
        """Image (H, W, 3) and target (H, W), uint8, as training sees them when they come for the `repeat`-th time.

        With `soft`, the pixels' distributions (H, W, C) as well. `repeat` counts from 0 within the epoch.
        """
        drawn = self._augmented(position, epoch, repeat)
        if self.cutmix is None:
            return drawn
        mix = self.cutmix.draw(len(self.samples), epoch=epoch, index=self.samples[position].image, repeat=repeat)
        return mix.lay(drawn, self._augmented(mix.other, epoch, repeat)) if mix is not None else drawn

    def _augmented(self, position: int, epoch: int, repeat: int) -> Drawn:
        sample = self.samples[position]
        image, target = self.images[sample.image], self.targets[sample.target]
        if self.paste is not None:
            image, target = np.array(image), np.array(target)  # it draws in place
            image, target = self.paste(image, target, epoch=epoch, index=sample.image, repeat=repeat)
        # no object lies on the margin; augmentation sees one size, and a crop cannot be larger than a narrow image
        whole_image, whole_target = padded(image, self.padded_to, GREY), padded(target, self.padded_to, IGNORE_INDEX)
        if self.soft is None:
            return self.augment(whole_image, whole_target, epoch=epoch, index=sample.image, repeat=repeat)
        origin = origins(target.shape, self.padded_to)
        image, moved, origin = self.augment.with_origin(
            whole_image, whole_target, origin, epoch=epoch, index=sample.image, repeat=repeat
        )
        return image, moved, fetched(self.soft.probs(sample.image), target, origin, moved)


class Key(NamedTuple):
    """One image of one update: the `repeat`-th time (from 0) that the epoch takes this position of this part."""

    epoch: int
    part: int
    position: int
    repeat: int


class SegmentationDataset(Dataset):
    """Augmented samples of several parts.

    Normalisation happens on the device (models.checkpoint.Segmenter), so that 8 bits cross from the workers.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)

    def __getitem__(self, key: Key) -> tuple[torch.Tensor, ...]:
        """Image (3, H, W), target (H, W), and of a part with soft labels the pixels' distributions (H, W, C)."""
        image, *others = self.parts[key.part].draw(key.position, epoch=key.epoch, repeat=key.repeat)
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))), *map(torch.from_numpy, others)


Order = tuple[np.ndarray, np.ndarray]  # positions, and how often each has come before


class EpochBatches(Sampler[list[Key]]):
    """Keys of the batches of an epoch's updates: `per_batch` samples of each part, each part in its own seeded order.

    The first part sets the length of an epoch: what does not fill a batch is left out of that epoch, other images
    each time; fewer images than a batch are repeated to fill one. Further parts start anew when used up. Where a part
    has weights, they say how often each of its images comes, and the number of updates is the same. From epoch
    `first_alone_from` on only the first part is used.

    An update's batch comes in `pieces` of equal size, of which rank `rank` of `world_size` yields its own: the images
    of an update are the same, however many ranks share them. Raises ValueError where they cannot be shared evenly.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        seed: int,
        *,
        pieces: int = 1,
        rank: int = 0,
        world_size: int = 1,
        first_alone_from: int | None = None,
    ) -> None:
        self.sizes = [(len(part.samples), part.per_batch) for part in parts]
        self.weights = [part.weights for part in parts]
        for number, (_, per_batch) in enumerate(self.sizes):
            if per_batch % pieces:
                key = "train.batch_size x retrain.ratio" if number else "train.batch_size"
                raise ValueError(
                    f"params.yaml: {key}: found {per_batch} images, which cannot be split evenly into the {pieces} "
                    "parts of train.devices x train.accumulate"
                )
        length, per_batch = self.sizes[0]
        self.updates = max(length // per_batch, 1)
        self.pieces, self.mine = pieces, range(rank, pieces, world_size)
        self.seed, self.epoch, self._first_alone_from = seed, 0, first_alone_from
        self.start = 0  # the epoch's updates that were made before

    def __len__(self) -> int:
        return (self.updates - self.start) * len(self.mine)

    def __iter__(self) -> Iterator[list[Key]]:
        orders = self._orders()
        for update in range(self.start, self.updates):
            keys = [self._keys(orders, part, update) for part in range(len(orders))]
            for piece in self.mine:
                yield [key for of_part in keys for key in _cut(of_part, piece, self.pieces)]

    def update_keys(self, update: int) -> list[Key]:
        """All keys of one update of the epoch, of every rank and piece."""
        orders = self._orders()
        return [key for part in range(len(orders)) for key in self._keys(orders, part, update)]

    def _orders(self) -> list[Order]:
        alone = self._first_alone_from is not None and self.epoch >= self._first_alone_from
        return [self._order(part) for part in range(1 if alone else len(self.sizes))]

    def _order(self, part: int) -> Order:
        length, per_batch = self.sizes[part]
        generator = np.random.default_rng([self.seed, self.epoch, part])
        positions = epoch_order(length, self.updates * per_batch, generator, self.weights[part])
        return positions, repeats(positions)

    def _keys(self, orders: list[Order], part: int, update: int) -> list[Key]:
        per_batch = self.sizes[part][1]
        mine = slice(update * per_batch, (update + 1) * per_batch)
        taken = zip(*(numbers[mine].tolist() for numbers in orders[part]), strict=True)
        return [Key(self.epoch, part, position, repeat) for position, repeat in taken]


def _cut(keys: list[Key], piece: int, pieces: int) -> list[Key]:
    size = len(keys) // pieces
    return keys[piece * size : (piece + 1) * size]


def make_loader(parts: Sequence[Part], batches: EpochBatches, workers: int) -> DataLoader:
    """A loader of what `collate` makes of the parts' samples, in order.

    Set `batches.epoch` (and `batches.start`) before each pass. What it yields does not depend on `workers`.
    """
    return DataLoader(
        SegmentationDataset(parts),
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collate,
        worker_init_fn=_quiet_worker if workers else None,
        persistent_workers=workers > 0,
        # each pass draws a seed, which nothing here uses: from torch's own generator it would change what dropout draws
        generator=torch.Generator(),
        pin_memory=torch.cuda.is_available(),
    )


def _quiet_worker(_: int) -> None:
    cv2.setNumThreads(0)  # a worker is one core's work; OpenCV would start a pool in each
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the trainer ends its workers when it is ready


def collate(samples: Sequence[tuple[torch.Tensor, ...]]) -> tuple[torch.Tensor, ...]:
    """Images (N, 3, H, W) and targets (N, H, W), uint8; where samples have distributions those too, (M, C, H, W).

    These are of the last M samples. Smaller ones are padded below and to the right, grey in the image, IGNORE_INDEX in
    the target. NumPy copies: torch's threads would wait for one another wherever something else uses a core.
    """
    height = max(sample[1].shape[0] for sample in samples)
    width = max(sample[1].shape[1] for sample in samples)
    images = np.full((len(samples), 3, height, width), GREY, np.uint8)
    targets = np.full((len(samples), height, width), IGNORE_INDEX, np.uint8)
    for position, (image, target, *_) in enumerate(samples):
        images[position, :, : image.shape[1], : image.shape[2]] = image.numpy()
        targets[position, : target.shape[0], : target.shape[1]] = target.numpy()
    batch = torch.from_numpy(images), torch.from_numpy(targets)
    soft = [sample[2] for sample in samples if len(sample) > 2]
    if not soft:
        return batch
    shares = np.zeros((len(soft), height, width, soft[0].shape[-1]), np.uint8)
    for position, each in enumerate(soft):
        shares[position, : each.shape[0], : each.shape[1]] = each.numpy()
    return *batch, torch.from_numpy(shares).permute(0, 3, 1, 2)
