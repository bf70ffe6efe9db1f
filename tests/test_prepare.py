import json

import numpy as np
import pytest
from coco_folder import GLASS, PAPER, Picture, box, pictures, prepare_folder, split_params, write_folder
from coco_folder import write_list as write_coco

from segpipe.data.prepared import Prepared
from segpipe.labels import IGNORE_INDEX

V = IGNORE_INDEX


@pytest.fixture
def root(tmp_path):
    return tmp_path / "raw"


def names(prepared, indices):
    return [prepared.entries[index].file_name for index in indices]


# Targets

GLASS_LEFT_PAPER_RIGHT = [box(GLASS, 0, 0, 4, 2), box(PAPER, 2, 1, 6, 4)]  # both cover columns 2 and 3 of row 1


@pytest.mark.parametrize("background, fill, glass, paper", [("class", 0, 1, 2), ("ignore", V, 0, 1)])
def test_targets_are_the_annotations_painted_over_background_or_ignore(root, background, fill, glass, paper):
    both = [pictures(*stems, annotations=GLASS_LEFT_PAPER_RIGHT) for stems in ("a", "cd")]
    write_folder(root, train=both[0], val=both[1])
    prepared = Prepared(prepare_folder(root, background=background), fold=0)
    assert prepared.target(0).tolist() == [
        [glass, glass, glass, glass, fill, fill],
        [glass, glass, paper, paper, paper, paper],
        [fill, fill, paper, paper, paper, paper],
        [fill, fill, paper, paper, paper, paper],
    ]
    np.testing.assert_array_equal(prepared.native_target(0), prepared.target(0))
    assert prepared.classes.names[-2:] == ("Glass", "Paper")


def test_category_ids_2_7_12_become_classes_0_1_2_where_background_is_ignored(root):
    categories = {12: "Metal", 2: "Glass", 7: "Paper"}
    boxes = [box(2, 0, 0, 1, 1), box(7, 1, 0, 2, 1), box(12, 2, 0, 3, 1)]
    write_folder(root)
    write_coco(root, "train.json", [Picture("a.png", 1, 4, boxes)], categories)
    write_coco(root, "val.json", pictures("c", "d", annotations=boxes), categories)
    prepared = Prepared(prepare_folder(root, background="ignore"), fold=0)
    assert prepared.target(0).tolist() == [[0, 1, 2, V]]
    assert prepared.classes.names == ("Glass", "Paper", "Metal")


def test_images_and_targets_shrink_and_native_targets_do_not(root):
    write_folder(root, train=[Picture("a.png", 4, 6, GLASS_LEFT_PAPER_RIGHT)])
    prepared = Prepared(prepare_folder(root, image_size=[2, 3]), fold=0)
    assert prepared.images[0].shape == (2, 3, 3) and prepared.image_size == (2, 3)
    assert prepared.native_target(0).shape == (4, 6)
    assert prepared.target(0).tolist() == prepared.native_target(0)[::2, ::2].tolist() == [[1, 1, 0], [0, 2, 2]]
    assert (prepared.entries[0].height, prepared.entries[0].width) == (4, 6)


def test_images_are_stored_as_rgb_at_their_own_sizes(root):
    train = [Picture("a.png", 2, 3), Picture("b.png", 5, 4)]
    write_folder(root, train=train)
    prepared = Prepared(prepare_folder(root), fold=0)
    for index, picture in enumerate(train):
        np.testing.assert_array_equal(prepared.images[index], picture.pixels())


def test_the_data_check_counts_pixels_of_classes_and_of_ignore(root):
    # of 4 labelled images with 24 pixels two have 6 of Glass; the rest is ignored
    glass = {"annotations": [box(GLASS, 0, 0, 6, 1)]}
    write_folder(root, train=pictures("a", **glass), val=pictures("c", **glass) + pictures("d", "e"))
    check = json.loads((prepare_folder(root, background="ignore") / "data_check.json").read_text())
    assert check["class_pixel_shares"] == {"Glass": 1.0, "Paper": 0.0}
    assert check["ignored_pixel_share"] == 84 / 96
    assert check["images"] == {"labeled": 4, "judge": 0, "test": 2, "unlabeled": 2}


# Folds, and what a fold may see


def test_judge_targets_are_closed_to_the_fold_and_open_to_the_judge(root):
    write_folder(root)
    out = prepare_folder(root)
    training, judging = Prepared(out, fold=0), Prepared(out, judge=True)
    fold = training.folds[0]
    assert names(training, fold.train) == ["a.png", "b.png"]
    assert sorted(names(training, fold.tune + fold.judge)) == ["c.png", "d.png", "e.png", "f.png"]
    assert len(fold.judge) == 2
    for index in fold.judge:
        for read in (training.target, training.native_target):
            with pytest.raises(PermissionError, match=f"{training.entries[index].file_name} is a judge image of this"):
                read(index)
        assert judging.target(index).shape == judging.native_target(index).shape == (4, 6)
    for index in (*fold.train, *fold.tune):
        assert training.target(index).shape == (4, 6)


