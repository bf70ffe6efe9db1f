"""A member set up for training, and the clock that times its updates."""

import time
from collections.abc import Iterable, Iterator
from typing import Any, cast

import torch
from torch.utils.data import DataLoader

from segpipe.losses import build_loss
from segpipe.models.checkpoint import Segmenter
from segpipe.params import MemberParams
from segpipe.training.engine import start_engine
from segpipe.training.loop import train_one_epoch
from segpipe.training.optim import build_optimizer, build_scheduler


class Clocked:
    """Batches passed on unchanged; the clock starts when the one after the first `skip` is asked for."""

    def __init__(self, batches: Iterable[Any], count: int, skip: int) -> None:
        self._batches, self._count, self._skip = batches, count, skip
        self.started = 0.0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Any]:
        for position, batch in enumerate(self._batches, start=1):
            yield batch
            if position == self._skip:
                if torch.cuda.is_available():
                    torch.cuda.synchronize()  # what was only queued so far is not to be counted
                self.started = time.perf_counter()


class Trainee:
    """A member in one precision, set up as `training.loop.fit` does it."""

    def __init__(self, segmenter: Segmenter, params: MemberParams, precision: str) -> None:
        self.params = params
        self.fabric = start_engine(params.train.model_copy(update={"precision": precision}), params.seed)
        self.loss_fn, self.bare_optimizer = build_loss(params.loss), build_optimizer(segmenter, params.optimizer)
        self.model, self.optimizer = self.fabric.setup(segmenter, self.bare_optimizer)
        self.scheduler = build_scheduler(self.optimizer, params.scheduler, 1, params.train.epochs)

    def rate(self, batches: Iterable[Any], updates: int, skip: int) -> float:
        """Images per second of `updates` updates that follow `skip` uncounted ones, as the training loop makes them."""
        clocked = Clocked(batches, updates + skip, skip)
        train_one_epoch(
            self.fabric,
            self.model,
            cast(DataLoader, clocked),  # the loop takes batches and their number from it, nothing else
            self.loss_fn,
            self.optimizer,
            self.scheduler,
            num_labeled=self.params.train.batch_size,
            pseudo_weight=0.0,
            clip_norm=self.params.train.clip_norm,
            after_update=lambda num_images, loss_sum: None,  # nothing is displayed
        )
        return updates * self.params.train.batch_size / (time.perf_counter() - clocked.started)
