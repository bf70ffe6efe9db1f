"""Which images each fold holds out, and which of those tune and judge: drawn evenly by classes, or as a file says.

Folds hold about the same number of images and the same share of every class's pixels, and so do the two halves of what
a fold holds out. Groups are never taken apart: scenes, and images that are copies of one another. What is drawn follows
from the seed and the images, not from the order in which they are listed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from segpipe.data.fold_table import FoldRow, Half, learns_from
from segpipe.data.prepare.deal import Parts, deal
from segpipe.params import SplitParams


@dataclass(frozen=True)
class Labeled:
    """The labelled images in the order of the image table: all that folds depend on.

    `lists` says train, val or judge for each; `scenes` come from split.group_by, `groups` are what stays together;
    `class_pixels` is (N, num_classes) int64, with no column where pixels are not counted yet.
    """

    names: Sequence[str]
    lists: Sequence[str]
    scenes: Sequence[str]
    groups: Sequence[str]
    class_pixels: np.ndarray

    @classmethod
    def uncounted(cls, names: Sequence[str], lists: Sequence[str], scenes: Sequence[str]) -> Self:
        """Images of which only the annotation files are known: each scene is a group, and no class has a pixel."""
        return cls(names, lists, scenes, scenes, np.zeros((len(names), 0), np.int64))

    def of(self, name: str) -> list[int]:
        """Indices of the images of one list."""
        return [i for i, listed in enumerate(self.lists) if listed == name]


def join_groups(scenes: Sequence[str], content_hashes: Sequence[str], pairs: Sequence[tuple[int, int]]) -> list[str]:
    """The group of each image: scenes that share a file's bytes, or hold both images of a pair, are one.

    A group is named by the first of its scenes in the order of the alphabet.
    """
    parent = {scene: scene for scene in scenes}

    def root(scene: str) -> str:
        while parent[scene] != scene:
            parent[scene] = scene = parent[parent[scene]]
        return scene

    first: dict[str, int] = {}
    copies = [(first.setdefault(content_hash, i), i) for i, content_hash in enumerate(content_hashes)]
    for i, j in (*copies, *pairs):
        one, other = sorted((root(scenes[i]), root(scenes[j])))
        parent[other] = one
    return [root(scene) for scene in scenes]


def draw_folds(
    images: Labeled, split: SplitParams, given: Mapping[str, FoldRow] | None = None, *, own_judge: bool
) -> list[FoldRow]:
    """A row of folds.csv for each labelled image.

    `given` holds what a file says of the images of data.train, by name; else `data.val` is held out as the one fold, or
    training images are by `split.folds`. With `own_judge` the judge list judges and all that is held out tunes. Raises
    ValueError, naming the key, where a part of a fold would be empty or share a scene with judge images.
    """
    needed = {"train": True, "val": split.folds is None and given is None, "judge": own_judge}
    if empty := [f"data.{name}" for name, asked in needed.items() if asked and name not in images.lists]:
        raise ValueError(f"{', '.join(empty)}: no sound image is left; expected at least one in each labelled list.")
    rows = _without_halves(images, split, given, own_judge=own_judge)
    if own_judge:
        rows = [row if row.fold is None else replace(row, half="tune") for row in rows]
    elif given:
        rows = [row if row.fold is None else replace(row, half=given[row.file_name].half) for row in rows]
    if split.group_by is not None:
        _refuse_shared_scenes(rows, images.scenes, own_judge=own_judge)
    if given:
        _refuse_empty_folds(rows, given, own_judge=own_judge)
    for number in sorted({row.fold for row in rows if row.fold is not None and row.half is None}):
        held = [i for i, row in enumerate(rows) if row.fold == number]
        judge = _deal_judge(images, held, split)
        for i in held:
            rows[i] = replace(rows[i], half="judge" if i in judge else "tune")
    return rows


def _without_halves(
    images: Labeled, split: SplitParams, given: Mapping[str, FoldRow] | None, *, own_judge: bool
) -> list[FoldRow]:
    """The rows as far as folds go; the images of a judge list are in none, and judge."""
    fold: list[int | None] = [0 if name == "val" else None for name in images.lists]
    if given is not None:
        fold = [given[name].fold if name in given else None for name in images.names]
    elif split.folds is not None:
        for i, number in zip(images.of("train"), hold_out(images, split, own_judge=own_judge), strict=True):
            fold[i] = number
    return [
        FoldRow(name, group, number, "judge" if listed == "judge" else None)
        for name, group, number, listed in zip(images.names, images.groups, fold, images.lists, strict=True)
    ]


def hold_out(images: Labeled, split: SplitParams, *, own_judge: bool) -> list[int]:
    """The number of the fold that holds out each image of data.train; ValueError where there are too few groups."""
    assert split.folds is not None
    train = images.of("train")
    members = _members(images, train)
    least, each = (1, "one") if own_judge else (2, "two, to tune and to judge,")
    if len(members) < least * split.folds:
        raise ValueError(
            f"split.folds: found {len(members)} groups of images for {split.folds} folds; expected {each} for each at "
            "least. Lower it."
        )
    sizes = np.array([len(group) for group in members])
    num_folds, largest = split.folds, int(sizes.max())
    room = np.full(num_folds, len(train) // num_folds) + (np.arange(num_folds) < len(train) % num_folds) + largest - 1
    parts = Parts(np.full(num_folds, 1 / num_folds), room, least)
    part = deal(_amounts(images, members), sizes, parts, np.random.default_rng(split.seed))
    place = {i: number for group, number in zip(members, part, strict=True) for i in group}
    return [int(place[i]) for i in train]


def torn_pairs(pairs: Sequence[tuple[int, int]], rows: Sequence[FoldRow]) -> list[tuple[int, int]]:
    """Those of the pairs of labelled images that a fold separates; drawn folds separate none, a file may."""
    places = [(row.fold, row.half) for row in rows]
    return [(i, j) for i, j in pairs if max(i, j) < len(rows) and places[i] != places[j]]


def _deal_judge(images: Labeled, held: list[int], split: SplitParams) -> set[int]:
    """Which of the `held` images judge: about `judge_fraction` of their groups, at least one on each side.

    Raises ValueError when all images are one group: nothing independent would be left to judge.
    """
    members = _members(images, held)
    if len(members) < 2:
        raise ValueError(
            f"split.judge_fraction: found one group of images ({images.groups[held[0]]!r}) to hold out; expected two: "
            "one half tunes and the other judges. Hold more images out, give a labelled file of its own as data.judge, "
            "or make split.group_by finer."
        )
    num_judge = min(max(round(split.judge_fraction * len(members)), 1), len(members) - 1)
    room = np.array([len(members) - num_judge, num_judge])
    parts = Parts(room / len(members), room, 1)
    ones = np.ones(len(members), np.int64)
    part = deal(_amounts(images, members), ones, parts, np.random.default_rng(split.seed))
    return {i for group, number in zip(members, part, strict=True) for i in group if number == 1}


def _members(images: Labeled, indices: Sequence[int]) -> list[list[int]]:
    """The images of each group, by the names of groups and images and not by their order in a list."""
    members: dict[str, list[int]] = {}
    for i in sorted(indices, key=lambda i: (images.groups[i], images.names[i])):
        members.setdefault(images.groups[i], []).append(i)
    return list(members.values())


def _amounts(images: Labeled, members: list[list[int]]) -> np.ndarray:
    """(G, A) float64: the share of each group in each class's pixels, in the images that show it, and in all images.

    The last counts as much as all classes together do by their pixels, or a part might be even in all but its size.
    """
    pixels = np.array([images.class_pixels[group].sum(axis=0) for group in members], np.float64)
    shown = np.array([(images.class_pixels[group] > 0).sum(axis=0) for group in members], np.float64)
    there = pixels.sum(axis=0) > 0
    pixels, shown = pixels[:, there], shown[:, there]
    sizes = np.array([[len(group)] for group in members], np.float64)
    return np.concatenate(
        [pixels / pixels.sum(axis=0), shown / shown.sum(axis=0), max(there.sum(), 1) * sizes / sizes.sum()], axis=1
    )


def _refuse_empty_folds(rows: Sequence[FoldRow], given: Mapping[str, FoldRow], *, own_judge: bool) -> None:
    """Images that were left out may have been all that a file gives one part of a fold."""
    for number in sorted({row.fold for row in given.values() if row.fold is not None}):
        held = {row.half for row in rows if row.fold == number}
        there = {
            "train": any(learns_from(number, row) for row in rows),
            "tune": bool(held - {"judge"}),
            "judge": own_judge or bool(held - {"tune"}),
        }
        if empty := [part for part, found in there.items() if not found]:
            raise ValueError(f"split.file: fold {number} has no sound image left to {' and to '.join(empty)}.")


def _refuse_shared_scenes(rows: Sequence[FoldRow], scenes: Sequence[str], *, own_judge: bool) -> None:
    """Frames of one scene on both sides would be judged by a model that knows the scene.

    Whichever half a held-out image falls into: what is refused does not depend on the seed.
    """
    places: dict[str, set[tuple[int | None, Half | None]]] = {}
    for row, scene in zip(rows, scenes, strict=True):
        places.setdefault(scene, set()).add((row.fold, row.half))
    shared = [
        scene
        for scene, found in sorted(places.items())
        if len(found) > 1 and any(half == "judge" or (fold is not None and not own_judge) for fold, half in found)
    ]
    if shared:
        count = "1 scene" if len(shared) == 1 else f"{len(shared)} scenes"
        raise ValueError(
            f"split.group_by: found {count} both in judge images and in training or tuning images (such as "
            f"{', '.join(shared[:3])}); expected files that keep scenes apart, or another pattern."
        )
