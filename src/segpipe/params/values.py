"""What the keys of params.yaml may hold, and the form that every section shares."""

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]
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


def one_or_more(value: object) -> object:
    """One string as a tuple of one."""
    return (value,) if isinstance(value, str) else as_tuple(value)


Size = Annotated[tuple[Positive, Positive], BeforeValidator(as_tuple)]  # height, width in pixels
Names = Annotated[tuple[str, ...], BeforeValidator(as_tuple)]
Transforms = Annotated[tuple[str | dict[str, Any], ...], BeforeValidator(as_tuple)]


class Section(BaseModel):
    """A part of params.yaml: immutable, no unknown key, no silent conversion (an int may stand for a float)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
