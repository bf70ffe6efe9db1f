"""Folds, and the halves of their held-out images: `tune` chooses, `judge` scores and decides."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Self

import numpy as np

from segpipe.params import ALL, FoldName, SplitParams


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


def fold_name(text: str) -> FoldName:
    """`all`, or the number of a fold; ValueError for anything else."""
    return ALL if text == ALL else int(text)


def scored_folds(folds: Sequence[FoldName]) -> tuple[int, ...]:
    """Of the trained folds those that hold images out, and so can be scored."""
    return tuple(fold for fold in folds if fold != ALL)


def submitted_folds(folds: Sequence[FoldName]) -> tuple[FoldName, ...]:
    """Of the trained folds those whose models predict what is submitted: `all` alone where it is trained."""
    return (ALL,) if ALL in folds else tuple(folds)


def group_names(file_names: list[str], group_by: str | None) -> list[str]:
    """The scene of each image: the pattern's one group, or the file name itself where `group_by` is None.

    Raises ValueError that lists the file names which the pattern does not match.
    """
    if group_by is None:
        return list(file_names)
    # "/" in front, so that a pattern can ask for the start of a name whether or not it stands in a folder
    matches = [re.search(group_by, f"/{name}") for name in file_names]
    scenes = [match.group(1) if match else None for match in matches]
    unnamed = [name for name, scene in zip(file_names, scenes, strict=True) if not scene]
    if unnamed:
        raise ValueError(
            f"split.group_by: the pattern {group_by!r} finds no scene in {len(unnamed)} of {len(file_names)} file "
            f"names (such as {', '.join(unnamed[:3])}); it is searched in '/' + file_name, and its group in "
            "parentheses names the scene. Change the pattern, or leave it empty where each image is a scene of its own."
        )
    return [scene for scene in scenes if scene]


def draw_folds(
    indices: dict[str, list[int]], groups: Sequence[str], split: SplitParams, *, own_judge: bool
) -> list[Fold]:
    """The folds of images given as `indices` of train, val and judge into `groups`, the scene of each image.

    `data.val` is held out as the one fold, or training images are by `split.folds`; with `own_judge` the judge list
    decides and all that is held out tunes. Raises ValueError, naming the key, where a part of a fold would be empty or
    share a scene with judge images.
    """
    needed = ["train", *(["val"] if split.folds is None else []), *(["judge"] if own_judge else [])]
    if empty := [f"data.{name}" for name in needed if not indices[name]]:
        raise ValueError(f"{', '.join(empty)}: no sound image is left; expected at least one in each labelled list.")
    train, num_folds = indices["train"], split.folds
    held_out = [indices["val"]] if num_folds is None else seeded_folds(train, groups, num_folds, split.seed)
    folds = []
    for held in held_out:
        excluded = set(held)
        if own_judge:
            tune, judge = held, indices["judge"]
        else:
            tune, judge = tune_and_judge(held, groups, split.judge_fraction, split.seed)
        fold = Fold(tuple(index for index in train if index not in excluded), tuple(tune), tuple(judge))
        if split.group_by is not None:
            _refuse_shared_scenes(fold, groups)
        folds.append(fold)
    return folds


def _refuse_shared_scenes(fold: Fold, groups: Sequence[str]) -> None:
    """Frames of one scene on both sides would be judged by a model that knows the scene."""
    seen = {groups[index] for index in (*fold.train, *fold.tune)}
    shared = sorted(seen & {groups[index] for index in fold.judge})
    if shared:
        scenes = "1 scene" if len(shared) == 1 else f"{len(shared)} scenes"
        raise ValueError(
            f"split.group_by: found {scenes} both in judge images and in training or tuning images (such as "
            f"{', '.join(shared[:3])}); expected files that keep scenes apart, or another pattern."
        )


def seeded_folds(indices: list[int], groups: Sequence[str], num_folds: int, seed: int) -> list[list[int]]:
    """Held-out indices of each fold, whole groups together, sizes as even as the groups allow.

    Raises ValueError with fewer groups than folds.
    """
    members = _members(indices, groups)
    if len(members) < num_folds:
        raise ValueError(
            f"split.folds: found {len(members)} groups of images for {num_folds} folds; expected a group "
            "for each at least. Lower it."
        )
    order = np.random.default_rng(seed).permutation(len(members))
    # largest first, ties in seeded order: each group joins the fold that is smallest so far
    shuffled = sorted((list(members.values())[i] for i in order), key=len, reverse=True)
    folds: list[list[int]] = [[] for _ in range(num_folds)]
    for group in shuffled:
        min(folds, key=len).extend(group)
    return [sorted(fold) for fold in folds]


def tune_and_judge(
    indices: list[int], groups: Sequence[str], judge_fraction: float, seed: int
) -> tuple[list[int], list[int]]:
    """Split held-out `indices` by whole groups; about `judge_fraction` of the groups judge, at least one on each side.

    Raises ValueError when all images are one group: nothing independent would be left to judge.
    """
    members = _members(indices, groups)
    if len(members) < 2:
        raise ValueError(
            f"split.judge_fraction: found one group of images ({next(iter(members), 'none')!r}) to hold out; expected "
            "two: one half tunes and the other judges. Hold more images out, give a labelled file of its own as "
            "data.judge, or make split.group_by finer."
        )
    order = np.random.default_rng(seed).permutation(len(members))
    num_judge = min(max(round(judge_fraction * len(members)), 1), len(members) - 1)
    chosen = [list(members.values())[i] for i in order]
    judge = sorted(index for group in chosen[:num_judge] for index in group)
    tune = sorted(index for group in chosen[num_judge:] for index in group)
    return tune, judge


def _members(indices: list[int], groups: Sequence[str]) -> dict[str, list[int]]:
    members: dict[str, list[int]] = {}
    for index in indices:
        members.setdefault(groups[index], []).append(index)
    return members
