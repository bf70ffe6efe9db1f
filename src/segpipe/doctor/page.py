"""The report as text for a terminal: aligned, ASCII marks, one line of advice below what is not ok."""

import sys
import textwrap
from collections.abc import Iterator

from segpipe.doctor.finding import Finding, gib
from segpipe.doctor.measured import Measured, data_share
from segpipe.doctor.survey import Survey

NOT_MEASURED = "members: not measured; mend what is marked bad above, then try again\n"
WIDTH = 110
TOPIC = 18  # columns
MARK = 6


def section_lines(title: str, findings: list[Finding]) -> Iterator[str]:
    """A title, then `mark topic found` for each finding, with its advice beneath."""
    yield title
    for finding in findings:
        yield from _hanging(f"  {finding.verdict:<{MARK}}{finding.topic:<{TOPIC}}", finding.found)
        if finding.advice:
            yield from _hanging(" " * (2 + MARK + TOPIC), f"-> {finding.advice}")
    yield ""


def member_lines(name: str, measured: Measured | str, advice: list[Finding]) -> Iterator[str]:
    """What a member is, its memory and its rates, then the advice."""
    if isinstance(measured, str):
        yield from section_lines(f"member {name}", advice)
        return
    height, width = measured.image_size
    total = measured.encoder_parameters + measured.decoder_parameters
    millions = [count / 1e6 for count in (total, measured.encoder_parameters, measured.decoder_parameters)]
    yield f"member {name}: {measured.architecture}"
    yield _row("input", f"{height} x {width} px, {measured.batch_size} images an update, on {measured.device.upper()}")
    yield _row("parameters", "{:.2f} million: encoder {:.2f}, decoder {:.2f}".format(*millions))
    yield _row("GMAC", f"{measured.gmac:.2f} for a forward pass of one image (1 MAC = 2 FLOP)")
    yield from _hanging(_row("memory", ""), _memory(measured))
    yield _row("weights on disk", f"{gib(measured.checkpoints)} in data/models after both rounds")
    yield _row("images", measured.source)
    yield _row("images/s", f"{'data only':>12}{'model only':>12}{'both':>12}   both, slowest to fastest   bottleneck")
    for precision, both in measured.both.items():
        cells = f"{measured.data.median:>12.1f}{measured.model[precision].median:>12.1f}{both.median:>12.1f}"
        share = data_share(measured, precision)
        limit = f"model {1 - share:.0%}, data {share:.0%}".replace("%", " %")
        yield _row(f"  {precision}", f"{cells}   {f'{both.low:.1f} to {both.high:.1f}':<24}   {limit}")
    counted = f"{_count(measured.passes, 'pass', 'passes')} of {_count(measured.updates, 'update', 'updates')}"
    yield _row("", f"median of {counted}; other programs on the machine disturb them")
    yield from (line for line in section_lines("", advice) if line)
    yield ""


class Progress:
    """What is being measured, on stderr: a line that replaces itself on a terminal, one for each member in a log."""

    def __init__(self) -> None:
        self._terminal, self._member = sys.stderr.isatty(), ""

    def __call__(self, member: str, step: str) -> None:
        """Say that `member` is at `step`."""
        if self._terminal:
            sys.stderr.write(f"\r{f'measuring {member}: {step}':<70}")
        elif member != self._member:
            sys.stderr.write(f"measuring {member}\n")
        self._member = member
        sys.stderr.flush()

    def clear(self) -> None:
        """Make way for the report."""
        if self._terminal and self._member:
            sys.stderr.write(f"\r{'':<70}\r")
            sys.stderr.flush()


def closing_line(survey: Survey) -> str:
    """How many findings of each kind."""
    counts = {verdict: 0 for verdict in ("ok", "warn", "bad")}
    for finding in survey.findings:
        counts[finding.verdict] += 1
    said = f"{counts['ok']} ok, {counts['warn']} warn, {counts['bad']} bad"
    return f"{said}: " + ("nothing that was looked at will fail" if survey.sound else "what is marked bad will fail")


def _count(number: int, one: str, more: str) -> str:
    return f"{number} {one if number == 1 else more}"


def _memory(measured: Measured) -> str:
    memory = measured.memory
    parts = {
        "weights": memory.weights,
        "gradients": memory.gradients,
        "optimiser": memory.optimizer,
        "activations": memory.activations,
        "process": memory.process,
    }
    listed = ", ".join(f"{name} {gib(size)}" for name, size in parts.items() if size)
    return f"{gib(memory.peak)} at the peak of {measured.precision}: {listed}"


def _row(topic: str, text: str) -> str:
    return f"  {topic:<{MARK + TOPIC}}{text}"


def _hanging(start: str, text: str) -> Iterator[str]:
    """`text` wrapped in a column of its own to the right of `start`; its own line breaks are kept."""
    room = WIDTH - len(start)
    lines = [part for line in text.splitlines() for part in textwrap.wrap(line, room, break_on_hyphens=False) or [""]]
    for position, line in enumerate(lines or [""]):
        yield (start if position == 0 else " " * len(start)) + line
