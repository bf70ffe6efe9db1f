"""What is in a data set: images, pixels, objects and sizes, added up image by image.

Of each object four bytes are kept, for exact quartiles of their sizes; of images only counts.
"""

import zlib
from array import array
from bisect import insort
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from segpipe.data.prepare.image_census import ImageCensus
from segpipe.data.source.lists import LABELED_SOURCES, SOURCES
from segpipe.labels import IGNORE_INDEX, ClassTable

SMALL, MEDIUM = 32**2, 96**2  # pixels; COCO's bounds of small and medium objects
EXAMPLES_KEPT = 12  # training images named for each class
SHOWN_SHARE = 0.01  # of an image's pixels: what a class needs to be an example that one can see
SIZES_KEPT = 5  # most frequent image sizes


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
        seen = image.object_areas > 0
        for index in np.unique(image.object_classes[seen]):
            own = image.object_areas[seen & (image.object_classes == index)]
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
    """Of (N,) areas from 1 pixel up: how many, five numbers that occur among them (else 0), and COCO's three sizes."""
    ranks = np.quantile(areas, (0, 0.25, 0.5, 0.75, 1), method="nearest") if areas.size else np.zeros(5)
    numbers = dict(zip(("min", "q1", "median", "q3", "max"), map(int, ranks), strict=True))
    small, up_to_medium = int((areas < SMALL).sum()), int((areas < MEDIUM).sum())
    kinds = {"small": small, "medium": up_to_medium - small, "large": int(areas.size) - up_to_medium}
    return {"objects": int(areas.size)} | numbers | kinds
