"""PNG label maps as a second source: read by value, matched with their images, equal to COCO once prepared."""

import json
import subprocess

import cv2
import numpy as np
import pytest
from coco_folder import GLASS, PAPER, Picture, box, data_params, pictures, prepare_folder, split_params, write_folder
from documented import command_lines
from hypothesis import given
from hypothesis import strategies as st
from label_map_folder import (
    PNG_PARAMS,
    png_file,
    raw_png,
    save_label_map,
    values_of,
    write_classes,
    write_folders,
)
from PIL import Image

from segpipe.data.prepare.prepare import prepare
from segpipe.data.prepared import Prepared
from segpipe.data.source.class_values import read_class_values
from segpipe.data.source.images import ImageFault
from segpipe.data.source.label_maps import read_label_maps
from segpipe.data.source.png import open_label_map, to_classes
from segpipe.data.source.records import ImageRecord, LabelMap
from segpipe.labels import IGNORE_INDEX
from segpipe.stage import read_json

V = IGNORE_INDEX
BOTH = [box(GLASS, 0, 0, 4, 2), box(PAPER, 2, 1, 6, 4)]


@pytest.fixture
def root(tmp_path):
    return tmp_path / "raw"


def opened(folder, encoded, height, width, values=frozenset(range(65_536))):
    (folder / "m.png").write_bytes(encoded)
    return open_label_map(folder, ImageRecord(1, "a.jpg", height, width, LabelMap("m.png", values)))


# Pixel values


@given(
    depth=st.sampled_from([1, 2, 4, 8, 16]),
    palette=st.booleans(),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    seed=st.integers(0, 99),
)
def test_values_are_samples_or_palette_indices_at_every_depth(tmp_path_factory, depth, palette, size, seed):
    depth = min(depth, 8) if palette else depth
    samples = np.random.default_rng(seed).integers(0, 2**depth, size)
    colors = bytes(range(255, -1, -1)) * 3 if palette else b""  # not the identity
    encoded = raw_png(samples, depth, 3 if palette else 0, colors[: 3 * 2**depth])
    found = opened(tmp_path_factory.mktemp("png"), encoded, *size)
    np.testing.assert_array_equal(found, samples)
    assert found.dtype == (np.uint16 if depth == 16 else np.uint8)


def test_an_interlaced_label_map_is_read(tmp_path):
    values = np.arange(35, dtype=np.uint8).reshape(5, 7)
    # Adam7, written by hand: the pixels of each pass, in rows that begin with the filter 0
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    parts = [values[top::down, left::right] for top, left, down, right in passes]
    rows = b"".join(b"\0" + row.tobytes() for part in parts if part.size for row in part)
    encoded = png_file((5, 7), 8, 0, rows, interlaced=True)
    np.testing.assert_array_equal(opened(tmp_path, encoded, 5, 7), values)


@pytest.mark.parametrize(
    "encoded, says",
    [
        (b"", "m.png is an empty file"),
        (b"P5 6 4 255 ", "m.png is no PNG"),
        (cv2.imencode(".jpg", np.zeros((4, 6), np.uint8))[1].tobytes(), "is a JPEG, whose compression changes class n"),
        (raw_png(np.zeros((4, 18), int), 8, 2), "holds colours (RGB), not class numbers"),
        (raw_png(np.zeros((4, 6), int), 8, 0)[:20], "is a damaged PNG"),
        (raw_png(np.zeros((4, 6), int), 8, 0)[:-1], "is cut off"),
        (raw_png(np.zeros((4, 6), int), 8, 0)[:-12], "is cut off"),
        (raw_png(np.zeros((6, 4), int), 8, 0), "has height 6 and width 4 (its image is turned by the rotation"),
        (raw_png(np.zeros((4, 7), int), 8, 0), "has height 4 and width 7; expected height 4 and width 6, as a.jpg has"),
    ],
)
def test_a_label_map_that_cannot_be_read_by_value_is_a_fault(tmp_path, encoded, says):
    with pytest.raises(ImageFault) as fault:
        opened(tmp_path, encoded, 4, 6)
    assert says in str(fault.value)


@given(place=st.integers(8, 90), bit=st.integers(0, 7))
def test_a_flipped_bit_is_noticed_wherever_it_is(tmp_path_factory, place, bit):
    encoded = bytearray(raw_png(np.random.default_rng(0).integers(0, 4, (4, 6)), 8, 0))
    place = min(place, len(encoded) - 1)
    encoded[place] ^= 1 << bit
    with pytest.raises(ImageFault):
        opened(tmp_path_factory.mktemp("png"), bytes(encoded), 4, 6)


