"""A candidate scored from the stored predictions, at the scored size and at native size. Needs no torch."""

import difflib
from pathlib import Path

from segpipe.data.prepared import Prepared
from segpipe.data.split import scored_folds
from segpipe.ensemble.average import Ensemble, load_predictions
from segpipe.ensemble.candidates import Candidate, fitted_of, list_candidates
from segpipe.params import Params
from segpipe.score.sheet import Judged, ScoreSheet, fill_sheet
from segpipe.stage import read_json


def score_candidate(
    params: Params, name: str | None = None, against: str | None = None, data: Path = Path("data")
) -> ScoreSheet:
    """Score candidate `name` on judge images, from the outputs of the stages in folder `data`.

    None is the candidate that is submitted. Memory is flat in the number of images but for one confusion matrix each.
    Raises ValueError for a name that is no candidate or given twice and where no trained fold can be scored,
    FileNotFoundError for outputs that are not there.
    """
    folds, notes = params.split.train_folds, []
    if not scored_folds(folds):
        raise ValueError(
            "split.train_folds: found all alone, whose models learned from every labelled image, so nothing can be "
            "scored; train a numbered fold too ([0, all]), run `segpipe wire` and `dvc repro`"
        )
    path = data / "submission" / "selection.json"
    # without it the unfitted candidates can still be scored by name
    selection = read_json(path) if name is None or path.is_file() else {"candidates": []}
    if name is None:
        name = selection["chosen"]
        if "optimism" in selection:
            notes.append(
                f"It was {selection['headline']}; estimated optimism of its score {selection['optimism']:+.3f}."
            )
    candidates = [*list_candidates(params.member_names), *fitted_of(selection, params.member_names)]
    wanted = _find([found for found in (name, against) if found is not None], candidates)
    if name == against:
        others = ", ".join(candidate.name for candidate in candidates if candidate.name != name)
        raise ValueError(f"score: --against names {name}, the candidate itself; give another one: {others}")
    notes.append("Judge images are those that no scored model trained or was tuned on.")
    if scored_folds(folds) != folds:
        notes.append("The submission comes from models of fold all, of the same parameters, which are never scored.")
    own, *others = _judge(params, wanted, data)
    if own.confusions["native"] is own.confusions["scored"]:
        notes.append("Every image is scored at its own size, so that both columns are the same.")
    notes.append(
        "Probabilities are stored at the smaller of network and scored size; native size is upsampled from it."
    )
    return fill_sheet(own, next(iter(others), None), notes)


def _find(names: list[str], candidates: list[Candidate]) -> list[Candidate]:
    by_name = {candidate.name: candidate for candidate in candidates}
    faults = []
    for name in names:
        if name not in by_name:
            nearest = difflib.get_close_matches(name, by_name, n=1, cutoff=0.4)
            faults.append(f"no candidate {name!r}" + (f" (did you mean {nearest[0]}?)" if nearest else ""))
    if faults:
        raise ValueError(f"{', '.join(faults)}; with the members of params.yaml there are {', '.join(by_name)}")
    return [by_name[name] for name in names]


def _judge(params: Params, wanted: list[Candidate], data: Path) -> list[Judged]:
    """How each wanted candidate did; one pass over the images for each size."""
    parts = {member for candidate in wanted for _, member in candidate.parts}
    members = tuple(member for member in params.member_names if member in parts)
    folds = scored_folds(params.split.train_folds)
    stores = load_predictions(data / "predictions", members, folds)
    prepared = Prepared(data / "prepared", judge=True)
    scored = Ensemble(prepared, stores, folds)
    entries = [prepared.entries[index] for index in scored.judge_indices]
    at_scored = scored.judge_confusions(wanted)
    if scored.scored_size is None or all((entry.height, entry.width) == scored.scored_size for entry in entries):
        at_native = at_scored
    else:
        native = Ensemble(prepared, {key: store.at_native_size() for key, store in stores.items()}, folds)
        at_native = native.judge_confusions(wanted)
    groups, names = [entry.group for entry in entries], prepared.classes.names
    return [
        Judged(name, {"scored": at_scored[name], "native": at_native[name]}, groups, scored.scored_size, names)
        for name in (candidate.name for candidate in wanted)
    ]
