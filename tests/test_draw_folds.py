"""Which images folds hold out, and which of those tune and judge: evenly by classes, in whole groups, by seed."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from coco_folder import split_params
from hypothesis import given, settings
from hypothesis import strategies as st

from segpipe.data.fold_table import FoldRow, folds_of
from segpipe.data.prepare.folds import Labeled, draw_folds, join_groups, torn_pairs
from segpipe.data.split import group_names


def labeled(class_pixels, groups=None, lists=None) -> Labeled:
    """Images "0", "1", ... with these pixels of each class; of data.train, each a group of its own, if nothing else."""
    names = [str(i) for i in range(len(class_pixels))]
    groups = list(groups or names)
    return Labeled(names, list(lists or ["train"] * len(names)), groups, groups, np.array(class_pixels, np.int64))


def plain(groups, lists=None) -> Labeled:
    """Images of these groups that all show the same."""
    return labeled([[100]] * len(groups), groups, lists)


def held(rows, fold=0, half=None) -> list[int]:
    """Indices of what a fold holds out."""
    return [i for i, row in enumerate(rows) if row.fold == fold and half in (None, row.half)]


def pixels_of(images, indices) -> list[int]:
    return images.class_pixels[indices].sum(axis=0).tolist()


# Evenness


def test_a_rare_class_is_shared_out_by_its_pixels():
    # 8 images of pavement; class 1 has 10, 30, 10 and 30 pixels in four of them: 40 for each fold, and 20 for each half
    rare = [10, 30, 0, 0, 10, 30, 0, 0]
    images = labeled([[100 - pixels, pixels] for pixels in rare])
    for seed in range(5):
        rows = draw_folds(images, split_params(folds=2, seed=seed), own_judge=False)
        assert [pixels_of(images, held(rows, fold)) for fold in (0, 1)] == [[360, 40], [360, 40]]
        assert [len(held(rows, fold, half)) for fold in (0, 1) for half in ("tune", "judge")] == [2, 2, 2, 2]


def test_of_a_class_in_as_many_images_as_folds_each_fold_holds_one_out():
    images = labeled([[100, 5 if i in (0, 1, 2) else 0] for i in range(30)])
    for seed in range(5):
        rows = draw_folds(images, split_params(folds=3, seed=seed), own_judge=False)
        assert sorted(rows[i].fold for i in (0, 1, 2)) == [0, 1, 2]


def test_both_halves_see_a_class_that_two_held_out_images_show():
    images = labeled([[100, 5 if i in (7, 8) else 0] for i in range(20)], lists=["train"] * 5 + ["val"] * 15)
    for seed in range(5):
        rows = draw_folds(images, split_params(seed=seed), own_judge=False)
        assert {rows[7].half, rows[8].half} == {"tune", "judge"}


def test_a_class_that_no_image_shows_changes_nothing():
    images = labeled([[i, 100 - i] for i in range(20)])
    wider = replace(images, class_pixels=np.insert(images.class_pixels, 1, 0, axis=1))
    split = split_params(folds=4)
    assert draw_folds(images, split, own_judge=False) == draw_folds(wider, split, own_judge=False)


def unevenness(images, part) -> float:
    """Root mean square of the relative deviation of a class's pixels from an equal share."""
    total = images.class_pixels.sum(axis=0)
    one = images.class_pixels[list(part)].sum(axis=0)
    return float(np.sqrt(np.mean((2 * one / total - 1) ** 2)))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=8, max_size=8), st.integers(0, 3))
def test_folds_are_nearly_as_even_as_any_of_equal_size(counts, seed):
    images = labeled([(one + 1, other + 1) for one, other in counts])
    every = sorted(unevenness(images, part) for part in combinations(range(8), 4))
    rows = draw_folds(images, split_params(folds=2, seed=seed), own_judge=False)
    assert len(held(rows)) == 4
    assert unevenness(images, held(rows)) <= every[len(every) // 3] + 1e-9


def test_folds_of_many_images_are_far_more_even_than_drawn_ones():
    rng = np.random.default_rng(0)
    # 12 classes, from one in every image to one in each thirtieth
    there = rng.random((300, 12)) < np.geomspace(1, 1 / 30, 12)
    images = labeled(there * rng.integers(100, 1000, (300, 12)))
    shares = images.class_pixels / images.class_pixels.sum(axis=0)

    def worst(fold_of):
        return max(np.abs(5 * shares[fold_of == fold].sum(axis=0) - 1).max() for fold in range(5))

    drawn = np.mean([worst(rng.permutation(300) % 5) for _ in range(20)])
    rows = draw_folds(images, split_params(folds=5), own_judge=False)
    assert worst(np.array([row.fold for row in rows])) < drawn / 4
    assert [len(held(rows, fold)) for fold in range(5)] == [60] * 5


# Groups

GROUPS = st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=30)
COUNTS = st.lists(st.lists(st.integers(0, 1000), min_size=3, max_size=3), min_size=38, max_size=38)


