"""Ways to predict: which models, with what weights, and how the label map is cleaned up afterwards. Needs no torch."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Self

from segpipe.ensemble.cleaning import Cleaning
from segpipe.params import FoldName

ROUNDS = ("baseline", "retrain")
ModelKey = tuple[str, str, FoldName]  # round, member, fold


@dataclass(frozen=True)
class Candidate:
    """A way to predict: the mean probability of these (round, member) pairs, each averaged over its folds.

    What was fitted on tune images may come with it: `weights` of the parts, which add up to 1 (None: equal ones), and
    the `cleaning` of the label map. Such a candidate has had more to choose from, so that a rule asks more of it.
    """

    name: str
    parts: tuple[tuple[str, str], ...]
    weights: tuple[float, ...] | None = None
    cleaning: Cleaning | None = None

    @property
    def fitted(self) -> bool:
        """Whether tune images chose more than the models themselves."""
        return self.weights is not None or self.cleaning is not None

    def to_json(self) -> dict[str, object]:
        """As `selection.json` describes it: name and models, and whatever was fitted."""
        row: dict[str, object] = {"name": self.name, "models": ["-".join(part) for part in self.parts]}
        if self.weights is not None:
            row["weights"] = list(self.weights)
        if self.cleaning is not None:
            row["cleaning"] = asdict(self.cleaning)
        return row

    @classmethod
    def from_json(cls, row: dict) -> Self:
        """The inverse of to_json; other keys of a row of selection.json are left alone."""
        parts = tuple(tuple(model.split("-", 1)) for model in row["models"])
        weights = tuple(row["weights"]) if "weights" in row else None
        cleaning = {key: tuple(sizes) for key, sizes in row["cleaning"].items()} if "cleaning" in row else None
        return cls(row["name"], parts, weights, Cleaning(**cleaning) if cleaning else None)


def list_candidates(member_names: tuple[str, ...]) -> list[Candidate]:
    """Every member of every round, then the plain means; the names are those of params.candidate_names.

    A mean of one member alone is left out: it is that member.
    """
    singles = [Candidate(f"{round_}-{member}", ((round_, member),)) for round_ in ROUNDS for member in member_names]
    means = [
        Candidate(f"mean-{round_}", tuple((round_, member) for member in member_names))
        for round_ in ROUNDS
        if len(member_names) > 1
    ]
    everything = Candidate("mean-all", tuple((round_, member) for round_ in ROUNDS for member in member_names))
    return [*singles, *means, everything]


def fitted_of(selection: dict, member_names: Iterable[str]) -> list[Candidate]:
    """The fitted candidates that `selection.json` describes and whose models all belong to these members."""
    candidates = [Candidate.from_json(row) for row in selection["candidates"]]
    members = set(member_names)
    return [each for each in candidates if each.fitted and {member for _, member in each.parts} <= members]
