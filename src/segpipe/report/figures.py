"""Figures of the page: pictures side by side as data URIs, and what they show in words."""

import base64
from dataclasses import dataclass

import numpy as np

from segpipe.drawing import background_index, encode_jpeg
from segpipe.labels import ClassTable
from segpipe.report.markup import Markup, join, percent, tag


def jpeg_uri(image: np.ndarray) -> str:
    """`data:image/jpeg;base64,...` of (H, W, 3) uint8 RGB."""
    return "data:image/jpeg;base64," + base64.b64encode(encode_jpeg(image)).decode("ascii")


@dataclass(frozen=True)
class Panel:
    """One picture of a row: what it shows, in words for those who do not see it too."""

    title: str
    image: np.ndarray
    alt: str


def figure(panels: list[Panel], caption: Markup) -> Markup:
    """Panels side by side above their caption."""
    boxes = []
    for panel in panels:
        height, width = panel.image.shape[:2]
        picture = tag("img", src=jpeg_uri(panel.image), alt=panel.alt, width=width, height=height)
        boxes.append(tag("div", tag("span", panel.title) + picture))
    return tag("figure", tag("div", join(boxes), class_="panels") + tag("figcaption", caption))


def named_shares(labels: np.ndarray, classes: ClassTable, most: int = 4) -> str:
    """`Paper 12.0 %, Glass 3.1 %`: the largest classes of a label map but the background, as plain text."""
    counts = np.bincount(labels.ravel(), minlength=256)[: classes.num_classes]
    background = background_index(classes)
    total = max(int(labels.size), 1)
    order = [index for index in np.argsort(-counts, kind="stable") if counts[index] and index != background]
    named = [f"{classes.names[index]} {percent(counts[index] / total)}" for index in order[:most]]
    if len(order) > most:
        named.append(f"{len(order) - most} more")
    return ", ".join(named) or ("nothing but background" if counts.any() else "no label")
