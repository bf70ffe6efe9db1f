"""Texts of a submission back to label maps, by other code than writes them, with every fault of any writer."""

import re
from collections.abc import Iterator

import numpy as np
from pycocotools import mask as coco

from segpipe.data.source.problems import short

NOT_NUMBERS = "found something other than whole numbers separated by single spaces"
MOST_DIGITS = 9  # of a number that is looked at as one; a longer one is wrong whatever it is


def read_pixels(text: str, size: tuple[int, int], num_classes: int) -> tuple[np.ndarray | None, list[str]]:
    """The (height, width) uint8 label map that a row of class indices says, or None and what is wrong with it."""
    values, faults = _numbers(text)
    if values is None:
        return None, faults
    height, width = size
    if len(values) != height * width:
        faults.append(f"found {len(values)} pixels, expected {height} x {width} = {height * width}")
    if values.max() >= num_classes:
        faults.append(f"found class {values.max()}, expected 0 to {num_classes - 1}")
    return (None, faults) if faults else (values.astype(np.uint8).reshape(size), [])


def read_runs(text: str, size: tuple[int, int]) -> tuple[np.ndarray | None, list[str]]:
    """The (height, width) bool mask of a row of run lengths, none of it set for an empty text, or None and the faults.

    pycocotools decodes, which counts columns first as well; its counts are the lengths of gaps and runs in turns.
    """
    height, width = size
    if not text:
        return np.zeros(size, bool), []
    values, faults = _numbers(text)
    if values is None:
        return None, faults
    if len(values) % 2:
        return None, [f"found {len(values)} numbers, expected pairs of start and length"]
    starts, lengths = values[::2], values[1::2]
    faults = list(_run_faults(starts, lengths, height * width))
    if faults:
        return None, faults
    ends = starts + lengths
    gaps = starts - np.concatenate(([1], ends[:-1]))
    counts = [*np.stack([gaps, lengths], axis=1).ravel().tolist(), height * width + 1 - int(ends[-1])]
    return coco.decode(coco.frPyObjects({"size": [height, width], "counts": counts}, height, width)).astype(bool), []


def _run_faults(starts: np.ndarray, lengths: np.ndarray, pixels: int) -> Iterator[str]:
    if not starts.min() or not lengths.min():
        yield "found a start or a length of 0; pixels are counted from 1, and a run has at least one"
        return
    ends = starts + lengths - 1
    if ends.max() > pixels:
        yield f"found a run up to pixel {ends.max()}, expected at most {pixels}"
    if (starts[1:] <= ends[:-1]).any():
        late = int(np.flatnonzero(starts[1:] <= ends[:-1])[0])
        yield f"found the run at {starts[late + 1]} within or before that at {starts[late]}; expected them in order"


def _numbers(text: str) -> tuple[np.ndarray | None, list[str]]:
    """(n,) int64 with at least one number, or None and what is wrong."""
    ascii_ = text.encode("utf-8", "surrogatepass")
    if ascii_.translate(None, b"0123456789 ") or not ascii_ or b"  " in ascii_ or b" " in (ascii_[:1], ascii_[-1:]):
        return None, [f"{NOT_NUMBERS}{_first_strange(text)}"]
    spaces = np.flatnonzero(np.frombuffer(ascii_, np.uint8) == ord(" "))
    lengths = np.diff(spaces, prepend=-1, append=len(ascii_)) - 1
    if lengths.max() > MOST_DIGITS:
        long = text.split(" ")[int(lengths.argmax())]
        return None, [f"found the number {short(long)}, larger than anything that could stand here"]
    return np.fromstring(text, np.int64, sep=" "), []


def _first_strange(text: str) -> str:
    """The first word that is no number, for the message."""
    if not text:
        return ": nothing at all"
    strange = re.search(r"[^0-9 ][^ ]*|\d+[^0-9 ][^ ]*", text, re.ASCII)
    return f", such as {short(strange.group())}" if strange else ""
