"""What claims.yaml holds: the claims, the arms they compare, and the runs that this takes.

An arm is a set of overrides of base.yaml, which has the keys of params.yaml. It does not build on params.yaml
itself, so that a changed default leaves every verdict as it is.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator, model_validator

from segpipe.claims.folder import ClaimsFolder
from segpipe.params import Params, check_params
from segpipe.params.sections import merge
from segpipe.params.values import NonNegative, Positive, Section, as_tuple, one_or_more

SECOND_ROUND = ("retrain", "teach", "pseudo_label")  # the first says that there is one


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
    """One arm trained with one seed for `epochs` epochs in all. `key` names its stage instance and its result file."""

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
    """What claims.yaml of `folder` asks for.

    Arms that cannot be run here say why under `not_run`, and have no runs; their overrides say what would be run.
    """

    folder: ClaimsFolder
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
                    yield self.run_of(claim, arm, seed)

    def run_of(self, claim: Claim, arm: str, seed: int) -> RunSpec:
        """The run of one arm of a claim, on the claim's data set and for its epochs unless the arm has its own."""
        own = self.arms[arm]
        return RunSpec(own.get("dataset", claim.dataset), own.get("epochs", claim.epochs), arm, seed)

    def is_retrained(self, run: RunSpec) -> bool:
        """Whether the run has a second round, on the pool's pseudo labels."""
        return SECOND_ROUND[0] in self.arms[run.arm]

    def teachers(self, run: RunSpec) -> int:
        """How many baselines label the pool for a run with a second round: its own, and of further seeds."""
        return self.arms[run.arm].get("teachers", 1)

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
        return check_params(merge(self.base, self.datasets[name]), f"{self.folder.claims}: datasets.{name}")

    def run_params(self, run: RunSpec) -> Params:
        """base.yaml with the overrides of the run's data set and arm, its seed, and its numbers of epochs.

        Where the pool is labelled and trained on, both rounds together make the run's epochs.
        """
        overrides = {name: value for name, value in self.arms[run.arm].items() if name in Params.model_fields}
        merged = merge(merge(self.base, self.datasets[run.dataset]), overrides)
        first = run.epochs - (merged["retrain"]["epochs"] if self.is_retrained(run) else 0)
        # scored once, when training is over: nothing is chosen
        merged = merge(merged, {"seed": run.seed, "train": {"epochs": first, "validate_every": run.epochs}})
        return check_params(merged, f"{self.folder.claims}: {run.key}")

    def fingerprint(self, run: RunSpec) -> str:
        """A digest of what claims.yaml says of the run: a result that carries another answers another question.

        base.yaml is left out: it gains a key whenever the pipeline learns something new, and DVC watches it.
        """
        asked = [self.datasets[run.dataset], self.arms[run.arm], run.epochs, run.seed]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:12]
