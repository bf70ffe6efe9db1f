"""The sections of params.yaml as frozen models: every key required, unknown keys and impossible values refused.

The code holds no defaults, so two commits with equal params.yaml were run with equal hyperparameters.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from segpipe.params.submission import SubmissionParams
from segpipe.params.training import OVERRIDABLE, MemberParams, merge
from segpipe.params.values import (
    ALL,
    MOST_FOLDS,
    Classes,
    FileName,
    FileNames,
    FoldName,
    Fraction,
    Names,
    NonNegative,
    Positive,
    Section,
    Share,
    Size,
    Window,
    as_tuple,
    list_or_none,
    one_or_more,
)


class SampleParams(Section):
    """How many scenes the embedded data set draws."""

    seed: NonNegative
    train: Positive
    val: Positive
    test: Positive
    unlabeled: Positive
    judge: Positive
    size: Annotated[int, Field(ge=32)]


class DataParams(Section):
    """Which files, and how their annotations become pixels."""

    root: FileName
    format: Literal["coco", "png"]
    train: FileNames
    val: FileNames | None
    judge: FileNames | None
    unlabeled: Annotated[tuple[FileName, ...] | None, BeforeValidator(one_or_more)]
    test: FileNames | None
    classes: Classes | None
    drop: Names
    ignore: Names
    background: Literal["class", "ignore"]
    overlap: Literal["largest_class", "smaller_on_top", "file_order"]
    image_size: Size | None
    resize: Literal["stretch", "letterbox"]
    codec: Literal["raw", "jpeg", "auto"]
    on_problem: Literal["stop", "skip"]

    @field_validator("resize")
    @classmethod
    def _a_box_to_fit(cls, resize: str, info: ValidationInfo) -> str:
        if resize == "letterbox" and info.data.get("image_size", resize) is None:
            raise ValueError("fits images into data.image_size, which is empty; give it, or choose stretch")
        return resize


class SplitParams(Section):
    """Folds and their tune / judge halves."""

    folds: Annotated[int, Field(ge=2)] | None
    file: FileName | None
    train_folds: Annotated[tuple[FoldName, ...], BeforeValidator(as_tuple), Field(min_length=1)]
    judge_fraction: Annotated[float, Field(gt=0, lt=1)]
    group_by: str | None
    near_duplicates: bool
    seed: NonNegative

    @field_validator("train_folds", mode="before")
    @classmethod
    def _folds_that_exist(cls, names: object, info: ValidationInfo) -> object:
        """One message for names of any type, where a union would give one for each of its members."""
        if names == ALL:
            raise ValueError("is no list; write it as `- all` on a line of its own")
        if not isinstance(names, list | tuple) or not {"folds", "file"} <= info.data.keys():
            return names
        # of a file, `prepare` reads the folds
        num_folds = MOST_FOLDS if info.data["file"] else info.data["folds"] or 1
        there = [*range(num_folds), ALL]
        # True and 1.0 equal 1
        unknown = [repr(name) for name in names if isinstance(name, bool | float) or name not in there]
        if unknown:
            numbered = "is fold 0" if num_folds == 1 else f"are folds 0 to {num_folds - 1}"
            raise ValueError(f"names {', '.join(unknown)}; there {numbered}, and all")
        return names

    @field_validator("group_by")
    @classmethod
    def _one_group(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            try:
                groups = re.compile(pattern).groups
            except re.error as error:
                raise ValueError(f"is not a regular expression ({error})") from error
            if groups != 1:
                raise ValueError(f"has {groups} groups in parentheses; expected one, the part that names the scene")
        return pattern


class ViewParams(Section):
    """How often, how large and how much of it at once networks see an image that they label."""

    flips: bool
    scales: Annotated[tuple[Annotated[float, Field(ge=0.1, le=4)], ...], BeforeValidator(as_tuple), Field(min_length=1)]
    window: Window
    overlap: Annotated[float, Field(ge=0, le=0.9)]

    @field_validator("scales")
    @classmethod
    def _each_once(cls, scales: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(scales)) < len(scales):
            raise ValueError("has a factor twice; name each once, all weigh alike")
        return scales


class TeachParams(ViewParams):
    """Who labels the pool, how it is looked at, and what is kept of the answers."""

    members: Annotated[tuple[str, ...], BeforeValidator(one_or_more), BeforeValidator(list_or_none)]  # none: all teach
    checkpoints: bool
    probs: bool

    @field_validator("members")
    @classmethod
    def _each_teacher_once(cls, members: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(members)) < len(members):
            raise ValueError("names a member twice; name each once, all weigh alike")
        return members


class PseudoLabelParams(Section):
    """Which pixels of the teachers' answer are kept, of which images."""

    threshold: Literal["fixed", "per_class", "top_fraction"]
    confidence: Fraction
    target_precision: Annotated[float, Field(gt=0, lt=1)]
    certainty: Annotated[float, Field(ge=0.5, lt=1)]
    min_share: Fraction
    fraction: Share
    keep: Share


class PredictParams(ViewParams):
    """How judge and test images are looked at."""


class EnsembleParams(Section):
    """What is fitted on tune images, and how the submission is chosen."""

    rule: str
    fit: Literal["greedy", "none"]
    rounds: Positive
    shrink: Fraction
    min_pixels: Annotated[tuple[Positive, ...], BeforeValidator(list_or_none)]
    fill_holes: Annotated[tuple[Positive, ...], BeforeValidator(list_or_none)]

    @property
    def fits_weights(self) -> bool:
        """Whether there is a candidate `weighted`."""
        return self.fit != "none"

    @property
    def cleans(self) -> bool:
        """Whether there is a candidate `cleaned`."""
        return bool(self.min_pixels or self.fill_holes)


class TrackingParams(Section):
    """Listeners."""

    wandb: Literal["disabled", "offline", "online"]
    project: str
    images: NonNegative
    dvclive: bool


class Params(MemberParams):
    """The whole of params.yaml."""

    sample: SampleParams
    data: DataParams
    split: SplitParams
    teach: TeachParams
    pseudo_label: PseudoLabelParams
    predict: PredictParams
    ensemble: EnsembleParams
    submission: SubmissionParams
    member_names: Annotated[tuple[str, ...], BeforeValidator(as_tuple), Field(min_length=1)]
    members: dict[str, dict[str, Any]]
    tracking: TrackingParams

    @property
    def teachers(self) -> tuple[str, ...]:
        """The members whose baselines label the pool, in the order of `member_names`, however teach.members has it."""
        return tuple(name for name in self.member_names if name in (self.teach.members or self.member_names))

    def member(self, name: str) -> MemberParams:
        """The training sections of member `name`, overrides applied; raises KeyError for an unknown member."""
        if name not in self.member_names:
            raise KeyError(f"params.yaml: no member {name!r}; member_names lists {', '.join(self.member_names)}")
        shared = self.model_dump(include=set(OVERRIDABLE), mode="python")
        return MemberParams.model_validate(merge(shared, self.members[name]))


def candidate_names(member_names: tuple[str, ...]) -> list[str]:
    """The unfitted candidates: each round's members, then the plain means of each round and of all."""
    singles = [f"{round_}-{member}" for round_ in ("baseline", "retrain") for member in member_names]
    means = ["mean-baseline", "mean-retrain"] if len(member_names) > 1 else []  # of one member: that member
    return [*singles, *means, "mean-all"]


def fitted_names(ensemble: EnsembleParams) -> list[str]:
    """The candidates that tune images choose weights or sizes for."""
    return ["weighted"] * ensemble.fits_weights + ["cleaned"] * ensemble.cleans
