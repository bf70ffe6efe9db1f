"""Times of what takes turns, and how they are told."""

import statistics
import time
from collections.abc import Callable


def seconds(action: Callable[[], object]) -> float:
    """What a call takes by the clock."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def spread(values: list[float], digits: int = 2) -> str:
    """Median (least to most)."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"
