"""Probabilities of one or several models for prepared images, with test-time augmentation."""

from collections.abc import Iterator, Sequence
from itertools import groupby, islice

import numpy as np
import torch

from segpipe.data.resize import GREY, padded
from segpipe.data.store import PackedArrays
from segpipe.models.checkpoint import Segmenter
from segpipe.progress import Progress

BATCH_SIZE = 16
BATCH_PIXELS = 2**21  # fewer images a batch where they are large: one of 1080x1920, 16 up to 362x362


def best_device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def set_threads(threads: int) -> None:
    """Use this many CPU threads: sums over another number round otherwise, so it is a parameter."""
    torch.set_num_threads(threads)


@torch.inference_mode()
def predict_probs(
    segmenters: Sequence[Segmenter],
    images: PackedArrays,
    indices: Sequence[int],
    *,
    padded_to: tuple[int, int] | None,
    flips: bool,
    label: str,
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """For each index: (index, mean probabilities (H, W, C) float32, agreement (H, W) bool).

    Probabilities are averaged over the models and, with `flips`, over each image and its mirror image. Agreement
    says where all models' own answers name the same class. Networks see smaller images with the margin that training
    gives them, up to `padded_to`; of it nothing is returned. Memory does not grow with the number of images.
    """
    device = best_device()
    segmenters = [segmenter.to(device).eval() for segmenter in segmenters]
    with Progress(len(indices), label, "images") as progress:
        for numbered in _batches(images, indices, padded_to):
            stacked = np.stack([padded(array, padded_to, GREY) for _, array in numbered]).transpose(0, 3, 1, 2)
            batch = torch.from_numpy(np.ascontiguousarray(stacked)).to(device)
            each = torch.stack([_view_mean(segmenter, batch, flips=flips) for segmenter in segmenters])
            agreement = _agreement(each).cpu().numpy()
            probs = each.mean(0).permute(0, 2, 3, 1).contiguous().cpu().numpy()
            for position, (index, array) in enumerate(numbered):
                inside = (position, slice(array.shape[0]), slice(array.shape[1]))
                yield index, np.ascontiguousarray(probs[inside]), agreement[inside]
            progress.advance(len(numbered))


def _agreement(each: torch.Tensor) -> torch.Tensor:
    """(N, H, W) bool from each model's probabilities (M, N, C, H, W)."""
    if len(each) == 1:  # the argmax over channels takes as long as a small network
        return torch.ones(each.shape[1], *each.shape[3:], dtype=torch.bool)
    preds = each.argmax(2)
    return (preds == preds[0]).all(0)


def _view_mean(segmenter: Segmenter, batch: torch.Tensor, *, flips: bool) -> torch.Tensor:
    probs = segmenter(batch).float().softmax(1)
    if flips:
        mirrored = segmenter(batch.flip(-1)).float().softmax(1).flip(-1)
        probs = (probs + mirrored) / 2
    return probs


def _batches(
    images: PackedArrays, indices: Sequence[int], padded_to: tuple[int, int] | None
) -> Iterator[list[tuple[int, np.ndarray]]]:
    """Runs of images that are seen at one size: padding one image for another's sake would change its borders."""
    arrays = ((index, images[index]) for index in indices)
    for (height, width), run in groupby(arrays, key=lambda pair: padded_to or pair[1].shape[:2]):
        batch_size = min(max(BATCH_PIXELS // (height * width), 1), BATCH_SIZE)
        while batch := list(islice(run, batch_size)):
            yield batch
