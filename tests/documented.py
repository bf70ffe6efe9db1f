"""The commands that README.md and the pages of docs/ show: the lines of their `sh` blocks."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def command_lines() -> list[str]:
    """Each line once, in order of the pages, comments left out; a backslash joins two lines."""
    lines = [line for page in PAGES for line in _lines(page.read_text(encoding="utf-8"))]
    return list(dict.fromkeys(lines))


def _lines(text: str) -> Iterator[str]:
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            if command := re.sub(r"(^|\s)#.*", "", line).strip():
                yield command


def commands() -> list[list[str]]:
    """Every command as words, `&&` taken apart."""
    return [shlex.split(part) for line in command_lines() for part in line.split("&&")]
