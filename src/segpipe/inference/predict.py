"""Probabilities of one or several models for images of any sizes, with test-time augmentation."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from segpipe.data.store import PackedArrays
from segpipe.inference.views import Grid, Size, images_at_once, looks_at, mean_probs, window_of
from segpipe.models.checkpoint import Segmenter
from segpipe.params import ViewParams
from segpipe.progress import Progress

Answer = tuple[np.ndarray, np.ndarray]  # mean probabilities (H, W, C) float32, agreement (H, W) bool


def best_device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def set_threads(threads: int) -> None:
    """Use this many CPU threads: sums over another number round otherwise, so it is a parameter."""
    torch.set_num_threads(threads)


class Predictor:
    """Models that look at images as `views` says, and the mean of what they see.

    Probabilities are averaged over each model's views, then over the models. Agreement says where all models' own
    answers name the same class. Networks see smaller images with the margin that training gives them, up to
    `padded_to`; of it nothing is returned. Raises ValueError for views that the models cannot have.
    """

    def __init__(
        self,
        segmenters: Sequence[Segmenter],
        views: ViewParams,
        padded_to: Size | None,
        *,
        device: torch.device | None = None,
    ) -> None:
        self.device = device or best_device()
        self.window = window_of(views, padded_to)
        self._segmenters = [segmenter.to(self.device).eval() for segmenter in segmenters]
        self._views, self._padded_to = views, padded_to

    def plan(self, sizes: Sequence[Size], sampled: Sequence[Size | None] | None = None) -> list[list[int]]:
        """Batches of positions in `sizes`: images that are seen at one size, in order of appearance.

        Those of which only a sample of a size in `sampled` is wanted are themselves of one size. Padding one image for
        another's sake would change its borders, so that it must not happen. The batches follow from sizes and views
        alone: whoever computes one of them gets the same bits.
        """
        alike: dict[tuple[Size, Size | None], list[int]] = {}
        for position, size in enumerate(sizes):
            wanted = sampled[position] if sampled else None
            alike.setdefault((size if wanted else self._padded_to or size, wanted), []).append(position)
        batches = []
        for (size, _), positions in alike.items():
            count = images_at_once(self._padded_to or size, self._views, self.window)
            batches += [positions[start : start + count] for start in range(0, len(positions), count)]
        return batches

    @torch.inference_mode()
    def __call__(self, images: Sequence[np.ndarray], sampled: Size | None = None) -> Iterator[Answer]:
        """The answer for each of a batch of (H, W, 3) uint8 images, which `plan` found to be of one size.

        With `sampled` of that size, by nearest neighbour as label maps are resized.
        """
        looks = looks_at(images, self._padded_to, self._views, self.device)
        insides = [image.shape[:2] for image in images]
        grid = Grid(insides[0], sampled) if sampled else None
        total, first, agreement = None, None, None
        for segmenter in self._segmenters:  # one after another: memory for two answers, however many models
            probs = mean_probs(segmenter, looks, insides, self._views, self.window, grid)
            if len(self._segmenters) > 1:  # the argmax over channels takes as long as a small network
                preds = probs.argmax(1)
                if first is None or agreement is None:
                    first, agreement = preds, torch.ones_like(preds, dtype=torch.bool)
                agreement &= preds == first
            total = probs if total is None else total.add_(probs)
        assert total is not None
        if len(self._segmenters) > 1:
            total /= len(self._segmenters)
        planes = total.cpu().numpy()
        agreed = np.broadcast_to(True, total[:, 0].shape) if agreement is None else agreement.cpu().numpy()
        for number, inside in enumerate(insides):
            height, width = sampled or inside
            yield np.moveaxis(planes[number, :, :height, :width], 0, -1), agreed[number, :height, :width]


def predict_probs(
    predictor: Predictor,
    images: PackedArrays,
    indices: Sequence[int],
    *,
    label: str,
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """(position in `indices`, mean probabilities, agreement) of each image, batch by batch.

    Images of one size come one after another, so that positions are in order only where all have the same. Memory
    does not grow with the number of images.
    """
    batches = predictor.plan([images.shape(index)[:2] for index in indices])
    with Progress(len(indices), label, "images") as progress:
        for batch in batches:
            answers = predictor([images[indices[position]] for position in batch])
            for position, (probs, agreement) in zip(batch, answers, strict=True):
                yield position, probs, agreement
            progress.advance(len(batch))
