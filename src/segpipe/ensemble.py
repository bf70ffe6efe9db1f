"""Candidates for the submission, their judge scores with intervals, and the choice between them. Needs no torch."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from segpipe.data.prepared import Prepared
from segpipe.data.resize import resize_labels
from segpipe.data.split import scored_folds, submitted_folds
from segpipe.inference.probs import Predictions
from segpipe.metrics.bootstrap import bootstrap_miou, compare_miou, optimism_of_best
from segpipe.metrics.confusion import confusion_matrix, per_image_miou, pooled_miou
from segpipe.params import ALL, FoldName
from segpipe.progress import track

ROUNDS = ("baseline", "retrain")
Value = TypeVar("Value")
ModelKey = tuple[str, str, FoldName]  # round, member, fold


@dataclass(frozen=True)
class Candidate:
    """A way to predict: the mean probability of these (round, member) pairs, each averaged over its folds."""

    name: str
    parts: tuple[tuple[str, str], ...]


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


class Ensemble:
    """The stored predictions of all models, averaged as candidates ask.

    With the fold `all` among `folds` the numbered ones score, and `all` alone predicts what is submitted.
    """

    def __init__(
        self, prepared: Prepared, predictions: dict[ModelKey, Predictions], folds: tuple[FoldName, ...]
    ) -> None:
        """Raises ValueError for predictions of other classes or sizes, or of models that know their judge images."""
        self.prepared, self.predictions = prepared, predictions
        self.scored_folds, self.submitted_folds = scored_folds(folds), submitted_folds(folds)
        for (_, _, fold), stored in predictions.items():
            judge = prepared.named_hashes(prepared.folds[fold].judge)
            stored.lineage.refuse_judging_on(judge, stored.card.model)
        self.scored_size = _one([stored.card.scored_size for stored in predictions.values()], "scored sizes")
        _one([prepared.classes.names, *(tuple(stored.card.classes) for stored in predictions.values())], "classes")

    @property
    def judge_indices(self) -> list[int]:
        """Judge images of the scored folds, each once, in order of the image table; none with `all` alone."""
        return sorted({index for fold in self.scored_folds for index in self.prepared.folds[fold].judge})

    def provenance(self) -> dict[str, object]:
        """For selection.json: which folds' models score, which predict what is submitted, and the same in words."""
        folds = {"scored_folds": list(self.scored_folds), "submitted_folds": list(self.submitted_folds)}
        return folds | {"provenance": self.provenance_in_words()}

    def provenance_in_words(self) -> str:
        """Whose scores these are, and whose predictions are submitted."""
        everything = "every labelled image" + (" outside data.judge" if self.prepared.sets["judge"] else "")
        if not self.scored_folds:
            return f"Nothing is scored: the submitted models (fold all) learned from {everything}."
        listed = ", ".join(map(str, self.scored_folds))
        several = len(self.scored_folds) > 1
        said = f"Scores are those of the models of {'folds' if several else 'fold'} {listed}"
        said += ", each on the judge images that it holds out" if several else ""
        if ALL in self.submitted_folds:
            said += (
                "; the submission is predicted by other models with the same parameters, which learned from "
                f"{everything} (fold all) and are themselves never scored"
            )
        elif several:
            said += "; the submission is the mean of all of them"
        return f"{said}."

    def label_map(self, candidate: Candidate, index: int) -> np.ndarray:
        """(height, width) uint8 classes of image `index` at the scored size.

        A held-out image is predicted by the folds that hold it out for judging, any other by those that are submitted.
        """
        return self._label_maps([candidate], index)[0]

    def _label_maps(self, candidates: list[Candidate], index: int) -> list[np.ndarray]:
        entry = self.prepared.entries[index]
        holding = [fold for fold in self.scored_folds if index in self.prepared.folds[fold].judge]
        mean: dict[tuple[str, str], np.ndarray] = {}
        for part in dict.fromkeys(part for candidate in candidates for part in candidate.parts):
            probs = [
                self.predictions[(*part, fold)].probs(index, (entry.height, entry.width))
                for fold in holding or self.submitted_folds
            ]
            mean[part] = np.mean(probs, axis=0)
        summed = (sum(mean[part] for part in candidate.parts) for candidate in candidates)
        return [probs.argmax(-1).astype(np.uint8) for probs in summed]

    def judge_confusions(self, candidates: list[Candidate]) -> dict[str, np.ndarray]:
        """For each candidate (N, C, C) int64: a confusion matrix for every judge image, at the scored size."""
        num_classes = self.prepared.classes.num_classes
        confusions: dict[str, list[np.ndarray]] = {candidate.name: [] for candidate in candidates}
        for index in track(self.judge_indices, "judge", "images"):
            target = resize_labels(self.prepared.native_target(index), self.scored_size)
            for candidate, preds in zip(candidates, self._label_maps(candidates, index), strict=True):
                confusions[candidate.name].append(confusion_matrix(preds, target, num_classes))
        shape = (-1, num_classes, num_classes)
        return {name: np.array(matrices, np.int64).reshape(shape) for name, matrices in confusions.items()}

    def test_label_maps(self, candidate: Candidate) -> Iterator[tuple[int, np.ndarray]]:
        """(index, label map) of every test image, in the order of the test file."""
        for index in track(self.prepared.sets["test"], "submit", "images"):
            yield index, self.label_map(candidate, index)


