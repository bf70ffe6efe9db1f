"""Malformed inputs: folders and lists of PNG label maps, with data.format: png."""

from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from coco_folder import GLASS, box, pictures
from label_map_folder import PNG_PARAMS, save_label_map, write_folders
from malformed.breaks import jpeg, linked, recoded, removed, several, written
from malformed.case import Case
from malformed.project import ROOT, Break
from PIL import Image

PARAMS = {f"data.{key}": value for key, value in PNG_PARAMS.items()} | {"data.unlabeled": ["pool"]}
TRAIN, LIST, CLASSES = (f"{ROOT}/{name}: " for name in ("train", "train.txt", "classes.csv"))


def label_maps(root: Path) -> None:
    """The sound project with label maps in place of COCO files; the values of all are 0 and 2 (Glass)."""
    glass = {"annotations": [box(GLASS, 1, 1, 3, 3)]}
    train, val = pictures("a", "b", **glass), pictures("c", "d", "e", "f", **glass)
    write_folders(root, train=train, val=val, pool=pictures("p", "q"))


def case(mistake: str, break_it: Break | None, *says: str, **params: object) -> Case:
    """A case in the project of label maps; `params` are values in section data."""
    changed = PARAMS | {f"data.{key}": value for key, value in params.items()}
    return Case(mistake, several(label_maps, break_it) if break_it else label_maps, says, changed)


def map_a(values: np.ndarray | bytes) -> Break:
    """Another label map for image a: of these values, or these bytes."""
    if isinstance(values, bytes):
        return written("train/masks/a.png", values)
    return lambda root: save_label_map(root / "train/masks/a.png", values)


def classes(text: str) -> Break:
    """Another classes.csv."""
    return written("classes.csv", text.encode())


def lines(text: str) -> Break:
    """A text list named train.txt."""
    return written("train.txt", text.encode(errors="surrogateescape"))


def animated() -> bytes:
    """A GIF of two pictures."""
    file, frames = BytesIO(), [Image.new("L", (6, 4), value) for value in (9, 90)]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    return file.getvalue()


ZEROS = np.zeros((4, 6), np.uint8)
RGB = cv2.imencode(".png", np.zeros((4, 6, 3), np.uint8))[1].tobytes()

