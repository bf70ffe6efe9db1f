import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from segpipe.data.source.coco import read_coco
from segpipe.data.source.rasterize import check_segmentation, decode_counts, encode_segmentation, rasterize
from segpipe.data.source.records import Annotation
from segpipe.labels import IGNORE_INDEX, build_class_table

ROOT = Path(__file__).resolve().parents[1]
CAMVID = ROOT.parent / "shared" / "camvid"
OVERLAPS = ("largest_class", "smaller_on_top", "file_order")
V = IGNORE_INDEX


def box(x: int, y: int, width: int, height: int) -> list[list[float]]:
    """A rectangle as one polygon."""
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]


def row_of(*annotations: tuple[int, list, bool], overlap: str, fill: int = 0) -> list[int]:
    """The label map of a 1 x 6 image, from (class, segmentation, iscrowd) in file order; category id = 10 * class.

    Class 8 is ignored and class 9 dropped.
    """
    records = [
        Annotation(id_, 0, 10 * class_, segmentation, iscrowd)
        for id_, (class_, segmentation, iscrowd) in enumerate(annotations)
    ]
    meaning = {10: 1, 20: 2, 30: 3, 80: IGNORE_INDEX, 90: None}
    return rasterize(records, meaning, 1, 6, overlap=overlap, fill=fill).tolist()[0]


# Rules, by hand


@pytest.mark.parametrize("overlap", OVERLAPS)
@pytest.mark.parametrize("fill", [0, IGNORE_INDEX])
def test_pixels_without_annotation_get_the_fill(overlap, fill):
    assert row_of(overlap=overlap, fill=fill) == [fill] * 6
    assert row_of((1, box(1, 0, 2, 1), False), overlap=overlap, fill=fill) == [fill, 1, 1, fill, fill, fill]


def test_largest_class_wins_whatever_its_size_and_place_in_the_file():
    large, small = (2, box(0, 0, 5, 1), False), (1, box(1, 0, 2, 1), False)
    assert row_of(large, small, overlap="largest_class") == [2, 2, 2, 2, 2, 0]
    assert row_of(small, large, overlap="largest_class") == [2, 2, 2, 2, 2, 0]


def test_smaller_objects_lie_on_top_whatever_their_class_and_place_in_the_file():
    large, small = (2, box(0, 0, 5, 1), False), (1, box(1, 0, 2, 1), False)
    assert row_of(large, small, overlap="smaller_on_top") == [2, 1, 1, 2, 2, 0]
    assert row_of(small, large, overlap="smaller_on_top") == [2, 1, 1, 2, 2, 0]


def test_among_objects_of_equal_size_the_later_lies_on_top():
    left, right = (2, box(0, 0, 3, 1), False), (1, box(2, 0, 3, 1), False)
    assert row_of(left, right, overlap="smaller_on_top") == [2, 2, 1, 1, 1, 0]
    assert row_of(right, left, overlap="smaller_on_top") == [2, 2, 2, 1, 1, 0]


def test_the_size_of_an_object_is_what_the_image_shows_of_it():
    beyond = (2, box(-6, 0, 8, 1), False)  # 8 pixels long, 2 of them visible
    assert row_of(beyond, (1, box(0, 0, 4, 1), False), overlap="smaller_on_top") == [2, 2, 1, 1, 0, 0]


def test_file_order_keeps_the_later_annotation():
    first, second = (2, box(0, 0, 2, 1), False), (1, box(1, 0, 4, 1), False)
    assert row_of(first, second, overlap="file_order") == [2, 1, 1, 1, 1, 0]
    assert row_of(second, first, overlap="file_order") == [2, 2, 1, 1, 1, 0]


@pytest.mark.parametrize("overlap", OVERLAPS)
def test_crowds_lie_beneath_all_other_annotations(overlap):
    crowd = (3, {"size": [1, 6], "counts": [1, 3, 2]}, True)  # pixels 1 to 3, the largest class
    single = (1, box(2, 0, 4, 1), False)
    assert row_of(single, crowd, overlap=overlap) == [0, 3, 1, 1, 1, 1]


def test_among_crowds_the_same_rule_decides():
    wide, narrow = {"size": [1, 6], "counts": [0, 5, 1]}, {"size": [1, 6], "counts": [1, 1, 4]}
    assert row_of((1, narrow, True), (3, wide, True), overlap="smaller_on_top") == [3, 1, 3, 3, 3, 0]
    assert row_of((1, narrow, True), (3, wide, True), overlap="largest_class") == [3, 3, 3, 3, 3, 0]


