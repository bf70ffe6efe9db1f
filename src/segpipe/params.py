"""params.yaml as frozen sections: every key required, unknown keys and impossible values refused, all at once.

The code holds no defaults, so two commits with equal params.yaml were run with equal hyperparameters.
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

OVERRIDABLE = ("seed", "model", "loss", "optimizer", "scheduler", "augment", "train", "retrain")

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
NonNegative = Annotated[int, Field(ge=0)]
Weight = Annotated[float, Field(ge=0)]


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _one_or_more(value: object) -> object:
    return (value,) if isinstance(value, str) else _as_tuple(value)


Size = Annotated[tuple[Positive, Positive], BeforeValidator(_as_tuple)]  # height, width in pixels
Names = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]
Transforms = Annotated[tuple[str | dict[str, Any], ...], BeforeValidator(_as_tuple)]


class Section(BaseModel):
    """A part of params.yaml: immutable, no unknown key, no silent conversion (an int may stand for a float)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


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

    root: str
    train: str
    val: str | None
    judge: str | None
    unlabeled: Annotated[tuple[str, ...] | None, BeforeValidator(_one_or_more)]
    test: str
    classes: Names | None
    background: Literal["class", "ignore"]
    overlap: Literal["largest_class", "smaller_on_top", "file_order"]
    image_size: Size | None
    on_problem: Literal["stop", "skip"]


class SplitParams(Section):
    """Folds and their tune / judge halves."""

    folds: Annotated[int, Field(ge=2)] | None
    train_folds: Annotated[tuple[NonNegative, ...], BeforeValidator(_as_tuple), Field(min_length=1)]
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
    atrous_rates: Annotated[tuple[Positive, ...], BeforeValidator(_as_tuple), Field(min_length=1)]
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
    ratio: Annotated[float, Field(ge=0)]
    pseudo_weight: Weight


class PredictParams(Section):
    """Test-time augmentation."""

    flips: bool


class EnsembleParams(Section):
    """How the submission is chosen."""

    rule: str


class SubmissionParams(Section):
    """What goes out."""

    formats: Annotated[tuple[Literal["pixels", "png"], ...], BeforeValidator(_as_tuple), Field(min_length=1)]
    size: Size | None


class TrackingParams(Section):
    """Listeners."""

    wandb: Literal["disabled", "offline", "online"]
    project: str


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
    member_names: Annotated[tuple[str, ...], BeforeValidator(_as_tuple), Field(min_length=1)]
    members: dict[str, dict[str, Any]]
    tracking: TrackingParams

    def member(self, name: str) -> MemberParams:
        """The training sections of member `name`, overrides applied; raises KeyError for an unknown member."""
        if name not in self.member_names:
            raise KeyError(f"params.yaml: no member {name!r}; member_names lists {', '.join(self.member_names)}")
        shared = self.model_dump(include=set(OVERRIDABLE), mode="python")
        return MemberParams.model_validate(_merge(shared, self.members[name]))


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Read and check the whole file.

    Read by ruamel as DVC reads it: PyYAML takes `1e-4` for a string. Raises ValueError that lists every
    problem: key, what was found, what is allowed, and the nearest valid name.
    """
    if not path.is_file():
        raise ValueError(f"{path}: not found; run the command in the project's top folder")
    try:
        raw = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except YAMLError as error:
        raise ValueError(f"{path}: not valid YAML: {error}") from error
    return check_params(raw, str(path))


def check_params(raw: object, source: str = "params.yaml") -> Params:
    """Params from the parsed file; raises ValueError with all problems, one a line."""
    if not isinstance(raw, dict):
        raise ValueError(f"{source}: found {type(raw).__name__}, expected sections such as 'data:' and 'model:'")
    problems, bad_sections = [], set()
    try:
        Params.model_validate(raw)
    except ValidationError as error:
        problems += _describe(error, Params)
        bad_sections = {problem["loc"][0] for problem in error.errors()}
    good = {name: _section_value(name, raw[name]) for name in Params.model_fields if name not in bad_sections}
    problems += _member_problems(raw) + _cross_problems(Params.model_construct(**good))
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise ValueError(f"{source}: {count}\n" + "\n".join(f"  {line}" for line in problems))
    return Params.model_validate(raw)


def _section_value(name: str, value: object) -> object:
    field = Params.model_fields[name]
    return TypeAdapter(Annotated[field.annotation, *field.metadata, Strict()]).validate_python(value)


def _member_problems(raw: dict) -> list[str]:
    """What is wrong inside the overrides; faults of the shared sections are reported where they stand."""
    problems, members = [], raw.get("members")
    shared = {key: raw[key] for key in OVERRIDABLE if key in raw}
    for name, override in members.items() if isinstance(members, dict) else ():
        if not isinstance(override, dict):
            continue  # reported with its type already
        problems += [
            _unknown(f"members.{name}.{key}", str(key), OVERRIDABLE) for key in override if key not in OVERRIDABLE
        ]
        kept = {key: value for key, value in override.items() if key in OVERRIDABLE}
        try:
            MemberParams.model_validate(_merge(shared, kept))
        except ValidationError as error:
            problems += _describe(error, MemberParams, prefix=f"members.{name}.", inside=kept)
    return problems


def _cross_problems(params: "Params") -> list[str]:
    """Keys that must fit one another; a section with a fault of its own is left out."""
    has, problems = params.model_fields_set, []
    if {"data", "split"} <= has and (params.data.val is None) == (params.split.folds is None):
        found = "both are set" if params.data.val else "both are empty"
        problems.append(f"data.val, split.folds: {found}; held-out images come from exactly one of them")
    if "split" in has:
        num_folds = params.split.folds or 1
        problems += [
            f"split.train_folds: found fold {fold}; there are folds 0 to {num_folds - 1}"
            for fold in params.split.train_folds
            if fold >= num_folds
        ]
        problems += _doubled("split.train_folds", params.split.train_folds)
    if "member_names" in has:
        problems += _doubled("member_names", params.member_names)
        for name in params.member_names:
            if not re.fullmatch(r"[A-Za-z0-9_]+", name):
                problems.append(f"member_names: found {name!r}; a name becomes a folder: use letters, digits and _")
            if "members" in has and name not in params.members:
                problems.append(f"members: no entry for {name!r} of member_names; add `{name}: {{}}` for no overrides")
        rules = ("best", *candidate_names(params.member_names))
        if "ensemble" in has and params.ensemble.rule not in rules:
            problems.append(_found("ensemble.rule", params.ensemble.rule, rules))
    return problems


def _doubled(key: str, values: tuple) -> list[str]:
    return [f"{key}: found an entry twice in {list(values)}; name each once"] if len(set(values)) < len(values) else []


def candidate_names(member_names: tuple[str, ...]) -> list[str]:
    """What `ensemble` can submit: each round's members, then the plain means of each round and of all."""
    singles = [f"{round_}-{member}" for round_ in ("baseline", "retrain") for member in member_names]
    means = ["mean-baseline", "mean-retrain"] if len(member_names) > 1 else []  # of one member: that member
    return [*singles, *means, "mean-all"]


