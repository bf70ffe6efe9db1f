"""How far long work has come: a bar on a terminal, a plain line now and then in a log, nothing for short work.

Either form says the same: what is done, how fast, how much longer. Both go to standard output, which `dvc repro` passes
on as it is: a terminal stays one, a file gets lines that can be read and searched.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TextIO, TypeVar

from tqdm import tqdm

BAR_SECONDS = 1.0  # between two looks at a terminal's bar
LOG_SECONDS = 10.0  # between two lines in a log
SHORT_SECONDS = 3.0  # work that is done sooner leaves no line

Item = TypeVar("Item")


def first_process() -> bool:
    """Whether this is the first of the processes that share a training: only it speaks and writes files.

    Known from the environment that torchrun, or Fabric where it starts them itself, gives to each.
    """
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", 0))) == 0


def track(items: Sequence[Item], label: str, unit: str) -> Iterator[Item]:
    """`items` in turn, showing how many the caller's loop is done with; `unit` is a plural, such as images."""
    with Progress(len(items), label, unit) as progress:
        for item in items:
            yield item
            progress.advance()


def say(line: str, stream: TextIO | None = None) -> None:
    """Print a line at once, on standard output if not told otherwise; above the bar where one is drawn."""
    if not first_process():
        return
    stream = stream or sys.stdout
    tqdm.write(line, file=stream)
    stream.flush()


class Progress:
    """Shows how far a block of work has come: `advance` says what is done, `status()` what to show.

    `status` is only called when something is shown, so it may be slow (read a value from a GPU, say); without it the
    count, the rate and the time left are shown. A block that ends without error after SHORT_SECONDS or more leaves one
    line with its total time.
    """

    def __init__(
        self,
        total: int,
        label: str,
        unit: str,
        status: Callable[[], str] | None = None,
        *,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total, self.label, self.unit, self.done = total, label, unit, 0
        self.before = 0  # of those done: by an earlier process
        self._status = status or self._count_and_rate
        self._stream, self._clock = stream or sys.stdout, clock
        self.on_terminal = self._stream.isatty()
        self._pause = BAR_SECONDS if self.on_terminal else LOG_SECONDS
        self._bar: _Bar | None = None

    def __enter__(self) -> Self:
        self._started = self._clock()
        self._due = self._started + self._pause
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        seconds = self._clock() - self._started
        if error is None and seconds >= SHORT_SECONDS:
            say(f"{self.label}: {self.done - self.before} {self.unit} in {duration(seconds)}", self._stream)

    def advance(self, count: int = 1) -> None:
        """`count` more are done; shows it when the last look is long enough ago."""
        self.done += count
        if self._clock() >= self._due:
            self._due = self._clock() + self._pause
            self._show()

    def note(self, line: str) -> None:
        """A line for the log alone: on a terminal the bar says enough."""
        if not self.on_terminal:
            self._due = self._clock() + self._pause
            say(line, self._stream)

    def _show(self) -> None:
        if not first_process():
            return
        if not self.on_terminal:
            say(f"{self.label} {self.done / max(self.total, 1):.0%}: {self._status()}", self._stream)
            return
        if self._bar is None:
            self._bar = _Bar(self.total, self.label, self._stream)
        self._bar.draw(self.done, self._status())

    def _count_and_rate(self) -> str:
        per_second = self.done / max(self._clock() - self._started, 1e-9)
        left = duration((self.total - self.done) / max(per_second, 1e-9))
        return f"{self.done}/{self.total} {self.unit}, {rate(per_second)} {self.unit}/s, {left} left"


class _Bar(tqdm):
    """Drawn when Progress says so, with its words beside it; nothing stays when it is closed."""

    monitor_interval = 0  # no watching thread
    status = ""

    def __init__(self, total: int, label: str, stream: TextIO) -> None:
        form = "{desc} {percentage:3.0f}% {bar} {status}"
        super().__init__(
            total=total, desc=label, file=stream, bar_format=form, leave=False, dynamic_ncols=True, delay=1
        )
        self.delay = 0  # it only kept tqdm from drawing a first bar without words; left so, close() would wipe nothing

    def draw(self, done: int, status: str) -> None:
        """Show that `done` are done."""
        self.n, self.status = done, status
        self.refresh()

    @property
    def format_dict(self) -> dict[str, Any]:
        """What `bar_format` can name."""
        return super().format_dict | {"status": self.status}


def rate(per_second: float) -> str:
    """Two digits or more: 0.25, 8.3, 48, 1234."""
    return f"{per_second:.0f}" if per_second >= 9.95 else f"{per_second:.2g}"


def duration(seconds: float) -> str:
    """Minutes and seconds, 0:07, or hours, 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
