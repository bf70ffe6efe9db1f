"""What one image adds to the census of a data set: pixels, objects, and what is odd about it.

A pure function of the image's label map and of what its list says, so that worker processes can call it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from segpipe.data.source.lists import Source
from segpipe.data.source.rasterize import encode_segmentation
from segpipe.data.source.records import Annotation
from segpipe.labels import IGNORE_INDEX

COUNTED = 2**22  # pixels counted at a time: float32 has every integer up to 2**24
REACH = 1.0  # pixels that an annotation may reach beyond its image without a word


@dataclass(frozen=True)
class ImageCensus:
    """What one image adds; small enough to be sent between processes.

    `pixels` counts pixels by class index, IGNORE_INDEX among them, and is empty for an unlabelled image.
    `object_classes` (N,) uint8 and `object_areas` (N,) uint32 (pixels, whether or not others lie on top) are of all
    annotations but crowds. `warnings` are pairs of a kind and a place.
    """

    source: Source
    pixels: dict[int, int]
    object_classes: np.ndarray
    object_areas: np.ndarray
    has_annotation: bool
    warnings: tuple[tuple[str, str], ...]


def image_census(
    source: Source, target: np.ndarray | None, class_index: Mapping[int, int | None], image_size: tuple[int, int] | None
) -> ImageCensus:
    """The census of one image.

    `target` is its (height, width) uint8 label map at native size, None where it has none; `class_index` leads from
    category ids to class indices. Annotations of other categories, or of those that lead to None, are passed over.
    """
    marks = [(kind, _image_place(source)) for kind in _size_warnings(source, image_size)]
    nothing = np.empty(0, np.uint8), np.empty(0, np.uint32)
    if target is None:
        return ImageCensus(_bare(source), {}, *nothing, has_annotation=False, warnings=tuple(marks))
    counts = count_pixels(target)
    pixels = {int(index): int(counts[index]) for index in np.flatnonzero(counts)}
    annotations = [
        annotation for annotation in source.annotations if class_index.get(annotation.category_id) is not None
    ]
    # images with label maps list none, but show what was drawn
    has_annotation = bool(annotations) or not pixels.keys().isdisjoint({*class_index.values()} - {IGNORE_INDEX, None})
    if not has_annotation:
        marks.append(("no_annotation", _image_place(source)))
    classes, areas = nothing
    if annotations:
        indices = np.array([class_index[annotation.category_id] for annotation in annotations], np.uint8)
        size = (source.record.height, source.record.width)
        encoded = [encode_segmentation(annotation.segmentation, *size) for annotation in annotations]
        all_areas = _areas(encoded)
        single = np.array([not annotation.iscrowd for annotation in annotations])
        kinds = {
            "no_pixel": all_areas == 0,
            "hidden": _hidden(encoded, indices, all_areas, target, counts) & single,
            "outside": np.array([reaches_out(annotation, *size) for annotation in annotations]),
            "vanishing": _vanishing(all_areas, size, image_size) & single,
        }
        for kind, mask in kinds.items():
            marks += [(kind, _annotation_place(source, annotations[i])) for i in np.flatnonzero(mask)]
        classes, areas = indices[single], all_areas[single]
    return ImageCensus(_bare(source), pixels, classes, areas, has_annotation, tuple(marks))


def count_pixels(labels: np.ndarray) -> np.ndarray:
    """(256,) int64: how many pixels of a uint8 array have each value."""
    flat = labels.reshape(1, -1)
    # three times as fast as np.bincount, which makes eight bytes of each pixel; but it counts in float32
    blocks = [flat[:, start : start + COUNTED] for start in range(0, flat.size, COUNTED)]
    counts = [cv2.calcHist([block], [0], None, [256], [0, 256]).ravel().astype(np.int64) for block in blocks]
    return np.sum(counts, axis=0) if counts else np.zeros(256, np.int64)


def _areas(encoded: Sequence[dict]) -> np.ndarray:
    """(N,) uint32; a hundred at a time, since pycocotools 2.0 raises OverflowError for more than 255."""
    parts = [coco_mask.area(encoded[start : start + 100]) for start in range(0, len(encoded), 100)]
    return np.concatenate(parts).astype(np.uint32)


def reaches_out(annotation: Annotation, height: int, width: int) -> bool:
    """Whether a polygon of it reaches more than REACH pixels beyond the image."""
    if not isinstance(annotation.segmentation, list):
        return False
    return any(
        min(polygon) < -REACH or max(polygon[0::2]) > width + REACH or max(polygon[1::2]) > height + REACH
        for polygon in annotation.segmentation
    )


def _hidden(
    encoded: Sequence[dict], indices: np.ndarray, areas: np.ndarray, target: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """(N,) bool: annotations with pixels none of which shows their class, because others lie on top.

    An object beneath one of its own class is none of them: the target is as it should be.
    """
    hidden = np.zeros(len(encoded), bool)
    for index in np.unique(indices[indices != IGNORE_INDEX]):
        own = indices == index
        # what does not show of the class is at least as large as each of its objects that does not show at all
        missing = areas[own].sum(dtype=np.int64) - counts[index]
        suspects = np.flatnonzero(own & (areas > 0) & (areas <= missing))
        if suspects.size:
            shown = coco_mask.encode(np.asfortranarray(target == index).view(np.uint8))
            # of a "crowd" pycocotools gives the share of the first that lies in the second
            hidden[suspects] = coco_mask.iou([encoded[i] for i in suspects], [shown], [1])[:, 0] == 0
    return hidden


def _vanishing(areas: np.ndarray, size: tuple[int, int], image_size: tuple[int, int] | None) -> np.ndarray:
    if image_size is None:
        return np.zeros(len(areas), bool)
    shrunk = areas * (image_size[0] * image_size[1] / (size[0] * size[1]))
    return (areas > 0) & (shrunk < 1)


def _size_warnings(source: Source, image_size: tuple[int, int] | None) -> list[str]:
    if image_size is None:
        return []
    (new_height, new_width), record = image_size, source.record
    kinds = ["small_image"] if 2 * record.height < new_height or 2 * record.width < new_width else []
    ratio = (record.width / record.height) / (new_width / new_height)
    return kinds + (["aspect"] if max(ratio, 1 / ratio) > 2 else [])


def _bare(source: Source) -> Source:
    return replace(source, annotations=(), categories=())  # large, and already known


def _image_place(source: Source) -> str:
    return f"{source.file.name}: image {source.record.id} ({source.record.file_name})"


def _annotation_place(source: Source, annotation: Annotation) -> str:
    return f"{source.file.name}: annotation {annotation.id} ({source.record.file_name})"
