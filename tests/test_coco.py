import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from segpipe.data.coco import (
    MAX_SIDE,
    Annotation,
    Category,
    ImageRecord,
    Problem,
    check_image_size,
    decode_image,
    read_coco,
)

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


# Files that are no COCO files


@pytest.mark.parametrize(
    "text, fragment",
    [
        ("", "the file is not JSON"),
        ("id,name\n1,Glass\n", "the file is not JSON"),
        ('{"images": [', "the file is not JSON"),
        ("[" * 100_000, "the file is not JSON"),
        (b"\xff\xd8\xff\xe0 a JPEG", "the file is not JSON"),
        ("[]", "found a JSON list"),
        ("12", "found a JSON int"),
        ('{"annotations": []}', "found a JSON object without 'images' (its keys: ['annotations'])"),
        ('{"images": {"3": "a.jpg"}}', "found {'3': 'a.jpg'} under 'images'"),
    ],
)
def test_a_file_that_is_not_coco_at_all_raises_at_once(root, text, fragment):
    path = root / "train.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError) as error:
        read_coco(path, root, labeled=True)
    message = str(error.value)
    assert message.startswith(f"{path}: ") and fragment in message
    assert "expected a JSON object in COCO's detection layout" in message and "params.yaml" in message


def test_a_missing_file_raises_at_once(root):
    with pytest.raises(ValueError, match=r"nowhere\.json: there is no such file; expected a COCO .* params\.yaml"):
        read_coco(root / "nowhere.json", root, labeled=True)


def test_a_folder_in_place_of_the_file_raises_at_once(root):
    with pytest.raises(ValueError, match="batch: the file cannot be read"):
        read_coco(root / "batch", root, labeled=True)


# Faults of entries: each is one problem, and the entry is left out


def image(**changed: object) -> Callable[[dict], None]:
    return lambda content: content["images"][1].update(changed)


def category(**changed: object) -> Callable[[dict], None]:
    return lambda content: content["categories"][1].update(changed)


def annotation(**changed: object) -> Callable[[dict], None]:
    return lambda content: content["annotations"][1].update(changed)


def without(key: str, index: int, field: str) -> Callable[[dict], None]:
    return lambda content: content[key][index].pop(field)


def replaced(key: str, value: object) -> Callable[[dict], None]:
    return lambda content: content.update({key: value})


SIDES = f"expected an integer from 1 to {MAX_SIDE}"

IMAGE_FAULTS = [
    (image(id=True), "images[1]: 'id' is True; expected an integer"),
    (image(id="0"), "images[1]: 'id' is '0'; expected an integer"),
    (image(id=1.0), "images[1]: 'id' is 1.0; expected an integer"),
    (without("images", 1, "id"), "images[1]: 'id' is missing"),
    (without("images", 1, "file_name"), "image 0: 'file_name' is missing"),
    (image(file_name=""), "image 0: 'file_name' is ''"),
    (image(file_name=5), "image 0: 'file_name' is 5; expected the path of an image relative to the data root"),
    (image(file_name="../outside/x.jpg"), "image 0: file_name '../outside/x.jpg' leads upwards through '..'"),
    (image(file_name="batch/../batch/1.jpg"), "leads upwards through '..'"),
    (image(file_name="/etc/hostname"), "image 0: file_name '/etc/hostname' is an absolute path"),
    (image(file_name="linked.jpg"), "'linked.jpg' leads out of the data root through a symbolic link"),
    (image(file_name="circle.jpg"), "'circle.jpg' cannot be looked up"),
    (image(file_name="batch/9.jpg"), "'batch/9.jpg' does not exist; expected an image file within the data root"),
    (image(file_name="batch\\1.jpg"), "does not exist (write / between folders, not \\)"),
    (image(file_name="batch"), "'batch' does not exist"),
    (image(file_name="batch/1.jpg\0"), "holds a control character"),
    (image(file_name="batch/1\ud800.jpg"), "cannot be looked up"),
    (image(file_name="x" * 5000), "cannot be looked up"),
    (image(height=0), f"image 0: 'height' is 0; {SIDES}"),
    (image(width=-6), f"image 0: 'width' is -6; {SIDES}"),
    (image(width=6.0), f"image 0: 'width' is 6.0; {SIDES}"),
    (image(height=True), f"image 0: 'height' is True; {SIDES}"),
    (image(height=10**9), f"image 0: 'height' is 1000000000; {SIDES}"),
    (without("images", 1, "width"), f"image 0: 'width' is missing; {SIDES}"),
    (lambda content: content["images"].append("batch/1.jpg"), "images[2]: found 'batch/1.jpg'; expected a JSON object"),
]