def select(rule: str, candidates: list[Candidate], confusions: dict[str, np.ndarray], groups: list[str]) -> dict:
    """The content of selection.json: what is submitted and why, and how every candidate scored on judge images.

    `rule` is `best` (highest pooled mIoU; the first of equals) or a candidate's name. Differences are paired, against
    the first member's baseline. Without judge images (`groups` empty) the rule is a name, and rows have no scores.
    """
    reference = candidates[0].name
    rows = [_row(candidate, confusions[candidate.name], confusions[reference], groups) for candidate in candidates]
    if rule == "best" and groups:
        chosen = max(rows, key=lambda row: row["miou"])["name"]
    elif rule in confusions:
        chosen = rule
    else:
        raise ValueError(f"ensemble.rule: no candidate {rule!r}; with these members there are {', '.join(confusions)}")
    selection = {
        "rule": rule,
        "chosen": chosen,
        "reference": reference,
        "judge_images": len(groups),
        "judge_groups": len(set(groups)),
        "candidates": rows,
    }
    if rule == "best":
        # the winner's score is flattered by having been chosen on the images that score it
        optimism = optimism_of_best([confusions[candidate.name] for candidate in candidates], groups)
        selection |= {"headline": f"chosen as best of {len(rows)} on these images", "optimism": optimism}
    return selection


def _row(candidate: Candidate, own: np.ndarray, reference: np.ndarray, groups: list[str]) -> dict:
    row: dict[str, object] = {"name": candidate.name, "models": ["-".join(part) for part in candidate.parts]}
    if not groups:
        return row
    interval, difference = bootstrap_miou(own, groups), asdict(compare_miou(own, reference, groups))
    if own is reference:
        difference["verdict"] = "reference"
    elif np.array_equal(own, reference):
        difference["verdict"] = "identical"  # such as a retraining that kept its baseline
    return row | {
        "miou": pooled_miou(own),
        "low": interval.low,
        "high": interval.high,
        "per_image_miou": per_image_miou(own),
        "difference": difference,
    }


def load_predictions(
    folder: Path, member_names: tuple[str, ...], folds: tuple[FoldName, ...]
) -> dict[ModelKey, Predictions]:
    """The stores of all models that params.yaml names, never what merely lies in the folder.

    Raises FileNotFoundError that names every store which is not there.
    """
    keys = [(round_, member, fold) for round_ in ROUNDS for member in member_names for fold in folds]
    stores = {key: folder / "-".join(map(str, key)) for key in keys}
    missing = [store.name for store in stores.values() if not (store / "card.json").is_file()]
    if missing:
        raise FileNotFoundError(
            f"{folder}: holds no predictions of {', '.join(missing)}; `dvc repro` makes them "
            "(or `dvc pull`, where a remote has them)"
        )
    return {key: Predictions(store) for key, store in stores.items()}


def _one(values: list[Value], what: str) -> Value:
    if len(set(values)) > 1:
        raise ValueError(f"the predictions have different {what}: {sorted(map(str, set(values)))}; run `dvc repro`")
    return values[0]
