"""Several comparisons at once: p-values that hold for all of them together. Needs numpy only."""

from collections.abc import Sequence

import numpy as np


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given.

    Calling those up to 0.05 significant makes one false call or more, among all of them, in at most 5 of 100 cases,
    however the comparisons depend on one another. The i-th smallest of m is multiplied by m - i + 1, and none is
    adjusted below a smaller one's (Holm, A Simple Sequentially Rejective Multiple Test Procedure, 1979).
    """
    values = np.array(p_values, float)
    order = np.argsort(values, kind="stable")
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)), 1)
    return adjusted.tolist()
