import json
import subprocess
import sys
from pathlib import Path

import pytest

from segpipe.data.source.coco import read_coco
from segpipe.data.source.records import Annotation, Category, ImageRecord

TRIANGLE = [[1, 1, 3, 1, 3, 3]]
RLE = {"size": [4, 6], "counts": "h0"}


@pytest.fixture
def root(tmp_path) -> Path:
    """A data root with three image files, and a folder beside it that no file name may reach."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "batch").mkdir(parents=True)
    outside.mkdir()
    for path in (root / "batch/0.jpg", root / "batch/1.jpg", root / "ä 2.jpg", outside / "x.jpg"):
        path.touch()
    (root / "linked.jpg").symlink_to(outside / "x.jpg")
    (root / "inner.jpg").symlink_to(root / "batch/0.jpg")
    (root / "circle.jpg").symlink_to(root / "circle.jpg")
    return root


def sound() -> dict:
    """A labelled file without fault; the malformed ones below differ from it in one place."""
    return {
        "images": [
            {"id": 3, "file_name": "batch/0.jpg", "height": 4, "width": 6},
            {"id": 0, "file_name": "ä 2.jpg", "height": 4, "width": 6},
        ],
        "categories": [{"id": 7, "name": "Glass"}, {"id": 2, "name": "Paper"}],
        "annotations": [
            {"id": 17, "image_id": 3, "category_id": 7, "segmentation": TRIANGLE, "iscrowd": 0},
            {"id": 18, "image_id": 3, "category_id": 2, "segmentation": RLE, "iscrowd": 1},
        ],
    }


def write(root: Path, content: object) -> Path:
    path = root / "train.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def read(root: Path, content: object, *, labeled: bool = True):
    return read_coco(write(root, content), root, labeled=labeled)


# Sound files


def test_a_sound_file_is_read_in_its_order_without_problems(root):
    file, problems = read(root, sound())
    assert problems == []
    assert file.path == root / "train.json"
    assert file.images == (ImageRecord(3, "batch/0.jpg", 4, 6), ImageRecord(0, "ä 2.jpg", 4, 6))
    assert file.categories == (Category(7, "Glass"), Category(2, "Paper"))
    assert file.annotations_by_image == {
        3: (Annotation(17, 3, 7, TRIANGLE, iscrowd=False), Annotation(18, 3, 2, RLE, iscrowd=True)),
        0: (),
    }


def test_a_labelled_image_may_have_no_annotations(root):
    file, problems = read(root, sound() | {"annotations": []})
    assert problems == []
    assert file.annotations_by_image == {3: (), 0: ()}


def test_an_annotation_without_iscrowd_is_no_crowd(root):
    content = sound()
    del content["annotations"][0]["iscrowd"]
    file, problems = read(root, content)
    assert problems == []
    assert file.annotations_by_image[3][0].iscrowd is False


@pytest.mark.parametrize("dropped", [[], ["annotations"], ["annotations", "categories"]])
def test_an_unlabelled_file_gives_images_only_even_if_it_carries_labels(root, dropped):
    content = sound()
    content["annotations"].append({"id": "not even read"})
    content = {key: value for key, value in content.items() if key not in dropped}
    file, problems = read(root, content, labeled=False)
    assert problems == []
    assert [image.id for image in file.images] == [3, 0]
    assert file.annotations_by_image == {} and file.categories == ()


def test_the_data_root_may_be_a_symbolic_link_and_may_hold_links_within_itself(root, tmp_path):
    (tmp_path / "root link").symlink_to(root)
    content = sound()
    content["images"][0]["file_name"] = "inner.jpg"
    file, problems = read_coco(write(root, content), tmp_path / "root link", labeled=True)
    assert problems == [] and len(file.images) == 2


def test_a_byte_order_mark_is_no_fault(root):
    path = root / "train.json"
    path.write_text(json.dumps(sound()), encoding="utf-8-sig")
    assert read_coco(path, root, labeled=True)[1] == []


def test_a_file_that_is_no_coco_file_is_one_problem_and_no_file(root):
    path = root / "train.json"
    path.write_text("[]")
    file, problems = read_coco(path, root, labeled=True)
    assert file is None
    assert [(problem.file, problem.where) for problem in problems] == [(str(path), "")]


def test_an_unlabelled_file_may_list_no_image_where_that_is_allowed(root):
    path = write(root, {"images": []})
    assert read_coco(path, root, labeled=False, may_be_empty=True)[1] == []
    (problem,) = read_coco(path, root, labeled=False)[1]
    assert str(problem) == f"{path}: 'images': the list is empty; expected at least one entry."


# Faults of entries: each is a problem (tests/malformed/ has the table), and the entry is left out


@pytest.mark.parametrize("labeled", [True, False])
@pytest.mark.parametrize(
    "fault", [{"id": "0"}, {"height": 0}, {"file_name": "batch/9.jpg"}, {"file_name": "linked.jpg"}]
)
def test_a_faulty_image_is_left_out(root, fault, labeled):
    content = sound()
    content["images"][1].update(fault)
    file, problems = read(root, content, labeled=labeled)
    assert len(problems) == 1 and [image.id for image in file.images] == [3]
    assert file.file_names == ("batch/0.jpg", fault.get("file_name", "ä 2.jpg")), "all that are listed"


@pytest.mark.parametrize("fault", [{"id": None}, {"category_id": 99}, {"iscrowd": 2}, {"segmentation": []}])
def test_a_faulty_annotation_is_left_out_and_its_image_incomplete(root, fault):
    content = sound()
    content["annotations"][1].update(fault)
    file, problems = read(root, content)
    assert len(problems) == 1 and [image.id for image in file.images] == [3, 0]
    assert [annotation.id for annotation in file.annotations_by_image[3]] == [17]
    assert file.incomplete == {3}


@pytest.mark.parametrize("name", ["batch/1\ud800.jpg", "x" * 5000, "batch/1.jpg\0"])
def test_a_name_that_no_file_can_have_is_a_problem(root, name):
    content = sound()
    content["images"][1]["file_name"] = name
    (problem,) = read(root, content)[1]
    assert problem.where == "image 0" and "\n" not in str(problem) and "\0" not in str(problem)


def test_links_to_the_cache_of_dvc_do_not_lead_out_of_the_root(root, tmp_path):
    cached = tmp_path / "cache/files/md5/0a" / ("0123456789abcdef" * 2)[:30]
    cached.parent.mkdir(parents=True)
    cached.touch()
    (root / "batch/1.jpg").unlink()
    (root / "batch/1.jpg").symlink_to(cached)
    content = sound()
    content["images"][1]["file_name"] = "batch/1.jpg"
    assert read(root, content)[1] == []


def test_a_file_without_categories_is_one_problem_not_one_for_each_annotation(root):
    content = sound() | {"categories": []}
    file, problems = read(root, content)
    assert [problem.where for problem in problems] == ["'categories'"]
    assert file.annotations_by_image == {3: (), 0: ()}


# Doubled entries: nothing tells which is meant, so each of them is left out


def test_images_that_share_an_id_are_all_left_out_and_reported_once(root):
    content = sound()
    content["images"].append({"id": 3, "file_name": "batch/1.jpg", "height": 4, "width": 6})
    file, problems = read(root, content)
    assert [problem.where for problem in problems] == ["image 3"]
    assert "2 images have this id; expected ids that occur once" in str(problems[0])
    assert [record.id for record in file.images] == [0] and file.annotations_by_image == {0: ()}


@pytest.mark.parametrize("second_name", ["batch/0.jpg", "batch/./0.jpg", "batch//0.jpg"])
def test_images_that_share_a_file_name_are_all_left_out(root, second_name):
    content = sound()
    content["images"].append({"id": 5, "file_name": second_name, "height": 4, "width": 6})
    file, problems = read(root, content)
    assert [problem.where for problem in problems] == ["image 3", "image 5"]
    assert "2 images have the file_name 'batch/0.jpg'; expected file names that occur once" in str(problems[0])
    assert [record.id for record in file.images] == [0]


def test_annotations_that_share_an_id_are_all_left_out(root):
    content = sound()
    content["annotations"][1]["id"] = 17
    file, problems = read(root, content)
    assert [str(problem) for problem in problems] == [
        f"{root / 'train.json'}: annotation 17: 2 annotations have this id; expected ids that occur once."
    ]
    assert file.annotations_by_image == {3: (), 0: ()}


@pytest.mark.parametrize(
    "doubled, fragment",
    [({"id": 7}, "2 categories have this id"), ({"name": "Glass"}, "2 categories have the name 'Glass'")],
)
def test_categories_that_share_an_id_or_a_name_are_all_left_out_with_their_annotations(root, doubled, fragment):
    content = sound()
    del content["annotations"][1]
    content["categories"][1].update(doubled)
    file, problems = read(root, content)
    assert problems and all(fragment in str(problem) for problem in problems)
    assert file.categories == () and file.annotations_by_image[3] == () and not file.categories_sound


# Everything at once


def test_all_problems_of_a_file_come_at_once_in_its_order(root):
    content = sound()
    content["images"][0]["height"] = 0
    content["images"][1].update(file_name="/x.jpg", width="6")
    content["images"].append({"id": 8, "file_name": "batch/1.jpg", "height": 4, "width": 6})
    content["categories"].append({"id": 9})
    content["annotations"] += [
        {"id": 19, "image_id": 99, "category_id": 98, "segmentation": TRIANGLE},
        {"id": 20, "image_id": 8, "category_id": 2, "segmentation": [[1, 1, 3, 3]]},
        {"id": 21, "image_id": 8, "category_id": 2, "segmentation": TRIANGLE},
    ]
    file, problems = read(root, content)
    assert [problem.where for problem in problems] == [
        "image 3",
        "image 0",
        "image 0",
        "category 9",
        "annotation 19",
        "annotation 19",
        "annotation 20",
    ]
    assert all(problem.file == str(root / "train.json") for problem in problems)
    assert file.images == (ImageRecord(8, "batch/1.jpg", 4, 6),)
    assert [annotation.id for annotation in file.annotations_by_image[8]] == [21]


def test_annotations_of_an_image_already_reported_go_without_a_problem_of_their_own(root):
    content = sound()
    content["images"][0]["file_name"] = "batch/9.jpg"
    file, problems = read(root, content)
    assert [problem.where for problem in problems] == ["image 3"]
    assert file.annotations_by_image == {0: ()}


def test_reading_annotations_needs_no_torch():
    code = "import sys, segpipe.data.source.lists, segpipe.labels; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
