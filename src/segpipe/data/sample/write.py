"""The sample's files: JPEGs, annotations in the contest's form, and the header of its submission file."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from segpipe.data.sample.ground import OUTSKIRTS, TOWN, Setting
from segpipe.data.sample.scenes import KINDS, Annotation, area, draw_scene
from segpipe.progress import Progress

# number (part of the seed, so never reused), folder, and setting of each set of images
SETS: dict[str, tuple[int, str, Setting]] = {
    "train": (1, "batch_01_vt", TOWN),
    "val": (2, "batch_02_vt", TOWN),
    "test": (3, "batch_03", OUTSKIRTS),
    "unlabeled": (4, "batch_04", OUTSKIRTS),
    "judge": (5, "batch_05", OUTSKIRTS),
}
EMPTY_EVERY = 32  # one image in this many shows only the ground
EMPTY_FIRST = 3  # the place of the first such image in its set
JPEG_QUALITY = 90

Json = dict[str, Any]


def write_sample(
    root: Path, judge_root: Path, *, seed: int, train: int, val: int, test: int, unlabeled: int, judge: int, size: int
) -> None:
    """Draw the sample into `root`, and its judge set, labelled and drawn like the test set, into `judge_root`.

    For experiments it also has the labels of the pool's images, `pool_labels.json`, which a contestant has not, and
    `train_few.json`, the first quarter of the training images.

    `train` to `judge` are numbers of images of `size` x `size` pixels. Each image depends on the seed, its set and its
    place in it alone, so a longer set begins with the images of a shorter one. Raises ValueError for counts below 1 or
    images under 32 pixels.
    """
    counts = {"train": train, "val": val, "test": test, "unlabeled": unlabeled, "judge": judge}
    too_small = [f"{name}={count}" for name, count in counts.items() if count < 1]
    if too_small or size < 32:
        raise ValueError(
            f"the sample: found {', '.join(too_small) or f'size={size}'}; expected counts from 1, size from 32"
        )
    folders = {name: judge_root if name == "judge" else root for name in SETS}
    with Progress(sum(counts.values()), "sample", "images") as progress:
        scenes = {name: _draw_set(folders[name], name, seed, count, size, progress) for name, count in counts.items()}
    labelled = {name: scenes[name] for name in ("train", "val", "judge")} | {
        "train_all": scenes["train"] + scenes["val"]
    }
    for name, listed in labelled.items():
        _write_json(folders.get(name, root) / f"{name}.json", _coco(listed, size))
    for name in ("test", "unlabeled"):
        _write_json(root / f"{name}.json", _coco([(file_name, []) for file_name, _ in scenes[name]], size))
    _write_json(judge_root / "pool_labels.json", _coco(scenes["unlabeled"], size))
    _write_json(judge_root / "train_few.json", _coco(scenes["train"][: max(train // 4, 1)], size))
    (root / "sample_submission.csv").write_text("image_id,PredictionString\n", newline="\n")


def _draw_set(
    root: Path, name: str, seed: int, count: int, size: int, progress: Progress
) -> list[tuple[str, list[Annotation]]]:
    """Write the JPEGs of one set; return their names and annotations."""
    (root / SETS[name][1]).mkdir(parents=True, exist_ok=True)
    listed = []
    for file_name, picture, annotations in _scenes(name, seed, count, size):
        _, encoded = cv2.imencode(
            ".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        )
        (root / file_name).write_bytes(encoded.tobytes())
        listed.append((file_name, annotations))
        progress.advance()
    return listed


def _scenes(name: str, seed: int, count: int, size: int) -> Iterator[tuple[str, np.ndarray, list[Annotation]]]:
    number, folder, setting = SETS[name]
    for index in range(count):
        rng = np.random.Generator(np.random.PCG64([seed, number, index]))
        empty = index % EMPTY_EVERY == EMPTY_FIRST
        yield f"{folder}/{index + 1:04d}.jpg", *draw_scene(rng, setting, size, empty=empty)


def truth_of(name: str, *, seed: int, count: int, size: int) -> Json:
    """The COCO file that a set would have if it were labelled: what `test` and `unlabeled` keep to themselves."""
    return _coco([(file_name, annotations) for file_name, _, annotations in _scenes(name, seed, count, size)], size)


def _coco(listed: list[tuple[str, list[Annotation]]], size: int) -> Json:
    """The COCO detection file of the images `listed`: ids count from 0, category ids are places in KINDS."""
    images = [
        {"id": image_id, "file_name": file_name, "height": size, "width": size}
        for image_id, (file_name, _) in enumerate(listed)
    ]
    objects = [(image_id, annotation) for image_id, (_, annotations) in enumerate(listed) for annotation in annotations]
    return {
        "info": {"description": "Litter scenes drawn by segpipe"},
        "images": images,
        "annotations": [
            {"id": annotation_id, "image_id": image_id, **_coco_annotation(annotation)}
            for annotation_id, (image_id, annotation) in enumerate(objects)
        ],
        "categories": [
            {"id": place, "name": kind.name, "supercategory": kind.name} for place, kind in enumerate(KINDS)
        ],
    }


def _coco_annotation(annotation: Annotation) -> Json:
    corners = [corner for polygon in annotation.polygons for corner in polygon]
    left, top = (min(corner[axis] for corner in corners) for axis in (0, 1))
    right, bottom = (max(corner[axis] for corner in corners) for axis in (0, 1))
    return {
        "category_id": annotation.kind,
        "segmentation": [[tenths / 10 for corner in polygon for tenths in corner] for polygon in annotation.polygons],
        "area": sum(area(polygon) for polygon in annotation.polygons) // 10 / 10,
        "bbox": [tenths / 10 for tenths in (left, top, right - left, bottom - top)],
        "iscrowd": 0,
    }


def _write_json(path: Path, content: Json) -> None:
    """One line for each image and annotation, so that files can be compared."""
    parts = []
    for key, value in content.items():
        if isinstance(value, list) and value:
            rows = ",\n".join(json.dumps(row) for row in value)
            parts.append(f"{json.dumps(key)}: [\n{rows}\n]")
        else:
            parts.append(f"{json.dumps(key)}: {json.dumps(value)}")
    path.write_text("{" + ",\n".join(parts) + "}\n", newline="\n")
