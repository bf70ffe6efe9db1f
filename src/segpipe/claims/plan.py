"""claims.yaml, read and checked whole: the claims, the arms they compare, and the runs that this takes.

An arm is a set of overrides of claims/base.yaml, which has the keys of params.yaml. It does not build on params.yaml
itself, so that a changed default leaves every verdict as it is.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from segpipe.params import Params, check_params, describe_faults, not_allowed, read_yaml, stop_on
from segpipe.params.sections import merge
from segpipe.params.values import NonNegative, Positive, Section, as_tuple, one_or_more

FOLDER = Path("claims")
DATASET_SECTIONS = ("data", "split", "submission")
ARM_SECTIONS = ("model", "loss", "optimizer", "scheduler", "augment", "train")
RESERVED = "raw"  # the folder beside those of the data sets
# what every arm of a claim shares: the number of updates, the images in each, and when they are scored (at the end)
EQUAL_TERMS = ("epochs", "batch_size", "validate_every")


Sentence = Annotated[str, Field(min_length=1, pattern=r"^[^\n]*\S[^\n]*$")]  # one line, not empty


class Confirm(Section):
    """What would confirm a claim.

    Either arm `better` scores more than `by` above each arm of `than` (a negative `by`: at most that much worse), or
    the scores of arm `spread`, one seed each, have a standard deviation below `below`.
    """

    better: str | None = None
    than: Annotated[tuple[str, ...], BeforeValidator(one_or_more)] = ()
    by: Annotated[float, Field(gt=-1, lt=1)] = 0.0
    spread: str | None = None
    below: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _one_form(self) -> "Confirm":
        comparison, spread = bool(self.better and self.than), bool(self.spread and self.below)
        if comparison == spread or bool(self.better) != bool(self.than) or bool(self.spread) != bool(self.below):
            raise ValueError("give either `better` and `than` (and perhaps `by`), or `spread` and `below`")
        if self.better in self.than:
            raise ValueError(f"compares {self.better!r} with itself")
        if len(set(self.than)) < len(self.than):
            raise ValueError(f"names an arm twice in {list(self.than)}")
        if self.spread and self.by:
            raise ValueError("`by` is a margin between arms; a spread has `below`")
        return self

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms that it takes, the one in question first."""
        return (self.better, *self.than) if self.better else (str(self.spread),)


class Claim(Section):
    """A sentence that can be wrong, and the experiment that may show it."""

    text: Sentence
    source: Sentence
    dataset: str
    epochs: Positive
    seeds: Annotated[tuple[NonNegative, ...], BeforeValidator(as_tuple)]
    confirm: Confirm

    @field_validator("seeds")
    @classmethod
    def _enough_for_an_interval(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(seeds) < 2 or len(set(seeds)) < len(seeds):
            raise ValueError("is too few; give two or more, each once: one seed cannot tell a difference from luck")
        return seeds


@dataclass(frozen=True)
class RunSpec:
    """One training of one arm with one seed. `key` names its stage instance and its result file."""

    dataset: str
    epochs: int
    arm: str
    seed: int

    @property
    def key(self) -> str:
        """Unique, and fit for a file name."""
        return f"{self.dataset}-{self.epochs}-{self.arm}-{self.seed}"


@dataclass(frozen=True)
class Plan:
    """What claims.yaml asks for.

    Arms that cannot be run here say why under `not_run`, and have no runs; their overrides say what would be run.
    """

    base: dict[str, Any]
    datasets: dict[str, dict[str, Any]]
    arms: dict[str, dict[str, Any]]
    claims: dict[str, Claim]

    @cached_property
    def runs(self) -> dict[str, RunSpec]:
        """By key, in the order of the claims; a run that several claims need stands once."""
        found = (run for claim in self.claims.values() for run in self.runs_of(claim))
        return {run.key: run for run in found}

    def runs_of(self, claim: Claim) -> Iterator[RunSpec]:
        """The runs of one claim, seed by seed, so that an interrupted series is even."""
        for seed in claim.seeds:
            for arm in claim.confirm.arms:
                if arm in self.runnable:
                    yield RunSpec(claim.dataset, claim.epochs, arm, seed)

    @cached_property
    def runnable(self) -> frozenset[str]:
        """Names of the arms that can be run here."""
        return frozenset(name for name, overrides in self.arms.items() if "not_run" not in overrides)

    @property
    def used_datasets(self) -> list[str]:
        """Those that some run needs."""
        return list(dict.fromkeys(run.dataset for run in self.runs.values()))

    def dataset_params(self, name: str) -> Params:
        """base.yaml with the data set's overrides."""
        return check_params(merge(self.base, self.datasets[name]), f"claims.yaml: datasets.{name}")

    def run_params(self, run: RunSpec) -> Params:
        """base.yaml with the overrides of the run's data set and arm, its seed, and its number of epochs."""
        return check_params(self._merged(run.dataset, run.arm, run.epochs, run.seed), f"claims.yaml: {run.key}")

    def fingerprint(self, run: RunSpec) -> str:
        """A digest of what claims.yaml says of the run: a result that carries another answers another question.

        base.yaml is left out: it gains a key whenever the pipeline learns something new, and DVC watches it.
        """
        asked = [self.datasets[run.dataset], self.arms[run.arm], run.epochs, run.seed]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:12]

    def _merged(self, dataset: str, arm: str, epochs: int, seed: int) -> dict[str, Any]:
        merged = merge(merge(self.base, self.datasets[dataset]), self.arms[arm])
        # scored once, when training is over: nothing is chosen
        return merge(merged, {"seed": seed, "train": {"epochs": epochs, "validate_every": epochs}})


