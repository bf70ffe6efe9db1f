"""What a training run comes to: its history, the weights that are kept, and the lines that say why it ended there."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from segpipe.training.tracking.listener import Row


@dataclass(frozen=True)
class Best:
    """The weights that are kept: those after `epoch` (from 1), as trained or averaged."""

    epoch: int
    weights: Literal["raw", "ema"]
    miou: float  # pooled, on tune images; NaN where there are none

    @property
    def file(self) -> str:
        """Its name in the state's folder."""
        return f"best-{self.epoch}-{self.weights}.safetensors"


@dataclass(frozen=True)
class Fitted:
    """The outcome of a run: one row an epoch, what is kept, and its confusion matrix of each tune image, (N, C, C)."""

    history: list[Row]
    best: Best
    confusions: np.ndarray


def out_of_patience(history: Sequence[Row], best: Best, patience: int) -> bool:
    """Whether the last `patience` scores or more were no better than the best; never where `patience` is 0."""
    return 0 < patience <= _scores_since(history, best)


def closing_lines(history: Sequence[Row], best: Best, epochs: int) -> list[str]:
    """Why a run of up to `epochs` epochs ended before the last one, and what it keeps, where scores chose that."""
    lines, since = [], _scores_since(history, best)
    if history[-1]["epoch"] < epochs:
        scores = "1 score" if since == 1 else f"{since} scores"
        lines.append(
            f"stopped after epoch {history[-1]['epoch']} of {epochs}: {scores} in a row without a better one "
            "(train.patience)"
        )
    if not math.isnan(best.miou):  # the fold `all` keeps its last epoch
        lines.append(f"kept epoch {best.epoch} ({best.weights}), mIoU {best.miou:.3f}")
    return lines


def _scores_since(history: Sequence[Row], best: Best) -> int:
    return sum(row["epoch"] > best.epoch and math.isfinite(row["tune_miou"]) for row in history)
