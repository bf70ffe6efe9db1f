"""One line of the report: what was looked at, what was found, and what to do about it."""

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warn", "bad"]


@dataclass(frozen=True)
class Finding:
    """What a check found. `bad` means that something will fail; `advice` is empty for `ok` only."""

    topic: str
    verdict: Verdict
    found: str
    advice: str = ""


def gib(count: float) -> str:
    """Bytes in print: `3.2 GiB`, `12 MiB`, ..."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20)):
        if count >= size:
            amount = count / size
            return f"{amount:.1f} {unit}" if amount < 100 else f"{amount:.0f} {unit}"
    return f"{count / 2**10:.0f} KiB"
