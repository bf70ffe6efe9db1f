"""Classes by name and several annotation files for one list, from the files to the prepared targets."""

import json

import pytest
from coco_folder import GLASS, PAPER, Picture, box, data_params, pictures, prepare_folder, split_params, write_folder
from coco_folder import write_list as write_coco

from segpipe.data.prepared import Prepared
from segpipe.labels import IGNORE_INDEX

METAL = 12
THREE = {GLASS: "Glass", PAPER: "Paper", METAL: "Metal"}
ROW = [box(GLASS, 0, 0, 2, 1), box(PAPER, 2, 0, 4, 1), box(METAL, 4, 0, 6, 1)]  # two pixels each, side by side
V = IGNORE_INDEX


@pytest.fixture
def root(tmp_path):
    return tmp_path / "raw"


def write_three(root, **lists):
    """A folder whose labelled lists know Glass, Paper and Metal; training image a.png shows all three in one row."""
    write_folder(root, categories=THREE, **{"train": [Picture("a.png", 1, 6, ROW), Picture("b.png", 1, 6)]} | lists)


def opened(root, **changes):
    return Prepared(prepare_folder(root, **changes), fold=0)


def names(prepared, indices):
    return [prepared.entries[index].file_name for index in indices]


def refused(root, **changes):
    """The lines of what prepare says, without its first and last."""
    with pytest.raises(ValueError) as error:
        prepare_folder(root, **changes)
    return [line.strip() for line in str(error.value).split("\n")[1:-1]]


# Classes by name


@pytest.mark.parametrize(
    "changes, class_names, row",
    [
        ({}, ("Background", "Glass", "Paper", "Metal"), [1, 1, 2, 2, 3, 3]),
        ({"classes": ["Metal", "Glass", "Paper"]}, ("Background", "Metal", "Glass", "Paper"), [2, 2, 3, 3, 1, 1]),
        ({"classes": [{"Any": ["Metal", "Glass"]}, "Paper"]}, ("Background", "Any", "Paper"), [1, 1, 2, 2, 1, 1]),
        (
            {"classes": [{"Jar": "Glass"}, "Paper", "Metal"]},
            ("Background", "Jar", "Paper", "Metal"),
            [1, 1, 2, 2, 3, 3],
        ),
        ({"drop": ["Paper"]}, ("Background", "Glass", "Metal"), [1, 1, 0, 0, 2, 2]),
        ({"ignore": ["Paper"]}, ("Background", "Glass", "Metal"), [1, 1, V, V, 2, 2]),
        ({"classes": ["Metal"], "drop": ["Glass"], "ignore": ["Paper"]}, ("Background", "Metal"), [0, 0, V, V, 1, 1]),
        ({"background": "ignore", "drop": ["Paper"]}, ("Glass", "Metal"), [0, 0, V, V, 1, 1]),
    ],
)
def test_targets_hold_the_classes_that_params_yaml_makes_of_the_categories(root, changes, class_names, row):
    write_three(root, val=pictures("c", "d", "e", "f", height=1, annotations=ROW))
    prepared = opened(root, **changes)
    assert prepared.classes.names == class_names
    assert prepared.target(0).tolist() == [row]


def test_what_is_dropped_hides_nothing_and_what_is_ignored_hides_by_the_overlap_rule(root):
    above = [box(GLASS, 0, 0, 4, 1), box(PAPER, 2, 0, 6, 1)]
    write_folder(root, train=[Picture("a.png", 1, 6, above)])
    order = {"overlap": "file_order"}
    assert opened(root, drop=["Paper"], **order).target(0).tolist() == [[1, 1, 1, 1, 0, 0]]
    assert opened(root, ignore=["Paper"], **order).target(0).tolist() == [[1, 1, V, V, V, V]]
    assert opened(root, ignore=["Paper"]).target(0).tolist() == [[1, 1, 1, 1, V, V]], "a class beats what is ignored"


def test_ignored_pixels_count_as_such_in_the_data_check(root):
    write_three(root, val=pictures("c", "d", height=1, annotations=ROW))
    out = prepare_folder(root, ignore=["Paper"])
    check = json.loads((out / "data_check.json").read_text())
    assert check["ignored_pixel_share"] == 6 / 24, "a, c and d have two such pixels each, of 6 an image"
    assert list(check["class_pixel_shares"]) == ["Background", "Glass", "Metal"]


def test_where_only_classes_count_a_file_of_dropped_annotations_has_no_pixel_to_learn(root):
    shown = {"annotations": [box(PAPER, 0, 0, 2, 1)]}
    write_folder(root, train=pictures("a", annotations=ROW[:1]), val=pictures("c", "d", **shown))
    for left_out in ("drop", "ignore"):
        (line,) = refused(root, background="ignore", **{left_out: ["Paper"]})
        assert f"{root}/val.json: 'annotations': no image has an annotation that is not dropped or ignored" in line


# Several files


def test_files_of_one_list_are_read_in_order_and_their_ids_may_clash(root):
    """Image ids count from 10 and annotation ids from 100 in every file; Glass and Paper have each other's id."""
    write_three(root)
    write_coco(root, "more.json", [Picture("m.png", 1, 6, ROW[:2])], THREE | {GLASS: "Paper", PAPER: "Glass"})
    prepared = opened(root, train=["train.json", "more.json"])
    assert names(prepared, prepared.folds[0].train) == ["a.png", "b.png", "m.png"]
    assert [entry.image_id for entry in prepared.entries[:3]] == [10, 11, 10]
    assert prepared.target(0).tolist() == [[1, 1, 2, 2, 3, 3]]
    assert prepared.target(2).tolist() == [[2, 2, 1, 1, 0, 0]]


