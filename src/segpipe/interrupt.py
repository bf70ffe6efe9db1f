"""Stopping between two updates: Ctrl-C, a signal to end, or the death of the DVC that started this stage.

A stop in the middle of an update would leave weights half stepped. The loop asks between updates and between scored
images, and can then save its state.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from segpipe.stage import STARTED_BY, started_by

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # Ctrl-C, a scheduler, a lost terminal


class Interruption:
    """What asks this run to stop; `reason` is None as long as nothing does."""

    def __init__(self) -> None:
        self._signal: int | None = None
        # started by hand, a run may well outlive the shell it came from
        self._follows_parent = "DVC_ROOT" in os.environ

    @property
    def reason(self) -> str | None:
        """Why to stop, in words."""
        if self._signal is not None:
            return f"stopped by {signal.Signals(self._signal).name}"
        if self._follows_parent and started_by() != STARTED_BY:
            return "the process that started this stage is gone"
        return None

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self._signal is not None:  # asked twice: at once
            raise KeyboardInterrupt
        self._signal = number


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Signals of ENDING become a wish that the loop grants between updates; a second one ends the process at once.

    One that this process was started to ignore (by nohup, or behind a script's &) stays ignored. In a thread that is
    not the main one signals are left alone.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    before = {number: signal.getsignal(number) for number in (*ENDING, signal.SIGCHLD)}
    for number in ENDING:
        if before[number] is not signal.SIG_IGN:
            signal.signal(number, interruption._hear)
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def leave_workers_to_loader() -> None:
    """Call after a DataLoader has started its workers: torch then raises in the main thread when one of them dies.

    That may be in the middle of an update, or of a save. The loader itself finds out within five seconds, when it waits
    for the next batch.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
