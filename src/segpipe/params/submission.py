"""Section `submission` of params.yaml: which files go out, and in which form."""

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from segpipe.params.values import FileName, Names, Section, Size, as_tuple

ID_FIELDS = ("file_name", "name", "stem", "class", "class_name")
IMAGE_FIELDS, CLASS_FIELDS = ID_FIELDS[:3], ID_FIELDS[3:]


def two_names(value: object) -> object:
    """The header of a CSV of two columns as a tuple; one message for anything else."""
    names = list(value) if isinstance(value, list | tuple) else []
    if len(names) != 2 or not all(isinstance(name, str) and name.isprintable() and name for name in names):
        raise ValueError("is no header; expected the names of two columns, the ids and the masks")
    return tuple(names)


class RleParams(Section):
    """Run lengths as Kaggle takes them."""

    rows: Literal["image", "image_class"]
    id: str
    columns: Annotated[tuple[str, str], BeforeValidator(two_names)]
    classes: Names

    @field_validator("id")
    @classmethod
    def _fields_that_exist(cls, pattern: str) -> str:
        if unknown := [name for name in re.findall(r"\{([^{}]*)\}", pattern) if name not in ID_FIELDS]:
            known = ", ".join(f"{{{name}}}" for name in ID_FIELDS)
            raise ValueError(f"names {', '.join(f'{{{name}}}' for name in unknown)}; there are {known}")
        if re.search(r"[{}]", re.sub(r"\{[^{}]*\}", "", pattern)):
            raise ValueError("has a brace without its partner")
        return pattern

    @model_validator(mode="after")
    def _an_id_for_each_row(self) -> "RleParams":
        """Rows that would all have one id are a slip, and so is a class in the id of a row that stands for all."""
        named = set(re.findall(r"\{([^{}]*)\}", self.id))
        wanted = f"one of {', '.join(f'{{{name}}}' for name in IMAGE_FIELDS)}"
        if not named & set(IMAGE_FIELDS):
            raise ValueError(f"id: {self.id!r} does not name the image; expected {wanted} in it")
        if self.rows == "image" and named & set(CLASS_FIELDS):
            raise ValueError(f"id: {self.id!r} names a class, but a row stands for an image (rows: image)")
        if self.rows == "image_class" and not named & set(CLASS_FIELDS):
            raise ValueError(f"id: {self.id!r} names no class (rows: image_class); expected {{class}} in it")
        return self


class PngParams(Section):
    """Label maps."""

    palette: bool


class SubmissionParams(Section):
    """What goes out."""

    formats: Annotated[tuple[Literal["pixels", "rle", "png"], ...], BeforeValidator(as_tuple), Field(min_length=1)]
    size: Size | None
    sample: FileName | None
    rle: RleParams
    png: PngParams

    @model_validator(mode="after")
    def _one_csv_for_the_sample(self) -> "SubmissionParams":
        tables = [name for name in self.formats if name != "png"]
        if self.sample is not None and len(tables) != 1:
            found = " and ".join(tables) or "neither"
            raise ValueError(
                f"sample: {self.sample!r} says columns, ids and order of one CSV, but formats has {found} of pixels "
                "and rle; name one of them, or leave sample empty"
            )
        if doubled := sorted({name for name in self.formats if self.formats.count(name) > 1}):
            raise ValueError(f"formats: found {', '.join(doubled)} twice; name each once")
        return self
