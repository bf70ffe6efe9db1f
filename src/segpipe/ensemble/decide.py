"""From stored predictions to what is submitted: fit on tune images, score on judge images, choose. Needs no torch."""

from dataclasses import dataclass

import numpy as np

from segpipe.ensemble.average import Ensemble
from segpipe.ensemble.candidates import Candidate, list_candidates
from segpipe.ensemble.fit import fit_candidates
from segpipe.ensemble.members import Without, drop_one, leave_outs, likeness, shared_errors
from segpipe.ensemble.selection import select
from segpipe.metrics.confusion import class_counts, confusion_matrix
from segpipe.params import Params
from segpipe.progress import track


@dataclass(frozen=True)
class Decision:
    """What is submitted, the content of selection.json, and of every candidate (N, C, C) judge confusions."""

    chosen: Candidate
    candidates: list[Candidate]
    selection: dict
    confusions: dict[str, np.ndarray]
    groups: list[str]


def decide(ensemble: Ensemble, params: Params) -> Decision:
    """Fit, score and choose as section `ensemble` of the parameters says.

    One image is held at a time; what is kept of it are confusion matrices and counts. Raises ValueError for a rule that
    names no candidate, and for predictions of tune or test images that are missing.
    """
    ensemble.require_test()
    unfitted = list_candidates(params.member_names)
    candidates = [*unfitted, *fit_candidates(ensemble, unfitted, params.ensemble)]
    everything = next(each for each in unfitted if each.name == "mean-all")
    left = leave_outs(everything)
    models = [each for each in unfitted if len(each.parts) == 1]
    judged = _judge(ensemble, candidates, left, models)
    groups = [ensemble.prepared.entries[index].group for index in ensemble.judge_indices]
    selection = select(params.ensemble.rule, candidates, judged.confusions, groups)
    if groups:
        everything_counts = class_counts(judged.confusions[everything.name])
        selection["drop_one"] = drop_one(left, everything_counts, judged.without, judged.identical, groups)
        selection["likeness"] = likeness([each.name for each in models], judged.errors, groups)
    chosen = next(each for each in candidates if each.name == selection["chosen"])
    return Decision(chosen, candidates, selection, judged.confusions, groups)


@dataclass(frozen=True)
class _Judged:
    """What is kept of N judge images: all of what may be submitted, of what is left out only what is asked of it."""

    confusions: dict[str, np.ndarray]  # (N, C, C) by candidate
    without: dict[str, np.ndarray]  # (N, 3, C) class counts by leave-out
    identical: set[str]  # leave-outs whose confusions are those of the whole
    errors: np.ndarray  # (N, P, 4) that pairs of models share


def _judge(ensemble: Ensemble, candidates: list[Candidate], left: list[Without], models: list[Candidate]) -> _Judged:
    """`left` are leave-outs of the candidate mean-all, `models` the candidates of one model, all of them."""
    size, indices = ensemble.prepared.classes.num_classes, ensemble.judge_indices
    names = [each.name for each in candidates]
    rest = [each.candidate for each in left]
    judged = _Judged(
        {name: np.zeros((len(indices), size, size), np.int64) for name in names},
        {each.name: np.zeros((len(indices), 3, size), np.int64) for each in rest},
        {each.name for each in rest},
        np.zeros((len(indices), len(models) * (len(models) - 1) // 2, 4), np.int64),
    )
    for position, index in enumerate(track(indices, "judge", "images")):
        target = ensemble.target(index)
        label_maps = dict(zip([*names, *judged.without], ensemble.label_maps([*candidates, *rest], index), strict=True))
        for name in names:
            judged.confusions[name][position] = confusion_matrix(label_maps[name], target, size)
        for name, counts in judged.without.items():
            confusion = confusion_matrix(label_maps[name], target, size)
            counts[position] = class_counts(confusion)
            if not np.array_equal(confusion, judged.confusions["mean-all"][position]):
                judged.identical.discard(name)
        judged.errors[position] = shared_errors([label_maps[each.name] for each in models], target)
    return judged
