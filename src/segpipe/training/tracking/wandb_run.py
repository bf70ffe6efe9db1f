"""Weights & Biases: one run a training stage, offline or online, with curves and a few tune images.

What is sent: the run's name, group, tags and parameters, each epoch's numbers, tune images with their masks, and the
load of the machine. What the client would add by itself and this switches off: console output, code, git remotes,
host and user names, the list of installed packages.
"""

import math
import os
import subprocess
from collections.abc import Sequence
from typing import Any, Literal

from segpipe.labels import IGNORE_INDEX
from segpipe.progress import say
from segpipe.training.tracking.listener import Example, Row, Run
from segpipe.training.tracking.redact import without_secrets

START_SECONDS = 30  # how long `online` waits for the server before the run is kept offline
UPLOAD_SECONDS = 120  # how long the end of a run waits for uploads; what is left stays on disk


class WandbRun:
    """A run of `project`; `online` falls back to `offline` where the server or a key is missing."""

    name = "wandb"

    def __init__(self, mode: Literal["offline", "online"], project: str, images: int) -> None:
        self.images = images
        self._mode, self._project = mode, project
        self._wandb: Any = None
        self._run: Any = None
        self._labels: dict[int, str] = {}

    def start(self, run: Run) -> None:
        """Open the run; files go to `wandb/` of the workspace."""
        import wandb  # costs half a second, so only where asked for

        self._wandb = wandb
        self._labels = dict(enumerate(run.classes.names)) | {IGNORE_INDEX: "not labelled"}
        (run.root / "wandb").mkdir(parents=True, exist_ok=True)  # else the client takes a folder in /tmp
        wandb.setup(settings=self._settings())  # silent from here on: it must not ask for a key on a terminal
        if self._mode == "online":
            try:
                self._run = self._init(run, "online")
                say(f"wandb: {run.name} is followed at {self._run.url}")
                return
            except Exception as error:  # no key, a wrong one, no network: whatever its client raises
                said = without_secrets(error)
                say(f"wandb: online is not possible ({said}); the run is kept offline")
        self._run = self._init(run, "offline")
        folder = os.path.relpath(self._run.settings.sync_dir, run.root)
        say(f"wandb: {run.name} is written offline; `wandb sync {folder}` sends it")

    def show(self, epoch: int, examples: Sequence[Example]) -> None:
        """Each image with two masks to switch on and off: prediction and ground truth."""
        images = [
            self._wandb.Image(
                example.image,
                caption=example.file_name,
                masks={
                    "prediction": {"mask_data": example.preds, "class_labels": self._labels},
                    "ground_truth": {"mask_data": example.target, "class_labels": self._labels},
                },
            )
            for example in examples
        ]
        self._run.log({"tune_images": images}, step=epoch)

    def log(self, row: Row) -> None:
        """The epoch's numbers, at the epoch's step."""
        numbers = {name: value for name, value in row.items() if math.isfinite(value)}
        self._run.log(numbers, step=int(row["epoch"]))

    def finish(self, *, failed: bool) -> None:
        """Close the run, marked as crashed where training was."""
        self._run.finish(exit_code=1 if failed else 0)
        self._wandb.teardown()  # its service writes the last records only now

    def _init(self, run: Run, mode: Literal["offline", "online"]) -> Any:
        return self._wandb.init(
            project=self._project,
            name=run.name,
            group=os.environ.get("DVC_EXP_NAME") or _commit() or "workspace",
            tags=list(run.tags),
            config=run.config,
            dir=str(run.root),
            mode=mode,
            settings=self._settings(),
        )

    def _settings(self) -> Any:
        return self._wandb.Settings(
            console="off",
            silent=True,
            save_code=False,
            disable_code=True,
            disable_git=True,
            host="-",  # empty would mean: ask the system
            x_disable_meta=True,
            x_save_requirements=False,
            init_timeout=START_SECONDS,
            finish_timeout=UPLOAD_SECONDS,
            finish_timeout_raises=True,
        )


def _commit() -> str:
    """HEAD in short, empty where there is none."""
    try:
        done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
