"""A lack of memory while training, told in one message instead of a traceback: GPU, machine or loader process."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from segpipe.stage import first_line

# torch's CPU allocator, CUDA itself, cuDNN and cuBLAS, OpenCV: each has words of its own and no class of its own
WORDS = ("can't allocate memory", "out of memory", "STATUS_ALLOC_FAILED", "Insufficient memory")


@contextmanager
def short_of_memory_in_words(stage: str) -> Iterator[None]:
    """Raise ValueError instead of any error that means: no memory left. Other errors pass.

    The update in which it happened may be half made, so nothing is saved; what was saved before is whole.
    """
    try:
        yield
    except Exception as error:
        if not _is_shortage(error):
            raise
        found = first_line(error)[:300]
        raise ValueError(
            f"{stage}: out of memory ({found}). If other work took it, run the same command again once that is gone: "
            "training goes on from what it saved last. Else raise train.accumulate (as many updates, each in smaller "
            "parts) or lower train.batch_size, which starts afresh; `segpipe doctor` says what a member needs"
        ) from error


def _is_shortage(error: Exception) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM  # starting a worker
    return any(words in str(error) for words in WORDS)
