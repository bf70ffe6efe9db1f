import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from segpipe.labels import ClassTable
from segpipe.submission import check_submission, pixel_string, png_path, write_submission

CLASSES = ClassTable(
    ("Background", "Glass", "Papier mâché"), ((), ("Glass",), ("Paper",)), ((0, 0, 0), (255, 0, 0), (0, 255, 0))
)
MAPS = [
    ("b.jpg", np.array([[0, 1, 2], [2, 1, 0]], np.uint8)),
    ("batch/a, 1.jpg", np.array([[1, 1, 1], [0, 0, 0]], np.uint8)),
]
EXPECTED = [(name, labels.shape) for name, labels in MAPS]
ROWS = ["b.jpg,0 1 2 2 1 0", '"batch/a, 1.jpg",1 1 1 0 0 0']


def write(folder: Path, *formats: str, maps=MAPS) -> Path:
    write_submission(folder, formats, iter(maps), CLASSES)
    return folder


def write_csv(folder: Path, *rows: str) -> Path:
    text = "\n".join(["image_id,PredictionString", *rows]) + "\n"
    (folder / "submission.csv").write_text(text, encoding="utf-8")
    return folder


def problems(folder: Path, *formats: str, expected=EXPECTED) -> list[str]:
    """What the check says, one line a problem, or nothing."""
    try:
        check_submission(folder, formats, expected, CLASSES.num_classes)
    except ValueError as error:
        head, *lines = str(error).split("\n")
        assert head == f"{folder}: the submission is wrong:" and lines
        return [line.strip() for line in lines]
    return []


# The contest's CSV


def test_pixels_are_written_row_by_row_with_single_spaces():
    assert pixel_string(np.array([[0, 1, 2], [10, 253, 0]], np.uint8)) == "0 1 2 10 253 0"


def test_the_csv_has_the_contests_header_and_a_line_for_each_image_in_order(tmp_path):
    text = (write(tmp_path, "pixels") / "submission.csv").read_bytes().decode()
    assert text == "image_id,PredictionString\n" + "\n".join(ROWS) + "\n"
    assert problems(tmp_path, "pixels") == []


MISSING, EXTRA = "1 ids are missing, such as", "1 ids are not in the test set, such as"
NOT_NUMBERS = "b.jpg: found something other than whole numbers separated by single spaces"


@pytest.mark.parametrize(
    "rows, said",
    [
        (ROWS[:1], [f"{MISSING} batch/a, 1.jpg"]),
        ([*ROWS, "new.jpg,0"], [f"{EXTRA} new.jpg"]),
        ([*ROWS, ROWS[0]], ["1 ids are doubled, such as b.jpg"]),
        (ROWS[::-1], ["the ids are not in the order of the test file"]),
        (["B.jpg,0 1 2 2 1 0", ROWS[1]], [f"{MISSING} b.jpg", f"{EXTRA} B.jpg"]),
        ([], ["2 ids are missing, such as b.jpg, batch/a, 1.jpg"]),
        (["b.jpg,0 1 2 2 1", ROWS[1]], ["b.jpg: found 5 pixels, expected 2 x 3 = 6"]),
        (["b.jpg,0 1 2 2 1 3", ROWS[1]], ["b.jpg: found class 3, expected 0 to 2"]),
        (
            ["b.jpg,0 1 2 2 1 99999999999999999999", ROWS[1]],
            ["b.jpg: found class 99999999999999999999, expected 0 to 2"],
        ),
        (["b.jpg,0 1 2 2 1 -1", ROWS[1]], [NOT_NUMBERS]),
        (["b.jpg,0 1 2 2 1 1.0", ROWS[1]], [NOT_NUMBERS]),
        (["b.jpg,0  1 2 2 1 0", ROWS[1]], [NOT_NUMBERS]),
        (["b.jpg,0 1 2 2 1 0 ", ROWS[1]], [NOT_NUMBERS]),
        (["b.jpg,0 1 2 2 1 ²", ROWS[1]], [NOT_NUMBERS]),
        (["b.jpg,nan", ROWS[1]], [NOT_NUMBERS]),
        (["b.jpg,", ROWS[1]], [NOT_NUMBERS]),
        (
            ["b.jpg,7 7"],  # everything at once
            [
                "b.jpg: found 2 pixels, expected 2 x 3 = 6",
                "b.jpg: found class 7, expected 0 to 2",
                f"{MISSING} batch/a, 1.jpg",
            ],
        ),
    ],
)
def test_the_check_finds(tmp_path, rows, said):
    assert problems(write_csv(tmp_path, *rows), "pixels") == said


