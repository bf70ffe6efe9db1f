"""Segmentations: checked, then painted into label maps.

The check stands before pycocotools because that has none: a coordinate that is not finite, or a huge one, makes it eat
all memory or kills the process without a traceback. Painting is left to pycocotools all the same, because cv2.fillPoly
also paints the border of a polygon and so makes small objects a good deal larger.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from pycocotools import mask as coco_mask

from segpipe.data.source.problems import short
from segpipe.data.source.records import Annotation
from segpipe.labels import IGNORE_INDEX

MAX_RUN_CHARACTERS = 6  # of 5 bits each: enough for runs of 2**29 pixels; with more, pycocotools overflows 32 bits
MAX_OUTLINE = 1000  # longest outline of a polygon, in units of height + width; pycocotools takes 52 bytes for a pixel


def rasterize(
    annotations: Sequence[Annotation],
    class_index: Mapping[int, int | None],
    height: int,
    width: int,
    *,
    overlap: Literal["largest_class", "smaller_on_top", "file_order"],
    fill: int,
) -> np.ndarray:
    """Return the label map of one image, (height, width) uint8: class indices, and `fill` where no annotation lies.

    `class_index` leads from category ids to class indices, or to IGNORE_INDEX for what shall not count, or to None for
    what is left out as if it were not annotated. Where annotations overlap, `overlap` decides: "largest_class" keeps
    the larger class index (the litter contest's rule), "smaller_on_top" the annotation with fewer pixels and among
    equals the later one, "file_order" the later one. An ignored annotation hides and is hidden by these rules, too, but
    to "largest_class" it is smaller than any class: a pixel that has a class keeps it. Crowd annotations are painted by
    the same rule, but beneath all others: they outline a region, not an object.

    The annotations must have passed `check_segmentation` for this image. One object's mask is in memory at a time.
    """
    kept = [(each, class_) for each in annotations if (class_ := class_index[each.category_id]) is not None]
    classes, crowds = [class_ for _, class_ in kept], [annotation.iscrowd for annotation, _ in kept]
    encoded = [encode_segmentation(annotation.segmentation, height, width) for annotation, _ in kept]
    if overlap == "largest_class":
        ranks = [-1 if class_ == IGNORE_INDEX else class_ for class_ in classes]
    elif overlap == "smaller_on_top":
        ranks = [-int(coco_mask.area(rle)) for rle in encoded]
    elif overlap == "file_order":
        ranks = [0] * len(encoded)
    else:
        expected = "expected 'largest_class', 'smaller_on_top' or 'file_order'"
        raise ValueError(f"data.overlap is {overlap!r}; {expected}. Change it in params.yaml.")
    # sorted() keeps the file's order among equals; the last one painted is seen
    order = sorted(range(len(encoded)), key=lambda index: (not crowds[index], ranks[index]))
    labels = np.full((height, width), fill, np.uint8, order="F")  # as pycocotools lays out its masks
    for index in order:
        np.copyto(labels, np.uint8(classes[index]), where=coco_mask.decode(encoded[index]).view(bool))
    return np.ascontiguousarray(labels)


def encode_segmentation(segmentation: Any, height: int, width: int) -> dict[str, Any]:
    """Return a checked segmentation as one compressed RLE; several polygons become their union."""
    if isinstance(segmentation, list):
        return coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    if isinstance(segmentation["counts"], list):
        return coco_mask.frPyObjects(segmentation, height, width)
    return segmentation


def check_segmentation(segmentation: Any, height: int, width: int) -> str | None:
    """Return what is wrong with a COCO segmentation for an image of `height` x `width` pixels, or None.

    Polygons: a list of flat lists of at least 6 numbers, x and y by turns, an even count, all finite, not all points on
    one line. A polygon that has an area but covers no pixel's centre is accepted: that is no mistake in itself. It may
    reach beyond the image, where it is clipped, by one image size to the left and top and by two to the right and
    bottom; and its outline may not be longer than 1000 times height + width, because pycocotools needs 52 bytes for
    each pixel along it. RLE: a dict whose 'size' is [height, width] and whose 'counts', a list or a compressed string,
    are runs from 0 up that add up to height * width.
    """
    if isinstance(segmentation, dict):
        return _check_rle(segmentation, height, width)
    if not isinstance(segmentation, list):
        return f"the segmentation is {short(segmentation)}, neither polygons nor an RLE"
    if not segmentation:
        return "the list of polygons is empty"
    if all(type(value) in (int, float) for value in segmentation):
        return f"the segmentation is one flat list of {len(segmentation)} numbers"
    for index, polygon in enumerate(segmentation):
        if fault := _polygon_fault(polygon, height, width):
            return f"polygon {index} {fault}"
    return None


def decode_counts(counts: str) -> np.ndarray:
    """Return the run lengths, int64, of a compressed COCO RLE; ValueError when the string is cut off or garbled.

    A number takes one or more characters of 48..111, low 5 bits first; bit 5 says that more follow, bit 4 of the last
    is the sign. From the fourth number on it is the difference to the run two before (`rleToString` in cocoapi
    common/maskApi.c). Runs may come out negative here; the caller checks that.
    """
    codes = np.frombuffer(counts.encode(errors="replace"), np.uint8).astype(np.int64) - 48
    if codes.size == 0:
        return codes
    if not counts.isascii() or codes.min() < 0 or codes.max() > 63:
        raise ValueError("the compressed counts hold a character outside '0' to 'o'")
    ends = np.flatnonzero(codes < 32)
    if ends.size == 0 or ends[-1] != codes.size - 1:
        raise ValueError("the compressed counts are cut off within a number")
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > MAX_RUN_CHARACTERS:
        raise ValueError(f"the compressed counts hold a number of more than {MAX_RUN_CHARACTERS} characters")
    place = np.arange(codes.size) - np.repeat(starts, lengths)
    runs = np.add.reduceat((codes & 31) << (5 * place), starts)
    runs -= np.where(codes[ends] & 16, np.int64(1) << (5 * lengths), 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])  # the first run stands alone
    return runs


def expected_segmentation(segmentation: Any, height: int, width: int) -> str:
    """Return what `check_segmentation` accepts for an image of this size, in words."""
    if isinstance(segmentation, dict):
        return f"an RLE of size [{height}, {width}] whose runs add up to {height * width}"
    return (
        "a list of polygons, each a flat list of at least 6 finite numbers, x and y by turns, points not on one line, "
        f"with x from {-width} to {3 * width} and y from {-height} to {3 * height}"
    )


def _polygon_fault(polygon: Any, height: int, width: int) -> str | None:
    if not isinstance(polygon, list):
        return f"is {short(polygon)}, not a list of numbers"
    if strangers := [value for value in polygon if type(value) is not float and type(value) is not int]:
        return f"holds {short(strangers[0])}, which is not a number"  # type(), because bool is a kind of int
    if len(polygon) < 6 or len(polygon) % 2:
        return f"has {len(polygon)} numbers" + (", an odd count" if len(polygon) % 2 else ", fewer than 3 points")
    for name, values, side in (("x", polygon[0::2], width), ("y", polygon[1::2], height)):
        for value in values:
            if not -side <= value <= 3 * side:  # holds for NaN, too
                finite = type(value) is int or math.isfinite(value)
                fault = "lies too far outside the image" if finite else "is not finite"
                return f"has a point whose {name} is {short(value)}, which {fault}"
    steps = np.abs(np.diff(np.array(polygon + polygon[:2], np.float64).reshape(-1, 2), axis=0)).max(axis=1).sum()
    if steps > MAX_OUTLINE * (height + width):
        return f"has an outline of {steps:.0f} pixels, more than {MAX_OUTLINE} times height + width"
    if _on_one_line(polygon):
        points = len({*zip(polygon[0::2], polygon[1::2], strict=True)})
        return "has no area: " + (
            f"only {points} different point{'s' if points > 1 else ''}" if points < 3 else "all points lie on one line"
        )
    return None


def _on_one_line(polygon: list[float]) -> bool:
    (x, y), along = polygon[:2], (0, 0)
    for step in zip((value - x for value in polygon[2::2]), (value - y for value in polygon[3::2]), strict=True):
        if along == (0, 0):
            along = step
        elif along[0] * step[1] != along[1] * step[0]:
            return False
    return True


def _check_rle(rle: dict[str, Any], height: int, width: int) -> str | None:
    size, counts = rle.get("size"), rle.get("counts")
    if not isinstance(size, list) or not all(type(side) is int for side in size) or size != [height, width]:
        return f"the RLE's size is {short(size)}, not the image's [height, width] = [{height}, {width}]"
    if isinstance(counts, str):
        try:
            runs = decode_counts(counts).tolist()
        except ValueError as error:
            return str(error)
    elif isinstance(counts, list):
        if strangers := [run for run in counts if type(run) is not int]:
            return f"the RLE's counts hold {short(strangers[0])}, which is not an integer"
        runs = counts
    else:
        return f"the RLE's counts are {short(counts)}, neither a list nor a string"
    if runs and min(runs) < 0:
        return f"the RLE has a run of {short(min(runs))} pixels"
    if sum(runs) != height * width:
        return f"the RLE's runs add up to {short(sum(runs))} pixels, not to {height} * {width} = {height * width}"
    return None
