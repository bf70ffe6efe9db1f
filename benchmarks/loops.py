"""The loops that training is measured against: the one of the contest's notebooks, and a competent plain one."""

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from pycocotools.coco import COCO
from torch import nn
from torch.utils.data import DataLoader, Dataset

from segpipe.data.augment import Augment
from segpipe.losses.weighted_sum import build_loss
from segpipe.models.checkpoint import Segmenter
from segpipe.params import MemberParams
from segpipe.training.optim import build_optimizer

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Batch = tuple[torch.Tensor, torch.Tensor]


class CocoImages(Dataset):
    """Decoded, resized, mirrored and normalised to float32 for every item; masks drawn each time, or once before."""

    def __init__(self, root: Path, list_file: str, size: tuple[int, int], augment: Augment, *, draw_once: bool) -> None:
        self.coco, self.root, self.size, self.augment = COCO(root / list_file), root, size, augment
        self.ids = sorted(self.coco.getImgIds())
        self.labels = {category: index + 1 for index, category in enumerate(sorted(self.coco.getCatIds()))}
        self.drawn = {image_id: self._draw(image_id) for image_id in self.ids} if draw_once else {}

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Batch:
        image_id = self.ids[index]
        height, width = self.size
        file_name = self.coco.loadImgs(image_id)[0]["file_name"]
        image = cv2.cvtColor(cv2.imread(str(self.root / file_name)), cv2.COLOR_BGR2RGB)
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        target = self.drawn[image_id] if self.drawn else self._draw(image_id)
        image, target = self.augment(image, target, epoch=0, index=index)
        normalised = (image.astype(np.float32) / 255 - MEAN) / STD
        image = torch.from_numpy(normalised.astype(np.float32).transpose(2, 0, 1))
        return image, torch.from_numpy(target.astype(np.int64))

    def _draw(self, image_id: int) -> np.ndarray:
        info = self.coco.loadImgs(image_id)[0]
        target = np.zeros((info["height"], info["width"]), np.uint8)
        for annotation in self.coco.loadAnns(self.coco.getAnnIds(image_id)):
            label = np.uint8(self.labels[annotation["category_id"]])
            target = np.maximum(self.coco.annToMask(annotation) * label, target)
        height, width = self.size
        return cv2.resize(target, (width, height), interpolation=cv2.INTER_NEAREST)


def naive_loader(root: Path, list_file: str, size: tuple[int, int], augment: Augment, batch_size: int) -> DataLoader:
    """As in the notebooks: no process, masks drawn for every item."""
    images = CocoImages(root, list_file, size, augment, draw_once=False)
    return DataLoader(images, batch_size, shuffle=True, drop_last=True)


def competent_loader(
    root: Path, list_file: str, size: tuple[int, int], augment: Augment, batch_size: int, workers: int
) -> DataLoader:
    """Processes that stay, masks drawn once."""
    images = CocoImages(root, list_file, size, augment, draw_once=True)
    options = {"num_workers": workers, "persistent_workers": workers > 0}
    return DataLoader(images, batch_size, shuffle=True, drop_last=True, **options)


def plain_step(segmenter: Segmenter, params: MemberParams, *, bf16: bool, network: nn.Module) -> Callable:
    """One update: forward, backward, step; `network` takes the batch (the segmenter itself takes 8-bit images)."""
    loss_fn, optimizer = build_loss(params.loss), build_optimizer(segmenter, params.optimizer)

    def step(images: torch.Tensor, targets: torch.Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = network(images)
        loss_fn(logits.float(), targets.long()).backward()
        optimizer.step()

    return step


def run_epoch(step: Callable, batches: Sequence[Batch] | DataLoader, *, channels_last: bool = False) -> int:
    """Train on every batch; the number of images."""
    count = 0
    for images, targets in batches:
        step(images.to(memory_format=torch.channels_last) if channels_last else images, targets)
        count += len(images)
    return count
