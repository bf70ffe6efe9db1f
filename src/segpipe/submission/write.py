"""A submission written in one pass over the label maps, in every format asked for; nothing is held but one image."""

import zlib
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segpipe.stage import write_json
from segpipe.submission.encode import pixel_text, png_bytes, run_texts
from segpipe.submission.layout import FILES, Format, Layout
from segpipe.submission.png import png_path
from segpipe.submission.rows import CsvWriter

LabelMaps = Iterable[tuple[str, np.ndarray]]  # (file name, (height, width) uint8)


@dataclass(frozen=True)
class Written:
    """What a submission is held against once it is read back: an image's name and size, and a sum of its label map.

    `sums` has, for each format, the CRC-32 of what the format can say of the label map.
    """

    file_name: str
    size: tuple[int, int]
    sums: dict[Format, int]


def checksum(shown: np.ndarray) -> int:
    """CRC-32 of a (height, width) uint8 array's pixels, row by row."""
    return zlib.crc32(np.ascontiguousarray(shown).data)


def write_submission(folder: Path, layout: Layout, label_maps: LabelMaps) -> list[Written]:
    """Write the formats of `layout` to `folder`, and return what is to be found there.

    Rows follow the sample submission where there is one, or else come as the label maps do. Raises ValueError for a
    file name that would be written outside `folder`; no CSV stays there then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        tables: dict[Format, CsvWriter] = {}
        for format_ in layout.formats:
            if format_ != "png":
                order = layout.sample.ids if layout.sample else ()
                tables[format_] = CsvWriter(folder / FILES[format_], layout.columns(format_), order)
                stack.callback(tables[format_].discard)
        written = [_write_image(folder, layout, tables, *labeled) for labeled in label_maps]
        for table in tables.values():
            table.finish()
    if "png" in layout.formats:
        names = {"names": list(layout.classes.names), "categories": [list(c) for c in layout.classes.categories]}
        write_json(folder / FILES["png"] / "classes.json", names)
    return written


def _write_image(
    folder: Path, layout: Layout, tables: dict[Format, CsvWriter], file_name: str, label_map: np.ndarray
) -> Written:
    sums: dict[Format, int] = {}
    for format_ in layout.formats:
        shown = layout.shown(format_, label_map)
        sums[format_] = checksum(shown)
        if format_ == "png":
            path = png_path(folder / FILES["png"], file_name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png_bytes(label_map, layout.classes if layout.palette else None))
            continue
        texts = [pixel_text(shown)] if format_ == "pixels" else run_texts(shown, len(layout.labels("rle")) - 1)
        for id_, text in zip(layout.ids(format_, file_name), texts, strict=True):
            tables[format_].add(id_, text)
    return Written(file_name, (label_map.shape[0], label_map.shape[1]), sums)
