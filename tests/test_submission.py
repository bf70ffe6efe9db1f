"""Submissions as they are written and read back; golden files: tests/golden/submission."""

import dataclasses
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from golden.submission import CLASSES, FOLDER, LAYOUTS, MAPS, layout
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from segpipe.submission.decode import read_pixels, read_runs
from segpipe.submission.encode import pixel_text, png_bytes, run_texts
from segpipe.submission.layout import Layout
from segpipe.submission.png import decode_png, png_path, png_problems
from segpipe.submission.read import open_submission
from segpipe.submission.sample import Sample, read_sample
from segpipe.submission.verify import verify_submission
from segpipe.submission.write import write_submission

ROWS = ["b.jpg,0 1 2 2 1 0", '"batch/a, 1.jpg",1 1 1 0 0 0']
LABEL_MAPS = hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 253))


def write(folder: Path, form: Layout, maps=MAPS) -> list:
    return write_submission(folder, form, iter(maps))


def problems(folder: Path, form: Layout, written) -> list[str]:
    """What reading back says, one line a problem, or nothing."""
    try:
        verify_submission(folder, form, written)
    except ValueError as error:
        head, *lines = str(error).split("\n")
        assert head == f"{folder}: the submission is wrong:" and lines
        return [line.strip() for line in lines]
    return []


# Golden files: what is written has these bytes, as long as nobody says in a commit why not


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_is_written_is_the_golden_file(tmp_path, name):
    written = write(tmp_path, LAYOUTS[name])
    found = {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    golden = FOLDER / name
    expected = {path.relative_to(golden).as_posix(): path.read_bytes() for path in golden.rglob("*") if path.is_file()}
    if "png" in name:  # the bytes of a PNG are its library's; what it shows is ours
        found, expected = pictures(found), pictures(expected)
    assert found == expected
    assert problems(golden, LAYOUTS[name], written) == []


def pictures(files: dict[str, bytes]) -> dict[str, object]:
    """The files with PNGs decoded to colours."""
    return {
        name: cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).tolist() if name.endswith(".png") else data
        for name, data in files.items()
    }


def test_the_golden_files_are_what_their_command_makes(tmp_path):
    run = [sys.executable, "-m", "golden.submission", str(tmp_path)]
    subprocess.run(run, check=True, cwd=Path(__file__).parent)
    names = {path.relative_to(FOLDER) for path in FOLDER.rglob("*") if path.is_file()}
    assert {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()} == names


# The contest's CSV


def test_pixels_are_written_row_by_row_with_single_spaces():
    assert pixel_text(np.array([[0, 1, 2], [10, 253, 0]], np.uint8)) == b"0 1 2 10 253 0"


def test_the_csv_has_the_contests_header_and_a_line_for_each_image_in_order(tmp_path):
    write(tmp_path, layout("pixels"))
    text = (tmp_path / "submission.csv").read_bytes().decode()
    assert text == "image_id,PredictionString\n" + "\n".join(ROWS) + "\n"
    assert [path.name for path in tmp_path.iterdir()] == ["submission.csv"]


@settings(deadline=None)  # other work may share the cores
@given(LABEL_MAPS)
def test_pixels_are_what_a_loop_over_them_gives_and_come_back(label_map):
    text = pixel_text(label_map).decode()
    assert text == " ".join(str(value) for row in label_map.tolist() for value in row)
    read, faults = read_pixels(text, label_map.shape, 254)
    assert faults == [] and read.tolist() == label_map.tolist()


NOT_NUMBERS = "b.jpg: found something other than whole numbers separated by single spaces"
MISSING = "1 id is missing: batch/a, 1.jpg"