@pytest.mark.parametrize("break_it, fragment", IMAGE_FAULTS)
@pytest.mark.parametrize("labeled", [True, False])
def test_a_faulty_image_is_a_problem_and_left_out(root, break_it, fragment, labeled):
    content = sound()
    break_it(content)
    file, problems = read(root, content, labeled=labeled)
    assert len(problems) == 1 and fragment in str(problems[0])
    assert str(problems[0]).startswith(f"{root / 'train.json'}: ") and "\n" not in str(problems[0])
    assert len(file.images) == len(content["images"]) - 1


ANNOTATION_FAULTS = [
    (annotation(id=True), "annotations[1]: 'id' is True; expected an integer"),
    (without("annotations", 1, "id"), "annotations[1]: 'id' is missing"),
    (annotation(image_id=99), "annotation 18: image_id is 99, which 'images' does not list"),
    (annotation(image_id="3"), "annotation 18: 'image_id' is '3'; expected the integer id of an image"),
    (annotation(image_id=True), "annotation 18: 'image_id' is True"),
    (annotation(category_id=99), "category_id is 99, which 'categories' does not list; expected one of [2, 7]"),
    (annotation(category_id=None), "annotation 18: 'category_id' is None; expected the integer id of a category"),
    (annotation(iscrowd=2), "annotation 18: 'iscrowd' is 2; expected 0 or 1"),
    (annotation(iscrowd="no"), "annotation 18: 'iscrowd' is 'no'; expected 0 or 1"),
    (without("annotations", 1, "segmentation"), "annotation 18: 'segmentation' is missing"),
    (annotation(segmentation=[]), "annotation 18: the list of polygons is empty; expected flat lists of at least 6"),
    (annotation(segmentation=[[1, 1, float("nan"), 1, 3, 3]]), "whose x is nan, which is not finite; expected"),
    (annotation(segmentation=[[1, 1, 3, float("inf"), 3, 3]]), "whose y is inf, which is not finite"),
    (annotation(segmentation=[[1, 1, 3, 1e9, 3, 3]]), "with x from -6 to 18 and y from -4 to 12"),
    (annotation(segmentation=[[1, 1, 3, 3]]), "annotation 18: polygon 0 has 4 numbers, fewer than 3 points"),
    (
        annotation(segmentation={"size": [6, 4], "counts": "h0"}),
        "expected an RLE of size [4, 6] whose runs add up to 24",
    ),
    (annotation(segmentation={"size": [4, 6], "counts": "h"}), "annotation 18: the compressed counts are cut off"),
    (lambda content: content["annotations"].append(17), "annotations[2]: found 17; expected a JSON object"),
]


@pytest.mark.parametrize("break_it, fragment", ANNOTATION_FAULTS)
def test_a_faulty_annotation_is_a_problem_and_left_out(root, break_it, fragment):
    content = sound()
    break_it(content)
    file, problems = read(root, content)
    assert len(problems) == 1 and fragment in str(problems[0])
    assert sum(map(len, file.annotations_by_image.values())) == len(content["annotations"]) - 1
    assert len(file.images) == 2


FILE_FAULTS = [
    (replaced("images", []), "'images': the list is empty; expected at least one entry"),
    (replaced("categories", []), "'categories': the list is empty; expected at least one entry"),
    (replaced("categories", "Glass"), "'categories': found 'Glass'; expected a list"),
    (lambda content: content.pop("categories"), "'categories': the key is missing; expected a list"),
    (lambda content: content.pop("annotations"), "'annotations': the key is missing; expected a list"),
    (replaced("annotations", None), "'annotations': found None; expected a list"),
    (category(id="2"), "categories[1]: 'id' is '2'; expected an integer"),
    (category(name=None), "category 2: 'name' is None; expected the name of the category"),
    (category(name=" "), "category 2: 'name' is ' '"),
]


@pytest.mark.parametrize("break_it, fragment", FILE_FAULTS)
def test_a_faulty_list_or_category_is_reported(root, break_it, fragment):
    content = sound()
    break_it(content)
    _, problems = read(root, content)
    assert any(fragment in str(problem) for problem in problems)


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
    "break_it, fragment",
    [(category(id=7), "2 categories have this id"), (category(name="Glass"), "2 categories have the name 'Glass'")],
)
def test_categories_that_share_an_id_or_a_name_are_all_left_out_with_their_annotations(root, break_it, fragment):
    content = sound()
    del content["annotations"][1]
    break_it(content)
    file, problems = read(root, content)
    assert problems and all(fragment in str(problem) for problem in problems)
    assert file.categories == () and file.annotations_by_image[3] == ()


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


