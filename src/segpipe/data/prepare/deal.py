"""Groups of images dealt out to parts, so that each part has its share of everything, and of what is rare first of all.

Iterative stratification (Sechidis et al., 2011, "On the stratification of multi-label data") deals one group after
another, those that hold most of something rare first, to the part that lacks most of it. Here "lacks" is one sum of
squares over all that is counted, so that amounts count and not only presence, and exchanges mend what the last groups
could no longer even out.
"""

from dataclasses import dataclass

import numpy as np

TRIES = 20_000  # groups for which an exchange is sought: all of them several times where they are few
PARTNERS = 256  # groups with which each may be exchanged


@dataclass(frozen=True)
class Parts:
    """What each of P parts should get.

    `shares` (P,) of everything, adding up to 1; `room` (P,) is what the sizes of a part's groups may add up to;
    `least` is the number of groups that every part must have.
    """

    shares: np.ndarray
    room: np.ndarray
    least: int


def deal(amounts: np.ndarray, sizes: np.ndarray, parts: Parts, rng: np.random.Generator) -> np.ndarray:
    """(G,) int64: the part of each of G groups, none of which is taken apart.

    `amounts` (G, A) float64 is what each group holds, every column adding up to the weight with which evenness in it
    counts; `sizes` (G,) int64. There must be `least` groups for each part. Room is kept where the groups allow it.
    """
    # a random factor of up to 2: the heavy ones come first, and yet another seed deals otherwise
    order = np.argsort(-np.linalg.norm(amounts, axis=1) * rng.uniform(1, 2, len(amounts)), kind="stable")
    # a part's surplus over its share; what is still to come is missing everywhere
    surplus = -np.outer(parts.shares, amounts.sum(axis=0))
    filled, count = np.zeros(len(parts.shares), np.int64), np.zeros(len(parts.shares), np.int64)
    part = np.full(len(amounts), -1)
    for place, group in enumerate(order):
        missing = np.maximum(parts.least - count, 0)
        allowed = missing > 0 if missing.sum() >= len(order) - place else filled + sizes[group] <= parts.room
        cost = np.where(allowed, surplus @ amounts[group], np.inf)
        chosen = int(cost.argmin()) if allowed.any() else int((parts.room - filled).argmax())
        part[group] = chosen
        surplus[chosen] += amounts[group]
        filled[chosen] += sizes[group]
        count[chosen] += 1
    _exchange(part, amounts, sizes, surplus, filled, parts, rng)
    return part


def _exchange(
    part: np.ndarray,
    amounts: np.ndarray,
    sizes: np.ndarray,
    surplus: np.ndarray,
    filled: np.ndarray,
    parts: Parts,
    rng: np.random.Generator,
) -> None:
    """Swap pairs of groups, in place, as long as that makes the parts more even."""
    unchanged = 0
    for turn in range(TRIES):
        if unchanged >= len(part):
            return
        if turn % len(part) == 0:
            order = rng.permutation(len(part))
        one = order[turn % len(part)]
        others = np.flatnonzero(part != part[one])
        if len(others) > PARTNERS:
            others = rng.choice(others, PARTNERS, replace=False)
        gain = amounts[others] - amounts[one]
        change = ((surplus[part[one]] - surplus[part[others]] + gain) * gain).sum(axis=1)
        grown = sizes[others] - sizes[one]
        fits = (filled[part[one]] + grown <= parts.room[part[one]]) & (
            filled[part[others]] - grown <= parts.room[part[others]]
        )
        change[~fits] = 0
        best = int(change.argmin()) if len(others) else 0
        if not len(others) or change[best] > -1e-12:
            unchanged += 1
            continue
        unchanged, here, there = 0, part[one], part[others[best]]
        surplus[here] += gain[best]
        surplus[there] -= gain[best]
        filled[here] += grown[best]
        filled[there] -= grown[best]
        part[one], part[others[best]] = there, here