@settings(deadline=None)
@given(GROUPS, COUNTS, st.integers(2, 4), st.integers(0, 5), st.floats(0.01, 0.99))
def test_every_image_is_held_out_once_in_whole_groups_and_no_part_is_empty(groups, counts, num_folds, seed, fraction):
    groups = groups + list("qrstwxyz")
    images = labeled(counts[: len(groups)], groups)
    rows = draw_folds(images, split_params(folds=num_folds, seed=seed, judge_fraction=fraction), own_judge=False)
    assert [row.file_name for row in rows] == images.names
    assert {row.fold for row in rows} == set(range(num_folds))
    assert len({(row.group, row.fold, row.half) for row in rows}) == len(set(groups)), "groups stay whole"
    for fold in folds_of(rows, {name: i for i, name in enumerate(images.names)}):
        assert fold.train and fold.tune and fold.judge
        assert sorted(fold.train + fold.tune + fold.judge) == list(range(len(groups)))


@settings(deadline=None)
@given(GROUPS, st.integers(2, 4), st.integers(0, 5))
def test_no_fold_exceeds_its_share_by_more_than_the_largest_group(groups, num_folds, seed):
    groups = groups + list("qrstwxyz")
    rows = draw_folds(plain(groups), split_params(folds=num_folds, seed=seed), own_judge=False)
    largest = max(groups.count(group) for group in groups)
    assert max(len(held(rows, fold)) for fold in range(num_folds)) < len(groups) / num_folds + largest


@pytest.mark.parametrize("images, folds", [(10, 3), (12, 3), (11, 4), (200, 7)])
def test_sizes_differ_by_one_at_most_where_each_image_is_a_group(images, folds):
    rng = np.random.default_rng(images)
    counted = labeled(rng.integers(0, 1000, (images, 4)))
    rows = draw_folds(counted, split_params(folds=folds), own_judge=False)
    sizes = [len(held(rows, fold)) for fold in range(folds)]
    assert max(sizes) - min(sizes) <= 1


def test_folds_are_as_even_as_groups_allow():
    # groups of 4, 2, 1 and 1 images in two folds: 4 | 2 + 1 + 1
    images = plain("aaaabbcdj", ["train"] * 8 + ["judge"])
    rows = draw_folds(images, split_params(folds=2), own_judge=True)
    assert [len(held(rows, fold)) for fold in (0, 1)] == [4, 4]


def test_the_judge_fraction_counts_groups_not_images():
    groups = list("aaaaaaabcdt")  # four groups, one of them of seven images
    for seed in range(5):
        rows = draw_folds(
            plain(groups, ["val"] * 10 + ["train"]), split_params(judge_fraction=0.25, seed=seed), own_judge=False
        )
        assert len({groups[i] for i in held(rows, half="judge")}) == 1


def test_with_a_judge_list_all_that_is_held_out_tunes():
    rows = draw_folds(plain("abcdef", ["train"] * 4 + ["judge"] * 2), split_params(folds=2), own_judge=True)
    assert [row.half for row in rows] == ["tune"] * 4 + ["judge"] * 2
    assert [row.fold for row in rows[4:]] == [None, None]


def test_scenes_that_share_an_image_or_a_near_copy_are_one_group():
    scenes = ["s2", "s2", "s1", "s3", "s4", "s5"]
    hashes = ["x", "y", "z", "y", "w", "v"]  # 1 and 3 are one file
    assert join_groups(scenes, hashes, [(2, 3)]) == ["s1", "s1", "s1", "s1", "s4", "s5"]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12), st.permutations(range(10)))
def test_groups_do_not_depend_on_the_order_of_pairs(pairs, order):
    scenes, hashes = list("aabbcdefgh"), [str(i) for i in range(10)]
    groups = join_groups(scenes, hashes, pairs)
    assert all(groups[i] == groups[j] for i, j in pairs)
    assert len(set(groups)) >= 8 - len(pairs)
    place = {old: new for new, old in enumerate(order)}
    turned = join_groups(
        [scenes[i] for i in order], [hashes[i] for i in order], [(place[i], place[j]) for i, j in pairs]
    )
    assert turned == [groups[i] for i in order]


# Seeds and order


def test_the_same_seed_draws_the_same_and_another_seed_draws_others():
    images = labeled(np.random.default_rng(0).integers(0, 1000, (40, 5)))
    for own_judge, changes in ((False, {"folds": 4}), (True, {"folds": 4}), (False, {})):
        lists = ["val" if not changes else "train"] * 39 + ["train"]
        lists[0] = "judge" if own_judge else lists[0]
        same = replace(images, lists=lists)
        first, again, other = (
            draw_folds(same, split_params(seed=seed, **changes), own_judge=own_judge) for seed in (0, 0, 1)
        )
        assert first == again != other


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(20)), st.integers(0, 3))
def test_the_order_of_the_images_changes_no_fold(order, seed):
    rng = np.random.default_rng(1)
    images = labeled(rng.integers(0, 1000, (20, 4)), [f"g{i // 2}" for i in range(20)])
    turned = Labeled(
        [images.names[i] for i in order],
        images.lists,
        [images.scenes[i] for i in order],
        [images.groups[i] for i in order],
        images.class_pixels[list(order)],
    )
    split = split_params(folds=3, seed=seed)
    rows = draw_folds(images, split, own_judge=False)
    assert draw_folds(turned, split, own_judge=False) == [rows[i] for i in order]


