"""Which images a model or label set has seen, so that no score comes from images it knows.

Two lists of content hashes: *learned from* (targets or pseudo labels of these images trained it, directly or through
its teachers) is refused for every score and choice; *tuned on* (epochs or thresholds were chosen on them) is refused
for judging only.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Lineage:
    """Content hashes of the images behind a model or label set."""

    learned_from: frozenset[str]
    tuned_on: frozenset[str]

    def __or__(self, other: Self) -> Self:
        return type(self)(self.learned_from | other.learned_from, self.tuned_on | other.tuned_on)

    def to_json(self) -> dict:
        """Sorted lists, so that equal lineages are equal bytes."""
        return {"learned_from": sorted(self.learned_from), "tuned_on": sorted(self.tuned_on)}

    @classmethod
    def from_json(cls, value: dict) -> Self:
        """The inverse of to_json."""
        return cls(frozenset(value["learned_from"]), frozenset(value["tuned_on"]))

    def refuse_tuning_on(self, images: Iterable[tuple[str, str]], who: str) -> None:
        """Raise ValueError if `who` learned from any of `images`, (file name, content hash) pairs."""
        _refuse(images, self.learned_from, who, "learned from", "choose anything on")

    def refuse_judging_on(self, images: Iterable[tuple[str, str]], who: str) -> None:
        """Raise ValueError if `who` learned from or was tuned on any of `images`."""
        images = list(images)
        _refuse(images, self.learned_from, who, "learned from", "be judged on")
        _refuse(images, self.tuned_on, who, "was tuned on", "be judged on")


def _refuse(images: Iterable[tuple[str, str]], seen: frozenset[str], who: str, how: str, what: str) -> None:
    leaked = [name for name, content_hash in images if content_hash in seen]
    if leaked:
        raise ValueError(
            f"{who} {how} {len(leaked)} of the images that it would {what}, such as {', '.join(leaked[:3])}; "
            "its score there would be no evidence. Was it trained for another fold, or before the split changed?"
        )
