"""What one run leaves behind: a confusion matrix of every judge image, and which code and parameters gave it.

The file is text, one line an image, and stands in git: a verdict can be drawn again, and an arm added, without
training the others once more.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segpipe.libraries import Libraries
from segpipe.stage import read_json


@dataclass(frozen=True)
class Result:
    """One run, scored. `code` and `params` are digests, `libraries` versions; `confusions` is (N, C, C) int64.

    `labelling` is the digest of the code that labelled the pool, where there was a second round.
    """

    code: str
    labelling: str | None
    params: str
    libraries: Libraries
    updates: int
    classes: tuple[str, ...]
    images: tuple[str, ...]
    groups: tuple[str, ...]
    confusions: np.ndarray


def write_result(result: Result, path: Path) -> None:
    """Write JSON with one line for each image: its name, group, and [true class, predicted class, pixels, ...]."""
    head = {
        "code": result.code,
        **({"labelling": result.labelling} if result.labelling else {}),
        "params": result.params,
        "libraries": result.libraries,
        "updates": result.updates,
        "classes": list(result.classes),
    }
    rows = zip(result.images, result.groups, map(_sparse, result.confusions), strict=True)
    lines = ",\n".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(head, indent=1, ensure_ascii=False).removesuffix("\n}")
    path.write_text(f'{text},\n "images": [\n{lines}\n]}}\n', encoding="utf-8")


def read_result(path: Path) -> Result:
    """The inverse of write_result; FileNotFoundError where the run has not been made."""
    value: dict[str, Any] = read_json(path)
    names, groups, counts = zip(*value["images"], strict=True)
    num_classes = len(value["classes"])
    confusions = np.zeros((len(names), num_classes, num_classes), np.int64)
    for confusion, flat in zip(confusions, counts, strict=True):
        actual, predicted, pixels = np.array(flat, np.int64).reshape(-1, 3).T
        confusion[actual, predicted] = pixels
    return Result(
        value["code"],
        value.get("labelling"),
        value["params"],
        value["libraries"],
        value["updates"],
        tuple(value["classes"]),
        names,
        groups,
        confusions,
    )


def _sparse(confusion: np.ndarray) -> list[int]:
    actual, predicted = np.nonzero(confusion)
    return np.stack([actual, predicted, confusion[actual, predicted]], axis=1).ravel().tolist()
