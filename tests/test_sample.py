import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from segpipe.data.sample.canvas import box, lump, start
from segpipe.data.sample.ground import TOWN
from segpipe.data.sample.scenes import Spot, area, clip, draw_scene, place_outlines, put
from segpipe.data.sample.write import write_sample

COUNTS = {"train": 36, "val": 5, "test": 4, "unlabeled": 6, "judge": 5}
SIZE = 64
NAMES = ["UNKNOWN", "General trash", "Paper", "Paper pack", "Metal", "Glass"]
NAMES += ["Plastic", "Styrofoam", "Plastic bag", "Battery", "Clothing"]
LABELLED = (
    "sample/train.json",
    "sample/val.json",
    "sample/train_all.json",
    "judge/judge.json",
    "judge/pool_labels.json",
    "judge/train_few.json",
)
UNLABELLED = ("sample/test.json", "sample/unlabeled.json")


def write(folder: Path, *, seed: int = 3, **counts: int) -> Path:
    write_sample(folder / "sample", folder / "judge", seed=seed, size=SIZE, **(COUNTS | counts))
    return folder


def files_below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("drawn"))


@pytest.fixture(scope="module")
def coco_files(sample) -> dict[str, dict]:
    return {name: json.loads((sample / name).read_text()) for name in LABELLED + UNLABELLED}


def test_the_same_seed_gives_the_same_bytes(sample, tmp_path):
    assert files_below(write(tmp_path)) == files_below(sample)


def test_another_seed_gives_other_images_under_the_same_names(sample, tmp_path):
    first, second = files_below(sample), files_below(write(tmp_path, seed=4))
    assert first.keys() == second.keys()
    images = [name for name in first if name.endswith(".jpg")]
    assert all(first[name] != second[name] for name in images)


def test_a_longer_set_leaves_the_other_sets_as_they_are(sample, tmp_path):
    before, after = files_below(sample), files_below(write(tmp_path, train=37))
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {"sample/train.json", "sample/train_all.json"}  # a quarter of 37 is still 9
    assert after.keys() - before.keys() == {"sample/batch_01_vt/0037.jpg"}


def test_files_lie_as_in_the_contest(sample):
    folders = {"batch_01_vt": 36, "batch_02_vt": 5, "batch_03": 4, "batch_04": 6}
    images = {f"sample/{folder}/{n:04d}.jpg" for folder, count in folders.items() for n in range(1, count + 1)}
    images |= {f"judge/batch_05/{n:04d}.jpg" for n in range(1, 6)}
    assert files_below(sample).keys() == images | {*LABELLED, *UNLABELLED, "sample/sample_submission.csv"}
    assert (sample / "sample/sample_submission.csv").read_bytes() == b"image_id,PredictionString\n"


def test_ids_count_from_zero_in_every_file(coco_files):
    for content in coco_files.values():
        for key in ("images", "annotations", "categories"):
            assert [entry["id"] for entry in content[key]] == list(range(len(content[key])))
        assert [category["name"] for category in content["categories"]] == NAMES


def test_the_labels_of_the_pool_are_kept_apart_from_it(coco_files):
    pool, labels = coco_files["sample/unlabeled.json"], coco_files["judge/pool_labels.json"]
    assert pool["images"] == labels["images"] and pool["annotations"] == []
    assert {annotation["image_id"] for annotation in labels["annotations"]} == {0, 1, 2, 4, 5}  # one shows only ground


def test_few_labels_are_a_quarter_of_the_training_set(coco_files):
    few, train = coco_files["judge/train_few.json"], coco_files["sample/train.json"]
    assert few["images"] == train["images"][:9]
    assert few["annotations"] == train["annotations"][: len(few["annotations"])]


def test_train_all_is_train_then_val(coco_files):
    train, val, both = (coco_files[f"sample/{name}.json"] for name in ("train", "val", "train_all"))
    assert [image["file_name"] for image in both["images"]] == [
        image["file_name"] for image in train["images"] + val["images"]
    ]
    shapes = [annotation["segmentation"] for annotation in both["annotations"]]
    assert shapes == [annotation["segmentation"] for annotation in train["annotations"] + val["annotations"]]


def test_test_and_pool_list_images_without_annotations(coco_files):
    assert [len(coco_files[name]["images"]) for name in UNLABELLED] == [4, 6]
    assert all(coco_files[name]["annotations"] == [] for name in UNLABELLED)


def test_listed_sizes_are_those_of_the_images(sample, coco_files):
    for name, content in coco_files.items():
        for image in content["images"]:
            folder = (sample / name).parent if name == "judge/judge.json" else sample / "sample"
            pixels = cv2.imread(str(folder / image["file_name"]))
            assert pixels.shape == (image["height"], image["width"], 3) == (SIZE, SIZE, 3)


