"""What is in a data set: images, pixels, objects and sizes, counted image by image.

`image_census` looks at one image and nothing else, so that worker processes can call it; `Census` adds the answers up.
Of each object four bytes are kept, whatever the number of images, for exact quartiles of their sizes.
"""

import zlib
from array import array
from bisect import insort
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from pycocotools import mask as coco_mask

from segpipe.data.source.lists import LABELED_SOURCES, SOURCES, Source
from segpipe.data.source.rasterize import encode_segmentation
from segpipe.data.source.records import Annotation
from segpipe.labels import IGNORE_INDEX, ClassTable

SMALL, MEDIUM = 32**2, 96**2  # pixels; COCO's bounds of small and medium objects
EXAMPLES_KEPT = 12  # training images named for each class
SHOWN_SHARE = 0.01  # of an image's pixels: what a class needs to be an example that one can see
SIZES_KEPT = 5  # most frequent image sizes
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
    source: Source, target: np.ndarray | None, class_index: dict[int, int], image_size: tuple[int, int] | None
) -> ImageCensus:
    """The census of one image.

    `target` is its (height, width) uint8 label map at native size, None where it has none; `class_index` leads from
    category ids to class indices. Annotations of other categories are passed over.
    """
    marks = [(kind, _image_place(source)) for kind in _size_warnings(source, image_size)]
    nothing = np.empty(0, np.uint8), np.empty(0, np.uint32)
    if target is None:
        return ImageCensus(_bare(source), {}, *nothing, has_annotation=False, warnings=tuple(marks))
    counts = np.bincount(target.ravel(), minlength=256)
    pixels = {int(index): int(counts[index]) for index in np.flatnonzero(counts)}
    annotations = [annotation for annotation in source.annotations if annotation.category_id in class_index]
    # images with label maps list none, but show what was drawn
    has_annotation = bool(annotations) or not pixels.keys().isdisjoint({*class_index.values()} - {IGNORE_INDEX})
    if not has_annotation:
        marks.append(("no_annotation", _image_place(source)))
    classes, areas = nothing
    if annotations:
        indices = np.array([class_index[annotation.category_id] for annotation in annotations], np.uint8)
        size = (source.record.height, source.record.width)
        encoded = [encode_segmentation(annotation.segmentation, *size) for annotation in annotations]
        all_areas = coco_mask.area(encoded).astype(np.uint32)
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
    for index in np.unique(indices):
        own = np.flatnonzero((indices == index) & (areas > 0))
        # where nothing overlaps, the pixels of the class are those of its annotations, and there is nothing to look for
        if index == IGNORE_INDEX or not own.size or areas[own].sum(dtype=np.int64) == counts[index]:
            continue
        shown = coco_mask.encode(np.asfortranarray(target == index).view(np.uint8))
        # of a "crowd" pycocotools gives the share of the first that lies in the second
        hidden[own] = coco_mask.iou([encoded[i] for i in own], [shown], [1])[:, 0] == 0
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
    return Source(source.name, source.file, source.record, ())  # annotations are large, and already known


def _image_place(source: Source) -> str:
    return f"{source.file.name}: image {source.record.id} ({source.record.file_name})"


def _annotation_place(source: Source, annotation: Annotation) -> str:
    return f"{source.file.name}: annotation {annotation.id} ({source.record.file_name})"


@dataclass
class SetCensus:
    """One list: how many images, and for each class index pixels, objects, and images that show it."""

    images: int = 0
    without_annotation: int = 0
    pixels: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    objects: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    images_with: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))


