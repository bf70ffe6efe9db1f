"""How a network looks at images: whole or through a sliding window, mirrored, at several scales; and the mean of it.

All looks are averaged as float32 probabilities, softmax first: logits of unlike sharpness would not weigh alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F

from segpipe.data.resize import GREY, nearest_index, padded, resize_image
from segpipe.models.checkpoint import Segmenter
from segpipe.params import ViewParams

BATCH_SIZE = 16
BATCH_PIXELS = 2**21  # fewer images a batch where they are large: one of 1080x1920, 16 up to 362x362

Size = tuple[int, int]  # height, width


def window_of(views: ViewParams, trained_size: Size | None) -> Size | None:
    """Height and width of the window, None where images are seen whole; ValueError where no size is to be had."""
    if views.window != "train":
        return views.window
    if trained_size is None:
        raise ValueError(
            "window: found train, but the networks were trained at each image's own size (data.image_size is empty); "
            "give height and width of the window, such as those of the crops that they were trained on"
        )
    return trained_size


def images_at_once(size: Size, views: ViewParams, window: Size | None) -> int:
    """How many images of `size` make a batch: of a window's size the network sees as many as fit."""
    largest = 1.0 if window else max(1.0, *views.scales)
    return _fitting((round(size[0] * largest), round(size[1] * largest)))


