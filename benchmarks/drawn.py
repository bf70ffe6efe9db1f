"""A COCO set drawn in seconds, for benchmarks: JPEGs of textures, with polygons as people draw them."""

import json
from pathlib import Path

import cv2
import numpy as np

from segpipe.params import DataParams, Params, SplitParams

SIDE = 512  # pixels of what is compared with plain ways
CODECS = ("raw", "jpeg")
CLASSES = 11
JPEG_QUALITY = 90


def draw_set(root: Path, count: int, side: int, objects: int) -> None:
    """Write train.json (all but a tenth), val.json (that tenth) and `count` images of side x side pixels."""
    generator = np.random.default_rng([count, side])
    texture = _texture(generator, 2 * side)
    (root / "images").mkdir(parents=True)
    records, annotations = [], []
    for number in range(count):
        top, left = generator.integers(0, side, 2)
        shade = generator.integers(-30, 31, 3)
        pixels = np.clip(texture[top : top + side, left : left + side] + shade, 0, 255).astype(np.uint8)
        name = f"images/{number:06}.jpg"
        encoded = cv2.imencode(".jpg", pixels, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))[1]
        (root / name).write_bytes(encoded.tobytes())
        records.append({"id": number, "file_name": name, "height": side, "width": side})
        for _ in range(objects):
            common = {"id": len(annotations), "image_id": number, "iscrowd": 0}
            category = int(generator.integers(1, CLASSES + 1))
            annotations.append(common | {"category_id": category, "segmentation": [_outline(generator, side)]})
    categories = [{"id": number, "name": f"class {number}"} for number in range(1, CLASSES + 1)]
    cut = count - count // 10
    for name, first, last in (("train", 0, cut), ("val", cut, count)):
        held = [annotation for annotation in annotations if first <= annotation["image_id"] < last]
        content = {"images": records[first:last], "categories": categories, "annotations": held}
        (root / f"{name}.json").write_text(json.dumps(content))


def drawn_params(params: Params, root: Path, side: int, codec: str) -> tuple[DataParams, SplitParams]:
    """Sections `data` and `split` for such a set; images keep their own size."""
    data = {"root": str(root), "train": ("train.json",), "val": ("val.json",)}
    data |= {"judge": None, "unlabeled": (), "test": None}
    data |= {"classes": None, "image_size": (side, side), "codec": codec}
    return params.data.model_copy(update=data), params.split.model_copy(update={"folds": None, "group_by": None})


def _texture(generator: np.random.Generator, side: int) -> np.ndarray:
    """(side, side, 3) float32 with detail of every size, as photographs have: a JPEG takes some 2 bits a pixel."""
    texture = np.zeros((side, side, 3), np.float32)
    for cells in (4, 16, 64, 256, 1024):
        coarse = generator.normal(0, 1, (cells, cells, 3)).astype(np.float32)
        texture += 160 / cells**0.5 * cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    return 128 + texture / 2


def _outline(generator: np.random.Generator, side: int) -> list[float]:
    """A polygon of 12 to 40 corners about a point, x and y by turns."""
    angles = np.sort(generator.uniform(0, 2 * np.pi, generator.integers(12, 41)))
    radius = side * generator.uniform(0.03, 0.22) * generator.uniform(0.6, 1.1, angles.size)
    center = generator.uniform(0, side, 2)
    points = center + radius[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
    return points.round(2).ravel().tolist()
