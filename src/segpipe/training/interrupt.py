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

_PARENT = os.getppid()  # at import, seconds before training: whoever started this process


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
        if self._follows_parent and os.getppid() != _PARENT:
            return "the process that started this stage is gone"
        return None

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self._signal is not None:  # asked twice: at once
            raise KeyboardInterrupt
        self._signal = number


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """SIGINT and SIGTERM become a wish that the loop grants between updates; a second one ends the process at once.

    In a thread that is not the main one signals are left alone.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    before = {number: signal.signal(number, interruption._hear) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
