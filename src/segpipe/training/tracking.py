"""Weights & Biases as a listener: it hears every epoch, decides nothing, and may fail without harm."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from segpipe.params import TrackingParams


class Tracker:
    """Sends rows to a run; silent when tracking is disabled or has failed."""

    def __init__(self, params: TrackingParams, name: str, config: dict[str, Any]) -> None:
        self._run: Any = None
        if params.wandb != "disabled":
            self._guard(lambda: self._start(params, name, config))

    def log(self, row: dict[str, float]) -> None:
        """One epoch's numbers."""
        if self._run is not None:
            self._guard(lambda: self._run.log(row, step=int(row["epoch"])))

    def finish(self) -> None:
        """Close the run."""
        if self._run is not None:
            self._guard(lambda: self._run.finish())

    def _start(self, params: TrackingParams, name: str, config: dict[str, Any]) -> None:
        import wandb  # costs 0.4 s, so only where asked for

        # DVC_ROOT is the user's own workspace even under --temp, whose folder is thrown away
        folder = Path(os.environ.get("DVC_ROOT", "."))
        group = os.environ.get("DVC_EXP_NAME", "workspace")
        self._run = wandb.init(
            project=params.project, name=name, group=group, config=config, mode=params.wandb, dir=folder
        )

    def _guard(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # a tracker must never end a run, whatever its client raises
            print(f"tracking stopped ({type(error).__name__}: {error}); training goes on", flush=True)
            self._run = None