@pytest.mark.parametrize(
    "rows, said",
    [
        (ROWS[:1], [MISSING]),
        ([*ROWS, "new.jpg,0"], ["1 id is not of the test set: new.jpg"]),
        ([*ROWS, ROWS[0]], ["1 id is there more than once: b.jpg"]),
        (ROWS[::-1], ["the ids are not in the order of the test file"]),
        (["B.jpg,0 1 2 2 1 0", ROWS[1]], ["1 id is missing: b.jpg", "1 id is not of the test set: B.jpg"]),
        ([], ["2 ids are missing: b.jpg, batch/a, 1.jpg"]),
        (["b.jpg,0 1 2 2 1", ROWS[1]], ["b.jpg: found 5 pixels, expected 2 x 3 = 6"]),
        (["b.jpg,0 1 2 2 1 3", ROWS[1]], ["b.jpg: found class 3, expected 0 to 2"]),
        (
            [f"b.jpg,0 1 2 2 1 {'9' * 5000}", ROWS[1]],
            [f"b.jpg: found the number '{'9' * 57}...{'9' * 58}', larger than anything that could stand here"],
        ),
        (["b.jpg,0 1 2 2 1 1", ROWS[1]], ["b.jpg: is not the label map that was to be written"]),
        (["b.jpg,0 1 2 2 1 -1", ROWS[1]], [f"{NOT_NUMBERS}, such as '-1'"]),
        (["b.jpg,0 1 2 2 1 1.0", ROWS[1]], [f"{NOT_NUMBERS}, such as '1.0'"]),
        (["b.jpg,0  1 2 2 1 0", ROWS[1]], [NOT_NUMBERS]),
        (["b.jpg,0 1 2 2 1 0 ", ROWS[1]], [NOT_NUMBERS]),
        (["b.jpg,0 1 2 2 1 ²", ROWS[1]], [f"{NOT_NUMBERS}, such as '²'"]),
        (["b.jpg,nan", ROWS[1]], [f"{NOT_NUMBERS}, such as 'nan'"]),
        (["b.jpg,", ROWS[1]], [f"{NOT_NUMBERS}: nothing at all"]),
        (["b.jpg", ROWS[1]], ["line 2: found 1 fields, expected 2"]),
        (["b.jpg,0,1", ROWS[1]], ["line 2: found 3 fields, expected 2"]),
        (
            ["b.jpg,7 7"],  # everything at once
            [MISSING, "b.jpg: found 2 pixels, expected 2 x 3 = 6", "b.jpg: found class 7, expected 0 to 2"],
        ),
    ],
)
def test_reading_back_finds(tmp_path, rows, said):
    written = write(tmp_path, layout("pixels"))
    (tmp_path / "submission.csv").write_text("\n".join(["image_id,PredictionString", *rows]) + "\n", encoding="utf-8")
    assert problems(tmp_path, layout("pixels"), written) == [f"submission.csv: {line}" for line in said]


def test_reading_back_refuses_other_columns(tmp_path):
    written = write(tmp_path, layout("pixels"))
    (tmp_path / "submission.csv").write_text("id,PredictionString\n" + "\n".join(ROWS) + "\n")
    assert problems(tmp_path, layout("pixels"), written) == [
        "submission.csv: found columns ['id', 'PredictionString'], expected ['image_id', 'PredictionString']"
    ]


# Run lengths


def test_runs_count_pixels_from_1_down_the_columns():
    #  1 3 5
    #  2 4 6
    shown = np.array([[0, 1, 1], [1, 1, 2]], np.uint8)
    assert run_texts(shown, 3) == [b"2 4", b"6 1", b""]


