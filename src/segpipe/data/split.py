"""Folds, and the halves of their held-out images: `tune` chooses, `judge` scores and decides."""

import re
from dataclasses import asdict, dataclass
from typing import Self

import numpy as np


@dataclass(frozen=True)
class Fold:
    """Indices into the image table. A model of this fold learns from `train` and makes its choices on `tune`."""

    train: tuple[int, ...]
    tune: tuple[int, ...]
    judge: tuple[int, ...]

    def to_json(self) -> dict:
        """Plain lists."""
        return {name: list(indices) for name, indices in asdict(self).items()}

    @classmethod
    def from_json(cls, value: dict) -> Self:
        """The inverse of to_json."""
        return cls(*(tuple(value[name]) for name in ("train", "tune", "judge")))


def group_names(file_names: list[str], group_by: str | None) -> list[str]:
    """The scene of each image: the pattern's one group, or the file name itself where `group_by` is None.

    Raises ValueError that lists the file names which the pattern does not match.
    """
    if group_by is None:
        return list(file_names)
    # "/" in front, so that a pattern can ask for the start of a name whether or not it stands in a folder
    matches = [re.search(group_by, f"/{name}") for name in file_names]
    unmatched = [name for name, match in zip(file_names, matches, strict=True) if match is None]
    if unmatched:
        raise ValueError(
            f"split.group_by: the pattern {group_by!r} does not match {len(unmatched)} of {len(file_names)} file names "
            f"(such as {', '.join(unmatched[:3])}); it is searched in '/' + file_name"
        )
    return [match.group(1) for match in matches if match]


def seeded_folds(indices: list[int], groups: list[str], num_folds: int, seed: int) -> list[list[int]]:
    """Held-out indices of each fold, whole groups together, sizes as even as the groups allow.

    Raises ValueError with fewer groups than folds.
    """
    members = _members(indices, groups)
    if len(members) < num_folds:
        raise ValueError(f"split.folds: found {len(members)} groups of images for {num_folds} folds; lower it")
    order = np.random.default_rng(seed).permutation(len(members))
    # largest first, ties in seeded order: each group joins the fold that is smallest so far
    shuffled = sorted((list(members.values())[i] for i in order), key=len, reverse=True)
    folds: list[list[int]] = [[] for _ in range(num_folds)]
    for group in shuffled:
        min(folds, key=len).extend(group)
    return [sorted(fold) for fold in folds]


def tune_and_judge(
    indices: list[int], groups: list[str], judge_fraction: float, seed: int
) -> tuple[list[int], list[int]]:
    """Split held-out `indices` by whole groups; about `judge_fraction` of the groups judge, at least one on each side.

    Raises ValueError when all images are one group: nothing independent would be left to judge.
    """
    members = _members(indices, groups)
    if len(members) < 2:
        raise ValueError(
            f"split: the {len(indices)} held-out images form one group ({next(iter(members), 'none')!r}); two halves "
            "need two groups. Give a labelled file of its own as data.judge, or a finer split.group_by"
        )
    order = np.random.default_rng(seed).permutation(len(members))
    num_judge = min(max(round(judge_fraction * len(members)), 1), len(members) - 1)
    chosen = [list(members.values())[i] for i in order]
    judge = sorted(index for group in chosen[:num_judge] for index in group)
    tune = sorted(index for group in chosen[num_judge:] for index in group)
    return tune, judge


def _members(indices: list[int], groups: list[str]) -> dict[str, list[int]]:
    members: dict[str, list[int]] = {}
    for index in indices:
        members.setdefault(groups[index], []).append(index)
    return members