# Folds that are given


def test_given_folds_and_halves_are_kept():
    images = plain("abcdef")
    places = [(0, "tune"), (0, "judge"), (1, "judge"), (1, "tune"), (None, None), (1, "tune")]
    given_rows = {name: FoldRow(name, name, *place) for name, place in zip(images.names, places, strict=True)}
    rows = draw_folds(images, split_params(file="f.csv"), given_rows, own_judge=False)
    assert [(row.fold, row.half) for row in rows] == places


def test_halves_that_are_not_given_are_drawn_within_the_given_folds():
    images = plain("aabbccdd")
    given_rows = {name: FoldRow(name, name, int(name) // 4, None) for name in images.names}
    rows = draw_folds(images, split_params(file="f.csv"), given_rows, own_judge=False)
    assert [row.fold for row in rows] == [0] * 4 + [1] * 4
    assert all(rows[i].half == rows[i + 1].half for i in (0, 2, 4, 6)), "groups stay whole"
    assert {(row.fold, row.half) for row in rows} == {(f, half) for f in (0, 1) for half in ("tune", "judge")}


def test_a_given_fold_of_which_nothing_is_left_is_refused():
    given_rows = {str(i): FoldRow(str(i), "", i % 2, half) for i, half in enumerate(("tune", "tune", "judge", "judge"))}
    images = labeled([[1]] * 3)  # image 3, which alone judges fold 1, was left out
    with pytest.raises(ValueError, match=r"split\.file: fold 1 has no sound image left to judge\."):
        draw_folds(images, split_params(file="f.csv"), given_rows, own_judge=False)


def test_pairs_that_given_folds_separate_are_told():
    places = [(0, "tune"), (0, "judge"), (1, "tune"), (1, "tune")]
    rows = [FoldRow(str(i), str(i), *place) for i, place in enumerate(places)]
    # image 4 is no labelled one
    assert torn_pairs([(0, 1), (1, 2), (2, 3), (3, 4)], rows) == [(0, 1), (1, 2)]


# What cannot be drawn


@pytest.mark.parametrize(
    "groups, lists, changes, said",
    [
        ("aaa", "ttt", {"folds": 2}, r"split\.folds: found 1 groups of images for 2 folds; expected two, to tune and"),
        ("abc", "ttt", {"folds": 2}, r"split\.folds: found 3 groups of images for 2 folds; expected two, to tune and"),
        ("aabj", "tttj", {"folds": 3}, r"split\.folds: found 2 groups of images for 3 folds; expected one for each"),
        ("abbb", "tvvv", {}, r"found one group of images \('b'\) to hold out; expected two"),
        ("ab", "tt", {}, r"data\.val: no sound image is left"),
        ("ab", "vv", {}, r"data\.train: no sound image is left"),
        ("abcd", "tvvv", {"group_by": "(.)"}, None),
        ("aabc", "tvvv", {"group_by": "(.)"}, r"split\.group_by: found 1 scene both in judge images and in"),
        ("abca", "tvvj", {"group_by": "(.)"}, r"split\.group_by: found 1 scene both in judge images and in"),
        ("abcb", "tvvj", {"group_by": "(.)"}, r"split\.group_by: found 1 scene both in judge images and in"),
        ("aabj", "tvvj", {"group_by": "(.)"}, None),  # tuning on a scene that is trained on judges nothing
        ("aabc", "tvvv", {}, None),  # copies across lists are another matter
    ],
)
def test_folds_that_cannot_be_are_refused_with_the_key(groups, lists, changes, said):
    images = plain(groups, [{"t": "train", "v": "val", "j": "judge"}[name] for name in lists])
    for seed in range(5):
        split = split_params(seed=seed, **changes)
        if said is None:
            draw_folds(images, split, own_judge="j" in lists)
        else:
            with pytest.raises(ValueError, match=said):
                draw_folds(images, split, own_judge="j" in lists)


# Scenes


def test_without_a_pattern_each_image_is_its_own_scene():
    assert group_names(["x/1.jpg", "2.jpg"], None) == ["x/1.jpg", "2.jpg"]


def test_the_pattern_finds_the_start_of_a_name_with_and_without_folders():
    names = ["seq1_001.png", "sub/seq1_002.png", "sub/seq2_001.png"]
    assert group_names(names, r"/(seq\d+)_") == ["seq1", "seq1", "seq2"]


def test_names_that_the_pattern_does_not_match_are_listed():
    with pytest.raises(ValueError, match=r"finds no scene in 2 of 3 file names \(such as a\.png, b\.png\)"):
        group_names(["a.png", "seq1_0.png", "b.png"], r"/(seq\d+)_")


def test_a_pattern_whose_group_stays_empty_finds_no_scene():
    with pytest.raises(ValueError, match=r"finds no scene in 1 of 2 file names \(such as b\.png\)"):
        group_names(["seq1_0.png", "b.png"], r"/(seq\d+)?")
