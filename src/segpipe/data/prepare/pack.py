"""What is done to one image: a pure function of the image and what an annotation file says of it.

It runs in worker processes. What else shall be known of each image goes into `PackedImage` and `pack_image`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from segpipe.data.codecs import Codec, Encoded, encode, plain_jpeg
from segpipe.data.prepare.image_census import ImageCensus, image_census
from segpipe.data.resize import resize_image, resize_labels, stored_size
from segpipe.data.source.images import ImageFault, ImageFile, open_image
from segpipe.data.source.lists import LABELED_SOURCES, Source
from segpipe.data.source.png import open_label_map
from segpipe.data.source.target import target_of
from segpipe.labels import ClassTable
from segpipe.params import DataParams

RAW_BYTES = 20_000 * 512 * 512 * 3  # 16 GB of pixels: more would fill disks and the system's cache of files


@dataclass(frozen=True)
class Packing:
    """How every image of a set is packed; `fill` is the class of pixels without annotation."""

    root: Path
    image_size: tuple[int, int] | None
    resize: Literal["stretch", "letterbox"]
    codec: Codec
    classes: ClassTable
    overlap: Literal["largest_class", "smaller_on_top", "file_order"]
    fill: int


@dataclass(frozen=True)
class PackedTarget:
    """A labelled image's target at the networks' size and at its own."""

    target: Encoded
    native_target: Encoded


@dataclass(frozen=True)
class SoundImage:
    """What is known of any image that can be used."""

    content_hash: str


@dataclass(frozen=True)
class PackedImage(SoundImage):
    """All that `prepare` keeps of one image."""

    image: Encoded
    labels: PackedTarget | None
    census: ImageCensus


def pack_image(source: Source, how: Packing) -> PackedImage | ImageFault:
    """The image packed, or what is wrong with its file."""
    try:
        file = open_image(how.root, source.record)
        native = _native_target(source, how) if source.name in LABELED_SOURCES else None
    except ImageFault as fault:
        return fault
    return PackedImage(
        content_hash=file.content_hash,
        image=_pack_pixels(file, how),
        labels=None if native is None else _pack_target(native, how),
        census=image_census(source, native, how.classes.class_index(source.categories), how.image_size),
    )


def look_at_image(source: Source, root: Path) -> SoundImage | ImageFault:
    """What is wrong with its file, if anything; nothing is packed."""
    try:
        if source.record.label_map is not None:
            open_label_map(root, source.record)
        return SoundImage(open_image(root, source.record).content_hash)
    except ImageFault as fault:
        return fault


def _pack_pixels(file: ImageFile, how: Packing) -> Encoded:
    image = resize_image(file.image, stored_size(file.image.shape[:2], how.image_size, how.resize))
    if how.codec == "jpeg" and image is file.image and plain_jpeg(file.encoded):
        return Encoded.of("jpeg", image.shape, file.encoded)  # a second JPEG would be larger and worse
    return encode(image, how.codec)


def _native_target(source: Source, how: Packing) -> np.ndarray:
    return target_of(source, how.root, how.classes, overlap=how.overlap, fill=how.fill)


def _pack_target(native: np.ndarray, how: Packing) -> PackedTarget:
    target = resize_labels(native, stored_size(native.shape, how.image_size, how.resize))
    packed = encode(native, "runs")
    return PackedTarget(packed if target is native else encode(target, "runs"), packed)


def image_codec(data: DataParams, native_sizes: Sequence[tuple[int, int]]) -> Literal["raw", "jpeg"]:
    """How images of these (height, width) are stored; `auto` keeps pixels as they are while they are not too many."""
    if data.codec != "auto":
        return data.codec
    sizes = [stored_size(size, data.image_size, data.resize) or size for size in native_sizes]
    return "raw" if sum(3 * height * width for height, width in sizes) <= RAW_BYTES else "jpeg"
