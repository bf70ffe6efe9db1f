"""Data sets of images with PNG label maps, made of the same pictures as those of coco_folder."""

import struct
import zlib
from pathlib import Path

import numpy as np
from coco_folder import CATEGORIES, Picture, pictures
from PIL import Image

PNG_PARAMS = {"format": "png", "train": "train", "val": "val", "test": "test"}


def values_of(picture: Picture) -> np.ndarray:
    """(height, width) uint8: the category ids of a picture's boxes, higher ids over lower ones, 0 elsewhere."""
    values = np.zeros((picture.height, picture.width), np.uint8)
    for annotation in sorted(picture.annotations, key=lambda annotation: annotation["category_id"]):
        polygon = annotation["segmentation"][0]
        values[polygon[1] : polygon[5], polygon[0] : polygon[2]] = annotation["category_id"]
    return values


def save_label_map(path: Path, values: np.ndarray) -> None:
    """As a palette PNG, whose colours say nothing of the values."""
    picture = Image.fromarray(values)
    picture.putpalette(bytes(np.random.default_rng(0).integers(0, 256, 768, np.uint8)))
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


def write_classes(root: Path, categories: dict[int, str] | None = None) -> None:
    """classes.csv."""
    rows = [f"{value},{name}" for value, name in (CATEGORIES if categories is None else categories).items()]
    (root / "classes.csv").write_text("\n".join(["value,name", *rows]) + "\n", encoding="utf-8")


def write_folders(root: Path, **lists: list[Picture]) -> None:
    """A folder for each list, with images/ and masks/; those not given are as in coco_folder.write_folder."""
    lists = {"train": pictures("a", "b"), "val": pictures("c", "d", "e", "f"), "test": pictures("x", "y")} | lists
    for name, members in lists.items():
        for picture in members:
            picture.write(root / name / "images")
            if name in ("train", "val", "judge"):
                save_label_map(root / name / "masks" / picture.file_name, values_of(picture))
    write_classes(root)


def raw_png(values: np.ndarray, depth: int, color_type: int, palette: bytes = b"") -> bytes:
    """A PNG of samples of `depth` bits, written by hand: an opinion of its own beside Pillow's."""
    rows = []
    for row in values:
        bits = "".join(f"{value:0{depth}b}" for value in row.ravel())
        bits += "0" * (-len(bits) % 8)
        rows.append(b"\0" + bytes(int(bits[place : place + 8], 2) for place in range(0, len(bits), 8)))
    return png_file(values.shape[:2], depth, color_type, b"".join(rows), palette)


def png_file(
    size: tuple[int, int], depth: int, color_type: int, rows: bytes, palette: bytes = b"", *, interlaced: bool = False
) -> bytes:
    """A PNG of `size` (height, width) whose rows, each behind its filter, are given."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", size[1], size[0], depth, color_type, 0, 0, interlaced)
    content = chunk(b"IHDR", header) + (chunk(b"PLTE", palette) if palette else b"")
    return b"\x89PNG\r\n\x1a\n" + content + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
