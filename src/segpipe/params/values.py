"""What the keys of params.yaml may hold, and the form that every section shares."""

import difflib
import math
import re
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(gt=0, le=1)]  # of something that may not be nothing
Positive = Annotated[int, Field(gt=0)]
NonNegative = Annotated[int, Field(ge=0)]
Weight = Annotated[float, Field(ge=0)]
FileName = Annotated[str, Field(min_length=1)]

ALL: Final = "all"  # the fold that holds nothing out: it learns from every labelled image, and is never scored
MOST_FOLDS = 1000  # a larger number is a slip, and would make as many folds of it
FoldName = int | Literal["all"]


def as_tuple(value: object) -> object:
    """A YAML list as a tuple, so that sections are immutable all through."""
    return tuple(value) if isinstance(value, list) else value


def list_or_none(value: object) -> object:
    """The same, with nothing as an empty one: an empty list after `-S key=` would damage params.yaml (ruamel 0.18)."""
    return () if value is None else as_tuple(value)


def one_or_more(value: object) -> object:
    """One string as a tuple of one."""
    return (value,) if isinstance(value, str) else as_tuple(value)


def some_files(value: object) -> object:
    """The names of one file or several as a tuple; one message for what is neither, where pydantic would give two."""
    names = one_or_more(value)
    if not isinstance(names, tuple) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError("is no file; expected the name of one, or a list of names")
    return names


def class_entry(entry: object) -> object:
    """An entry of `data.classes`: a name, or one new name and the categories that it stands for, as a tuple.

    A category may stand alone for a list of one. Raises ValueError for another form.
    """
    if not isinstance(entry, dict):
        return category_name(entry)
    if len(entry) != 1:
        raise ValueError(f"found {entry!r}; expected one new name an entry, each behind a dash of its own")
    ((name, listed),) = entry.items()
    categories = one_or_more(listed)
    if not isinstance(categories, tuple) or not categories:
        raise ValueError(f"the class {name!r} has {listed!r} for its categories; expected the names of some")
    if faults := [f"{part!r} {fault}" for part in (name, *categories) if (fault := _name_fault(part))]:
        raise ValueError(", ".join(faults))
    return {name: categories}


def category_name(name: object) -> object:
    """A name as text that can be shown to people."""
    if fault := _name_fault(name):
        raise ValueError(fault)
    return name


def _name_fault(name: object) -> str | None:
    if not isinstance(name, str):
        return "is no text; put it in quotes"
    if not name.strip():
        return "is blank"
    return "holds a character that cannot be shown" if UNPRINTABLE.search(name) else None


def low_high(value: object) -> object:
    """A pair of numbers above 0 in ascending order as a tuple; the rest is one message, whatever is wrong."""
    pair = list(value) if isinstance(value, list | tuple) and len(value) == 2 else []
    numbers = [number for number in pair if isinstance(number, int | float) and not isinstance(number, bool)]
    if len(numbers) != 2 or not 0 < numbers[0] <= numbers[1] < math.inf:
        raise ValueError("is no range; expected two numbers above 0, the smaller one first")
    return tuple(numbers)


def class_weights(value: object) -> object:
    """One of CLASS_WEIGHTS, or a weight for each class as a tuple; one message, where pydantic would give several."""
    if isinstance(value, str):
        if value in CLASS_WEIGHTS:
            return value
        nearest = difflib.get_close_matches(value, CLASS_WEIGHTS, n=1, cutoff=0.5)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        raise ValueError(f"is no way to weigh classes; expected {', '.join(CLASS_WEIGHTS)} or a list of weights{hint}")
    weights = as_tuple(value)
    if not isinstance(weights, tuple) or not weights or not all(_is_weight(weight) for weight in weights):
        raise ValueError(f"is no list of numbers from 0 up; expected one for each class, or {', '.join(CLASS_WEIGHTS)}")
    if not any(weights):
        raise ValueError("leaves no class; give at least one a weight above 0")
    return tuple(float(weight) for weight in weights)


def _is_weight(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


CLASS_WEIGHTS = ("none", "inverse_frequency", "effective_number")


def window_size(value: object) -> object:
    """Height and width, `train` or nothing; one message for the rest, where pydantic would give one for each kind."""
    sides = list(value) if isinstance(value, list | tuple) else []
    whole = [side for side in sides if isinstance(side, int) and not isinstance(side, bool) and side > 0]
    if value not in (None, "train") and not len(sides) == len(whole) == 2:
        raise ValueError("is no window; expected height and width in pixels, train, or nothing for the whole image")
    return as_tuple(value)


UNPRINTABLE = re.compile(r"[\x00-\x1f\ud800-\udfff]")  # control characters, and halves that UTF-8 cannot write

FileNames = Annotated[tuple[FileName, ...], BeforeValidator(some_files)]
ClassEntry = Annotated[str | dict[str, tuple[str, ...]], BeforeValidator(class_entry)]
Classes = Annotated[tuple[ClassEntry, ...], BeforeValidator(as_tuple)]
Size = Annotated[tuple[Positive, Positive], BeforeValidator(as_tuple)]  # height, width in pixels
Window = Annotated[tuple[int, int] | Literal["train"] | None, BeforeValidator(window_size)]
Names = Annotated[tuple[Annotated[str, BeforeValidator(category_name)], ...], BeforeValidator(one_or_more)]
ClassWeights = Annotated[str | tuple[float, ...], BeforeValidator(class_weights)]
Range = Annotated[tuple[float, float], BeforeValidator(low_high)]
Transforms = Annotated[tuple[str | dict[str, Any], ...], BeforeValidator(as_tuple)]


class Section(BaseModel):
    """A part of params.yaml: immutable, no unknown key, no silent conversion (an int may stand for a float)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
