"""A training run as one sees it: running loss, last mIoU, images a second, and how long it will still take."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self, TextIO

import torch

from segpipe.progress import Progress, duration, rate
from segpipe.training.tracking.listener import Row

FORWARD_SHARE = 1 / 3  # of an update's time, for guessing what scoring costs until tune images were scored once


class TrainingDisplay:
    """On a terminal one bar over all updates; in a log one line an epoch, and more within long ones.

    Tell it of `start_epoch`, `after_update`, `scoring` and `end_epoch`; it waits for the device only when it shows
    something.
    """

    def __init__(
        self,
        epochs: int,
        updates: int,
        scorings: int,
        tune_images: int,
        *,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._epochs, self._updates, self._scorings_left, self._tune_images = epochs, updates, scorings, tune_images
        self._clock = clock
        self._progress = Progress(epochs * updates, "train", "updates", self._status, stream=stream, clock=clock)
        self._miou: float | None = None
        self._updates_done, self._images_done = 0, 0  # since this process began
        self._scorings_done, self._scoring_seconds = 0, 0.0
        self._loss_sum, self._losses = torch.zeros(()), 0

    def __enter__(self) -> Self:
        self._started = self._clock()
        self._progress.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.__exit__(kind, error, trace)

    def start_epoch(self, epoch: int, done: int = 0) -> None:
        """`epoch` counts from 1; `done` of its updates were made before this process began."""
        self._epoch, self._epoch_updates, self._epoch_images = epoch, 0, 0
        self._epoch_started = self._clock()
        self._progress.done = (epoch - 1) * self._updates + done
        if self._updates_done == 0:
            self._progress.before = self._progress.done

    def after_update(self, num_images: int, loss_sum: torch.Tensor, losses: int) -> None:
        """`loss_sum`, a scalar on the device, is the sum of this epoch's `losses` losses so far."""
        self._updates_done, self._images_done = self._updates_done + 1, self._images_done + num_images
        self._epoch_updates, self._epoch_images = self._epoch_updates + 1, self._epoch_images + num_images
        self._loss_sum, self._losses = loss_sum, losses
        self._progress.advance()

    @contextmanager
    def scoring(self) -> Iterator[None]:
        """Around the scoring of tune images, whose time is not the updates'."""
        began = self._clock()
        yield
        seconds = self._clock() - began
        self._scorings_left, self._scorings_done = self._scorings_left - 1, self._scorings_done + 1
        self._scoring_seconds += seconds
        self._epoch_started += seconds

    def end_epoch(self, row: Row, *, scored: bool) -> None:
        """The epoch's line in a log."""
        parts = [_loss(row["train_loss"]) + _terms(row)]
        if scored:
            self._miou = row["tune_miou"]
            parts.append(f"mIoU {self._miou:.3f}")
        if self._epoch_updates:  # none where the run went on from a state at the end of the epoch
            parts.append(self._images_per_second())
        if self._updates_done and self._epoch < self._epochs:
            parts.append(self._left())
        self._progress.note(f"epoch {self._epoch}/{self._epochs}: {', '.join(parts)}")

    def _status(self) -> str:
        loss = self._loss_sum.item() / max(self._losses, 1)
        parts = [f"epoch {self._epoch}/{self._epochs}", _loss(loss)]
        if self._miou is not None:
            parts.append(f"mIoU {self._miou:.3f}")
        return ", ".join([*parts, self._images_per_second(), self._left()])

    def _images_per_second(self) -> str:
        """Of this epoch's updates, labelled and pseudo-labelled images alike."""
        return f"{rate(self._epoch_images / max(self._clock() - self._epoch_started, 1e-9))} images/s"

    def _left(self) -> str:
        """Of the whole run: updates at their pace so far, and the scoring of tune images."""
        training = self._clock() - self._started - self._scoring_seconds
        per_update = training / self._updates_done
        if self._scorings_done:
            per_scoring = self._scoring_seconds / self._scorings_done
        else:
            per_scoring = self._tune_images * training / self._images_done * FORWARD_SHARE
        updates_left = self._progress.total - self._progress.done
        return f"{duration(updates_left * per_update + self._scorings_left * per_scoring)} left"


def _loss(value: float) -> str:
    """Thousands are a run gone astray, whose size in powers of ten is enough: 0.512, but 8.11e+11."""
    return f"loss {value:.3f}" if value < 1000 else f"loss {value:.2e}"


def _terms(row: Row) -> str:
    """Of more than one: each with its mean value and its share of the gradient."""
    names = [name.removeprefix("gradient_") for name in row if name.startswith("gradient_")]
    if len(names) < 2:
        return ""
    told = [f"{name} {row[f'loss_{name}']:.3g}, {row[f'gradient_{name}']:.0%}" for name in names]
    return f" [{'; '.join([f'{told[0]} of gradient', *told[1:]])}]"