def test_a_small_file_that_unpacks_to_something_huge_is_not_unpacked(tmp_path, monkeypatch):
    bomb = raw_png(np.zeros((1, 1), int), 8, 0)
    bomb = bomb[:16] + (60_000).to_bytes(4, "big") * 2 + bomb[24:]
    monkeypatch.setattr("segpipe.data.source.png.decode", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(ImageFault, match="has height 60000 and width 60000"):
        opened(tmp_path, bomb, 4, 6)


def test_values_without_a_row_are_counted(tmp_path):
    samples = np.array([[0, 255, 2, 9], [9, 2, 300, 0]])
    with pytest.raises(
        ImageFault, match=r"classes.csv: 9 \(2 pixels\), 300 \(1 pixels\); expected values that"
    ) as fault:
        opened(tmp_path, raw_png(samples, 16, 0), 2, 4, frozenset({2}))
    assert "0 where nothing is annotated, or 255 where nothing counts" in fault.value.expected
    assert opened(tmp_path, raw_png(samples, 16, 0), 2, 4, frozenset({2, 9, 300})).tolist() == samples.tolist()


@pytest.mark.parametrize("fill", [0, V])
def test_values_become_class_indices_and_what_is_not_annotated_becomes_fill(fill):
    values = np.array([[0, 2, 7, 255, 9, 11]], np.uint8)
    # 9 is dropped, 11 is ignored
    assert to_classes(values, {2: 1, 7: 2, 9: None, 11: V}, fill).tolist() == [[fill, 1, 2, V, fill, V]]
    assert to_classes(values[:, :1], {0: 3}, fill).tolist() == [[3]]  # a row for 0 makes it a class
    assert to_classes(values[:, 3:4], {255: 3}, fill).tolist() == [[3]]
    assert to_classes(values.astype(np.uint16), {2: 1, 7: 2, 9: 0, 11: 0, 65_535: 4}, fill)[0, 2] == 2


# The same data given as COCO and as PNG


def without_objects(check: dict) -> dict:
    """What is found in data, without what only annotations tell and warnings that name their files."""
    census = check["census"]
    for part in census["sets"].values():
        for counted in part.get("classes", {}).values():
            del counted["objects"]
    return check | {"census": census | {"object_sizes": None}, "warnings": [row["kind"] for row in check["warnings"]]}


@pytest.mark.parametrize("background", ["class", "ignore"])
@pytest.mark.parametrize("sizes", [{}, {"image_size": [3, 5]}, {"image_size": [3, 5], "resize": "letterbox"}])
def test_the_same_data_as_coco_and_as_label_maps_is_prepared_to_the_same_bytes(tmp_path, background, sizes):
    lists = {
        "train": [Picture("a.png", 4, 6, BOTH), Picture("b c.png", 5, 3, [box(PAPER, 0, 0, 2, 2)])],
        "val": pictures("c", "d", annotations=[box(GLASS, 1, 1, 3, 3)]),
        "pool": pictures("p", "q"),
    }
    coco, png = tmp_path / "coco", tmp_path / "png"
    write_folder(coco, **lists)
    write_folder(png, **lists)  # the images lie in the same places; its JSON files are not read
    write_classes(png)
    for name in ("train", "val"):
        for picture in lists[name]:
            save_label_map(png / "labels" / picture.file_name, values_of(picture))
        lines = [f"{picture.file_name}\tlabels/{picture.file_name}" for picture in lists[name]]
        (png / f"{name}.txt").write_text("\n".join(lines))
    (png / "pool.csv").write_text("image\np.png\nq.png\n")
    (png / "test.txt").write_text("x.png\r\ny.png\r\n")
    changes = {"background": background, **sizes}
    prepare(data_params(coco, unlabeled=["pool.json"], **changes), split_params(), tmp_path / "1")
    named = {"train": "train.txt", "val": "val.txt", "test": "test.txt", "unlabeled": ["pool.csv"], "format": "png"}
    prepare(data_params(png, **named, **changes), split_params(), tmp_path / "2")
    files = sorted(path.name for path in (tmp_path / "1").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "2").iterdir()) and len(files) > 8
    for name in files:
        first, second = ((tmp_path / run / name).read_bytes() for run in "12")
        if name == "table.json":  # ids are those of the COCO file, or count lines
            first, second = (json.loads(text) for text in (first, second))
            for entry in (*first["images"], *second["images"]):
                del entry["image_id"]
        if name == "data_check.json":  # a label map does not say what is one object
            first, second = (without_objects(json.loads(text)) for text in (first, second))
        assert first == second, name


