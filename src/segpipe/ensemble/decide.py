"""From stored predictions to what is submitted: fit on tune images, score on judge images, choose. Needs no torch."""

from dataclasses import dataclass

import numpy as np

from segpipe.ensemble.average import Ensemble
from segpipe.ensemble.candidates import Candidate, list_candidates
from segpipe.ensemble.fit import fit_candidates
from segpipe.ensemble.members import drop_one, leave_outs, likeness, shared_errors
from segpipe.ensemble.selection import select
from segpipe.metrics.confusion import confusion_matrix
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
    shown = [*candidates, *(each.candidate for each in left)]
    confusions, errors = _judge(ensemble, shown, len(models))
    groups = [ensemble.prepared.entries[index].group for index in ensemble.judge_indices]
    selection = select(
        params.ensemble.rule, candidates, {each.name: confusions[each.name] for each in candidates}, groups
    )
    if groups:
        selection["drop_one"] = drop_one(left, confusions["mean-all"], confusions, groups)
        selection["likeness"] = likeness([each.name for each in models], errors, groups)
    chosen = next(each for each in candidates if each.name == selection["chosen"])
    return Decision(chosen, candidates, selection, {each.name: confusions[each.name] for each in candidates}, groups)


def _judge(ensemble: Ensemble, candidates: list[Candidate], models: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Confusions of all judge images by candidate, and (N, P, 4) errors that pairs of the first `models` share."""
    size = ensemble.prepared.classes.num_classes
    indices, pairs = ensemble.judge_indices, models * (models - 1) // 2
    confusions = {each.name: np.zeros((len(indices), size, size), np.int64) for each in candidates}
    errors = np.zeros((len(indices), pairs, 4), np.int64)
    for position, index in enumerate(track(indices, "judge", "images")):
        target, label_maps = ensemble.target(index), ensemble.label_maps(candidates, index)
        for each, labels in zip(candidates, label_maps, strict=True):
            confusions[each.name][position] = confusion_matrix(labels, target, size)
        errors[position] = shared_errors(label_maps[:models], target)
    return confusions, errors
