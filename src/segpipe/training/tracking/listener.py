"""What a listener is told of a training run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from segpipe.labels import ClassTable

# one epoch: epoch (from 1), lr, train_loss, tune_miou (NaN in an epoch that was not scored), and loss_<term> and
# gradient_<term> of each term of the loss
Row = dict[str, float]


@dataclass(frozen=True)
class Run:
    """The run that is listened to.

    `name` is the stage, such as baseline@main-0; `config` holds the resolved parameters of the member; `root` is the
    user's workspace, even where the stage runs in a copy of it.
    """

    name: str
    tags: tuple[str, ...]
    config: dict[str, Any]
    classes: ClassTable
    root: Path


@dataclass(frozen=True)
class Example:
    """A tune image (H, W, 3) uint8 RGB with its predicted and true label maps, (H, W) uint8 of the same size."""

    file_name: str
    image: np.ndarray
    preds: np.ndarray
    target: np.ndarray


class Listener(Protocol):
    """Hears of a run. Any method may raise: the tracker then says so once and goes on without this listener."""

    name: str
    images: int  # how many tune images it wants to see each time they are scored

    def start(self, run: Run) -> None:
        """Before the first epoch."""

    def show(self, epoch: int, examples: Sequence[Example]) -> None:
        """Tune images of an epoch that was scored; comes before that epoch's `log`."""

    def log(self, row: Row) -> None:
        """The numbers of one epoch."""

    def finish(self, *, failed: bool) -> None:
        """After the last epoch, or after the error that ended training."""