def test_every_list_may_have_several_files(root):
    write_folder(root, **{name: pictures(name) for name in ("v", "w", "r", "s", "t", "u", "p", "q")})
    for name in ("v", "w", "r", "s"):
        write_coco(root, f"{name}.json", pictures(name))
    lists = {"val": ["v", "w"], "judge": ["r", "s"], "test": ["t", "u"], "unlabeled": ["p", "q"]}
    prepared = opened(root, **{key: [f"{name}.json" for name in listed] for key, listed in lists.items()})
    assert names(prepared, prepared.folds[0].tune) == ["v.png", "w.png"]
    assert names(prepared, prepared.folds[0].judge) == ["r.png", "s.png"]
    assert names(prepared, prepared.sets["test"]) == ["t.png", "u.png"]
    assert names(prepared, prepared.pool()) == ["p.png", "q.png"]


def test_folds_are_drawn_from_all_training_files(root):
    write_folder(root, train=pictures("a", "b"), more=[])
    write_coco(root, "more.json", pictures("m", "n"))
    split = split_params(folds=2, judge_fraction=0.5)
    prepared = opened(root, split=split, train=["train.json", "more.json"], val=None)
    held_out = sorted(index for fold in (0, 1) for index in (*prepared.folds[fold].tune, *prepared.folds[fold].judge))
    assert names(prepared, held_out) == ["a.png", "b.png", "m.png", "n.png"]


def test_files_with_words_of_their_own_meet_in_the_classes(root):
    """Glass and Paper here, Bottle and Jar and Card there."""
    write_folder(root, train=[Picture("a.png", 1, 6, ROW[:2])])
    other = [box(1, 0, 0, 1, 1), box(2, 1, 0, 2, 1), box(3, 2, 0, 3, 1)]
    write_coco(root, "more.json", [Picture("m.png", 1, 6, other)], {1: "Card", 2: "Bottle", 3: "Jar"})
    classes = [{"Glass": ["Glass", "Bottle", "Jar"]}, {"Paper": ["Paper", "Card"]}]
    prepared = opened(root, train=["train.json", "more.json"], classes=classes)
    assert prepared.target(0).tolist() == [[1, 1, 2, 2, 0, 0]]
    assert prepared.target(1).tolist() == [[2, 1, 1, 0, 0, 0]]


def test_a_category_that_is_left_out_may_stand_in_some_files_only(root):
    write_folder(root, train=[Picture("a.png", 1, 6, ROW[:2])])
    write_coco(root, "val.json", pictures("c", "d", height=1, annotations=ROW), THREE)
    assert opened(root, drop=["Metal"]).classes.names == ("Background", "Glass", "Paper")
    assert opened(root, ignore=["Metal"]).classes.names == ("Background", "Glass", "Paper")


def test_a_labelled_image_in_two_files_of_one_list_is_an_error(root):
    write_folder(root)
    write_coco(root, "more.json", pictures("m", "b"))
    assert refused(root, train=["train.json", "more.json"]) == [
        f"{root}/more.json: image 11: found 'b.png'; expected an image that {root}/train.json does not list already: "
        "it would be learned from twice."
    ]


def test_a_test_image_in_two_files_is_submitted_once(root):
    write_folder(root, more=pictures("y", "z"))
    write_folder(root, train=pictures("a", "b"), test=[Picture("./x.png"), *pictures("y")])
    prepared = opened(root, test=["test.json", "more.json"])
    assert names(prepared, prepared.sets["test"]) == ["./x.png", "y.png", "z.png"]


def test_a_file_that_lacks_a_class_is_refused_since_its_objects_would_pass_for_background(root):
    write_three(root)
    write_coco(root, "more.json", pictures("m"), {1: "Paper", 2: "Metal"})
    whole = "expected a category of each class, also of those that no image shows, or objects pass for background."
    files = {"train": ["train.json", "more.json"]}
    assert refused(root, **files) == [f"{root}/more.json: 'categories': the list lacks 'Glass'; {whole}"]
    merged = [{"Hard": ["Glass", "Metal"]}, "Paper"]
    assert opened(root, **files, classes=merged).classes.names == ("Background", "Hard", "Paper")
    merged = [{"Bottle": ["Glass"]}, "Paper", "Metal"]
    (line,) = refused(root, **files, classes=merged)
    assert line.startswith(f"{root}/more.json: 'categories': the list lacks 'Bottle' (Glass); ")


def test_where_background_does_not_count_a_file_may_lack_a_class_that_another_trains(root):
    shown = {"annotations": ROW[1:2]}
    write_folder(root, train=[Picture("a.png", 1, 6, ROW[:2])], val=[])
    write_coco(root, "val.json", pictures("c", "d", **shown), {PAPER: "Paper"})
    assert opened(root, background="ignore").classes.names == ("Glass", "Paper")
    write_coco(root, "val.json", pictures("c", "d", annotations=ROW), THREE)
    (line,) = refused(root, background="ignore", classes=["Glass", "Paper", "Metal"])
    assert line == (
        "params.yaml: data.classes: no file of data.train has a category of 'Metal'; expected one of each class, or "
        "nothing is trained on it."
    )


def test_an_unreadable_file_makes_no_category_unknown(root):
    write_three(root)
    (root / "more.json").write_text("no JSON")
    lines = refused(root, train=["train.json", "more.json"], drop=["Wood"])
    assert len(lines) == 1 and lines[0].startswith(f"{root}/more.json: the file is not JSON")


def test_one_file_may_stand_without_a_list():
    assert data_params("raw", train="a.json").train == data_params("raw", train=["a.json"]).train == ("a.json",)
