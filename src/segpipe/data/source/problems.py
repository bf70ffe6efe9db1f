"""Everything that is wrong with a data set, collected so that the user sees all of it in one message."""

import re
import reprlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

LINES_SHOWN = 50  # of a message, unless there are more kinds of problems than that
CHARACTERS_SHOWN = 200  # of a value
PLACES_KEPT = 100  # of one kind of warning; more are only counted

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 120
_SHORT.maxlist, _SHORT.maxdict, _SHORT.maxlevel = 30, 4, 3


@dataclass(frozen=True)
class Problem:
    """One fault: in which file, where in it (may be empty), what was found there, and what was expected."""

    file: str
    where: str
    found: str
    expected: str

    def __str__(self) -> str:
        said = f"{self.found.rstrip('.')}; expected {self.expected.rstrip('.')}."
        return ": ".join(part for part in (self.file, self.where, said) if part)


@dataclass
class Warnings:
    """What stops nothing but should be known: how often each kind was met, and the first places of each.

    Only counts grow with the number of warnings, so that a set with a million of them is no burden.
    """

    counts: dict[str, int] = field(default_factory=dict)
    places: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, place: str) -> None:
        """One more of `kind`, at `place`, such as "train.json: annotation 17 (a.jpg)"."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        places = self.places.setdefault(kind, [])
        if len(places) < PLACES_KEPT:
            places.append(place)


@dataclass
class Findings:
    """The problems of a data set: `broken` entries can be left out, `blocking` mistakes cannot; `warnings` never stop.

    A blocking mistake may also be a sentence of its own, where it lies in params.yaml rather than in a file.
    """

    broken: list[Problem] = field(default_factory=list)
    blocking: list[Problem | str] = field(default_factory=list)
    warnings: Warnings = field(default_factory=Warnings)

    def stop(self, on_problem: Literal["stop", "skip"]) -> bool:
        """Whether they forbid going on."""
        return bool(self.blocking or (self.broken and on_problem == "stop"))

    def error(self, root: str, on_problem: Literal["stop", "skip"]) -> ValueError:
        """All of them as one error about the data root `root`, what cannot be left out first."""
        skipped = self.broken if on_problem == "skip" else []
        stopping = [*self.blocking, *(self.broken if on_problem == "stop" else [])]
        lines = [f"{root}: {_count(stopping)}", *listing(stopping)]
        if skipped:
            lines += [f"data.on_problem: skip leaves out what has {_count(skipped)} besides:", *listing(skipped)]
        way_out = "" if self.blocking else ", or set data.on_problem to skip to go on without what is broken"
        return ValueError("\n".join([*lines, f"Mend the above{way_out}."]))


def listing(problems: Sequence[Problem | str]) -> Iterator[str]:
    """One line a problem. Too many are shortened to a few of each kind, with a count of the rest.

    Of one kind are those of a file that differ only in ids, names and numbers.
    """
    kinds: dict[tuple[str, ...], list[Problem | str]] = {}
    for problem in problems:
        kinds.setdefault(_kind(problem), []).append(problem)
    most = len(problems) if len(problems) <= LINES_SHOWN else max(LINES_SHOWN // len(kinds), 1)
    for alike in kinds.values():
        yield from (f"  {problem}" for problem in alike[:most])
        if rest := alike[most:]:
            places = ", ".join(problem.where for problem in rest[:3] if isinstance(problem, Problem))
            yield f"    and {len(rest)} more like that: {places}{', ...' if len(rest) > 3 else ''}"


def short(value: Any) -> str:
    """Return `value` as Python writes it, cut where it would fill the screen."""
    text = _SHORT.repr(value)
    return text if len(text) <= CHARACTERS_SHOWN else text[:CHARACTERS_SHOWN] + "..."


def shown_id(name: str) -> str:
    """A name as it stands, or as Python writes it where a terminal would take it for more than text."""
    return name if name.isprintable() and len(name) <= CHARACTERS_SHOWN else short(name)


def some_ids(names: Sequence[str], most: int) -> str:
    """The first `most` of some names in a line, as `shown_id` gives them."""
    return ", ".join(map(shown_id, names[:most])) + (", ..." if len(names) > most else "")


def _kind(problem: Problem | str) -> tuple[str, ...]:
    if isinstance(problem, str):
        return (problem,)
    return problem.file, *(re.sub(r"'[^']*'|\S*\d\S*", "_", text) for text in (problem.where, problem.found))


def _count(problems: Sequence[object]) -> str:
    return "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
