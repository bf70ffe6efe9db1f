import json

import numpy as np
import pytest
from coco_folder import CATEGORIES, GLASS, PAPER, Picture, box, pictures, prepare_folder, split_params, write_folder
from coco_folder import write_list as write_coco

from segpipe.data.prepared import Prepared
from segpipe.labels import IGNORE_INDEX

V = IGNORE_INDEX


@pytest.fixture
def root(tmp_path):
    return tmp_path / "raw"


def names(prepared, indices):
    return [prepared.entries[index].file_name for index in indices]


def left_out(out):
    return json.loads((out / "data_check.json").read_text())["left_out"]


def refused(root, *, split=None, **changes):
    """What prepare says against the folder, one line a problem."""
    with pytest.raises(ValueError) as error:
        prepare_folder(root, split=split, **changes)
    return str(error.value).split("\n")


# Targets

GLASS_LEFT_PAPER_RIGHT = [box(GLASS, 0, 0, 4, 2), box(PAPER, 2, 1, 6, 4)]  # both cover columns 2 and 3 of row 1


@pytest.mark.parametrize("background, fill, glass, paper", [("class", 0, 1, 2), ("ignore", V, 0, 1)])
def test_targets_are_the_annotations_painted_over_background_or_ignore(root, background, fill, glass, paper):
    write_folder(root, train=pictures("a", annotations=GLASS_LEFT_PAPER_RIGHT))
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
    write_coco(root, "val.json", pictures("c", "d"), categories)
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
    # of 8 labelled images with 24 pixels one has 6 of Glass; the rest is ignored
    write_folder(root, train=pictures("a", annotations=[box(GLASS, 0, 0, 6, 1)]), val=pictures("c", "d", "e"))
    check = json.loads((prepare_folder(root, background="ignore") / "data_check.json").read_text())
    assert check["class_pixel_shares"] == {"Glass": 1.0, "Paper": 0.0}
    assert check["ignored_pixel_share"] == 90 / 96
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
    with pytest.raises(ValueError, match="no fold 1; it has folds 0 to 0"):
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
    held_out = [fold.tune + fold.judge for fold in prepared.folds]
    assert sorted(index for held in held_out for index in held) == list(range(8))
    for fold, held in zip(prepared.folds, held_out, strict=True):
        assert sorted(fold.train + held) == list(range(8))
        parts = [{prepared.entries[i].group for i in part} for part in (fold.train, fold.tune, fold.judge)]
        assert [len(scenes) for scenes in parts] == [2, 1, 1] and len(set.union(*parts)) == 4


def test_copies_within_the_training_set_are_one_scene(root):
    write_folder(root, train=[*pictures("a", "b", "g", "h"), Picture("copy.png", noise="a.png")])
    for seed in range(4):
        prepared = Prepared(prepare_folder(root, split=split_params(folds=2, seed=seed), val=None), judge=True)
        assert prepared.entries[4].group == prepared.entries[0].group == "a.png"
        for fold in prepared.folds:
            assert any({0, 4} <= set(part) for part in (fold.train, fold.tune, fold.judge))


# The pool


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


# Leaks between lists are refused, whatever on_problem says

BOTH = pytest.mark.parametrize("on_problem", ["stop", "skip"])


@BOTH
@pytest.mark.parametrize("later", ["val", "test", "pool"])
def test_a_training_image_in_another_list_is_an_error(root, later, on_problem):
    write_folder(root, **{"pool": pictures("p")} | {later: pictures("m", "n", "b")})
    lines = refused(root, unlabeled="pool.json", on_problem=on_problem)
    assert lines == [
        f"{root}: 1 problem",
        f"  {root}/{later}.json: image 12: found b.png; expected an image that data.train does not list already: "
        "scores would come from training images.",
        "Mend the files.",
    ]


@BOTH
@pytest.mark.parametrize("later, key", [("val", "val"), ("test", "test"), ("pool", "unlabeled")])
def test_a_byte_identical_copy_of_a_training_image_in_another_list_is_an_error(root, later, key, on_problem):
    copy = Picture("copy.png", noise="b.png")
    write_folder(root, **{"pool": pictures("p")} | {later: [*pictures("m", "n"), copy]})
    lines = refused(root, unlabeled="pool.json", on_problem=on_problem)
    found = "found copy.png, a byte-identical copy of b.png in data.train; expected images of its own."
    assert lines[1:] == [f"  data.{key}: image 12: {found}", "Mend the files."]


@BOTH
@pytest.mark.parametrize("categories", [{GLASS: "Glass"}, {GLASS: "Paper", PAPER: "Glass"}, CATEGORIES | {9: "Metal"}])
def test_a_validation_file_with_other_categories_is_an_error(root, categories, on_problem):
    write_folder(root)
    write_coco(root, "val.json", pictures("c", "d"), categories)
    lines = refused(root, on_problem=on_problem)
    found = f"found {categories}; expected the training file's categories: {CATEGORIES}."
    assert lines[1:] == [f"  {root}/val.json: 'categories': {found}", "Mend the files."]


# What is broken