def test_folders_are_matched_by_the_names_of_their_files(root):
    write_folders(root, train=[Picture("a.png", 4, 6, BOTH), Picture("sub/b.png", 2, 3, [box(PAPER, 0, 0, 2, 2)])])
    (root / "train/images/a.png").rename(root / "train/images/a.JPEG")  # what counts is what a file holds
    (root / "train/images/.DS_Store").write_bytes(b"x")
    prepared = Prepared(prepare_folder(root, **PNG_PARAMS, unlabeled=[]), fold=0)
    assert [entry.file_name for entry in prepared.entries][:2] == ["train/images/a.JPEG", "train/images/sub/b.png"]
    assert prepared.classes.names == ("Background", "Glass", "Paper")
    assert prepared.target(0).tolist() == [
        [1, 1, 1, 1, 0, 0],
        [1, 1, 2, 2, 2, 2],
        [0, 0, 2, 2, 2, 2],
        [0, 0, 2, 2, 2, 2],
    ]
    assert prepared.target(1).tolist() == [[2, 2, 0], [2, 2, 0]]


def test_classes_are_dropped_ignored_and_merged_by_name(root):
    pictures_ = [
        Picture("a.png", 1, 5, [box(value, place, 0, place + 1, 1) for place, value in enumerate((2, 7, 8, 9))])
    ]
    write_folders(root, train=pictures_)
    values = values_of(pictures_[0])
    values[0, 4] = 255
    save_label_map(root / "train/masks/a.png", values)
    write_classes(root, {2: "Glass", 7: "Paper", 8: "Hand", 9: "Shadow"})
    merged = {"classes": [{"Litter": ["Glass", "Paper"]}], "drop": ["Shadow"], "ignore": ["Hand"]}
    prepared = Prepared(prepare_folder(root, **PNG_PARAMS, **merged), fold=0)
    assert prepared.classes.names == ("Background", "Litter")
    assert prepared.target(0).tolist() == [[1, 1, V, 0, V]]


def test_a_folder_of_images_alone_is_an_unlabelled_list(root):
    write_folders(root)
    for name in ("x.png", "y.png"):
        (root / "test/images" / name).rename(root / "test" / name)
    (root / "test/images").rmdir()
    prepared = Prepared(prepare_folder(root, **PNG_PARAMS), fold=0)
    assert [prepared.entries[index].file_name for index in prepared.sets["test"]] == ["test/x.png", "test/y.png"]


def test_the_label_maps_of_an_unlabelled_list_are_not_looked_at(root):
    write_folders(root)
    save_label_map(root / "test/masks/x.png", np.full((9, 9), 99, np.uint8))
    file, problems = read_label_maps(root / "test", root, labeled=False)
    assert not problems and [image.label_map for image in file.images] == [None, None]
    (root / "list.csv").write_text("test/images/x.png,nowhere.png\n")
    file, problems = read_label_maps(root / "list.csv", root, labeled=False)
    assert not problems and [image.file_name for image in file.images] == ["test/images/x.png"]


def test_skip_leaves_out_images_with_a_faulty_label_map(root):
    write_folders(root)
    save_label_map(root / "train/masks/a.png", np.full((4, 6), 9, np.uint8))
    (root / "val/masks/c.png").unlink()
    out = prepare_folder(root, **PNG_PARAMS, on_problem="skip")
    prepared = Prepared(out, fold=0)
    kept = [prepared.entries[index].file_name for index in prepared.sets["labeled"]]
    assert kept == ["train/images/b.png", "val/images/d.png", "val/images/e.png", "val/images/f.png"]
    first, second = read_json(out / "data_check.json")["left_out"]
    assert "images/c.png: no file in masks/ matches it; expected one for each image: masks/c.png" in first
    assert "train/masks/a.png holds values without a row in classes.csv: 9 (24 pixels)" in second


def test_links_to_folders_are_followed_but_not_out_of_the_root_nor_in_circles(root, tmp_path):
    write_folders(root)
    (root / "train").rename(root / "VOC")
    (root / "train").mkdir()
    for name in ("images", "masks"):
        (root / "train" / name).symlink_to(root / "VOC" / name)
    (root / "VOC/images/again").symlink_to(root / "VOC/images")
    file, problems = read_label_maps(root / "train", root, labeled=True)
    assert not problems and [image.file_name for image in file.images] == ["train/images/a.png", "train/images/b.png"]
    (root / "VOC").rename(tmp_path / "VOC")
    (tmp_path / "VOC/images/again").unlink()
    for name in ("images", "masks"):
        (root / "train" / name).unlink()
        (root / "train" / name).symlink_to(tmp_path / "VOC" / name)
    file, problems = read_label_maps(root / "train", root, labeled=True)
    assert not file.images and all("leads out of data.root through a symbolic link" in str(p) for p in problems)


# Text lists


