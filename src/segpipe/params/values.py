"""What the keys of params.yaml may hold, and the form that every section shares."""

import math
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
NonNegative = Annotated[int, Field(ge=0)]
Weight = Annotated[float, Field(ge=0)]
FileName = Annotated[str, Field(min_length=1)]

ALL: Final = "all"  # the fold that holds nothing out: it learns from every labelled image, and is never scored
FoldName = int | Literal["all"]


def as_tuple(value: object) -> object:
    """A YAML list as a tuple, so that sections are immutable all through."""
    return tuple(value) if isinstance(value, list) else value


def one_or_more(value: object) -> object:
    """One string as a tuple of one."""
    return (value,) if isinstance(value, str) else as_tuple(value)


def low_high(value: object) -> object:
    """A pair of numbers above 0 in ascending order as a tuple; the rest is one message, whatever is wrong."""
    pair = list(value) if isinstance(value, list | tuple) and len(value) == 2 else []
    numbers = [number for number in pair if isinstance(number, int | float) and not isinstance(number, bool)]
    if len(numbers) != 2 or not 0 < numbers[0] <= numbers[1] < math.inf:
        raise ValueError("is no range; expected two numbers above 0, the smaller one first")
    return tuple(numbers)


Size = Annotated[tuple[Positive, Positive], BeforeValidator(as_tuple)]  # height, width in pixels
Names = Annotated[tuple[str, ...], BeforeValidator(as_tuple)]
Range = Annotated[tuple[float, float], BeforeValidator(low_high)]
Transforms = Annotated[tuple[str | dict[str, Any], ...], BeforeValidator(as_tuple)]


class Section(BaseModel):
    """A part of params.yaml: immutable, no unknown key, no silent conversion (an int may stand for a float)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