def break_folder(root):
    """One fault of each kind; sound remain b.png (train), e.png and f.png (val), the test images, q.png (pool)."""
    faulty = box(GLASS, 0, 0, 1, 1) | {"segmentation": [[0, 0, 1, 1]]}
    write_folder(
        root,
        train=[
            *pictures("a", annotations=[box(GLASS, 0, 0, 2, 2), faulty]),
            *pictures("b", annotations=[box(PAPER, 0, 0, 1, 1)]),
            *pictures("unknown", annotations=[box(99, 0, 0, 1, 1)]),
        ],
        pool=pictures("p", "q"),
    )
    Picture("c.png", 4, 5).write(root)  # narrower than val.json says
    (root / "d.png").write_bytes(b"no image")
    (root / "p.png").unlink()


def test_stop_lists_all_problems_of_the_files_at_once(root):
    break_folder(root)
    head, *lines, advice = refused(root, unlabeled=("pool.json",))
    assert head == f"{root}: 3 problems"
    assert [line.split(": ")[1] for line in lines] == ["annotation 101", "annotation 103", "image 10"]
    assert "polygon 0 has 4 numbers" in lines[0] and "category_id is 99" in lines[1] and "does not exist" in lines[2]
    assert advice == "Mend the files, or set data.on_problem to skip to go on without what is broken."


def test_stop_lists_all_broken_images_at_once(root):
    write_folder(root)
    Picture("c.png", 4, 5).write(root)
    (root / "d.png").write_bytes(b"no image")
    head, *lines, _ = refused(root)
    assert head == f"{root}: 2 problems"
    assert "data.val: image 10: c.png: the image has height 4 and width 5; expected height 4 and width 6" in lines[0]
    assert "data.val: image 11: " in lines[1] and "d.png: OpenCV cannot decode the file" in lines[1]


def test_skip_leaves_out_what_is_broken_and_lists_it(root):
    break_folder(root)
    out = prepare_folder(root, on_problem="skip", unlabeled=("pool.json",))
    prepared = Prepared(out, judge=True)
    kept = ["b.png", "e.png", "f.png", "x.png", "y.png", "q.png"]
    assert [entry.file_name for entry in prepared.entries] == kept
    assert prepared.target(0)[0, :2].tolist() == [2, 0]  # b.png kept its own annotation
    assert [line.split(": ")[1] for line in left_out(out)] == [
        "annotation 101",
        "annotation 103",
        "image 10",  # p.png
        "image 10",  # a.png
        "image 12",  # unknown.png
        "image 10",  # c.png
        "image 11",  # d.png
    ]


def test_skip_leaves_out_a_labelled_image_with_a_faulty_annotation_whose_pixels_would_pass_for_background(root):
    faulty = box(GLASS, 0, 0, 1, 1) | {"iscrowd": 5}
    write_folder(root, train=pictures("a", annotations=[box(GLASS, 2, 2, 4, 4), faulty]) + pictures("b"))
    out = prepare_folder(root, on_problem="skip")
    assert names(Prepared(out, fold=0), Prepared(out, fold=0).folds[0].train) == ["b.png"]
    assert left_out(out)[1].startswith(f"{root}/train.json: image 10: a.png has a faulty annotation; expected sound")


def test_skip_leaves_out_images_whose_annotation_lost_its_category(root):
    write_folder(root)
    write_coco(root, "train.json", pictures("a", annotations=[box(PAPER, 0, 0, 1, 1)]) + pictures("b"))
    for path in (root / "train.json", root / "val.json"):
        content = json.loads(path.read_text())
        content["categories"].append({"id": PAPER, "name": "Metal"})  # nothing tells which of the two is meant
        path.write_text(json.dumps(content))
    prepared = Prepared(prepare_folder(root, on_problem="skip"), fold=0)
    assert names(prepared, prepared.folds[0].train) == ["b.png"] and prepared.classes.names == ("Background", "Glass")


def test_skip_does_not_take_a_file_without_annotations_for_background(root):
    write_folder(root)
    content = json.loads((root / "train.json").read_text())
    del content["annotations"]
    (root / "train.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="no train images are left"):
        prepare_folder(root, on_problem="skip")


def test_a_sound_folder_leaves_nothing_out(root):
    write_folder(root)
    assert left_out(prepare_folder(root)) == []


def test_a_broken_test_image_stops_even_under_skip_because_the_submission_needs_its_row(root):
    write_folder(root)
    test_image = json.loads((root / "test.json").read_text())["images"][0]["file_name"]
    (root / test_image).write_bytes(b"no image")
    head, line, advice = refused(root, on_problem="skip")
    assert head == f"{root}: 1 problem"
    assert "data.test" in line and test_image in line
    assert advice == "Mend the files."


def test_a_pool_whose_images_are_all_broken_does_not_become_the_test_images(root):
    write_folder(root, pool=pictures("p"))
    (root / "p.png").write_bytes(b"no image")
    prepared = Prepared(prepare_folder(root, on_problem="skip", unlabeled=("pool.json",)), fold=0)
    assert prepared.pool() == ()


def test_a_test_image_of_the_wrong_size_stops_even_under_skip(root):
    write_folder(root)
    Picture("x.png", 6, 4).write(root)
    head, line, _ = refused(root, on_problem="skip")
    assert head == f"{root}: 1 problem"
    assert "data.test" in line and "x.png" in line


def test_scenes_on_both_sides_of_the_judge_are_refused(root):
    write_folder(root, judge=pictures("a2"))
    error = refused(root, split=split_params(group_by=r"/([a-z])"), judge="judge.json")
    assert "1 scenes of the judge images also stand in the training or tuning images, such as a" in error[0]
