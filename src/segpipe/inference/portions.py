"""Predictions that several processes share and that an interrupted run goes on from.

The work is a list of batches, the same for any number of processes: batch number n is of process n modulo their count.
Each finished batch is a small store of its own in `.checkpoints/<key>/` (`segpipe.state`): DVC clears a stage's outputs
before it starts. Such a store is sealed last and carries checksums, so that half of one is never taken for a whole.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from segpipe.data.store import PackedArrays, PackedWriter
from segpipe.inference.predict import Predictor
from segpipe.inference.ranks import Ranks
from segpipe.interrupt import Interruption, interruptible
from segpipe.progress import Progress, first_process, say
from segpipe.state import open_state, run_key

Row = list[np.ndarray]  # uint8 arrays, what is kept of one image
Keep = Callable[[int, np.ndarray, np.ndarray], Row]  # of position, probabilities and agreement
OPEN = 8  # portions held open at once while rows are read, two files each: images of so many sizes may alternate


class Rows:
    """What was kept of each image, by its position; read from the portions, so that memory stays flat."""

    def __init__(self, folder: Path, batches: Sequence[Sequence[int]]) -> None:
        self._place = {pos: (number, row) for number, batch in enumerate(batches) for row, pos in enumerate(batch)}
        self._counts = [len(batch) for batch in batches]
        self._opened = lru_cache(OPEN)(lambda number: PackedArrays(portion_path(folder, number)))

    def __getitem__(self, position: int) -> Row:
        number, row = self._place[position]
        portion = self._opened(number)
        each = len(portion) // self._counts[number]
        return [portion[row * each + part] for part in range(each)]

    def close(self) -> None:
        """Hold no file open any more; what is read later is opened anew."""
        self._opened.cache_clear()


@contextmanager
def predicted_rows(
    predictor: Predictor,
    read: Callable[[int], np.ndarray],
    sizes: Sequence[tuple[int, int]],
    keep: Keep,
    *,
    sampled: Sequence[tuple[int, int] | None] | None = None,
    ranks: Ranks,
    identity: dict[str, Any],
    stage: str,
    label: str,
) -> Iterator[Rows | None]:
    """What `keep` keeps of every image; in the block of the first process all rows are there, others get None.

    `read` gives the image at a position, `sizes` are (height, width) of all of them, and `sampled` those at which they
    are answered, where not at their own. What an earlier process of the
    same `identity` finished is taken as it is; when the block ends without error the state is removed. Raises
    SystemExit where a signal asks the process to stop: the same command goes on after the batch it was in.
    """
    batches = predictor.plan(sizes, sampled)
    size_of = sampled.__getitem__ if sampled else lambda position: None
    with open_state(run_key(identity), stage, writes=first_process()) as state:
        ranks.wait()  # the first process holds the state, or has refused to
        with interruptible() as interruption:
            _predict_share(predictor, read, size_of, batches, keep, state.folder, ranks, interruption, label)
        del predictor  # the block may need the GPU's memory for other networks
        ranks.wait()
        if not first_process():
            yield None
            return
        yield Rows(state.folder, batches)
        state.discard()


def _predict_share(
    predictor: Predictor,
    read: Callable[[int], np.ndarray],
    sampled: Callable[[int], tuple[int, int] | None],
    batches: Sequence[Sequence[int]],
    keep: Keep,
    folder: Path,
    ranks: Ranks,
    interruption: Interruption,
    label: str,
) -> None:
    mine = range(ranks.rank, len(batches), ranks.count)
    left = [number for number in mine if not _is_sound(portion_path(folder, number))]
    total, kept = (sum(len(batches[number]) for number in numbers) for numbers in (mine, set(mine) - set(left)))
    if kept:
        say(f"{label}: going on after {kept} of {total} images")
    with Progress(total, label, "images") as progress:
        progress.done = progress.before = kept
        for number in left:
            if interruption.reason:
                said = f"{interruption.reason}; {progress.done} of {total} images are kept: "
                raise SystemExit(f"{said}the same command goes on from there" if first_process() else 1)
            batch = batches[number]
            answers = predictor([read(position) for position in batch], sampled(batch[0]))
            with PackedWriter(portion_path(folder, number)) as writer:
                for position, (probs, agreement) in zip(batch, answers, strict=True):
                    for array in keep(position, probs, agreement):
                        writer.add(array)
            progress.advance(len(batch))


def portion_path(folder: Path, number: int) -> Path:
    """Of the store that holds the batch."""
    return folder / f"batch-{number:06}"


def _is_sound(path: Path) -> bool:
    """Whether an earlier process finished the portion, and the disk has kept it: every checksum is looked at."""
    try:
        return sum(1 for _ in PackedArrays(path)) > 0
    except (FileNotFoundError, ValueError, KeyError):
        return False