SECTIONS: dict[str, list[Case]] = {
    "Label maps (`data.format: png`)": [
        case(
            "COCO files named",
            None,
            "data.train: 'train.json' is no such list; expected a folder or a list (.txt or .csv) in data/raw/mine",
            "for COCO files data.format: coco",
            train="train.json",
        ),
        case("a misspelt folder", None, "data.train: 'trian' does not exist in data/raw/mine; expected", train="trian"),
        case(
            "no folder of label maps",
            lambda root: (root / "train/masks").rename(root / "train/labels") and None,
            f"{TRAIN}the folder has no masks/; in it are ['images', 'labels']; expected images/ and masks/ with files",
        ),
        case(
            "an image without a label map",
            removed("train/masks/a.png"),
            f"{TRAIN}images/a.png: no file in masks/ matches it; expected one for each image: masks/a.png.",
        ),
        case(
            "a label map without an image",
            removed("train/images/a.png"),
            f"{TRAIN}masks/a.png: there is no images/a with some suffix; expected an image for each label map",
        ),
        case(
            "two images for one label map",
            written("train/images/a.jpg", jpeg()),
            f"{TRAIN}images/a.jpg: 2 images are called 'a', by different suffixes; expected one image for a label map",
        ),
        case(
            "a file that is no image",
            written("test/images/notes.txt", b"by hand"),
            f"{ROOT}/test: images/notes.txt: test/images/notes.txt is no image, of another format, or damaged",
        ),
        case(
            "an image of two pictures",
            written("train/images/a.png", animated()),
            f"{TRAIN}image 1: train/images/a.png holds 2 pictures; expected one: save the annotated one as a file",
        ),
        case(
            "a label map of another size",
            map_a(np.zeros((8, 12), np.uint8)),
            "train/masks/a.png has height 8 and width 12; expected height 4 and width 6, as train/images/a.png has",
        ),
        case(
            "a label map that is not turned with its image",
            written("train/images/a.png", jpeg(orientation=6)),
            "train/masks/a.png has height 4 and width 6 (its image is turned by the rotation that its EXIF data ask",
        ),
        case(
            "colours in place of class numbers",
            map_a(RGB),
            "train/masks/a.png holds colours (RGB), not class numbers; expected a PNG whose pixels are class numbers",
        ),
        case(
            "a JPEG for a label map",
            map_a(jpeg()),
            "train/masks/a.png is a JPEG, whose compression changes class numbers; expected a PNG",
        ),
        case(
            "a value without a row",
            map_a(np.full_like(ZEROS, 9)),
            f"{TRAIN}image 1: train/masks/a.png holds values without a row in classes.csv: 9 (24 pixels); expected",
        ),
        case(
            "a label map cut off",
            recoded("train/masks/a.png", lambda content: content[:-20]),
            f"{TRAIN}image 1: train/masks/a.png is cut off; expected a whole PNG file",
        ),
        case(
            "a label map with a byte changed",
            recoded("train/masks/a.png", lambda content: content[:60] + bytes([content[60] ^ 1]) + content[61:]),
            f"{TRAIN}image 1: train/masks/a.png is damaged: the checksum of its chunk 'PLTE' is wrong",
        ),
        case(
            "a label map elsewhere",
            linked("train/masks/a.png", "/etc/hostname"),
            f"{TRAIN}images/a.png: 'train/masks/a.png' leads out of data.root through a symbolic link",
        ),
        case(
            "an empty list", lines(""), f"{LIST}'images': the list is empty; expected at least one", train="train.txt"
        ),
        case(
            "a line without a label map",
            lines("train/images/a.png\n"),
            f"{LIST}line 1: the line is 'train/images/a.png'; expected an image and its label map; between",
            train="train.txt",
        ),
        case(
            "a line that leads upwards",
            lines("../a.png train/masks/a.png\n"),
            f"{LIST}line 1: '../a.png' leads upwards through '..'; expected the path of an image within data.root",
            train="train.txt",
        ),
        case(
            "an image twice",
            lines("train/images/a.png,train/masks/a.png\n" * 2),
            f"{LIST}line 2: 'train/images/a.png' is listed more than once; expected each image once",
            train="train.txt",
        ),
        case("a list that is no text", lines("\udce4"), f"{LIST}the file is not UTF-8 text", train="train.txt"),
    ],
    "`classes.csv`": [
        case(
            "missing", removed("classes.csv"), f"{CLASSES}the file does not exist; expected a CSV file with the header"
        ),
        case(
            "no header", classes("2,Glass\n"), f"{CLASSES}the first line is ['2', 'Glass']; expected the header value,"
        ),
        case("no rows", classes("value,name\n"), f"{CLASSES}no row follows the header"),
        case(
            "a value that is none",
            classes("value,name\n-1,Glass\n"),
            f"{CLASSES}line 2: the value is '-1'; expected a whole number from 0 to 65535",
        ),
        case(
            "a value twice",
            classes("value,name\n2,Glass\n2,Paper\n"),
            f"{CLASSES}line 2: 2 rows have the value 2; expected values that occur once",
        ),
        case(
            "a name twice",
            classes("value,name\n2,Glass\n7,Glass\n"),
            f"{CLASSES}line 3: 2 rows have the name 'Glass'; expected names that occur once; data.classes can make one",
        ),
        case(
            "no value left for the background",
            classes("value,name\n0,Sky\n2,Glass\n"),
            "params.yaml: data.background: 'class' adds a class for pixels of value 0, which classes.csv calls 'Sky'",
            "expected ignore, where every class has a row in classes.csv; or 'Sky' in data.drop",
        ),
    ],
}