@settings(deadline=None)  # other work may share the cores
@given(LABEL_MAPS)
def test_runs_are_those_of_pycocotools_and_come_back(label_map):
    texts = run_texts(label_map, 253)
    for value in np.unique(label_map[label_map > 0]).tolist():
        mask = label_map == value
        gaps_and_runs = coco_counts(mask)
        starts = np.cumsum(gaps_and_runs)[: len(gaps_and_runs) // 2 * 2 : 2] + 1
        pairs = np.stack([starts, gaps_and_runs[1::2]], axis=1).ravel()
        assert texts[value - 1].decode() == " ".join(map(str, pairs.tolist()))
        read, faults = read_runs(texts[value - 1].decode(), mask.shape)
        assert faults == [] and read.tolist() == mask.tolist()
    assert {texts[value - 1] for value in range(1, 254) if not (label_map == value).any()} <= {b""}


def coco_counts(mask: np.ndarray) -> list[int]:
    """Lengths of gaps and runs in turns, out of pycocotools' own compressed string: a base 32 with differences."""
    counts, place, text = [], 0, coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
    while place < len(text):
        value, shift, more = 0, 0, True
        while more:
            byte = text[place] - 48
            value |= (byte & 0x1F) << shift
            more, place, shift = bool(byte & 0x20), place + 1, shift + 5
        if byte & 0x10:
            value |= -1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
    return counts


@pytest.mark.parametrize("start", [1, 9, 10, 999, 1000, 1001, 65_536, 999_999, 1_000_000, 1_000_001, 1_001_000])
def test_runs_of_large_images_have_all_their_digits(start):
    shown = np.zeros((1_100_000, 1), np.uint8)
    shown[start - 1 : start + 1005] = 1
    assert run_texts(shown, 1) == [f"{start} 1006".encode()]


@pytest.mark.parametrize(
    "text, said",
    [
        ("1 2 3", "found 3 numbers, expected pairs of start and length"),
        ("0 2", "found a start or a length of 0; pixels are counted from 1, and a run has at least one"),
        ("3 0", "found a start or a length of 0; pixels are counted from 1, and a run has at least one"),
        ("5 3", "found a run up to pixel 7, expected at most 6"),
        ("1 3 2 1", "found the run at 2 within or before that at 1; expected them in order"),
        ("-1", "found something other than whole numbers separated by single spaces, such as '-1'"),
    ],
)
def test_faulty_runs_are_told(text, said):
    assert read_runs(text, (2, 3)) == (None, [said])


def test_masks_of_one_image_that_share_a_pixel_are_told(tmp_path):
    form = layout("rle")
    written = write(tmp_path, form)
    path = tmp_path / "submission_rle.csv"
    path.write_text(path.read_text().replace("b.jpg_2,2 1 5 1", "b.jpg_2,2 2 5 1"))
    assert problems(tmp_path, form, written) == [
        "submission_rle.csv: b.jpg_2: 1 pixels are another class's, too; expected one class a pixel"
    ]


def test_every_image_has_a_row_for_each_class_with_a_mask(tmp_path):
    form = layout("rle", rle={"classes": ["Papier mâché"]})
    write(tmp_path, form)
    lines = (tmp_path / "submission_rle.csv").read_text("utf-8").splitlines()
    assert lines == ["ImageId_ClassId,EncodedPixels", "b.jpg_2,2 1 5 1", '"batch/a, 1.jpg_2",']


def test_one_row_an_image_is_one_mask_of_all_classes_but_the_background(tmp_path):
    form = layout("rle", rle={"rows": "image", "id": "{stem}", "columns": ["img", "rle_mask"]})
    assert form.labels("rle") == ["(no mask)", "Glass + Papier mâché"]
    written = write(tmp_path, form)
    lines = (tmp_path / "submission_rle.csv").read_text("utf-8").splitlines()
    assert lines == ["img,rle_mask", "b,2 4", '"a, 1",1 1 3 1 5 1']
    assert problems(tmp_path, form, written) == []


def test_a_class_that_is_not_there_is_told_with_the_nearest():
    with pytest.raises(ValueError, match=r"submission.rle.classes: found 'Glas'; there are .*did you mean 'Glass'\?"):
        layout("rle", rle={"classes": ["Glas"]})


# The sample submission


def sampled(form: Layout, *ids: str) -> Layout:
    return dataclasses.replace(form, sample=Sample(Path("sample.csv"), ("id", "says"), ids))


@pytest.mark.parametrize("format_", ["pixels", "rle"])
def test_rows_and_columns_are_those_of_the_sample(tmp_path, format_):
    own = [id_ for name, _ in MAPS for id_ in layout(format_).ids(format_, name)]
    for ids in ([], own[::-1], own):
        form = sampled(layout(format_), *ids)
        written = write(tmp_path, form)
        (table,) = tmp_path.glob("*.csv")
        header, *rows = table.read_text("utf-8").splitlines()
        assert header == "id,says"
        assert [row.startswith('"') for row in rows] == ["," in id_ for id_ in ids or own]
        assert problems(tmp_path, form, written) == []
        assert [path.name for path in tmp_path.iterdir()] == [table.name], "nothing else stays there"
    written = write(tmp_path, layout(format_))
    swapped = problems(tmp_path, dataclasses.replace(sampled(layout(format_), *own[::-1])), written)
    assert "found columns" in swapped[0]


@pytest.mark.parametrize(
    "text, said",
    [
        ("", r"found columns \[\]; expected two"),
        ("id\nb.jpg\n", r"found columns \['id'\]; expected two"),
        ("id,a,b\n", r"found columns \['id', 'a', 'b'\]"),
        ("id,a\nx,\nx,\n", "an id stands there twice"),
        ("id,a\nx\n", "line 2: found 1 fields, expected 2"),
    ],
)
def test_a_faulty_sample_is_told(tmp_path, text, said):
    (tmp_path / "sample.csv").write_text(text)
    with pytest.raises(ValueError, match=said):
        read_sample(tmp_path / "sample.csv")
    with pytest.raises(ValueError, match=r"none\.csv: not found; expected a sample submission"):
        read_sample(tmp_path / "none.csv")


# Label maps as PNG


@pytest.mark.parametrize("palette", [False, True])
def test_label_maps_come_back_from_png_in_their_folders_with_the_class_names(tmp_path, palette):
    form = layout("png", png={"palette": palette})
    written = write(tmp_path, form)
    for name, labels in MAPS:
        seen = cv2.imread(str(tmp_path / "png" / Path(name).with_suffix(".png")), cv2.IMREAD_UNCHANGED)
        expected = np.array(CLASSES.colors, np.uint8)[labels][..., ::-1] if palette else labels
        np.testing.assert_array_equal(seen, expected)  # cv2 gives the colours of a palette
    names = {"names": ["Background", "Glass", "Papier mâché"], "categories": [[], ["Glass"], ["Paper"]]}
    assert json.loads((tmp_path / "png" / "classes.json").read_text("utf-8")) == names
    assert problems(tmp_path, form, written) == []


@settings(max_examples=30, deadline=None)
@given(LABEL_MAPS)
def test_any_classes_come_back_from_png(label_map):
    colors = tuple((index, 255 - index, index // 2) for index in range(254))
    names = tuple(map(str, range(254)))
    many = dataclasses.replace(CLASSES, names=names, categories=((),) * 254, colors=colors)
    for palette in (None, many):
        read = decode_png(png_bytes(label_map, palette), label_map.shape, 254)
        assert read.dtype == np.uint8 and read.tolist() == label_map.tolist()


@pytest.mark.parametrize("file_name", ["../x.jpg", "/x.jpg", "a/../../x.jpg", "a\\..\\x.jpg", "."])
def test_a_file_name_that_leads_out_of_the_folder_is_refused_and_nothing_half_written_stays(tmp_path, file_name):
    with pytest.raises(ValueError, match="would be written outside"):
        write(tmp_path / "out", layout("pixels", "png"), maps=[MAPS[0], (file_name, MAPS[0][1])])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["png"]


def test_a_link_that_leads_out_of_the_folder_is_refused(tmp_path):
    (tmp_path / "out" / "png").mkdir(parents=True)
    (tmp_path / "out" / "png" / "batch").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="through a link"):
        png_path(tmp_path / "out" / "png", "batch/x.jpg")


@pytest.mark.parametrize(
    "content, said",
    [
        (None, "1 file is missing: b.png"),
        (b"no PNG", "b.png: it is no PNG (its first bytes are b'no PNG'); expected a PNG whose pixels are class"),
        (np.zeros((3, 2), np.uint8), "b.png: found 3 x 2 pixels, expected 2 x 3"),
        (np.zeros((2, 3), np.uint16), "b.png: found 16 bits a pixel, expected 8"),
        (np.zeros((2, 3, 3), np.uint8), "b.png: it holds colours (RGB), not class numbers"),
        (np.full((2, 3), 3, np.uint8), "b.png: found class 3, expected 0 to 2"),
        (np.zeros((2, 3), np.uint8), "b.jpg: is not the label map that was to be written"),
    ],
)
def test_reading_back_finds_in_a_png(tmp_path, content, said):
    written = write(tmp_path, layout("png"))
    path = tmp_path / "png" / "b.png"
    path.unlink()
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else cv2.imencode(".png", content)[1].tobytes())
    (found,) = problems(tmp_path, layout("png"), written)
    assert found.startswith(f"png: {said}")


def test_reading_back_finds_a_png_of_no_test_image(tmp_path):
    written = write(tmp_path, layout("png"))
    (tmp_path / "png" / "batch" / "old.png").write_bytes(b"")
    assert problems(tmp_path, layout("png"), written) == ["png: 1 file is not of the test set: batch/old.png"]


def test_two_images_that_would_be_one_png_are_reported(tmp_path):
    written = write(tmp_path, layout("png"), maps=[("a.jpg", MAPS[0][1]), ("a.jpeg", MAPS[0][1])])
    assert problems(tmp_path, layout("png"), written) == [
        "png: a.jpg and a.jpeg would both be a.png; rename one, or leave png out of the formats"
    ]


def test_of_any_number_of_images_for_one_png_all_are_named_in_one_line():
    assert list(png_problems(["a.jpg", "b.jpg", "a.png", "../a.png", "a.bmp"])) == [
        "'../a.png': would be written outside the folder of label maps, or has no valid name",
        "a.jpg and a.png and a.bmp would all be a.png; rename one, or leave png out of the formats",
    ]


def test_a_png_has_the_images_folders_and_name():
    assert png_path(Path("out"), "sub/a.b.jpg") == Path("out/sub/a.b.png")


# All of them


def test_all_formats_are_written_and_checked_in_one_pass(tmp_path):
    form = layout("pixels", "rle", "png")
    written = write(tmp_path, form)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["png", "submission.csv", "submission_rle.csv"]
    assert problems(tmp_path, form, written) == []
    (tmp_path / "png" / "b.png").unlink()
    (tmp_path / "submission.csv").write_text(f"image_id,PredictionString\n{ROWS[0]}\n")
    assert problems(tmp_path, form, written) == [f"submission.csv: {MISSING}", "png: 1 file is missing: b.png"]


@settings(max_examples=20, deadline=None)
@given(st.lists(LABEL_MAPS.map(lambda labels: labels % 3), max_size=4), st.booleans())
def test_any_label_maps_pass_their_own_check(tmp_path_factory, maps, by_image):
    folder = tmp_path_factory.mktemp("any")
    rle = {"rows": "image", "id": "{stem}"} if by_image else {}
    form = layout("pixels", "rle", "png", rle=rle)
    written = write(folder, form, [(f"{number}.jpg", labels) for number, labels in enumerate(maps)])
    assert problems(folder, form, written) == []


def test_a_zip_of_the_folder_is_read_as_the_folder_is(tmp_path):
    form = layout("png")
    written = write(tmp_path, form)
    sizes = {image.file_name: image.size for image in written}
    with zipfile.ZipFile(tmp_path / "maps.zip", "w") as archive:
        for path in (tmp_path / "png").rglob("*"):
            archive.write(path, path.relative_to(tmp_path / "png"))
    with open_submission(tmp_path / "maps.zip", "png", form, sizes) as file:
        assert file.faults == []
        for name, labels in MAPS:
            assert file.label_map(name)[0].tolist() == labels.tolist()
