"""What an annotation file says of the data, as records that the rest of the package works with."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class LabelMap:
    """A PNG file, relative to the data root, whose pixels hold the ids of categories; `values` are those it may hold.

    Without `values`, where the list of categories is itself faulty, what it holds cannot be checked.
    """

    file_name: str
    values: frozenset[int] | None


@dataclass(frozen=True)
class ImageRecord:
    """An image as the annotation file lists it; `file_name` is relative to the data root.

    Where label maps take the place of annotations, a labelled image has one.
    """

    id: int
    file_name: str
    height: int
    width: int
    label_map: LabelMap | None = None


@dataclass(frozen=True)
class Annotation:
    """One object; `segmentation` is a list of polygons or an RLE dict that `check_segmentation` accepts."""

    id: int
    image_id: int
    category_id: int
    segmentation: Any
    iscrowd: bool = False


@dataclass(frozen=True)
class Category:
    """A kind of object; ids are arbitrary integers, the class index comes from `segpipe.labels`."""

    id: int
    name: str


@dataclass(frozen=True)
class CocoFile:
    """The sound part of an annotation file, in file order.

    `annotations_by_image` has an entry, perhaps empty, for every image of a labelled file; it and `categories` are
    empty for an unlabelled one. `incomplete` has the ids of images that lost a faulty annotation: what it covered would
    pass for background. `file_names` are those of all images listed, sound or not; `categories_sound` says whether
    every category listed is among `categories`.
    """

    path: Path
    images: tuple[ImageRecord, ...]
    annotations_by_image: dict[int, tuple[Annotation, ...]]
    categories: tuple[Category, ...]
    incomplete: frozenset[int] = frozenset()
    file_names: tuple[str, ...] = ()
    categories_sound: bool = True
