"""The sections that a member trains with, each of which it may override."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from segpipe.params.values import (
    ClassWeights,
    Fraction,
    Names,
    NonNegative,
    Positive,
    Range,
    Section,
    Transforms,
    Weight,
    as_tuple,
    list_or_none,
)

OVERRIDABLE = ("seed", "model", "loss", "optimizer", "scheduler", "augment", "train", "retrain")


class DropoutParams(Section):
    """Dropout probabilities by place."""

    encoder: Fraction
    encoder_stages: Annotated[tuple[Positive, ...], BeforeValidator(as_tuple)]
    decoder: Fraction
    projection: Fraction

    @field_validator("encoder_stages")
    @classmethod
    def _each_stage_once(cls, stages: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(stages)) < len(stages):
            raise ValueError("names a stage twice; name each once")
        return stages


class ModelParams(Section):
    """Architecture and encoder; names are checked where torch is imported, before data is read."""

    arch: str
    encoder: str
    encoder_weights: str | None
    output_stride: Literal[8, 16, 32]
    atrous_rates: Annotated[tuple[Positive, ...], BeforeValidator(list_or_none)]
    decoder_channels: Positive
    low_level_channels: Positive
    separable: bool
    dropout: DropoutParams

    @property
    def weights_path(self) -> Path | None:
        """The file or folder that `encoder_weights` names, relative to the project's top folder; None for a tag."""
        weights = self.encoder_weights
        is_path = weights is not None and ("/" in weights or weights.endswith(".safetensors"))
        return Path(weights) if weights is not None and is_path else None


class LossParams(Section):
    """A weight for each term, and the terms' own settings."""

    ce: Weight
    soft_ce: Weight
    focal: Weight
    dice: Weight
    jaccard: Weight
    tversky: Weight
    tanimoto: Weight
    lovasz: Weight
    label_smoothing: Fraction
    focal_gamma: Weight
    tversky_alpha: Weight
    tversky_beta: Weight
    average: Literal["present", "all"]
    class_weights: ClassWeights  # a list is held against the classes where the data are
    effective_beta: Annotated[float, Field(ge=0, lt=1)]
    balance: bool

    @model_validator(mode="after")
    def _some_term(self) -> "LossParams":
        terms = ("ce", "soft_ce", "focal", "dice", "jaccard", "tversky", "tanimoto", "lovasz")
        if not any(getattr(self, name) for name in terms):
            raise ValueError(f"every term has weight 0; give at least one of {', '.join(terms)}")
        return self


class OptimizerParams(Section):
    """Optimiser and its rates."""

    name: Literal["madgrad", "adamw", "sgd"]
    lr: Annotated[float, Field(gt=0)]
    encoder_lr_factor: Annotated[float, Field(gt=0)]
    weight_decay: Weight
    decay_norms: bool
    momentum: Annotated[float, Field(ge=0, lt=1)]


class SchedulerParams(Section):
    """Learning rate over the updates."""

    name: Literal["step", "cosine", "poly", "onecycle", "constant"]
    warmup_updates: NonNegative
    power: Annotated[float, Field(gt=0)]
    step_epochs: Positive
    gamma: Annotated[float, Field(gt=0, le=1)]
    start_factor: Annotated[float, Field(gt=0, le=1)]
    final_factor: Fraction
    peak_at: Annotated[float, Field(gt=0, lt=1)]


class PasteParams(Section):
    """Objects laid on labelled images; class names are checked where the data are."""

    p: Fraction
    classes: Names
    objects: Positive
    min_pixels: Positive
    scale: Range
    flip: bool

    @model_validator(mode="after")
    def _something_to_paste(self) -> "PasteParams":
        if self.p > 0 and not self.classes:
            raise ValueError("p is above 0 and classes names none; name the classes whose objects are pasted, or p: 0")
        if len(set(self.classes)) < len(self.classes):
            raise ValueError(f"found a class twice in {list(self.classes)}; name each once")
        return self


class AugmentParams(Section):
    """Objects that are pasted, then albumentations by name with their arguments."""

    paste: PasteParams
    train: Transforms
    pseudo: Transforms


class TrainParams(Section):
    """The training loop."""

    epochs: Positive
    batch_size: Annotated[int, Field(ge=2)]  # batch normalisation needs two images
    sampling: Literal["uniform", "balanced"]
    accumulate: Positive
    validate_every: Positive
    patience: NonNegative
    ema: Annotated[float, Field(ge=0, lt=1)]
    precision: Literal["fp32", "bf16", "fp16"]
    clip_norm: Weight
    on_nonfinite: Literal["stop", "skip"]
    compile: bool
    deterministic: bool
    devices: Positive
    threads: Positive
    workers: NonNegative
    save_seconds: NonNegative


class RetrainParams(Section):
    """Training on the augmented set; `retraining` checks that its epochs fit together."""

    init: Literal["scratch", "baseline"]
    epochs: Positive
    ratio: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    labels: Literal["hard", "soft"]  # soft needs teach.probs, and loss.ce or loss.soft_ce
    pseudo_weight: Weight
    ramp_epochs: NonNegative
    cutmix: Fraction
    finetune_epochs: NonNegative


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


def merge(base: Mapping, override: Mapping) -> dict:
    """`override` laid over `base`, mapping by mapping; lists and values are replaced whole."""
    merged = dict(base)
    for key, value in override.items():
        both_maps = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both_maps else value
    return merged
