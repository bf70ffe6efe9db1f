"""Work on many images by all cores, with results in the order of the images and only a few of them in memory."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import BaseContext
from typing import TypeVar

import cv2

from segpipe.data.source.lists import Source

ROUND_PIXELS = 2**20  # what a worker is given at a time: small images together, so that handing over costs little
ROUND_IMAGES = 32
WORTH_IMAGES = 20_000  # beside its pixels every image costs as much as this many
WORTH_PROCESSES = 2**26  # pixels from which on the second that starting processes takes is won back

Result = TypeVar("Result")


def worthwhile_processes(sources: Sequence[Source]) -> int:
    """As many as this process may use cores; 1 where the images are done sooner than processes have started."""
    work = sum(source.record.height * source.record.width + WORTH_IMAGES for source in sources)
    return len(os.sched_getaffinity(0)) if work > WORTH_PROCESSES else 1


def in_order(
    work: Callable[[Source], Result], sources: Sequence[Source], processes: int
) -> Generator[Result, None, None]:
    """`work(source)` for each, in order, by so many processes; by this one alone where that is 1.

    Close the iterator (contextlib.closing) to end the processes early. Raises ValueError when one of them was killed.
    """
    if processes == 1:
        yield from map(work, sources)
        return
    pool = ProcessPoolExecutor(processes, _server_of_workers(), initializer=_start)
    pending: deque[Future[list[Result]]] = deque()
    try:
        for chunk in _rounds(sources):
            pending.append(pool.submit(partial(_each, work), chunk))
            if len(pending) > 2 * processes:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    except BrokenProcessPool as error:
        raise ValueError(
            f"prepare: one of the {processes} processes that read images was killed, most likely because memory ran "
            "out. Run the same command again once there is more, or with fewer processes (as many as cores are "
            "allowed, each with a few images): `taskset -c 0,1 dvc repro` allows two"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _server_of_workers() -> BaseContext:
    """What forks workers, deaf from birth to the Ctrl-C that a terminal sends to all: the parent ends them."""
    # processes forked from this one could inherit a lock that a thread of OpenCV or BLAS holds, and wait for ever
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["segpipe.data.prepare.pack"])
    resource_tracker.ensure_running()  # the server would start it, which undoes the next line
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited by the server, and by what it forks
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)  # a Ctrl-C of meanwhile arrives now
    return context


def _rounds(sources: Iterable[Source]) -> Iterator[list[Source]]:
    chunk, pixels = [], 0
    for source in sources:
        chunk.append(source)
        pixels += source.record.height * source.record.width
        if pixels >= ROUND_PIXELS or len(chunk) == ROUND_IMAGES:
            yield chunk
            chunk, pixels = [], 0
    if chunk:
        yield chunk


def _each(work: Callable[[Source], Result], chunk: list[Source]) -> list[Result]:
    return [work(source) for source in chunk]


def _start() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where the server ran before, for somebody else
    cv2.setNumThreads(0)  # a worker is one core's work
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    """End with the parent, however it ends: a worker that waits for work would otherwise wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