@pytest.mark.parametrize("overlap", OVERLAPS)
def test_a_dropped_annotation_leaves_no_trace(overlap):
    crowd, dropped = (3, box(0, 0, 2, 1), True), (9, box(1, 0, 4, 1), False)
    assert row_of(dropped, crowd, dropped, overlap=overlap) == [3, 3, 0, 0, 0, 0]


def test_an_ignored_annotation_hides_and_is_hidden_by_size():
    large, ignored, small = (2, box(0, 0, 5, 1), False), (8, box(1, 0, 3, 1), False), (1, box(2, 0, 1, 1), False)
    assert row_of(small, ignored, large, overlap="smaller_on_top") == [2, V, 1, V, 2, 0]


def test_an_ignored_annotation_hides_and_is_hidden_by_file_order():
    first, ignored, last = (1, box(0, 0, 3, 1), False), (8, box(1, 0, 4, 1), False), (2, box(4, 0, 1, 1), False)
    assert row_of(first, ignored, last, overlap="file_order") == [1, V, V, V, 2, 0]


def test_every_class_is_larger_than_what_is_ignored():
    first, ignored = (1, box(0, 0, 3, 1), False), (8, box(1, 0, 4, 1), False)
    assert row_of(first, ignored, overlap="largest_class") == [1, 1, 1, V, V, 0]
    assert row_of(ignored, first, overlap="largest_class") == [1, 1, 1, V, V, 0]


@pytest.mark.parametrize("overlap", OVERLAPS)
def test_an_ignored_annotation_lies_above_crowds_and_an_ignored_crowd_beneath_all_others(overlap):
    assert row_of((8, box(0, 0, 1, 1), False), (1, box(0, 0, 3, 1), True), overlap=overlap) == [V, 1, 1, 0, 0, 0]
    assert row_of((1, box(0, 0, 3, 1), False), (8, box(0, 0, 5, 1), True), overlap=overlap) == [1, 1, 1, V, V, 0]


def test_several_polygons_are_united_even_where_they_overlap():
    polygons = box(0, 0, 3, 1) + box(2, 0, 2, 1)
    assert row_of((1, polygons, False), overlap="file_order") == [1, 1, 1, 1, 0, 0]


def test_rle_runs_go_down_the_columns():
    record = Annotation(0, 0, 5, {"size": [2, 3], "counts": [1, 2, 3]})
    labels = rasterize([record], {5: 4}, 2, 3, overlap="file_order", fill=0)
    assert labels.tolist() == [[0, 4, 0], [4, 0, 0]]
    assert labels.dtype == np.uint8 and labels.flags.c_contiguous


def test_the_border_of_a_small_box_is_not_painted():
    """7.25 pixels in truth; pycocotools paints 9 and cv2.fillPoly 16."""
    polygon = [[2.0, 2.0, 4.9, 2.0, 4.9, 4.5, 2.0, 4.5]]
    labels = rasterize([Annotation(0, 0, 0, polygon)], {0: 1}, 10, 10, overlap="file_order", fill=0)
    assert labels.sum() == 9


def test_an_unknown_overlap_rule_is_refused():
    with pytest.raises(ValueError, match="expected 'largest_class', 'smaller_on_top' or 'file_order'"):
        row_of(overlap="newest")


# A second opinion: pycocotools' own reading of the file, pixel by pixel


def judged(path: Path, image_id: int, meaning: dict[int, int | str], overlap: str, fill: int) -> np.ndarray:
    """The label map as the rules say it, pixel by pixel, from `COCO(path)` and its annToMask.

    `meaning` has the class index of each category id, or "dropped" or "ignored".
    """
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(path))
    image = coco.imgs[image_id]
    masks, keys, values = [], [], []
    for place, annotation in enumerate(coco.imgToAnns[image_id]):
        class_ = meaning[annotation["category_id"]]
        if class_ == "dropped":
            continue
        ignored = class_ == "ignored"
        mask = coco.annToMask(annotation).astype(bool)
        size = -1 if ignored else class_
        rule = {"largest_class": size, "smaller_on_top": -mask.sum(), "file_order": 0}[overlap]
        masks.append(mask)
        keys.append((not annotation["iscrowd"], rule, place))
        values.append(255 if ignored else class_)
    labels = np.full((image["height"], image["width"]), fill, np.uint8)
    for y, x in np.ndindex(*labels.shape):
        covering = [i for i, mask in enumerate(masks) if mask[y, x]]
        if covering:
            labels[y, x] = values[max(covering, key=lambda i: keys[i])]
    return labels


