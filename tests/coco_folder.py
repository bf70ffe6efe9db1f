"""COCO data sets made on the spot: a few images of noise with boxes on them, and the parameters to prepare them."""

import json
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from segpipe.data.prepare.prepare import prepare
from segpipe.params import DataParams, SplitParams

GLASS, PAPER = 2, 7  # category ids with gaps; class indices 1 and 2 beneath the background class
CATEGORIES = {GLASS: "Glass", PAPER: "Paper"}


@dataclass(frozen=True)
class Picture:
    """An image of noise that its name seeds (so that no two files are equal), with COCO annotations."""

    file_name: str
    height: int = 4
    width: int = 6
    annotations: list[dict] = field(default_factory=list)
    noise: str = ""  # the name that seeds the noise, where another's bytes are wanted

    def write(self, root: Path) -> None:
        """As PNG, so that the pixels survive."""
        path = root / self.file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".png", self.pixels()[..., ::-1])[1].tobytes())

    def pixels(self) -> np.ndarray:
        """(height, width, 3) uint8 RGB."""
        generator = np.random.default_rng(zlib.crc32((self.noise or self.file_name).encode()))
        return generator.integers(0, 256, (self.height, self.width, 3), np.uint8)


def box(category_id: int, left: int, top: int, right: int, bottom: int) -> dict:
    """An annotation of the pixels from (left, top) up to, but without, (right, bottom)."""
    polygon = [left, top, right, top, right, bottom, left, bottom]
    return {"category_id": category_id, "segmentation": [polygon], "iscrowd": 0}


def write_list(
    root: Path, name: str, pictures: list[Picture], categories: dict[int, str] | None = None, *, labeled: bool = True
) -> None:
    """Write the pictures beneath `root`, and the COCO file `name` that lists them; image ids count from 10."""
    content: dict = {"images": []}
    if labeled:
        listed = CATEGORIES if categories is None else categories
        content |= {"categories": [{"id": id_, "name": name} for id_, name in listed.items()], "annotations": []}
    for image_id, picture in enumerate(pictures, start=10):
        picture.write(root)
        record = {"id": image_id, "file_name": picture.file_name, "height": picture.height, "width": picture.width}
        content["images"].append(record)
        for annotation in picture.annotations if labeled else ():
            number = len(content["annotations"]) + 100
            content["annotations"].append({"id": number, "image_id": image_id} | annotation)
    (root / name).write_text(json.dumps(content), encoding="utf-8")


def write_folder(root: Path, *, categories: dict[int, str] | None = None, **lists: list[Picture]) -> None:
    """One list for each of `train`, `val`, `judge`, `test`, `pool` ..., as `<name>.json`; those not given get defaults.

    Train has images a.png and b.png, val c.png to f.png, test x.png and y.png, all without annotations.
    """
    lists = {"train": pictures("a", "b"), "val": pictures("c", "d", "e", "f"), "test": pictures("x", "y")} | lists
    for name, members in lists.items():
        write_list(root, f"{name}.json", members, categories, labeled=name in ("train", "val", "judge"))


def pictures(*stems: str, **changes: object) -> list[Picture]:
    """Pictures `<stem>.png`, alike but for their noise."""
    return [Picture(f"{stem}.png", **changes) for stem in stems]


def data_params(root: Path, **changes: object) -> DataParams:
    """Section `data` for a folder that write_folder made; images keep their own size."""
    section = {
        "root": str(root),
        "format": "coco",
        "train": "train.json",
        "val": "val.json",
        "judge": None,
        "unlabeled": None,
        "test": "test.json",
        "classes": None,
        "drop": [],
        "ignore": [],
        "background": "class",
        "overlap": "largest_class",
        "image_size": None,
        "resize": "stretch",
        "codec": "auto",
        "on_problem": "stop",
    }
    return DataParams.model_validate(section | changes)


def split_params(**changes: object) -> SplitParams:
    """Section `split`: validation images are held out, half of them judge, each image its own scene."""
    section = {"folds": None, "train_folds": [0], "judge_fraction": 0.5, "group_by": None, "seed": 0}
    return SplitParams.model_validate(section | changes)


def prepare_folder(
    root: Path, *, split: SplitParams | None = None, processes: int | None = None, **changes: object
) -> Path:
    """Prepare the folder `root` into `<root>.prepared`, with `changes` to section `data`; return where it lies."""
    out = root.with_name(f"{root.name}.prepared")
    prepare(data_params(root, **changes), split or split_params(), out, processes=processes)
    return out
