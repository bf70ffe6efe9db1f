"""A small sound project, and what the pipeline says of it once it is broken."""

import contextlib
import copy
import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from coco_folder import GLASS, PAPER, Picture, box, pictures, write_folder
from ruamel.yaml import YAML

from segpipe.data.prepare.prepare import prepare
from segpipe.params import load_params
from segpipe.submission.fit import fit_problems

Break = Callable[[Path], None]  # damages the folder of raw data at this path

ROOT = "data/raw/mine"  # of the project; messages hold it as it stands in params.yaml
OUT = "data/prepared"
COMMITTED = YAML(typ="safe").load((Path(__file__).parents[2] / "params.yaml").read_text(encoding="utf-8"))
SOUND = {
    "data.root": ROOT,
    "data.unlabeled": ["pool.json"],
    "data.classes": None,
    "data.drop": [],
    "data.ignore": [],
    "data.judge": None,
    "data.background": "class",
    "data.on_problem": "stop",
    "split.folds": None,
    "split.file": None,
    "split.train_folds": [0],
    "split.group_by": None,
}
RLE = {"size": [4, 6], "counts": [2, 3, 19]}


def with_values(raw: dict, changes: dict[str, Any]) -> dict:
    """A copy of parsed parameters with the values at these dotted keys."""
    changed = copy.deepcopy(raw)
    for key, value in changes.items():
        *sections, name = key.split(".")
        section = changed
        for part in sections:
            section = section[part]
        section[name] = value
    return changed


def make_project(folder: Path, params: dict[str, Any]) -> Path:
    """A sound project in `folder`, but for the values of `params` at dotted keys; returns its folder of raw data.

    Every image has 4 x 6 pixels. train.json lists a.png (image 10; annotations 100, a box, and 101, an RLE) and b.png
    (image 11; annotation 102), val.json c.png to f.png, test.json x.png and y.png, pool.json p.png and q.png.
    """
    root = folder / ROOT
    two = [box(GLASS, 0, 0, 2, 2), {"category_id": PAPER, "segmentation": RLE}]
    train = [Picture("a.png", annotations=two), Picture("b.png", annotations=[box(PAPER, 0, 0, 1, 1)])]
    val = pictures("c", "d", "e", "f", annotations=[box(GLASS, 1, 1, 3, 3)])
    write_folder(root, train=train, val=val, pool=pictures("p", "q"))
    YAML().dump(with_values(COMMITTED, SOUND | params), folder / "params.yaml")
    return root


def refusal(folder: Path, break_it: Break | None, params: dict[str, Any]) -> str:
    """What a broken project in `folder` is told when it is prepared; "" where nothing is wrong with it."""
    root = make_project(folder, params)
    if break_it:
        break_it(root)
    with contextlib.chdir(folder), contextlib.redirect_stderr(io.StringIO()):  # the progress bar
        try:
            loaded = load_params()
            fits = partial(fit_problems, loaded.submission, Path(loaded.data.root))  # as stages/prepare.py
            prepare(loaded.data, loaded.split, Path(OUT), objection=fits)
        except ValueError as error:
            assert type(error) is ValueError, "a message made for people, not one of a library"
            return str(error)
    return ""