@st.composite
def segmentations(draw, height: int, width: int):
    kind = draw(st.sampled_from(["polygons", "polygons", "compressed", "uncompressed"]))
    if kind == "polygons":
        number = st.integers if draw(st.booleans()) else st.floats
        point = st.tuples(number(-width, 2 * width), number(-height, 2 * height))
        polygons = draw(st.lists(st.lists(point, min_size=3, max_size=7), min_size=1, max_size=3))
        polygons = [[coordinate for point in polygon for coordinate in point] for polygon in polygons]
        assume(check_segmentation(polygons, height, width) is None)  # points on one line: a test of their own
        return polygons
    mask = np.array(draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width)), np.uint8)
    if kind == "uncompressed":
        return {"size": [height, width], "counts": runs_of(mask)}
    rle = coco_mask.encode(np.asfortranarray(mask.reshape(height, width, order="F")))
    return {"size": [height, width], "counts": rle["counts"].decode()}


def runs_of(bits: np.ndarray) -> list[int]:
    """The lengths of runs of equal bits, the first one of zeros and perhaps empty."""
    edges = np.flatnonzero(np.diff(bits)) + 1
    runs = np.diff([0, *edges, bits.size]).tolist()
    return [0, *runs] if bits[0] else runs


CATEGORIES = [{"id": id_, "name": name} for name, id_ in (("e", 9), ("a", 3), ("b", 5), ("c", 0), ("d", 7))]


@st.composite
def coco_files(draw):
    """One or two images, of other sizes, whose annotations stand mixed in the file."""
    sizes = draw(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=2))
    annotations = []
    for number in range(draw(st.integers(0, 8))):
        image = draw(st.integers(0, len(sizes) - 1))
        annotation = {"id": 100 + number, "image_id": image, "category_id": draw(st.sampled_from([0, 3, 5, 7, 9]))}
        segmentation, crowd = draw(segmentations(*sizes[image])), draw(st.booleans())
        annotations.append(annotation | {"segmentation": segmentation, "iscrowd": int(crowd)})
    images = [{"id": i, "file_name": f"{i}.jpg", "height": h, "width": w} for i, (h, w) in enumerate(sizes)]
    return {"images": images, "categories": CATEGORIES, "annotations": annotations}


# what is chosen of categories a to e, and what that says of their ids
ALL = {}, {0: 0, 3: 1, 5: 2, 7: 3, 9: 4}
SOME = (
    {"classes": [{"B": ["e", "b"]}, "a"], "drop": ["d"], "ignore": ["c"]},
    {9: 0, 5: 0, 3: 1, 7: "dropped", 0: "ignored"},
)


@pytest.mark.parametrize("overlap", OVERLAPS)
@pytest.mark.parametrize("background", ["class", "ignore"])
@pytest.mark.parametrize("chosen, meaning", [ALL, SOME])
def test_label_maps_agree_with_pycocotools_reading_of_the_file(overlap, background, chosen, meaning, tmp_path_factory):
    folder = tmp_path_factory.mktemp("coco")
    for name in ("0.jpg", "1.jpg"):
        (folder / name).touch()
    first, fill = (1, 0) if background == "class" else (0, IGNORE_INDEX)
    meaning = {id_: class_ if isinstance(class_, str) else class_ + first for id_, class_ in meaning.items()}

    @settings(max_examples=40, deadline=None, derandomize=True)
    @given(coco_files())
    def agree(content):
        (folder / "coco.json").write_text(json.dumps(content))
        file, problems = read_coco(folder / "coco.json", folder, labeled=True)
        assert problems == []
        class_index = build_class_table(file.categories, background=background, **chosen).class_index(file.categories)
        for image in file.images:
            annotations = file.annotations_by_image[image.id]
            labels = rasterize(annotations, class_index, image.height, image.width, overlap=overlap, fill=fill)
            assert np.array_equal(labels, judged(folder / "coco.json", image.id, meaning, overlap, fill))

    agree()


