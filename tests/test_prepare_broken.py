"""What `prepare` refuses and what it leaves out; tests/malformed/ has the table of single mistakes."""

import json

import pytest
from coco_folder import CATEGORIES, GLASS, PAPER, Picture, box, pictures, prepare_folder, write_folder
from coco_folder import write_list as write_coco

from segpipe.data.prepared import Prepared
from segpipe.data.source.images import open_image


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


# Leaks between lists are refused, whatever on_problem says

BOTH = pytest.mark.parametrize("on_problem", ["stop", "skip"])


@BOTH
@pytest.mark.parametrize("later", ["val", "test", "pool"])
def test_a_training_image_in_another_list_is_an_error(root, later, on_problem):
    write_folder(root, **{"pool": pictures("p")} | {later: pictures("m", "n", "b")})
    lines = refused(root, unlabeled="pool.json", on_problem=on_problem)
    scored = "scores would come from training images"
    labeled = "one with true labels needs no pseudo label, so take it out of data.unlabeled"
    assert lines == [
        f"{root}: 1 problem",
        f"  {root}/{later}.json: image 12: found 'b.png'; expected an image that data.train does not list "
        f"already: {labeled if later == 'pool' else scored}.",
        "Mend the above.",
    ]


@BOTH
@pytest.mark.parametrize("later", ["val", "test", "pool"])
def test_a_byte_identical_copy_of_a_training_image_in_another_list_is_an_error(root, later, on_problem):
    copy = Picture("copy.png", noise="b.png")
    write_folder(root, **{"pool": pictures("p")} | {later: [*pictures("m", "n"), copy]})
    lines = refused(root, unlabeled="pool.json", on_problem=on_problem)
    found = "copy.png is a byte-identical copy of b.png in data.train; expected images of its own in each list."
    assert lines[1:] == [f"  {root}/{later}.json: image 12: {found}", "Mend the above."]


EACH = "a category of each class, also of those that no image shows, or objects pass for background"
NAMES = "the names of {root}/train.json, or each name in data.classes, data.drop or data.ignore"


@BOTH
@pytest.mark.parametrize(
    "categories, said",
    [
        ({GLASS: "Glass"}, f"lacks 'Paper'; expected {EACH}"),
        (CATEGORIES | {9: "Metal"}, f"adds 9 'Metal'; expected {NAMES}"),
        ({GLASS: "Glass", PAPER: "Card"}, f"lacks 'Paper', adds 7 'Card'; expected {EACH}; {NAMES}"),
    ],
)
def test_a_validation_file_with_other_categories_is_an_error(root, categories, said, on_problem):
    write_folder(root)
    write_coco(root, "val.json", pictures("c", "d"), categories)
    lines = refused(root, on_problem=on_problem)
    assert lines[1:] == [f"  {root}/val.json: 'categories': the list {said.format(root=root)}.", "Mend the above."]


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


def test_stop_lists_what_is_wrong_in_files_and_in_images_at_once(root):
    break_folder(root)
    head, *lines, advice = refused(root, unlabeled=("pool.json",))
    assert head == f"{root}: 5 problems"
    assert [line.split(": ")[1] for line in lines] == [
        "annotation 101",
        "annotation 103",
        "image 10",  # p.png is gone
        "image 10",  # c.png is narrower than val.json says
        "image 11",  # d.png is no image
    ]
    assert advice == "Mend the above, or set data.on_problem to skip to go on without what is broken."


def test_no_image_is_decoded_twice_where_the_files_are_sound(root, monkeypatch):
    opened = []
    monkeypatch.setattr(
        "segpipe.data.prepare.pack.open_image",
        lambda root, record: opened.append(record.file_name) or open_image(root, record),
    )
    write_folder(root)
    prepare_folder(root)
    assert sorted(opened) == [f"{stem}.png" for stem in "abcdefxy"]


def test_nothing_stays_that_could_pass_for_prepared_data_when_an_image_is_broken(root):
    write_folder(root)
    (root / "y.png").write_bytes(b"no image")
    refused(root)
    assert list(root.with_name("raw.prepared").iterdir()) == []


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
    with pytest.raises(ValueError, match=r"data\.train: no sound image is left"):
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
    assert "test.json: image 10: " in line and test_image in line
    assert advice == "Mend the above."


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
    assert "test.json: image 10: x.png has height 6 and width 4" in line
