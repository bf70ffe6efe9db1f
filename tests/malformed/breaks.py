"""Ways to break the sound project: each is called with its folder of raw data."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from coco_folder import CATEGORIES
from malformed.project import Break


def several(*breaks: Break) -> Break:
    """All of them, one after the other."""

    def do(root: Path) -> None:
        for break_it in breaks:
            break_it(root)

    return do


def edited(name: str, edit: Callable[[dict], Any]) -> Break:
    """The JSON file `name` after `edit` changed what it holds."""

    def do(root: Path) -> None:
        content = json.loads((root / name).read_text(encoding="utf-8"))
        edit(content)
        (root / name).write_text(json.dumps(content), encoding="utf-8")

    return do


def image(file: str = "train.json", index: int = 0, **changes: object) -> Break:
    """Other values in an image of a list: by default image 10, a.png."""
    return edited(file, lambda content: content["images"][index].update(changes))


def annotation(index: int = 0, **changes: object) -> Break:
    """Other values in an annotation of train.json: by default annotation 100."""
    return edited("train.json", lambda content: content["annotations"][index].update(changes))


def category(index: int = 1, **changes: object) -> Break:
    """Other values in a category of train.json: by default 7, Paper."""
    return edited("train.json", lambda content: content["categories"][index].update(changes))


def without(key: str, field: str, index: int = 0) -> Break:
    """One of the lists of train.json with an entry that lacks a field."""
    return edited("train.json", lambda content: content[key][index].pop(field))


def replaced(key: str, value: object, file: str = "train.json") -> Break:
    """Something else under one of the keys of a file."""
    return edited(file, lambda content: content.update({key: value}))


def in_both(edit: Callable[[dict], Any]) -> Break:
    """The same change to the training and the validation list."""
    return several(edited("train.json", edit), edited("val.json", edit))


def labelled(name: str) -> Break:
    """A list of images that becomes a labelled one, without annotations."""
    categories = [{"id": id_, "name": name} for id_, name in CATEGORIES.items()]
    return edited(name, lambda content: content.update(categories=categories, annotations=[]))


def written(name: str, content: bytes) -> Break:
    """A file of other bytes."""
    return lambda root: (root / name).write_bytes(content) and None


def recoded(name: str, change: Callable[[bytes], bytes]) -> Break:
    """A file whose bytes were changed."""
    return lambda root: (root / name).write_bytes(change((root / name).read_bytes())) and None


def removed(*names: str) -> Break:
    """Files that are gone."""

    def do(root: Path) -> None:
        for name in names:
            (root / name).unlink()

    return do


def linked(name: str, target: str) -> Break:
    """A file replaced by a symbolic link."""

    def do(root: Path) -> None:
        (root / name).unlink(missing_ok=True)
        (root / name).symlink_to(target)

    return do


def moved(name: str, place: str) -> Break:
    """A file that lies in a folder beneath the root."""

    def do(root: Path) -> None:
        (root / place).parent.mkdir(exist_ok=True)
        (root / name).rename(root / place)

    return do


def copied(name: str, other: str) -> Break:
    """A file with the bytes of another."""
    return lambda root: (root / other).write_bytes((root / name).read_bytes()) and None


def params_text(change: Callable[[str], str]) -> Break:
    """params.yaml with another text."""

    def do(root: Path) -> None:
        path = root.parents[2] / "params.yaml"
        path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")

    return do


def jpeg(height: int = 4, width: int = 6, *, orientation: int = 1) -> bytes:
    """A JPEG of noise whose EXIF data ask for a rotation."""
    encoded = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))[1].tobytes()
    tiff = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    exif = b"Exif\0\0" + tiff
    return encoded[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + encoded[2:]
