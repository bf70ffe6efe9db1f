import fcntl
import io
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from segpipe.progress import Progress, duration, rate, say, track


class Clock:
    """A clock that stands still until it is told to go on."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


def work(stream, *, steps, seconds_each, **settings):
    """A block of `steps` images that take `seconds_each`; returns what was printed."""
    clock = Clock()
    with Progress(steps, "prepare", "images", stream=stream, clock=clock, **settings) as progress:
        for _ in range(steps):
            clock.now += seconds_each
            progress.advance()
    return stream.getvalue()


# In a log


def test_a_log_gets_a_line_every_ten_seconds_and_the_total_time():
    assert work(io.StringIO(), steps=36, seconds_each=1).splitlines() == [
        "prepare 28%: 10/36 images, 1 images/s, 0:26 left",
        "prepare 56%: 20/36 images, 1 images/s, 0:16 left",
        "prepare 83%: 30/36 images, 1 images/s, 0:06 left",
        "prepare: 36 images in 0:36",
    ]


def test_short_work_leaves_no_line_in_a_log():
    assert work(io.StringIO(), steps=200, seconds_each=0.01) == ""


def test_slow_steps_get_a_line_each_not_more():
    assert len(work(io.StringIO(), steps=3, seconds_each=40).splitlines()) == 3 + 1


def test_work_that_failed_claims_no_total():
    stream, clock = io.StringIO(), Clock()
    with pytest.raises(KeyError), Progress(5, "teach", "images", stream=stream, clock=clock):
        clock.now += 60
        raise KeyError
    assert stream.getvalue() == ""


def test_the_status_is_asked_for_only_when_it_is_shown():
    asked = []

    def status():
        asked.append(1)
        return "loss 0.5"

    printed = work(io.StringIO(), steps=1000, seconds_each=0.025, status=status)
    assert len(asked) == 2  # 25 seconds
    assert printed.startswith("prepare 40%: loss 0.5\n")


def test_a_note_is_a_line_of_the_log_and_puts_off_the_next_one():
    stream, clock = io.StringIO(), Clock()
    with Progress(4, "train", "updates", stream=stream, clock=clock) as progress:
        clock.now += 9
        progress.note("epoch 1/2: loss 0.5")
        clock.now += 9
        progress.advance(2)
    assert stream.getvalue().splitlines() == ["epoch 1/2: loss 0.5", "train: 2 updates in 0:18"]


# On a terminal


def test_a_terminal_gets_a_bar_once_a_second_that_makes_room_for_the_total():
    printed = work(Terminal(), steps=40, seconds_each=0.25)
    drawn = [part for part in printed.split("\r") if "images/s" in part]
    assert len(drawn) == 10
    assert drawn[3].startswith("prepare  40%") and drawn[3].rstrip().endswith("16/40 images, 4 images/s, 0:06 left")
    *_, blank, last = printed.split("\r")
    assert blank.strip() == "" and last == "prepare: 40 images in 0:10\n"


def test_short_work_draws_no_bar():
    assert work(Terminal(), steps=20, seconds_each=0.01) == ""


def test_a_note_is_not_for_a_terminal():
    stream, clock = Terminal(), Clock()
    with Progress(4, "train", "updates", stream=stream, clock=clock) as progress:
        progress.note("epoch 1/2: loss 0.5")
    assert stream.getvalue() == ""


def test_an_error_leaves_the_terminal_clean():
    stream, clock = Terminal(), Clock()
    with pytest.raises(KeyError), Progress(5, "teach", "images", stream=stream, clock=clock) as progress:
        clock.now += 2
        progress.advance()
        raise KeyError
    assert "teach  20%" in stream.getvalue()
    assert stream.getvalue().split("\r")[-2:] == [" " * len(stream.getvalue().split("\r")[-2]), ""]


def test_a_loop_that_breaks_off_closes_its_bar_at_once(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr("sys.stdout", stream)
    monkeypatch.setattr("segpipe.progress.BAR_SECONDS", 0.0)
    with pytest.raises(KeyError):
        for _ in track(range(5), "judge", "images"):
            if "judge  20%" in stream.getvalue():
                raise KeyError
    assert stream.getvalue().split("\r")[-1] == ""


def test_a_line_said_while_a_bar_is_drawn_stands_above_it():
    stream, clock = Terminal(), Clock()
    with Progress(5, "teach", "images", stream=stream, clock=clock) as progress:
        clock.now += 2
        progress.advance()
        say("wandb stopped", stream)
    before, after = stream.getvalue().split("wandb stopped\n")
    assert before.split("\r")[-2].strip() == "", "the bar is wiped first"
    assert "teach  20%" in after, "and drawn again"


def test_a_real_terminal_shows_bar_and_total(monkeypatch):
    script = (
        "import time, segpipe.progress as progress\n"
        "progress.BAR_SECONDS = progress.SHORT_SECONDS = 0.0\n"
        "for _ in progress.track(range(3), 'predict', 'images'): time.sleep(0.01)\n"
    )
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 70, 0, 0))
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent / "src")}
    done = subprocess.run([sys.executable, "-c", script], stdout=theirs, env=environment, timeout=60)
    os.close(theirs)
    printed = os.read(ours, 100_000).decode()
    os.close(ours)
    assert done.returncode == 0
    drawn = [line for line in printed.split("\r") if line.startswith("predict  67%")]
    assert drawn and all(len(line) <= 70 for line in drawn) and "2/3 images" in drawn[0]
    assert printed.endswith("predict: 3 images in 0:00\r\n")


def test_track_hands_on_every_item_in_order(capsys):
    assert list(track("abc", "x", "letters")) == ["a", "b", "c"]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    "seconds, shown",
    [(0, "0:00"), (7.4, "0:07"), (59.6, "1:00"), (125, "2:05"), (3599.9, "1:00:00"), (90061, "25:01:01")],
)
def test_durations_read_like_a_clock(seconds, shown):
    assert duration(seconds) == shown


@pytest.mark.parametrize(
    "per_second, shown", [(0.254, "0.25"), (8.27, "8.3"), (9.96, "10"), (1234.4, "1234"), (0, "0")]
)
def test_rates_keep_two_digits(per_second, shown):
    assert rate(per_second) == shown
