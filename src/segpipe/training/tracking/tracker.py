"""The tracker: passes on what happens in training to listeners, none of which can end or change the run."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from segpipe.labels import ClassTable
from segpipe.params import FoldName, TrackingParams
from segpipe.progress import first_process, say
from segpipe.training.tracking.dvclive_curves import DvcliveCurves
from segpipe.training.tracking.listener import Example, Listener, Row, Run
from segpipe.training.tracking.redact import without_secrets
from segpipe.training.tracking.wandb_run import WandbRun


class Tracker:
    """Use as a context manager: listeners start with the block and finish with it, failed or not.

    A listener that raises is dropped, with one line that holds no secret; training goes on without it.
    """

    def __init__(self, listeners: Sequence[Listener], run: Run) -> None:
        self._listeners, self._run = list(listeners), run

    @property
    def images(self) -> int:
        """How many tune images somebody wants to see."""
        return max((listener.images for listener in self._listeners), default=0)

    def __enter__(self) -> Self:
        self._tell(lambda listener: listener.start(self._run))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tell(lambda listener: listener.finish(failed=error is not None))

    def show(self, epoch: int, examples: Sequence[Example]) -> None:
        """Tune images that were scored after `epoch`."""
        if examples:
            self._tell(lambda listener: listener.show(epoch, examples[: listener.images]) if listener.images else None)

    def log(self, row: Row) -> None:
        """One epoch's numbers."""
        self._tell(lambda listener: listener.log(dict(row)))

    def _tell(self, event: Callable[[Listener], None]) -> None:
        for listener in tuple(self._listeners):
            try:
                event(listener)
            except Exception as error:  # whatever a client raises: a listener must never end a run
                self._listeners.remove(listener)
                say(f"{listener.name} stopped ({without_secrets(error)}); training goes on without it")


def make_listeners(params: TrackingParams) -> list[Listener]:
    """Those that section `tracking` asks for; none imports its library before it starts."""
    listeners: list[Listener] = []
    if not first_process():
        return listeners
    if params.wandb != "disabled":
        listeners.append(WandbRun(params.wandb, params.project, params.images))
    if params.dvclive:
        listeners.append(DvcliveCurves())
    return listeners


def describe_run(round_: str, member: str, fold: FoldName, config: dict[str, Any], classes: ClassTable) -> Run:
    """The run of one training stage, named by DVC where DVC runs it."""
    return Run(
        name=os.environ.get("DVC_STAGE", f"{round_}@{member}-{fold}"),
        tags=(round_, member, f"fold {fold}"),
        config={"round": round_, "member": member, "fold": fold, **config},
        classes=classes,
        # the user's own workspace even under --temp, whose folder is thrown away
        root=Path(os.environ.get("DVC_ROOT", ".")).resolve(),
    )