@pytest.mark.skipif(not CAMVID.is_dir(), reason=f"CamVid is not at {CAMVID}")
def test_camvid_agrees_with_pycocotools_reading_of_the_file():
    path = CAMVID / "labeled_34.json"
    file, problems = read_coco(path, CAMVID, labeled=True)
    assert problems == [] and len(file.images) == 34
    table = build_class_table(file.categories, background="ignore")
    class_index = table.class_index(file.categories)
    assert list(class_index) == [*range(2, 53, 5)] and table.names[0] == "Sky"
    image = file.images[0]
    annotations = file.annotations_by_image[image.id]
    labels = rasterize(annotations, class_index, image.height, image.width, overlap="file_order", fill=255)
    assert np.array_equal(labels, judged(path, image.id, class_index, "file_order", 255))


# The check in front of pycocotools

FINE_POLYGON = [1, 1, 3, 1, 3, 3]


@pytest.mark.parametrize(
    "segmentation",
    [
        [FINE_POLYGON],
        [FINE_POLYGON, [0.5, 0.5, 1.5, 0.5, 1.5, 2.5, 0.5, 2.5]],
        [[-6, -4, 18, -4, 18, 12]],  # the limits of a 4 x 6 image: one size before it, two beyond
        [[2.6, 2.6, 2.7, 2.6, 2.7, 2.7]],  # covers no pixel's centre: a warning, no error
        {"size": [4, 6], "counts": [24]},
        {"size": [4, 6], "counts": [0, 24]},
        {"size": [4, 6], "counts": [5, 0, 0, 3, 16]},
        {"size": [4, 6], "counts": "h0"},
    ],
)
def test_sound_segmentations_pass_and_can_be_painted(segmentation):
    assert check_segmentation(segmentation, 4, 6) is None
    assert coco_mask.decode(encode_segmentation(segmentation, 4, 6)).shape == (4, 6)


@given(st.lists(st.tuples(st.integers(-4, 8), st.integers(-4, 8)), min_size=3, max_size=6))
def test_a_polygon_is_refused_where_its_points_span_no_plane(points):
    fault = check_segmentation([[coordinate for point in points for coordinate in point]], 4, 6)
    spanned = np.linalg.matrix_rank(np.array(points) - points[0])
    assert (fault is None) == (spanned == 2), fault
    assert spanned == 2 or "has no area" in fault


