"""A row of the table of malformed inputs, and short ways to write the commonest kinds."""

from dataclasses import dataclass, field
from typing import Any

from malformed.breaks import annotation, image, several, written
from malformed.project import Break

TRAIN, VAL, TEST = (f"data/raw/mine/{name}.json: " for name in ("train", "val", "test"))


@dataclass(frozen=True)
class Case:
    """A mistake in words, what makes it, and fragments of its message: place, what was found, what was expected."""

    mistake: str
    break_it: Break | None
    says: tuple[str, ...]
    params: dict[str, Any] = field(default_factory=dict)  # values at dotted keys


def params(mistake: str, key: str, value: object, *says: str) -> Case:
    """A case where one value of params.yaml is wrong."""
    return Case(mistake, None, says, {key: value})


def segmentation(mistake: str, value: object, *says: str) -> Case:
    """A case where annotation 100 has a segmentation that cannot be painted."""
    return Case(mistake, annotation(segmentation=value), (f"{TRAIN}annotation 100: ", *says))


def file_name(mistake: str, name: object, *says: str, break_it: Break | None = None) -> Case:
    """A case where image 10 has a file_name that does not lead to its file."""
    renamed = image(file_name=name)
    return Case(mistake, several(break_it, renamed) if break_it else renamed, (f"{TRAIN}image 10: ", *says))


def broken(mistake: str, content: bytes, *says: str) -> Case:
    """A case where the file of image 10 does not hold the image that the list speaks of."""
    return Case(mistake, written("a.png", content), (f"{TRAIN}image 10: a.png ", *says))


def unreadable(mistake: str, break_it: Break, *says: str) -> Case:
    """A case where train.json is no COCO file at all."""
    return Case(mistake, break_it, (TRAIN, *says, "expected a JSON object in COCO's detection layout, with a list"))
