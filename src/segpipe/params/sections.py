"""The sections of params.yaml as frozen models: every key required, unknown keys and impossible values refused.

The code holds no defaults, so two commits with equal params.yaml were run with equal hyperparameters.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from segpipe.params.values import (
    FileName,
    Fraction,
    Names,
    NonNegative,
    Positive,
    Section,
    Size,
    Transforms,
    Weight,
    as_tuple,
    one_or_more,
)

OVERRIDABLE = ("seed", "model", "loss", "optimizer", "scheduler", "augment", "train", "retrain")


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
    train: FileName
    val: FileName | None
    judge: FileName | None
    unlabeled: Annotated[tuple[FileName, ...] | None, BeforeValidator(one_or_more)]
    test: FileName | None
    classes: Names | None
    background: Literal["class", "ignore"]
    overlap: Literal["largest_class", "smaller_on_top", "file_order"]
    image_size: Size | None
    on_problem: Literal["stop", "skip"]


class SplitParams(Section):
    """Folds and their tune / judge halves."""

    folds: Annotated[int, Field(ge=2)] | None
    train_folds: Annotated[tuple[NonNegative, ...], BeforeValidator(as_tuple), Field(min_length=1)]
    judge_fraction: Annotated[float, Field(gt=0, lt=1)]
    group_by: str | None
    seed: NonNegative

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


class DropoutParams(Section):
    """Dropout probabilities by place."""

    encoder: Fraction
    decoder: Fraction
    projection: Fraction


class ModelParams(Section):
    """Architecture and encoder; names are checked where torch is imported, before data is read."""

    arch: str
    encoder: str
    encoder_weights: str | None
    output_stride: Literal[8, 16, 32]
    atrous_rates: Annotated[tuple[Positive, ...], BeforeValidator(as_tuple), Field(min_length=1)]
    decoder_channels: Positive
    dropout: DropoutParams


class LossParams(Section):
    """A weight for each term, and the terms' own settings."""

    ce: Weight
    soft_ce: Weight
    focal: Weight
    dice: Weight
    jaccard: Weight
    tversky: Weight
    label_smoothing: Fraction
    focal_gamma: Weight
    tversky_alpha: Weight
    tversky_beta: Weight
    average: Literal["present", "all"]

    @model_validator(mode="after")
    def _some_term(self) -> "LossParams":
        if not any((self.ce, self.soft_ce, self.focal, self.dice, self.jaccard, self.tversky)):
            raise ValueError("every term has weight 0; give at least one of ce, soft_ce, focal, dice, jaccard, tversky")
        return self


class OptimizerParams(Section):
    """Optimiser and its rates."""

    name: Literal["madgrad", "adamw"]
    lr: Annotated[float, Field(gt=0)]
    weight_decay: Weight
    momentum: Annotated[float, Field(ge=0, lt=1)]


class SchedulerParams(Section):
    """Learning rate over the updates."""

    name: Literal["step", "poly", "constant"]
    warmup_updates: NonNegative
    power: Annotated[float, Field(gt=0)]
    step_epochs: Positive
    gamma: Annotated[float, Field(gt=0, le=1)]


class AugmentParams(Section):
    """Albumentations by name with their arguments."""

    train: Transforms
    pseudo: Transforms


class TrainParams(Section):
    """The training loop."""

    epochs: Positive
    batch_size: Annotated[int, Field(ge=2)]  # batch normalisation needs two images
    validate_every: Positive
    precision: Literal["fp32", "bf16"]
    clip_norm: Weight
    threads: Positive
    workers: NonNegative


class TeachParams(Section):
    """How teachers look at the pool."""

    flips: bool


class PseudoLabelParams(Section):
    """Which pixels of the teachers' answer are kept."""

    threshold: Literal["fixed"]
    confidence: Fraction


class RetrainParams(Section):
    """Training on the augmented set."""

    init: Literal["scratch", "baseline"]
    epochs: Positive
    ratio: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    pseudo_weight: Weight


class PredictParams(Section):
    """Test-time augmentation."""

    flips: bool


class EnsembleParams(Section):
    """How the submission is chosen."""

    rule: str


class SubmissionParams(Section):
    """What goes out."""

    formats: Annotated[tuple[Literal["pixels", "png"], ...], BeforeValidator(as_tuple), Field(min_length=1)]
    size: Size | None


class TrackingParams(Section):
    """Listeners."""

    wandb: Literal["disabled", "offline", "online"]
    project: str
    images: NonNegative
    dvclive: bool


class MemberParams(Section):
    """The sections that one member trains with: the shared ones with its overrides applied."""

    seed: NonNegative
    model: ModelParams
    loss: LossParams
    optimizer: OptimizerParams
    scheduler: SchedulerParams
    augment: AugmentParams
    train: TrainParams
    retrain: RetrainParams


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

    def member(self, name: str) -> MemberParams:
        """The training sections of member `name`, overrides applied; raises KeyError for an unknown member."""
        if name not in self.member_names:
            raise KeyError(f"params.yaml: no member {name!r}; member_names lists {', '.join(self.member_names)}")
        shared = self.model_dump(include=set(OVERRIDABLE), mode="python")
        return MemberParams.model_validate(merge(shared, self.members[name]))


def candidate_names(member_names: tuple[str, ...]) -> list[str]:
    """What `ensemble` can submit: each round's members, then the plain means of each round and of all."""
    singles = [f"{round_}-{member}" for round_ in ("baseline", "retrain") for member in member_names]
    means = ["mean-baseline", "mean-retrain"] if len(member_names) > 1 else []  # of one member: that member
    return [*singles, *means, "mean-all"]


def merge(base: Mapping, override: Mapping) -> dict:
    """`override` laid over `base`, mapping by mapping; lists and values are replaced whole."""
    merged = dict(base)
    for key, value in override.items():
        both_maps = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both_maps else value
    return merged