class Census:
    """Of a whole data set: `add` each image once, in the order of the image table."""

    def __init__(self, classes: ClassTable) -> None:
        self.classes = classes
        self.sets = {name: SetCensus() for name in SOURCES}
        self._areas: dict[int, array] = {}
        self._sizes: Counter[tuple[int, int]] = Counter()
        self._examples: dict[int, list[tuple[bool, int, str]]] = {}

    def add(self, image: ImageCensus) -> None:
        """Count one image."""
        record, counted = image.source.record, self.sets[image.source.name]
        counted.images += 1
        self._sizes[record.height, record.width] += 1
        if image.source.name not in LABELED_SOURCES:
            return
        counted.without_annotation += not image.has_annotation
        counted.objects += np.bincount(image.object_classes, minlength=256)
        for index, pixels in image.pixels.items():
            counted.pixels[index] += pixels
            counted.images_with[index] += 1
            if image.source.name == "train" and index != IGNORE_INDEX:
                self._exemplify(index, record.file_name, pixels / (record.height * record.width))
        for index in np.unique(image.object_classes):
            own = image.object_areas[image.object_classes == index]
            self._areas.setdefault(int(index), array("I")).frombytes(own.astype(np.uint32).tobytes())

    def _exemplify(self, index: int, file_name: str, share: float) -> None:
        """Keep a sample of the images that show the class, drawn by a hash of their names, whatever their order."""
        examples = self._examples.setdefault(index, [])
        insort(examples, (share < SHOWN_SHARE, zlib.crc32(f"{index} {file_name}".encode()), file_name))
        del examples[EXAMPLES_KEPT:]

    def total(self, of: str) -> np.ndarray:
        """(256,) int64: "pixels", "objects" or "images_with" of all labelled lists together."""
        return np.sum([getattr(self.sets[name], of) for name in LABELED_SOURCES], axis=0)

    def to_json(self) -> dict:
        """Sets, object sizes, image sizes and examples, classes by name in index order."""
        areas = {index: np.frombuffer(values, np.uint32) for index, values in sorted(self._areas.items())}
        names = self.classes.names
        all_areas = np.concatenate([values for i, values in areas.items() if i < len(names)] or [np.empty(0)])
        return {
            "sets": {name: self._set_to_json(name) for name in SOURCES},
            "object_sizes": {
                "all": size_summary(all_areas),
                "classes": {
                    names[index]: size_summary(values) for index, values in areas.items() if index < len(names)
                },
            },
            "image_sizes": self._image_sizes(),
            "examples": {
                name: [file_name for _, _, file_name in self._examples.get(index, [])]
                for index, name in enumerate(names)
            },
        }

    def _set_to_json(self, name: str) -> dict:
        counted = self.sets[name]
        if name not in LABELED_SOURCES:
            return {"images": counted.images}
        classes = {
            class_name: {
                "pixels": int(counted.pixels[index]),
                "objects": int(counted.objects[index]),
                "images": int(counted.images_with[index]),
            }
            for index, class_name in enumerate(self.classes.names)
        }
        ignored = int(counted.pixels[IGNORE_INDEX])
        alone = {"images": counted.images, "without_annotation": counted.without_annotation}
        return alone | {"ignored_pixels": ignored, "classes": classes}

    def _image_sizes(self) -> dict:
        by_area = sorted(self._sizes, key=lambda size: (size[0] * size[1], size))
        most = sorted(self._sizes.items(), key=lambda item: (-item[1], item[0]))[:SIZES_KEPT]
        return {
            "distinct": len(self._sizes),
            "smallest": list(by_area[0]) if by_area else None,
            "largest": list(by_area[-1]) if by_area else None,
            "most_frequent": [{"height": h, "width": w, "images": count} for (h, w), count in most],
        }


def size_summary(areas: np.ndarray) -> dict:
    """Of (N,) areas in pixels: how many, five numbers that occur among them (0 without any), and COCO's three sizes."""
    ranks = np.quantile(areas, (0, 0.25, 0.5, 0.75, 1), method="nearest") if areas.size else np.zeros(5)
    numbers = dict(zip(("min", "q1", "median", "q3", "max"), map(int, ranks), strict=True))
    small, up_to_medium = int((areas < SMALL).sum()), int((areas < MEDIUM).sum())
    kinds = {"small": small, "medium": up_to_medium - small, "large": int(areas.size) - up_to_medium}
    return {"objects": int(areas.size)} | numbers | kinds