def test_the_check_refuses_other_columns(tmp_path):
    (tmp_path / "submission.csv").write_text("id,PredictionString\n" + "\n".join(ROWS) + "\n")
    assert problems(tmp_path, "pixels") == [
        "submission.csv: found columns ['id', 'PredictionString'], expected ['image_id', 'PredictionString']"
    ]


def test_more_images_than_the_check_reads_at_once_are_all_checked(tmp_path):
    maps = [(f"{i}.jpg", np.array([[i % 3]], np.uint8)) for i in range(150)]
    expected = [(name, (1, 1)) for name, _ in maps]
    write(tmp_path, "pixels", maps=maps)
    assert problems(tmp_path, "pixels", expected=expected) == []
    expected[140] = ("140.jpg", (1, 2))
    assert problems(tmp_path, "pixels", expected=expected) == ["140.jpg: found 1 pixels, expected 1 x 2 = 2"]


# Label maps as PNG


def test_label_maps_come_back_from_png_in_their_folders_with_the_class_names(tmp_path):
    write(tmp_path, "png")
    for name, labels in MAPS:
        path = tmp_path / "png" / Path(name).with_suffix(".png")
        np.testing.assert_array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), labels)
    names = {"names": ["Background", "Glass", "Papier mâché"], "categories": [[], ["Glass"], ["Paper"]]}
    assert json.loads((tmp_path / "png" / "classes.json").read_text("utf-8")) == names
    assert problems(tmp_path, "png") == []


def test_only_png_leaves_no_csv_and_only_pixels_no_png(tmp_path):
    assert [path.name for path in write(tmp_path / "a", "png").iterdir()] == ["png"]
    assert [path.name for path in write(tmp_path / "b", "pixels").iterdir()] == ["submission.csv"]


def test_both_formats_are_written_and_checked_in_one_pass(tmp_path):
    write(tmp_path, "pixels", "png")
    assert problems(tmp_path, "pixels", "png") == []
    write_csv(tmp_path, ROWS[0])
    (tmp_path / "png" / "b.png").unlink()
    said = problems(tmp_path, "pixels", "png")
    assert said == [f"{MISSING} batch/a, 1.jpg", "b.png: missing or not a PNG"]


@pytest.mark.parametrize("file_name", ["../x.jpg", "/x.jpg", "a/../../x.jpg"])
def test_a_file_name_that_leads_out_of_the_folder_is_refused(tmp_path, file_name):
    with pytest.raises(ValueError, match=f"'{file_name}': would be written outside"):
        write(tmp_path / "out", "png", maps=[(file_name, MAPS[0][1])])
    assert not list(tmp_path.rglob("*.png"))


@pytest.mark.parametrize(
    "content, said",
    [
        (b"no PNG", "b.png: missing or not a PNG"),
        (np.zeros((3, 2), np.uint8), "b.png: found (3, 2) uint8, expected (2, 3) uint8"),
        (np.zeros((2, 3), np.uint16), "b.png: found (2, 3) uint16, expected (2, 3) uint8"),
        (np.full((2, 3), 3, np.uint8), "b.png: found class 3, expected 0 to 2"),
    ],
)
def test_the_check_finds_in_a_png(tmp_path, content, said):
    write(tmp_path, "png")
    encoded = content if isinstance(content, bytes) else cv2.imencode(".png", content)[1].tobytes()
    (tmp_path / "png" / "b.png").write_bytes(encoded)
    assert problems(tmp_path, "png") == [said]


def test_the_check_finds_more_png_files_than_test_images(tmp_path):
    write(tmp_path, "png")
    (tmp_path / "png" / "batch" / "old.png").write_bytes(b"")
    assert problems(tmp_path, "png") == [f"{tmp_path / 'png'}: 1 more PNG files than test images"]


def test_two_images_that_would_be_one_png_are_reported(tmp_path):
    maps = [("a.jpg", MAPS[0][1]), ("a.jpeg", MAPS[0][1])]
    write(tmp_path, "png", maps=maps)
    assert problems(tmp_path, "png", expected=[(name, (2, 3)) for name, _ in maps]) == [
        "a.jpg and a.jpeg would both be a.png; rename one, or leave out png"
    ]


def test_a_png_has_the_images_folders_and_name():
    assert png_path(Path("out"), "sub/a.b.jpg") == Path("out/sub/a.b.png")