def load_plan(folder: Path = FOLDER) -> Plan:
    """Read base.yaml and claims.yaml of `folder`; raises ValueError with every problem of both."""
    base_file, claims_file = folder / "base.yaml", folder / "claims.yaml"
    base = read_yaml(base_file)
    check_params(base, str(base_file))  # a fault here would come back from every arm
    raw = read_yaml(claims_file)
    stop_on(str(claims_file), list(_shape_problems(raw)))
    claims = {name: Claim.model_validate(claim) for name, claim in raw["claims"].items()}
    datasets, arms = ({name: overrides or {} for name, overrides in raw[kind].items()} for kind in ("datasets", "arms"))
    plan = Plan(base, datasets, arms, claims)
    stop_on(str(claims_file), [*_name_problems(plan), *_override_problems(plan)])
    return plan


def _shape_problems(raw: object) -> Iterator[str]:
    """What keeps the file from being read as datasets, arms and claims at all."""
    for kind in (kinds := ("datasets", "arms", "claims")):
        part = raw.get(kind) if isinstance(raw, dict) else None
        if not isinstance(part, dict) or not part:
            yield f"{kind}: found {part!r}; expected names, each with what belongs to it beneath"
            continue
        for name, content in part.items():
            if not isinstance(name, str):
                yield f"{kind}.{name}: found a name that is no text; put it in quotes"
            elif not isinstance(content, dict | None):
                yield f"{kind}.{name}: found {content!r}; expected keys and values beneath"
            elif kind == "claims":
                try:
                    Claim.model_validate(content or {})
                except ValidationError as error:
                    yield from describe_faults(error, Claim, prefix=f"claims.{name}.")
    yield from (not_allowed(key, key, kinds) for key in (raw if isinstance(raw, dict) else ()) if key not in kinds)


def _name_problems(plan: Plan) -> Iterator[str]:
    """Names become files, and each name that a claim uses must exist."""
    for kind, names in (("datasets", plan.datasets), ("arms", plan.arms), ("claims", plan.claims)):
        for name in names:
            if not re.fullmatch(r"[A-Za-z0-9_]+", name) or name == RESERVED:
                yield f"{kind}.{name}: becomes part of a file name: use letters, digits and _, and not {RESERVED}"
    for name, claim in plan.claims.items():
        if claim.dataset not in plan.datasets:
            yield not_allowed(f"claims.{name}.dataset", claim.dataset, list(plan.datasets))
        for arm in claim.confirm.arms:
            if arm not in plan.arms:
                yield not_allowed(f"claims.{name}.confirm", arm, list(plan.arms))
    used = {arm for claim in plan.claims.values() for arm in claim.confirm.arms}
    yield from (f"arms.{name}: no claim uses it; remove it, or name it in a claim" for name in plan.arms.keys() - used)


def _override_problems(plan: Plan) -> Iterator[str]:
    """Overrides of sections that are theirs, and valid together with base.yaml: a typo must not wait for its run."""
    for name, overrides in plan.datasets.items():
        yield from _foreign_sections(f"datasets.{name}", overrides, DATASET_SECTIONS)
        yield from _faults(f"datasets.{name}", plan.base, overrides)
    for name, overrides in plan.arms.items():
        key = f"arms.{name}"
        if name not in plan.runnable:
            reason = overrides["not_run"]
            if not isinstance(reason, str) or not reason.strip():
                yield f"{key}.not_run: found {reason!r}; expected the reason in words"
            # what would be run is checked like the others: one day the reason goes
            overrides = {section: values for section, values in overrides.items() if section != "not_run"}
        yield from _foreign_sections(key, overrides, ARM_SECTIONS)
        train = overrides.get("train")
        shared = [term for term in EQUAL_TERMS if isinstance(train, dict) and term in train]
        yield from (f"{key}.train.{term}: all arms of a claim share it; it stands in base.yaml" for term in shared)
        yield from _faults(key, plan.base, overrides)


def _foreign_sections(key: str, overrides: dict[str, Any], allowed: tuple[str, ...]) -> Iterator[str]:
    yield from (not_allowed(f"{key}.{name}", name, allowed) for name in overrides if name not in allowed)


def _faults(key: str, base: dict[str, Any], overrides: dict[str, Any]) -> list[str]:
    known = {name: value for name, value in overrides.items() if name in Params.model_fields}
    try:
        check_params(merge(base, known), key)
    except ValueError as error:
        return [f"{key}: {line.strip()}" for line in str(error).splitlines()[1:]]
    return []
