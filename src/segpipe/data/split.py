"""Folds, and the halves of their held-out images: `tune` chooses, `judge` scores and decides."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from segpipe.params import ALL, FoldName


@dataclass(frozen=True)
class Fold:
    """Indices into the image table. A model of this fold learns from `train` and makes its choices on `tune`."""

    train: tuple[int, ...]
    tune: tuple[int, ...]
    judge: tuple[int, ...]


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