@pytest.mark.parametrize(
    "name, line",
    [
        ("l.txt", "a.png m.png"),
        ("l.txt", "a.png   m.png  "),
        ("l.txt", "a.png\tm.png"),
        ("l.csv", "image,mask\na.png,m.png"),
        ("l.csv", '"a.png","m.png"'),
        ("l.txt", "\ufeffa.png, m.png\r\n\r\n"),
    ],
)
def test_names_on_a_line_are_separated_by_a_tab_a_comma_or_blanks(tmp_path, name, line):
    pictures("a")[0].write(tmp_path)
    save_label_map(tmp_path / "m.png", np.zeros((4, 6), np.uint8))
    (tmp_path / name).write_bytes(line.encode())
    file, problems = read_label_maps(tmp_path / name, tmp_path, labeled=True)
    assert not problems
    assert [(image.file_name, image.label_map.file_name) for image in file.images] == [("a.png", "m.png")]


def test_names_with_blanks_and_commas_are_separated_by_a_tab_and_may_be_beyond_ascii(tmp_path):
    Picture("ä 1, 图.png").write(tmp_path)
    save_label_map(tmp_path / "m 1.png", np.zeros((4, 6), np.uint8))
    (tmp_path / "l.txt").write_text("ä 1, 图.png\tm 1.png\n", encoding="utf-8")
    file, problems = read_label_maps(tmp_path / "l.txt", tmp_path, labeled=True)
    assert not problems and file.images[0].file_name == "ä 1, 图.png"


# classes.csv


def classes_file(folder, text):
    (folder / "classes.csv").write_text(text, encoding="utf-8")
    categories, problems = read_class_values(folder)
    return [(category.id, category.name) for category in categories], [str(problem) for problem in problems]


def test_rows_may_stand_in_any_order_and_names_may_hold_commas(tmp_path):
    text = '\ufeffvalue, name\r\n7,Paper\r\n\r\n0,"Bottles, glass"\r\n'
    assert classes_file(tmp_path, text) == ([(7, "Paper"), (0, "Bottles, glass")], [])


def test_every_faulty_row_is_told_and_sound_ones_are_kept(tmp_path):
    rows = ["value,name", "1,Glass", "1,Paper", "x,Metal", "70000,Wood", "4,", "5,Glass", "6,Tin,7", "8,Sky"]
    categories, problems = classes_file(tmp_path, "\n".join(rows))
    assert categories == [(8, "Sky")]
    said = [
        "line 2: 2 rows have the value 1",
        "line 2: 2 rows have the name 'Glass'",
        "line 3: 2 rows have the value 1",
        "line 4: the value is 'x'; expected a whole number from 0 to 65535",
        "line 5: the value is '70000'",
        "line 6: the name is ''",
        "line 7: 2 rows have the name 'Glass'",
        "line 8: the row has 3 fields",
    ]
    assert [line for line, problem in zip(said, problems, strict=True) if line not in problem] == []


@pytest.mark.parametrize(
    "text, says", [("", "is empty"), ("1,Glass\n", "first line is ['1', 'Glass']"), ("value,name", "no row")]
)
def test_a_file_without_header_or_rows_is_one_problem(tmp_path, text, says):
    categories, (problem,) = classes_file(tmp_path, text)
    assert categories == [] and says in problem


def test_pillow_and_cv2_disagree_on_palettes_which_is_why_pillow_reads_them(tmp_path):
    save_label_map(tmp_path / "m.png", np.array([[0, 1], [2, 3]], np.uint8))
    assert np.asarray(Image.open(tmp_path / "m.png")).tolist() == [[0, 1], [2, 3]]
    assert cv2.imread(str(tmp_path / "m.png"), cv2.IMREAD_UNCHANGED).ndim == 3


# Well-known layouts

LAYOUTS = {
    "ls train ": ["train/a.png", "trainannot/a.png"],
    "sed ": ["JPEGImages/b.jpg", "SegmentationClass/b.png"],
    "ls images/": ["images/training/c.jpg", "annotations/training/c.png"],
    "find ": ["leftImg8bit/train/x/d_leftImg8bit.png", "gtFine/train/x/d_gtFine_labelTrainIds.png"],
    "ls labelsTr": ["imagesTr/e_0000.png", "labelsTr/e.png"],
}


@pytest.mark.parametrize("line", [line for line in command_lines() if "> train.txt" in line])
def test_the_documented_command_lists_the_images_and_label_maps_of_a_layout(tmp_path, line):
    [files] = [files for start, files in LAYOUTS.items() if line.startswith(start)]
    for file in (*files, "ImageSets/Segmentation/train.txt"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("b\n")
    subprocess.run(["sh", "-c", line], cwd=tmp_path, check=True)
    assert (tmp_path / "train.txt").read_text().split() == files
