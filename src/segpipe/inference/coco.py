"""Label maps as a COCO file: for each image and class one run-length encoded segmentation."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from segpipe.drawing import background_index
from segpipe.labels import ClassTable


def write_coco(path: Path, label_maps: Iterable[tuple[str, np.ndarray]], classes: ClassTable) -> None:
    """Write (file name, (H, W) uint8) pairs, one in memory at a time; a category's id is its class index.

    A background that no category names has no entry: it is what nothing else covers. The file is whole or not there.
    """
    background = background_index(classes)
    categories = [{"id": index, "name": name} for index, name in enumerate(classes.names) if index != background]
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    images = []
    with part.open("w", encoding="utf-8") as file:
        file.write('{"annotations": [')
        separator, annotation_id = "\n", 0
        for image_id, (file_name, labels) in enumerate(label_maps):
            height, width = labels.shape
            images.append({"id": image_id, "file_name": file_name, "height": height, "width": width})
            for entry in _segmentations(labels, background):
                file.write(separator + json.dumps({"id": annotation_id, "image_id": image_id} | entry))
                separator, annotation_id = ",\n", annotation_id + 1
        rest = json.dumps({"images": images, "categories": categories})
        file.write(f"\n],\n{rest[1:]}\n")
    part.replace(path)


def _segmentations(labels: np.ndarray, background: int | None) -> Iterator[dict]:
    for index in np.unique(labels).tolist():
        if index == background:
            continue
        encoded = coco_mask.encode(np.asfortranarray(labels == index, dtype=np.uint8))
        yield {
            "category_id": index,
            "segmentation": {"size": list(labels.shape), "counts": encoded["counts"].decode("ascii")},
            "area": int(coco_mask.area(encoded)),
            "bbox": coco_mask.toBbox(encoded).tolist(),
            "iscrowd": 0,
        }
