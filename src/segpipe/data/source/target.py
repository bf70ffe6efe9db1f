"""The label map of one image, from whatever its list says of it: annotations to paint, or a PNG to read."""

from pathlib import Path
from typing import Literal

import numpy as np

from segpipe.data.source.lists import Source
from segpipe.data.source.png import open_label_map, to_classes
from segpipe.data.source.rasterize import rasterize
from segpipe.labels import ClassTable


def target_of(
    source: Source,
    root: Path,
    classes: ClassTable,
    *,
    overlap: Literal["largest_class", "smaller_on_top", "file_order"],
    fill: int,
) -> np.ndarray:
    """Return the (height, width) uint8 label map of a labelled image: class indices and IGNORE_INDEX.

    `fill` stands where nothing is annotated, `overlap` is as in `rasterize`; a label map has no overlaps. Raises
    ImageFault for a PNG beneath `root` that is not as the record says.
    """
    record, class_index = source.record, classes.class_index(source.categories)
    if record.label_map is not None:
        return to_classes(open_label_map(root, record), class_index, fill)
    return rasterize(source.annotations, class_index, record.height, record.width, overlap=overlap, fill=fill)
