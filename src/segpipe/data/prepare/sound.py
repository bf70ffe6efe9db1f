"""Images looked at one after another: what is sound goes on, what is broken and what is there twice is noted."""

from collections.abc import Callable, Generator
from contextlib import closing
from typing import TypeVar

from segpipe.data.prepare.pack import SoundImage
from segpipe.data.prepare.warn import Copies
from segpipe.data.prepare.workers import in_order, worthwhile_processes
from segpipe.data.source.images import ImageFault
from segpipe.data.source.lists import Source
from segpipe.data.source.problems import Findings, Problem
from segpipe.progress import track

Sound = TypeVar("Sound", bound=SoundImage)


def sound_images(
    sources: list[Source],
    work: Callable[[Source], Sound | ImageFault],
    findings: Findings,
    label: str,
    processes: int | None,
) -> Generator[tuple[Source, Sound], None, None]:
    """Each sound image in turn, with what `work` makes of it; broken ones and copies become findings.

    By so many processes, or by as many as are worth it. Close the generator to end them early.
    """
    copies = Copies()
    with closing(in_order(work, sources, processes or worthwhile_processes(sources))) as results:
        for source, result in zip(track(sources, label, "images"), results, strict=True):
            if isinstance(result, ImageFault):
                _note(findings, source, result)
                continue
            copies.look(source, result.content_hash, findings)
            yield source, result


def _note(findings: Findings, source: Source, fault: ImageFault) -> None:
    """A test image cannot be left out: a submission without one of its images would be refused."""
    problem = Problem(str(source.file), f"image {source.record.id}", fault.found, fault.expected)
    (findings.blocking if source.name == "test" else findings.broken).append(problem)