def test_a_test_image_has_no_target(root):
    write_folder(root)
    prepared = Prepared(prepare_folder(root), judge=True)
    with pytest.raises(IndexError, match=r"x\.png: has no target; it is not a labelled image"):
        prepared.target(prepared.sets["test"][0])


def test_prepared_data_is_opened_for_a_fold_or_for_the_judge(root):
    write_folder(root)
    out = prepare_folder(root)
    with pytest.raises(ValueError, match="for one fold, or with judge=True"):
        Prepared(out)
    with pytest.raises(ValueError, match="no fold 1; it has 0, all"):
        Prepared(out, fold=1)


def test_with_a_judge_file_all_of_val_is_tune(root):
    write_folder(root, judge=pictures("j", "k"))
    prepared = Prepared(prepare_folder(root, judge="judge.json"), fold=0)
    assert names(prepared, prepared.folds[0].tune) == ["c.png", "d.png", "e.png", "f.png"]
    assert names(prepared, prepared.folds[0].judge) == names(prepared, prepared.sets["judge"]) == ["j.png", "k.png"]
    with pytest.raises(PermissionError):
        prepared.target(prepared.folds[0].judge[0])


def test_seeded_folds_hold_each_training_image_out_once_and_keep_scenes_together(root):
    train = pictures(*(f"s{scene}_{frame}" for scene in range(4) for frame in range(2)))
    write_folder(root, train=train, test=pictures("t9_0"))
    split = split_params(folds=2, group_by=r"/([st]\d)_")
    prepared = Prepared(prepare_folder(root, split=split, val=None), judge=True)
    held_out = [prepared.folds[number].tune + prepared.folds[number].judge for number in (0, 1)]
    assert sorted(index for held in held_out for index in held) == list(range(8))
    for number, held in enumerate(held_out):
        fold = prepared.folds[number]
        assert sorted(fold.train + held) == list(range(8))
        parts = [{prepared.entries[i].group for i in part} for part in (fold.train, fold.tune, fold.judge)]
        assert [len(scenes) for scenes in parts] == [2, 1, 1] and len(set.union(*parts)) == 4


def test_copies_within_the_training_set_are_one_scene(root):
    write_folder(root, train=[*pictures("a", "b", "g", "h"), Picture("copy.png", noise="a.png")])
    for seed in range(4):
        prepared = Prepared(prepare_folder(root, split=split_params(folds=2, seed=seed), val=None), judge=True)
        assert prepared.entries[4].group == prepared.entries[0].group == "a.png"
        for fold in (prepared.folds[0], prepared.folds[1]):
            assert any({0, 4} <= set(part) for part in (fold.train, fold.tune, fold.judge))


def test_the_fold_all_learns_from_every_labelled_image_and_holds_none_out(root):
    write_folder(root)
    prepared = Prepared(prepare_folder(root), fold="all")
    fold = prepared.folds["all"]
    assert names(prepared, fold.train) == [f"{stem}.png" for stem in "abcdef"]
    assert fold.tune == fold.judge == ()
    assert all(prepared.target(index).shape == (4, 6) for index in fold.train)


def test_a_judge_file_of_its_own_stays_closed_to_the_fold_all(root):
    write_folder(root, judge=pictures("j", "k"))
    prepared = Prepared(prepare_folder(root, judge="judge.json"), fold="all")
    assert not set(prepared.folds["all"].train) & set(prepared.sets["judge"])
    for index in prepared.sets["judge"]:
        with pytest.raises(PermissionError):
            prepared.target(index)


# The pool


@pytest.mark.parametrize("pool", ["none.json", []])
def test_a_pool_that_lists_no_image_is_empty_and_no_mistake(root, pool):
    write_folder(root, none=[])
    prepared = Prepared(prepare_folder(root, unlabeled=pool), fold=0)
    assert prepared.pool() == ()
    assert names(prepared, prepared.sets["test"]) == ["x.png", "y.png"]


def test_without_a_test_file_there_are_neither_test_images_nor_a_pool(root):
    write_folder(root)
    out = prepare_folder(root, test=None)
    prepared = Prepared(out, fold=0)
    assert prepared.sets["test"] == prepared.pool() == ()
    assert json.loads((out / "data_check.json").read_text())["images"]["test"] == 0


def test_the_pool_is_the_test_images_where_none_is_given(root):
    write_folder(root)
    prepared = Prepared(prepare_folder(root), fold=0)
    assert names(prepared, prepared.pool()) == names(prepared, prepared.sets["test"]) == ["x.png", "y.png"]


def test_an_image_that_several_unlabelled_lists_share_is_stored_once(root):
    write_folder(root, pool=pictures("p", "q"), more=pictures("q", "x", "r"))
    prepared = Prepared(prepare_folder(root, unlabeled=["pool.json", "more.json"]), fold=0)
    assert names(prepared, prepared.pool()) == ["p.png", "q.png", "x.png", "r.png"]
    assert names(prepared, prepared.sets["test"]) == ["x.png", "y.png"]
    assert len(prepared.images) == len(prepared.entries) == 2 + 4 + 2 + 3