@pytest.mark.parametrize(
    "segmentation, fragment",
    [
        (None, "the segmentation is None, neither polygons nor an RLE"),
        ("1 1 3 1 3 3", "neither polygons nor an RLE"),
        (True, "neither polygons nor an RLE"),
        ([], "the list of polygons is empty"),
        ([[]], "polygon 0 has 0 numbers, fewer than 3 points"),
        ([FINE_POLYGON, []], "polygon 1 has 0 numbers"),
        ([[1, 1, 3, 3]], "polygon 0 has 4 numbers, fewer than 3 points"),
        ([[1, 1, 3, 1, 3, 3, 2]], "polygon 0 has 7 numbers, an odd count"),
        (FINE_POLYGON, "the segmentation is one flat list of 6 numbers"),
        ([[[1, 1], [3, 1], [3, 3]]], "polygon 0 holds [1, 1], which is not a number"),
        ([{"x": 1}], "polygon 0 is {'x': 1}, not a list of numbers"),
        ([[1, 1, 3, 1, 3, True]], "polygon 0 holds True, which is not a number"),
        ([[1, 1, 3, 1, 3, None]], "polygon 0 holds None, which is not a number"),
        ([[1, 1, 3, 1, 3, "3"]], "polygon 0 holds '3', which is not a number"),
        ([[1, 1, float("nan"), 1, 3, 3]], "a point whose x is nan, which is not finite"),
        ([[1, 1, 3, float("inf"), 3, 3]], "a point whose y is inf, which is not finite"),
        ([[1, 1, 3, 1, -float("inf"), 3]], "a point whose x is -inf, which is not finite"),
        ([[1, 1, 1e9, 1, 3, 3]], "a point whose x is 1000000000.0, which lies too far outside the image"),
        ([[1, 1, 3, 10**400, 3, 3]], "which lies too far outside the image"),
        ([[1, 1, 3, 1, 18.1, 3]], "a point whose x is 18.1, which lies too far"),
        ([[1, 1, 3, -4.1, 3, 3]], "a point whose y is -4.1, which lies too far"),
        ([[0, 0, 6, 4] * 2000], "an outline of 24000 pixels"),
        ({}, "the RLE's size is None"),
        ({"size": [6, 4], "counts": [24]}, "the RLE's size is [6, 4], not the image's [height, width] = [4, 6]"),
        ({"size": [4.0, 6.0], "counts": [24]}, "the RLE's size is [4.0, 6.0]"),
        ({"size": 24, "counts": [24]}, "the RLE's size is 24"),
        ({"size": [4, 6]}, "the RLE's counts are None, neither a list nor a string"),
        ({"size": [4, 6], "counts": []}, "the RLE's runs add up to 0 pixels, not to 4 * 6 = 24"),
        ({"size": [4, 6], "counts": [20, 5]}, "the RLE's runs add up to 25 pixels"),
        ({"size": [4, 6], "counts": [30, -6]}, "the RLE has a run of -6 pixels"),
        ({"size": [4, 6], "counts": [12, 12.0]}, "the RLE's counts hold 12.0, which is not an integer"),
        ({"size": [4, 6], "counts": [23, True]}, "the RLE's counts hold True, which is not an integer"),
        ({"size": [4, 6], "counts": [10**30]}, "pixels, not to 4 * 6 = 24"),
        ({"size": [4, 6], "counts": ""}, "the RLE's runs add up to 0 pixels"),
        ({"size": [4, 6], "counts": "X"}, "the compressed counts are cut off within a number"),
        ({"size": [4, 6], "counts": "h0h"}, "the compressed counts are cut off within a number"),
        ({"size": [4, 6], "counts": "h0!"}, "a character outside '0' to 'o'"),
        ({"size": [4, 6], "counts": "h0é"}, "a character outside '0' to 'o'"),
        ({"size": [4, 6], "counts": "h0\ud800"}, "a character outside '0' to 'o'"),
        ({"size": [4, 6], "counts": "PPPPPPP0"}, "a number of more than 6 characters"),
        ({"size": [4, 6], "counts": "h0O"}, "the RLE has a run of -1 pixels"),
        ({"size": [4, 6], "counts": "h01"}, "the RLE's runs add up to 25 pixels"),
    ],
)
def test_segmentations_that_pycocotools_could_not_bear_are_described(segmentation, fragment):
    assert fragment in check_segmentation(segmentation, 4, 6)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(st.booleans(), min_size=1, max_size=400))
def test_compressed_counts_decode_to_the_runs_of_the_mask(bits):
    bits = np.array(bits, np.uint8)
    counts = coco_mask.encode(np.asfortranarray(bits[:, None]))["counts"].decode()
    assert decode_counts(counts).tolist() == runs_of(bits)


def test_long_runs_that_take_several_characters_decode():
    mask = np.zeros((3000, 2000), np.uint8, order="F")
    mask[10:2900, 500:1500] = 1
    mask[:, 1999] = 1
    counts = coco_mask.encode(mask)["counts"].decode()
    assert decode_counts(counts).tolist() == runs_of(mask.ravel(order="F"))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.booleans(), min_size=2, max_size=60))
def test_compressed_counts_cut_short_anywhere_are_refused(bits):
    height = len(bits)
    counts = coco_mask.encode(np.asfortranarray(np.array(bits, np.uint8)[:, None]))["counts"].decode()
    assert check_segmentation({"size": [height, 1], "counts": counts}, height, 1) is None
    for length in range(len(counts)):
        assert check_segmentation({"size": [height, 1], "counts": counts[:length]}, height, 1) is not None


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 30), max_size=6) | st.text("0123456789:;<=>?@ABCKLMNOPQRSXYZ^_`abhno", max_size=8))
def test_whatever_rle_passes_is_painted_with_as_many_pixels_as_its_runs_say(counts):
    try:
        runs = counts if isinstance(counts, list) else decode_counts(counts).tolist()
    except ValueError:
        return
    rle = {"size": [sum(runs), 1], "counts": counts}  # an image of the one size that these runs could fill
    if 0 < sum(runs) < 10**6 and check_segmentation(rle, sum(runs), 1) is None:
        mask = coco_mask.decode(encode_segmentation(rle, sum(runs), 1))
        assert mask.shape == (sum(runs), 1)
        assert mask.sum() == sum(runs[1::2])