@pytest.mark.parametrize("name", LABELLED)
def test_every_annotation_is_one_that_pycocotools_can_draw(sample, coco_files, name):
    coco, image_ids = COCO(sample / name), {image["id"] for image in coco_files[name]["images"]}
    for annotation in coco_files[name]["annotations"]:
        assert annotation["image_id"] in image_ids and annotation["iscrowd"] == 0
        for polygon in annotation["segmentation"]:
            assert len(polygon) % 2 == 0 and len(polygon) >= 6
            assert min(polygon) >= 0 and max(polygon) <= SIZE
        left, top, width, height = annotation["bbox"]
        assert left >= 0 and top >= 0 and left + width <= SIZE + 0.05 and top + height <= SIZE + 0.05
        drawn = int(coco.annToMask(annotation).sum())
        # a polygon's area and its count of pixels differ by its rim at most
        assert abs(drawn - annotation["area"]) <= 2 * (width + height) * len(annotation["segmentation"])


def test_some_images_have_no_annotation_and_some_annotations_two_polygons(coco_files):
    train = coco_files["sample/train.json"]
    annotated = {annotation["image_id"] for annotation in train["annotations"]}
    assert [image["id"] for image in train["images"] if image["id"] not in annotated] == [3, 35]
    assert {len(annotation["segmentation"]) for annotation in train["annotations"]} == {1, 2}


def test_a_training_set_of_160_images_holds_12_of_every_kind(tmp_path):
    write_sample(tmp_path, tmp_path / "j", seed=0, train=160, val=1, test=1, unlabeled=1, judge=1, size=32)
    train = json.loads((tmp_path / "train.json").read_text())
    counts = Counter(annotation["category_id"] for annotation in train["annotations"])
    assert min(counts[place] for place in range(len(NAMES))) >= 12


def test_the_polygon_of_a_square_is_where_its_pixels_are():
    # cells 48 to 143 of 192, drawn 64 pixels long around (32, 32): one third of the size, so pixels 16 to 47
    picture, spot = np.full((64, 64, 3), 255, np.uint8), Spot(32, 32, 64, 0, 100)
    drawing = start([box(48, 48, 143, 143)], (200, 0, 0))
    put(picture, drawing, spot, (0, 0))
    expected = np.zeros((64, 64), bool)
    expected[16:48, 16:48] = True
    assert ((picture == (200, 0, 0)).all(axis=-1) == expected).all()
    assert (polygon_mask(place_outlines(drawing, spot)[0], 64) == expected).all()


@pytest.mark.parametrize("spot", [Spot(60, 70, 90, 33, 100), Spot(20, 90, 110, 200, -85), Spot(64, 64, 40, 121, 115)])
def test_a_turned_and_cut_polygon_covers_the_drawn_pixels(spot):
    picture, drawing = (
        np.full((128, 128, 3), 255, np.uint8),
        start([lump(np.random.default_rng(1), 88, 60, 40)], (0, 0, 0)),
    )
    put(picture, drawing, spot, (0, 0))
    painted = picture[..., 0] < 64  # the shadow alone stays brighter
    mask = polygon_mask(clip(place_outlines(drawing, spot)[0], 128), 128)
    assert (painted & mask).sum() > 0.94 * (painted | mask).sum()


def polygon_mask(polygon: list[tuple[int, int]], size: int) -> np.ndarray:
    """By pycocotools, as every reader of the files will do it."""
    coco = COCO()
    coco.imgs = {0: {"height": size, "width": size}}
    flat = [tenths / 10 for corner in polygon for tenths in corner]
    return coco.annToMask({"image_id": 0, "segmentation": [flat]}) > 0


def test_clipping_keeps_the_part_inside_the_image():
    # tenths of a pixel: a square of 4 x 4 pixels around the corner of the image keeps its quarter inside
    corner = clip([(-20, -20), (20, -20), (20, 20), (-20, 20)], 8)
    assert sorted(set(corner)) == [(0, 0), (0, 20), (20, 0), (20, 20)] and area(corner) == 400
    assert clip([(-9, -9), (-1, -9), (-1, -1)], 8) == []


def test_an_empty_scene_shows_the_ground_alone():
    picture, annotations = draw_scene(np.random.default_rng(0), TOWN, SIZE, empty=True)
    assert annotations == [] and picture.shape == (SIZE, SIZE, 3) and picture.dtype == np.uint8


def test_counts_and_sizes_that_cannot_be_drawn_are_named(tmp_path):
    with pytest.raises(ValueError, match="train=0, judge=-1"):
        write(tmp_path, train=0, judge=-1)
