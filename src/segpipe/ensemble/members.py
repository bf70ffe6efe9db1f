"""What each member and each model brings to the mean of all, and how alike their errors are. Needs no torch."""

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations

import numpy as np

from segpipe.ensemble.candidates import Candidate
from segpipe.labels import IGNORE_INDEX
from segpipe.metrics.bootstrap import compare_counts, miou_of_counts
from segpipe.metrics.resample import group_sums, resampled

VERDICTS = {"better": "helps", "worse": "hurts"}  # of the whole against the whole without it


@dataclass(frozen=True)
class Without:
    """The mean of all models but those of a member, or but one model; `name` is what is left out."""

    name: str
    kind: str  # member | model
    candidate: Candidate


def leave_outs(everything: Candidate) -> list[Without]:
    """The mean of all models without each member, where there are several, then without each model."""
    members = dict.fromkeys(member for _, member in everything.parts)
    left: list[Without] = []
    for member in members if len(members) > 1 else ():
        rest = tuple(part for part in everything.parts if part[1] != member)
        left.append(Without(member, "member", Candidate(f"without member {member}", rest)))
    for part in everything.parts:
        name, rest = "-".join(part), tuple(other for other in everything.parts if other != part)
        left.append(Without(name, "model", Candidate(f"without {name}", rest)))
    return left


def drop_one(
    left: Sequence[Without],
    everything: np.ndarray,
    without: Mapping[str, np.ndarray],
    identical: Collection[str],
    groups: Sequence[Hashable],
) -> list[dict]:
    """For each of `left` the judge score without it, and by how much the mean of all is above that.

    `everything` and `without[candidate.name]` are (N, 3, C) class counts, `identical` names the candidates whose
    confusions are those of the mean of all, image by image. Verdicts, by the paired interval alone: helps, hurts,
    undecided, identical.
    """
    rows = []
    for each in left:
        rest = without[each.candidate.name]
        difference = asdict(compare_counts(np.stack([everything, rest], axis=1), groups))
        verdict = difference["verdict"]
        difference["verdict"] = "identical" if each.candidate.name in identical else VERDICTS.get(verdict, verdict)
        miou = miou_of_counts(rest)
        rows.append({"without": each.name, "kind": each.kind, "miou": miou, "difference": difference})
    return rows


def shared_errors(label_maps: Sequence[np.ndarray], target: np.ndarray) -> np.ndarray:
    """Of one image: (P, 4) int64, for each pair of M models, in the order of itertools.combinations.

    Pixels that both get wrong, that the first does, that the second does, and those that count.
    """
    counted = target != IGNORE_INDEX
    wrong = np.stack([(labels != target)[counted] for labels in label_maps]).astype(np.float32)
    both = np.rint(wrong @ wrong.T).astype(np.int64)  # exact: an image has fewer than 2^24 pixels that count
    pairs = combinations(range(len(label_maps)), 2)
    rows = [(both[a, b], both[a, a], both[b, b], wrong.shape[1]) for a, b in pairs]
    return np.array(rows, np.int64).reshape(-1, 4)


def likeness(names: Sequence[str], counts: np.ndarray, groups: Sequence[Hashable]) -> list[dict]:
    """For each pair of models how alike their errors are, from (N, P, 4) `shared_errors` of N images.

    `shared` is the share of the pixels that either gets wrong which both get wrong, with its 95 % interval from
    resampling groups: 0 = never the same pixel, 1 = always. `kappa` is Cohen's kappa of being wrong: 0 = as often
    together as chance has it, 1 = always together. Two models that are never wrong have no line.
    """
    if not counts.any():
        return []
    sums = group_sums(counts, counts[..., None], groups)
    values = resampled(sums, 10_000, 0, _shared)
    total = counts.sum(axis=0)
    shares = _shared(total[None])[0]
    rows = []
    for pair, (a, b) in enumerate(combinations(names, 2)):
        if np.isnan(shares[pair]):
            continue
        low, high = np.nanquantile(values[:, pair], [0.025, 0.975])
        row = {"a": a, "b": b, "shared": float(shares[pair]), "low": float(low), "high": float(high)}
        rows.append(row | {"kappa": _kappa(total[pair])})
    return rows


def _shared(sums: np.ndarray) -> np.ndarray:
    """(R, P, 4) counts to (R, P) shares; NaN where neither is ever wrong."""
    both, first, second, _ = np.moveaxis(sums, -1, 0)
    either = first + second - both
    return np.divide(both, either, out=np.full(either.shape, np.nan), where=either > 0)


def _kappa(counts: np.ndarray) -> float:
    both, first, second, pixels = map(int, counts)
    agree = (pixels - first - second + 2 * both) / pixels
    chance = (first * second + (pixels - first) * (pixels - second)) / pixels**2
    return (agree - chance) / (1 - chance) if chance < 1 else 1.0  # both are always wrong