def _merge(base: Mapping, override: Mapping) -> dict:
    """`override` laid over `base`, mapping by mapping; lists and values are replaced whole."""
    merged = dict(base)
    for key, value in override.items():
        both_maps = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge(merged[key], value) if both_maps else value
    return merged


def _describe(
    error: ValidationError, root: type[BaseModel], *, prefix: str = "", inside: Mapping | None = None
) -> Iterator[str]:
    """One line for each fault; with `inside`, only for faults at keys that this mapping holds."""
    for problem in error.errors():
        location, found, kind = problem["loc"], problem["input"], problem["type"]
        if inside is not None and not _holds(inside, location):
            continue
        key = prefix + ".".join(str(part) for part in location)
        if kind == "extra_forbidden":
            yield _unknown(key, str(location[-1]), _fields_at(root, location[:-1]))
        elif kind == "missing" and isinstance(location[-1], int):
            key = prefix + ".".join(str(part) for part in location[:-1])
            yield f"{key}: found {list(found)!r}; expected two numbers, height and width"
        elif kind == "missing":
            yield f"{key}: missing; every key stands in params.yaml (the code holds no defaults)"
        elif kind == "literal_error":
            allowed = [
                quoted or number for quoted, number in re.findall(r"'([^']*)'|(\d+)", problem["ctx"]["expected"])
            ]
            yield _found(key, found, allowed)
        elif kind == "value_error":
            message = str(problem["ctx"]["error"])
            yield f"{key}: {message}" if isinstance(found, dict) else f"{key}: {found!r} {message}"
        else:
            yield f"{key}: found {found!r}; {problem['msg'][0].lower()}{problem['msg'][1:]}"


def _holds(mapping: object, location: tuple) -> bool:
    for part in location:
        if not isinstance(mapping, Mapping):
            return True
        if part not in mapping:
            return False
        mapping = mapping[part]
    return True


def _found(key: str, found: object, allowed: tuple[str, ...] | list[str]) -> str:
    nearest = difflib.get_close_matches(found, allowed, n=1, cutoff=0.5) if isinstance(found, str) else []
    hint = f"; did you mean {nearest[0]}?" if nearest else ""
    return f"{key}: found {found!r}; allowed: {', '.join(allowed)}{hint}"


def _unknown(key: str, name: str, allowed: tuple[str, ...] | list[str]) -> str:
    nearest = difflib.get_close_matches(name, allowed, n=1, cutoff=0.5)
    parent = key[: -len(name)]
    elsewhere = [full for full in _all_keys(Params) if full.rsplit(".", 1)[-1] == name]
    if nearest:
        return f"{key}: unknown key; did you mean {parent}{nearest[0]}?"
    if elsewhere:
        return f"{key}: unknown key here; did you mean {elsewhere[0]}?"
    return f"{key}: unknown key; valid here: {', '.join(allowed)}"


def _section_type(annotation: object) -> type[BaseModel] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _fields_at(root: type[BaseModel], location: list) -> list[str]:
    section = root
    for part in location:
        section = _section_type(section.model_fields[part].annotation) or section
    return list(section.model_fields)


def _all_keys(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        yield prefix + name
        if inner := _section_type(field.annotation):
            yield from _all_keys(inner, f"{prefix}{name}.")
