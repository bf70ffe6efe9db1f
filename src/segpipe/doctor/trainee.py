"""A member set up for training, and the clock that times its updates."""

import time
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from segpipe.models.checkpoint import Segmenter
from segpipe.params import MemberParams
from segpipe.training.engine import start_engine
from segpipe.training.learner import Learner


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
    """A member in one precision, set up as `training.member` does it."""

    def __init__(self, segmenter: Segmenter, params: MemberParams, precision: str) -> None:
        self.params = params
        # what is measured is one device and whole batches, whatever the parameters ask for
        train = params.train.model_copy(update={"precision": precision, "devices": 1, "accumulate": 1})
        self.fabric = start_engine(train, params.seed)
        self.learner = Learner(
            self.fabric,
            segmenter,
            params.model_copy(update={"train": train}),
            updates_per_epoch=1,
            epochs=2**31,  # so that no pass comes to the schedule's end
            num_labeled=params.train.batch_size,
            pseudo_weight=0.0,
        )

    def rate(self, batches: Iterable[Any], updates: int, skip: int) -> float:
        """Images per second of `updates` updates that follow `skip` uncounted ones, as the training loop makes them."""
        clocked = Clocked(batches, updates + skip, skip)
        for batch in clocked:
            self.learner.update([batch])
        self.learner.loss_sum.item()  # waits for the device
        return updates * self.params.train.batch_size / (time.perf_counter() - clocked.started)