def _fitting(size: Size) -> int:
    return min(max(BATCH_PIXELS // (size[0] * size[1]), 1), BATCH_SIZE)


@dataclass(frozen=True)
class Look:
    """A batch of images at one scale: (N, 3, H, W) uint8, and how large each is in it without its margin."""

    batch: torch.Tensor
    insides: tuple[Size, ...]


class Grid:
    """The pixels of images of `size` that are left at the size `sampled` by nearest neighbour, as `resize_labels`."""

    def __init__(self, size: Size, sampled: Size) -> None:
        self._rows, self._columns = map(nearest_index, size, sampled)

    def of(self, values: torch.Tensor) -> torch.Tensor:
        """(N, C, h, w) float32 of (N, C, H, W), which may have margins below and to the right."""
        places = (self._rows[:, None] * values.shape[-1] + self._columns).ravel()
        pixels = values.permute(0, 2, 3, 1).flatten(1, 2)  # no copy of what is channels-last, as logits are
        if values.device.type == "cpu":  # where torch takes three times as long, for the look-up and for the copy
            found = pixels.float().numpy().take(places, axis=1).transpose(0, 2, 1)
            planes = torch.from_numpy(np.ascontiguousarray(found))
        else:
            taken = pixels.index_select(1, torch.from_numpy(places).to(values.device))
            planes = taken.transpose(1, 2).float().contiguous()
        return planes.unflatten(2, (len(self._rows), len(self._columns)))


def looks_at(
    images: Sequence[np.ndarray], padded_to: Size | None, views: ViewParams, device: torch.device
) -> list[Look]:
    """One look for each scale at (H, W, 3) uint8 images, of one size or each padded to `padded_to`."""
    looks = []
    for scale in views.scales:
        box = scaled(padded_to, scale) if padded_to else None
        resized = [resize_image(image, scaled(image.shape[:2], scale)) for image in images]
        stacked = np.stack([padded(image, box, GREY) for image in resized]).transpose(0, 3, 1, 2)
        batch = torch.from_numpy(np.ascontiguousarray(stacked)).to(device)
        looks.append(Look(batch, tuple(image.shape[:2] for image in resized)))
    return looks


def scaled(size: Size, scale: float) -> Size:
    """`size` times `scale`, to the nearest pixel and never none."""
    return max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)


def mean_probs(
    segmenter: Segmenter,
    looks: Sequence[Look],
    insides: Sequence[Size],
    views: ViewParams,
    window: Size | None,
    grid: Grid | None = None,
) -> torch.Tensor:
    """Mean probabilities (N, C, H, W) float32 over all looks; of image i, `insides[i]` at the top left counts.

    With `grid` only its pixels, (N, C, h, w), of images that are all of one size.
    """
    first = looks[0]
    if grid is not None and len(looks) == 1 and first.insides == tuple(insides) and not _exceeds(first.batch, window):
        return _seen(segmenter, first.batch, flips=views.flips, grid=grid)
    total: torch.Tensor | None = None
    for look in looks:
        probs = _through_window(segmenter, look.batch, views, window)
        probs = _brought_back(probs, look.insides, insides)
        total = probs if total is None else total.add_(probs)
    assert total is not None
    total = total if len(looks) == 1 else total / len(looks)
    return total if grid is None else grid.of(total)


def _brought_back(probs: torch.Tensor, seen: Sequence[Size], insides: Sequence[Size]) -> torch.Tensor:
    """The part of each image, of size `seen`, bilinearly at the size that it has in `insides`."""
    height, width = (max(sides) for sides in zip(*insides, strict=True))
    if list(seen) == list(insides):
        return probs[..., :height, :width]
    back = probs.new_zeros(*probs.shape[:2], height, width)
    for number, (part, inside) in enumerate(zip(seen, insides, strict=True)):
        whole = probs[number : number + 1, :, : part[0], : part[1]]
        sized = F.interpolate(whole, size=inside, mode="bilinear", align_corners=False)
        back[number, :, : inside[0], : inside[1]] = sized[0]
    return back


def _through_window(segmenter: Segmenter, batch: torch.Tensor, views: ViewParams, window: Size | None) -> torch.Tensor:
    """Probabilities of a batch, seen whole, or as the weighted mean of windows of equal size that cover it."""
    if window is None or not _exceeds(batch, window):
        return _seen(segmenter, batch, flips=views.flips)
    height, width = batch.shape[-2:]
    size = min(window[0], height), min(window[1], width)
    places = list(product(window_starts(height, size[0], views.overlap), window_starts(width, size[1], views.overlap)))
    weight = torch.from_numpy(window_weight(size)).to(batch.device)
    total, weights = None, torch.zeros(height, width, device=batch.device)
    together = max(_fitting(size) // len(batch), 1)
    for start in range(0, len(places), together):
        some = places[start : start + together]
        cut = torch.cat([batch[..., top : top + size[0], left : left + size[1]] for top, left in some])
        probs = _seen(segmenter, cut, flips=views.flips).mul_(weight).unflatten(0, (len(some), len(batch)))
        if total is None:
            total = probs.new_zeros(len(batch), probs.shape[2], height, width)
        for (top, left), part in zip(some, probs, strict=True):
            inside = (..., slice(top, top + size[0]), slice(left, left + size[1]))
            total[inside] += part
            weights[inside] += weight
    assert total is not None
    return total.div_(weights)


def window_starts(length: int, window: int, overlap: float) -> list[int]:
    """Where windows begin that cover `length` without a gap, as evenly as whole pixels allow.

    Neighbours share at least `overlap` of a window, to a pixel. As in nnU-Net, `compute_steps_for_sliding_window`.
    """
    if window >= length:
        return [0]
    step = max(int(window * (1 - overlap)), 1)
    count = -(-(length - window) // step) + 1
    return np.rint(np.linspace(0, length - window, count)).astype(int).tolist()


@cache
def window_weight(size: Size) -> np.ndarray:
    """(H, W) float32, a Hann window: 1 in the middle, falling smoothly to both sides, above 0 at the outermost pixels.

    Each side's share of the sum changes smoothly across what two windows have in common, in corners too, as it is a
    product of one factor for each axis.
    """
    rows, columns = (np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2 for side in size)
    return np.outer(rows, columns).astype(np.float32)


def _exceeds(batch: torch.Tensor, window: Size | None) -> bool:
    return window is not None and (batch.shape[-2] > window[0] or batch.shape[-1] > window[1])


def _seen(segmenter: Segmenter, batch: torch.Tensor, *, flips: bool, grid: Grid | None = None) -> torch.Tensor:
    def probs_of(logits: torch.Tensor) -> torch.Tensor:
        # the grid first: softmax over all pixels takes as long as a small network
        return (logits.float() if grid is None else grid.of(logits)).softmax(1)

    probs = probs_of(segmenter(batch))
    return (probs + probs_of(segmenter(batch.flip(-1)).flip(-1))) / 2 if flips else probs
