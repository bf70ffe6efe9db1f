"""What a student of a fold may not learn from, from the files of a data set to the refusal."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from coco_folder import data_params, pictures, prepare_folder, split_params, write_folder

from segpipe.data.leaks import held_out_indices, judge_indices, overlap_problems, refuse_leaks
from segpipe.data.lineage import Lineage
from segpipe.data.near_copies import mixed_pictures, read_near_copies, write_near_copies
from segpipe.data.prepare.prepare import prepare
from segpipe.data.prepared import Prepared
from segpipe.pseudo.guard import copies_of_held_out, say_left_out

SIDE = {"height": 48, "width": 48}  # large enough to be told from another picture


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Pool images: p is a brighter c (held out), q an enlarged a (trained on), r like nothing else, s a copy of p."""
    root = tmp_path_factory.mktemp("data") / "raw"
    lists = {"train": pictures("a", "b", **SIDE), "val": pictures("c", "d", "e", "f", **SIDE)}
    write_folder(root, **lists, test=pictures("x", **SIDE), pool=pictures("p", "q", "r", "s", **SIDE))
    blurred = {name: cv2.GaussianBlur(cv2.imread(str(root / f"{name}.png")), (9, 9), 3) for name in "abcdefxr"}
    brighter = np.clip(blurred["c"].astype(int) + 12, 0, 255).astype(np.uint8)
    large = cv2.resize(cv2.resize(blurred["a"], (96, 96)), (48, 48))
    for name, pixels in (blurred | {"p": brighter, "q": large, "s": np.clip(brighter + 3, 0, 255)}).items():
        cv2.imwrite(str(root / f"{name}.png"), pixels)
    return root


@pytest.fixture(scope="module")
def prepared(raw):
    return Prepared(prepare_folder(raw, unlabeled="pool.json"), fold=0)


def names(prepared, indices):
    return [prepared.entries[index].file_name for index in indices]


def test_prepare_lists_the_pictures_that_stand_in_a_labelled_and_in_an_unlabelled_list(prepared):
    lines = (prepared.path / "near_copies.csv").read_text().splitlines()
    assert lines == ["file_name,picture", "a.png,a.png", "c.png,c.png", "p.png,c.png", "q.png,a.png", "s.png,c.png"]


def test_near_copies_of_held_out_images_are_left_out_and_those_of_training_images_are_not(prepared):
    found = copies_of_held_out(prepared, 0)
    assert names(prepared, [copy.index for copy in found]) == ["p.png", "s.png"]
    assert [(copy.copy_of, copy.exact) for copy in found] == [("c.png", False)] * 2
    assert found[0].why == "near copy of the held-out c.png"


def test_for_the_fold_all_nothing_is_held_out_but_a_judge_file(raw, prepared, tmp_path):
    assert copies_of_held_out(prepared, "all") == []
    data = data_params(raw, unlabeled="pool.json", val=None, judge="val.json")
    prepare(data, split_params(folds=2, file=None), tmp_path / "judge")
    judged = Prepared(tmp_path / "judge", fold="all")
    assert names(judged, held_out_indices(judged, "all")) == ["c.png", "d.png", "e.png", "f.png"]
    assert names(judged, [copy.index for copy in copies_of_held_out(judged, "all")]) == ["p.png", "s.png"]


def test_near_copies_are_found_whether_or_not_folds_keep_them_together(raw, tmp_path):
    prepare(data_params(raw, unlabeled="pool.json"), split_params(near_duplicates=False), tmp_path / "apart")
    assert len(copies_of_held_out(Prepared(tmp_path / "apart", fold=0), 0)) == 2


def with_hashes(prepared, **hashes):
    """The data set as if the files of these images had other bytes."""
    changed = Prepared(prepared.path, fold=0)
    entries = [(entry, hashes.get(entry.file_name[0], entry.content_hash)) for entry in changed.entries]
    changed.entries = tuple(replace(entry, content_hash=content_hash) for entry, content_hash in entries)
    return changed


def test_exact_copies_of_held_out_images_are_left_out_and_of_training_images_refused(prepared):
    held_out = with_hashes(prepared, r="same", d="same")
    assert [(copy.copy_of, copy.exact) for copy in copies_of_held_out(held_out, 0)] == [
        ("c.png", False),
        ("d.png", True),
        ("c.png", False),
    ]
    assert overlap_problems(held_out, 0) == []
    trained = with_hashes(prepared, r="same", b="same")
    assert overlap_problems(trained, 0) == ["r.png of the pool is the training image b.png"]


def test_what_is_left_out_is_told_with_three_names(prepared):
    found = copies_of_held_out(prepared, 0)
    said = say_left_out(found, prepared)
    assert said.startswith("pseudo_label: 2 images are left out") and "p.png (near copy of the held-out c.png)" in said
    assert say_left_out(found * 3, prepared).endswith("and 3 more (images.csv)")


def test_learned_from_is_refused_for_all_held_out_images_and_tuned_on_for_judge_images(prepared):
    fold, none = prepared.folds[0], frozenset()
    tune, judge = prepared.hashes(fold.tune), prepared.hashes(fold.judge)
    refuse_leaks(prepared, 0, Lineage(frozenset(prepared.hashes(fold.train)), frozenset(tune)), "x")
    for leak in (Lineage(frozenset(tune), none), Lineage(frozenset(judge), none), Lineage(none, frozenset(judge))):
        with pytest.raises(ValueError, match=r"^x (learned from|was tuned on) 2 of the images .* [cdef]\.png"):
            refuse_leaks(prepared, 0, leak, "x")
    assert judge_indices(prepared, 0) == fold.judge and judge_indices(prepared, "all") == ()


def test_only_pictures_on_both_sides_are_mixed():
    assert mixed_pictures(["a", "b", "b", "b", "c", "a"], 3) == {0: "a", 1: "b", 2: "b", 3: "b", 5: "a"}
    assert mixed_pictures(["a", "a"], 2) == {}


def test_the_table_survives_any_file_name_and_is_checked(tmp_path):
    odd = ['a,"b".png', "line\nbreak.png", "caf\udce9.png"]
    write_near_copies(tmp_path / "near_copies.csv", odd, dict.fromkeys(range(3), odd[0]))
    index = {name: i for i, name in enumerate(odd)}
    assert read_near_copies(tmp_path / "near_copies.csv", index) == dict.fromkeys(range(3), odd[0])
    with pytest.raises(ValueError, match="the file was changed"):
        read_near_copies(tmp_path / "near_copies.csv", {})
    with pytest.raises(FileNotFoundError, match="dvc repro prepare"):
        read_near_copies(tmp_path / "other.csv", index)
