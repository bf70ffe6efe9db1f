"""What is counted in a data set, and what is odd about an image or a list: by hand, and by an independent reading."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from segpipe.data.prepare.census import EXAMPLES_KEPT, Census, size_summary
from segpipe.data.prepare.image_census import ImageCensus, count_pixels, image_census
from segpipe.data.prepare.warn import (
    KINDS,
    Copies,
    warn_of_classes,
    warn_of_image,
    warn_of_near_duplicates,
    warnings_to_json,
)
from segpipe.data.source.lists import Source
from segpipe.data.source.problems import PLACES_KEPT, Findings, Warnings
from segpipe.data.source.rasterize import rasterize
from segpipe.data.source.records import Annotation, Category, ImageRecord
from segpipe.labels import IGNORE_INDEX, build_class_table
from segpipe.params import SplitParams

GLASS, PAPER = 2, 7
CATEGORIES = (Category(GLASS, "Glass"), Category(PAPER, "Paper"))
CLASSES = build_class_table(CATEGORIES, background="class")
INDEX = CLASSES.class_index(CATEGORIES)
HEIGHT, WIDTH = 4, 6
OVERLAPS = ("largest_class", "smaller_on_top", "file_order")
SPLIT = SplitParams(
    folds=None, file=None, near_duplicates=True, train_folds=(0,), judge_fraction=0.5, group_by=None, seed=0
)


def box(left: float, top: float, right: float, bottom: float) -> list[list[float]]:
    return [[left, top, right, top, right, bottom, left, bottom]]


def source(*drawn: tuple, name: str = "train", file_name: str = "a.png", size=(HEIGHT, WIDTH)) -> Source:
    """An image whose annotations are (category, segmentation) or (category, segmentation, crowd), ids from 100."""
    annotations = [Annotation(100 + i, 10, *entry[:2], bool(entry[2:])) for i, entry in enumerate(drawn)]
    return Source(name, Path(f"raw/{name}.json"), ImageRecord(10, file_name, *size), tuple(annotations))


def looked(image: Source, *, overlap: str = "file_order", fill: int = 0, image_size=None) -> ImageCensus:
    size = (image.record.height, image.record.width)
    target = rasterize(image.annotations, INDEX, *size, overlap=overlap, fill=fill)
    return image_census(image, target, INDEX, image_size)


def kinds(image: ImageCensus) -> list[str]:
    return [kind for kind, _ in image.warnings]


def census_of(*images: ImageCensus) -> Census:
    census = Census(CLASSES)
    for image in images:
        census.add(image)
    return census


# One image


def test_pixels_are_those_that_show_and_areas_those_of_the_objects():
    image = looked(source((GLASS, box(0, 0, 3, 2)), (PAPER, box(2, 0, 4, 2))))
    assert image.pixels == {0: 16, 1: 4, 2: 4}
    assert image.object_classes.tolist() == [1, 2]
    assert image.object_areas.tolist() == [6, 4], "the paper hides a third of the glass, which is as large all the same"
    assert image.warnings == ()


def test_a_crowd_is_no_object_but_its_pixels_count():
    image = looked(source((GLASS, box(0, 0, 3, 2), True)))
    assert image.pixels == {0: 18, 1: 6} and image.object_areas.size == 0 and image.has_annotation


def test_an_image_without_annotation_is_told_of_unless_it_is_unlabelled():
    assert looked(source()).warnings == (("no_annotation", "train.json: image 10 (a.png)"),)
    assert looked(source(), fill=IGNORE_INDEX).warnings != ()
    assert image_census(source(name="test"), None, INDEX, None).warnings == ()


def test_a_label_map_without_annotations_of_its_own_shows_that_something_was_drawn():
    target = np.full((HEIGHT, WIDTH), 2, np.uint8)
    image = image_census(source(), target, INDEX, None)
    assert image.has_annotation and image.warnings == ()
    target[:] = IGNORE_INDEX
    assert not image_census(source(), target, INDEX, None).has_annotation


@pytest.mark.parametrize(
    "segmentation, outside",
    [
        (box(-1, -1, 7, 5), False),  # a pixel beyond each side is how many tools draw
        (box(-1.5, 0, 2, 2), True),
        (box(0, -1.5, 2, 2), True),
        (box(0, 0, 7.5, 2), True),
        (box(0, 0, 2, 5.5), True),
        (box(0, 0, 2, 2) + box(3, 0, 8, 2), True),  # one of its polygons is enough
        ({"size": [4, 6], "counts": [0, 24]}, False),
    ],
)
def test_an_annotation_may_reach_one_pixel_beyond_the_image(segmentation, outside):
    expected = [("outside", "train.json: annotation 100 (a.png)")] if outside else []
    assert list(looked(source((GLASS, segmentation))).warnings) == expected


def test_what_covers_no_pixel_is_told_of():
    sliver, empty = box(2.6, 2.6, 2.7, 2.7), {"size": [4, 6], "counts": [24]}
    assert kinds(looked(source((GLASS, sliver), (GLASS, empty), (PAPER, box(0, 0, 2, 2))))) == ["no_pixel"] * 2


def test_what_lies_wholly_beneath_another_class_is_told_of():
    beneath, above = (GLASS, box(1, 1, 2, 2)), (PAPER, box(0, 0, 3, 3))
    assert looked(source(beneath, above)).warnings == (("hidden", "train.json: annotation 100 (a.png)"),)
    assert kinds(looked(source(above, beneath))) == []
    assert kinds(looked(source((GLASS, box(0, 0, 3, 3)), (GLASS, box(1, 1, 2, 2))))) == [], "the mask is right"
    assert kinds(looked(source((GLASS, box(1, 1, 2, 2), True), above))) == [], "a crowd is meant to lie beneath"


def test_an_image_may_have_very_many_annotations():
    """pycocotools 2.0 takes no more than 255 at a time to tell their areas."""
    image = looked(source(*[(GLASS, box(0, 0, 1, 1))] * 700, (PAPER, box(0, 0, 2, 2))))
    assert image.object_areas.tolist() == [1] * 700 + [4] and kinds(image) == ["hidden"] * 700


def test_what_a_network_cannot_see_is_told_of():
    small = source((GLASS, box(0, 0, 1, 1)), (PAPER, box(2, 0, 4, 4)))
    assert kinds(looked(small, image_size=(4, 6))) == []
    assert looked(small, image_size=(2, 3)).warnings == (("vanishing", "train.json: annotation 100 (a.png)"),)
    assert kinds(looked(small, image_size=None)) == []


@pytest.mark.parametrize(
    "size, image_size, told",
    [
        ((100, 100), (200, 200), []),
        ((99, 100), (200, 200), ["small_image"]),
        ((100, 99), (200, 200), ["small_image"]),
        ((200, 400), (200, 200), []),
        ((200, 401), (200, 200), ["aspect"]),
        ((401, 200), (200, 200), ["aspect"]),
        ((400, 100), (400, 100), []),
        ((1, 16000), None, []),
    ],
)
def test_images_that_do_not_fit_the_networks_size_are_told_of(size, image_size, told):
    image = image_census(source(name="test", size=size), None, INDEX, image_size)
    assert kinds(image) == told


coordinates = st.lists(st.floats(-2, 9), min_size=8, max_size=8)
polygons = coordinates.map(lambda values: [values])
boxes = st.tuples(*[st.integers(0, 5)] * 2, *[st.integers(1, 3)] * 2).map(
    lambda c: box(c[0], c[1], c[0] + c[2], c[1] + c[3])
)


@given(
    st.lists(st.tuples(st.sampled_from([GLASS, PAPER]), st.one_of(boxes, polygons)), max_size=6),
    st.sampled_from(OVERLAPS),
)
def test_objects_and_hidden_ones_are_those_of_masks_decoded_one_by_one(drawn, overlap):
    image = source(*drawn)
    target = rasterize(image.annotations, INDEX, HEIGHT, WIDTH, overlap=overlap, fill=0)
    counted = image_census(image, target, INDEX, None)
    masks = [
        coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygon, HEIGHT, WIDTH))).astype(bool)
        for _, polygon in drawn
    ]
    assert counted.object_areas.tolist() == [int(mask.sum()) for mask in masks]
    shows = [INDEX[category] in target[mask] for (category, _), mask in zip(drawn, masks, strict=True)]
    expected = [f"annotation {100 + i}" for i, mask in enumerate(masks) if mask.any() and not shows[i]]
    assert [place.split(": ")[1].split(" (")[0] for kind, place in counted.warnings if kind == "hidden"] == expected
    assert sum(counted.pixels.values()) == HEIGHT * WIDTH


@pytest.mark.parametrize("shape", [(0, 0), (1, 1), (3, 700), (4500, 4000)])
def test_pixels_are_counted_exactly_however_many_there_are(shape):
    """18 million of one value: float32 has not every integer beyond 16.8 million."""
    labels = np.zeros(shape, np.uint8)
    labels.flat[::999_983] = IGNORE_INDEX
    assert count_pixels(labels).tolist() == np.bincount(labels.ravel(), minlength=256).tolist()


# All images


def test_lists_and_classes_are_counted():
    census = census_of(
        looked(source((GLASS, box(0, 0, 3, 2)), (GLASS, box(0, 2, 1, 3)))),
        looked(source(name="val", file_name="b.png")),
        image_census(source(name="test", file_name="c.png"), None, INDEX, None),
    ).to_json()
    assert census["sets"]["train"] == {
        "images": 1,
        "without_annotation": 0,
        "ignored_pixels": 0,
        "classes": {
            "Background": {"pixels": 17, "objects": 0, "images": 1},
            "Glass": {"pixels": 7, "objects": 2, "images": 1},
            "Paper": {"pixels": 0, "objects": 0, "images": 0},
        },
    }
    assert census["sets"]["val"]["without_annotation"] == 1
    assert census["sets"]["test"] == {"images": 1}
    assert census["object_sizes"]["all"]["objects"] == 2
    assert census["object_sizes"]["classes"]["Glass"]["max"] == 6 and "Paper" not in census["object_sizes"]["classes"]
    assert json.loads(json.dumps(census)) == census


@given(st.lists(st.integers(0, 20_000), min_size=1))
def test_five_numbers_occur_and_the_three_sizes_are_cocos(values):
    areas = np.array(values, np.uint32)
    summary = size_summary(areas)
    numbers = [summary[name] for name in ("min", "q1", "median", "q3", "max")]
    assert set(numbers) <= set(values) and all(low <= high for low, high in pairwise(numbers))
    assert (numbers[0], numbers[-1]) == (min(values), max(values))
    assert 2 * sum(value <= summary["median"] for value in values) >= len(values) - 1
    assert summary["small"] == sum(value < 1024 for value in values)
    assert summary["large"] == sum(value >= 9216 for value in values)
    assert summary["small"] + summary["medium"] + summary["large"] == summary["objects"] == len(values)


def test_image_sizes_are_told_by_how_often_they_occur():
    sizes = [(4, 6)] * 3 + [(9, 9)] * 2 + [(1, 1)]
    images = [image_census(source(name="test", size=size), None, INDEX, None) for size in sizes]
    found = census_of(*images).to_json()["image_sizes"]
    assert (found["distinct"], found["smallest"], found["largest"]) == (3, [1, 1], [9, 9])
    assert found["most_frequent"][0] == {"height": 4, "width": 6, "images": 3}


@given(st.permutations(range(30)))
def test_examples_are_the_same_whatever_the_order_and_those_one_can_see_come_first(order):
    def image(i: int) -> ImageCensus:
        """Glass covers 25 of 10,000 pixels of the images 0 to 24, and 2,500 of five others."""
        side = 5 if i < 25 else 50
        return looked(source((GLASS, box(0, 0, side, side)), file_name=f"{i}.png", size=(100, 100)))

    found = census_of(*map(image, order)).to_json()["examples"]
    assert found == census_of(*map(image, range(30))).to_json()["examples"]
    assert len(found["Glass"]) == EXAMPLES_KEPT and found["Paper"] == []
    assert set(found["Glass"][:5]) == {f"{i}.png" for i in range(25, 30)}


def test_examples_are_training_images():
    drawn = (GLASS, box(0, 0, 3, 2))
    held_out = [looked(source(drawn, name=name, file_name=f"{name}.png")) for name in ("val", "judge")]
    assert census_of(looked(source(drawn)), *held_out).to_json()["examples"]["Glass"] == ["a.png"]


# Warnings that only many images show


def test_a_class_that_a_list_never_shows_is_told_of_with_the_lists_that_are_there():
    warnings = Warnings()
    glass = looked(source((GLASS, box(0, 0, 3, 2))))
    warn_of_classes(warnings, census_of(glass, looked(source(name="val", file_name="b.png"))), None)
    assert warnings.places == {"empty_class": ["Glass (data.val)", "Paper (data.train, data.val)"]}


def test_a_class_too_rare_for_the_folds_is_told_of():
    warnings = Warnings()
    both = (GLASS, box(0, 0, 3, 2)), (PAPER, box(3, 0, 6, 2))
    census = census_of(looked(source(*both)), looked(source(both[0], file_name="b.png")))
    warn_of_classes(warnings, census, num_folds=2)
    assert warnings.places == {"few_images": ["Paper (1 of 2)"]}


def test_near_duplicates_are_told_of_across_lists_and_where_folds_part_them():
    warnings = Warnings()
    sources = [source(name=name, file_name=f"{i}.png") for i, name in enumerate(["train", "train", "val", "test"])]
    warn_of_near_duplicates(warnings, sources, [(0, 1), (1, 2), (2, 3)], torn=[(0, 1), (1, 2)])
    assert warnings.places["near_duplicate"] == [
        "1.png (data.train), 2.png (data.val)",
        "2.png (data.val), 3.png (data.test)",
    ]
    assert warnings.places["torn"] == ["0.png, 1.png"]


@pytest.mark.parametrize(
    "first, second, blocks",
    [
        ("train", "train", False),
        ("train", "val", True),
        ("judge", "test", True),
        ("test", "unlabeled", False),
        ("unlabeled", "unlabeled", False),
    ],
)
def test_copies_are_an_error_between_labelled_lists_and_others_and_a_warning_elsewhere(first, second, blocks):
    findings, copies = Findings(), Copies()
    copies.look(source(name=first, file_name="a.png"), "hash", findings)
    copies.look(source(name=second, file_name="b.png"), "hash", findings)
    copies.look(source(name=second, file_name="c.png"), "other", findings)
    assert len(findings.blocking) == blocks
    assert findings.warnings.places == ({} if blocks else {"copy": [f"{second}.json: b.png of a.png"]})


def test_of_many_warnings_all_are_counted_and_the_first_places_kept():
    warnings = Warnings()
    for i in range(10_000):
        warn_of_image(warnings, looked(source(file_name=f"{i}.png")))
    [entry] = warnings_to_json(warnings)
    assert (entry["kind"], entry["count"], len(entry["places"])) == ("no_annotation", 10_000, PLACES_KEPT)
    assert entry["says"] == KINDS["no_annotation"] and entry["places"][0] == "train.json: image 10 (0.png)"