def test_a_problem_reads_as_one_sentence():
    problem = Problem("train.json", "annotation 17", "category_id is 9.", "one of [1, 2]")
    assert str(problem) == "train.json: annotation 17: category_id is 9; expected one of [1, 2]."


def test_long_values_are_cut_in_messages(root):
    content = sound()
    content["annotations"][0]["segmentation"] = "1 " * 10_000
    _, problems = read(root, content)
    assert len(str(problems[0])) < 500


# Image files


def test_an_image_of_another_size_than_recorded_is_a_problem():
    record = ImageRecord(3, "a.jpg", height=4, width=6)
    assert check_image_size(record, 4, 6) is None
    assert "the image has height 5 and width 6; expected height 4 and width 6" in str(check_image_size(record, 5, 6))
    assert "EXIF" not in str(check_image_size(record, 5, 6))
    assert "EXIF" in str(check_image_size(record, 6, 4))


RED, BLUE = [255, 0, 0], [0, 0, 255]


def encode(pixels: np.ndarray, extension: str = ".png") -> bytes:
    return cv2.imencode(extension, pixels)[1].tobytes()


def palette_png(indices: list[list[int]], palette: list[list[int]]) -> bytes:
    """A PNG of 8-bit palette indices, which OpenCV cannot write."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", len(indices[0]), len(indices), 8, 3, 0, 0, 0)
    rows = b"".join(b"\0" + bytes(row) for row in indices)
    colors = bytes(part for color in palette for part in color)
    chunks = chunk(b"IHDR", header) + chunk(b"PLTE", colors) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def turned_jpeg(jpeg: bytes, orientation: int) -> bytes:
    """The JPEG with an EXIF block that asks for a rotation."""
    tiff = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    exif = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


@pytest.mark.parametrize(
    "encoded, expected",
    [
        (encode(np.array([[RED[::-1], BLUE[::-1]]], np.uint8)), [[RED, BLUE]]),  # OpenCV writes blue first
        (encode(np.array([[9, 200]], np.uint8)), [[[9, 9, 9], [200, 200, 200]]]),
        (encode(np.array([[[0, 0, 255, 0], [255, 0, 0, 255]]], np.uint8)), [[RED, BLUE]]),
        (encode(np.array([[[0, 0, 65535], [65535, 0, 0]]], np.uint16)), [[RED, BLUE]]),
        (palette_png([[1, 0]], [BLUE, RED]), [[RED, BLUE]]),
    ],
    ids=["color", "grey", "alpha", "16 bits", "palette"],
)
def test_every_kind_of_image_becomes_rgb_of_8_bits(tmp_path, encoded, expected):
    path = tmp_path / "ä 图.png"  # a name beyond ASCII
    path.write_bytes(encoded)
    image = decode_image(path)
    assert image.dtype == np.uint8 and image.tolist() == expected


def test_an_image_is_turned_as_its_exif_data_asks(tmp_path):
    path = tmp_path / "turned.jpg"
    path.write_bytes(turned_jpeg(encode(np.zeros((8, 24, 3), np.uint8), ".jpg"), orientation=6))
    assert decode_image(path).shape == (24, 8, 3)


@pytest.mark.parametrize(
    "content, fragment",
    [
        (b"", "it is empty"),
        (b"no image at all", "its 15 bytes are damaged or of another format"),
        (encode(np.zeros((64, 64, 3), np.uint8))[:40], "OpenCV cannot decode the file"),
    ],
)
def test_a_file_that_does_not_decode_is_named(tmp_path, content, fragment):
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    with pytest.raises(ValueError) as error:
        decode_image(path)
    assert str(error.value).startswith(f"{path}: ") and fragment in str(error.value)
    assert "expected an image such as JPEG or PNG" in str(error.value)


def test_an_image_file_that_is_gone_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"gone.png: the file cannot be read \(No such file or directory\)"):
        decode_image(tmp_path / "gone.png")


def test_reading_annotations_needs_no_torch():
    code = "import sys, segpipe.data.coco, segpipe.data.rasterize, segpipe.labels; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
