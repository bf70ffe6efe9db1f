"""The stored predictions of all models, averaged as candidates ask, image by image. Needs no torch."""

from collections.abc import Iterator, Sequence
from functools import reduce
from pathlib import Path
from typing import TypeVar

import numpy as np

from segpipe.data.prepared import Prepared
from segpipe.data.resize import resize_labels
from segpipe.data.split import scored_folds, submitted_folds
from segpipe.ensemble.candidates import ROUNDS, Candidate, ModelKey
from segpipe.ensemble.cleaning import clean
from segpipe.inference.probs import Predictions, winners
from segpipe.metrics.confusion import confusion_matrix
from segpipe.params import ALL, FoldName
from segpipe.progress import track

Value = TypeVar("Value")
Part = tuple[str, str]  # round, member


class Ensemble:
    """The stored predictions of all models, averaged as candidates ask.

    With the fold `all` among `folds` the numbered ones score, and `all` alone predicts what is submitted.
    """

    def __init__(
        self, prepared: Prepared, predictions: dict[ModelKey, Predictions], folds: tuple[FoldName, ...]
    ) -> None:
        """Raises ValueError for predictions that cannot be averaged or judged.

        Those of other classes or sizes, those that lack a judge image, and those of models that know one.
        """
        self.prepared, self.predictions = prepared, predictions
        self.scored_folds, self.submitted_folds = scored_folds(folds), submitted_folds(folds)
        for (_, _, fold), stored in predictions.items():
            judge = prepared.named_hashes(prepared.folds[fold].judge)
            stored.lineage.refuse_judging_on(judge, stored.card.model)
        self.scored_size = _one({_name(k): s.card.scored_size for k, s in predictions.items()}, "scored sizes")
        own = {"the prepared data": prepared.classes.names}
        _one(own | {_name(k): tuple(s.card.classes) for k, s in predictions.items()}, "classes")
        self._require({fold: prepared.folds[fold].judge for fold in self.scored_folds})

    @property
    def judge_indices(self) -> list[int]:
        """Judge images of the scored folds, each once, in order of the image table; none with `all` alone."""
        return sorted({index for fold in self.scored_folds for index in self.prepared.folds[fold].judge})

    @property
    def tune_indices(self) -> list[int]:
        """Tune images of the scored folds, each once, in order of the image table; none with `all` alone."""
        return sorted({index for fold in self.scored_folds for index in self.prepared.folds[fold].tune})

    def require_tune(self) -> None:
        """Raise ValueError unless every model has predicted its tune images and learned from none of them."""
        self._require({fold: self.prepared.folds[fold].tune for fold in self.scored_folds})
        for (_, _, fold), stored in self.predictions.items():
            tune = self.prepared.named_hashes(self.prepared.folds[fold].tune)
            stored.lineage.refuse_tuning_on(tune, stored.card.model)

    def require_test(self) -> None:
        """Raise ValueError unless every model whose predictions are submitted has predicted every test image."""
        self._require(dict.fromkeys(self.submitted_folds, self.prepared.sets["test"]))

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
        """(height, width) uint8 classes of image `index` at the scored size, as `label_maps` of one candidate."""
        return self.label_maps([candidate], index)[0]

    def label_maps(self, candidates: Sequence[Candidate], index: int) -> list[np.ndarray]:
        """For each candidate (height, width) uint8 classes of image `index` at the scored size."""
        probs = self.mean_probs(index, [part for candidate in candidates for part in candidate.parts])
        return [_label_map(candidate, probs) for candidate in candidates]

    def mean_probs(self, index: int, parts: Sequence[Part]) -> dict[Part, np.ndarray]:
        """(height, width, C) float32 of each part for image `index` at the scored size, averaged over folds.

        A held-out image is predicted by the folds that hold it out, any other by those that are submitted.
        """
        entry, folds = self.prepared.entries[index], self.prepared.folds
        holding = [fold for fold in self.scored_folds if index in folds[fold].judge or index in folds[fold].tune]
        size = (entry.height, entry.width)
        stores = {
            part: [self.predictions[(*part, fold)] for fold in holding or self.submitted_folds]
            for part in dict.fromkeys(parts)
        }
        return {
            part: _sum([store.probs(index, size) for store in some]) / np.float32(len(some))
            for part, some in stores.items()
        }

    def target(self, index: int) -> np.ndarray:
        """(height, width) uint8 truth of labelled image `index` at the scored size."""
        return resize_labels(self.prepared.native_target(index), self.scored_size)

    def judge_confusions(self, candidates: Sequence[Candidate]) -> dict[str, np.ndarray]:
        """For each candidate (N, C, C) int64: a confusion matrix for every judge image, at the scored size."""
        size, indices = self.prepared.classes.num_classes, self.judge_indices
        confusions = {each.name: np.zeros((len(indices), size, size), np.int64) for each in candidates}
        for position, matrices in enumerate(self._confusions(candidates, indices, "judge")):
            for each, matrix in zip(candidates, matrices, strict=True):
                confusions[each.name][position] = matrix
        return confusions

    def tune_confusion(self, candidates: Sequence[Candidate]) -> dict[str, np.ndarray]:
        """For each candidate (C, C) int64: the confusion matrix of all tune images together, at the scored size."""
        size = self.prepared.classes.num_classes
        confusion = {each.name: np.zeros((size, size), np.int64) for each in candidates}
        for matrices in self._confusions(candidates, self.tune_indices, "tune"):
            for each, matrix in zip(candidates, matrices, strict=True):
                confusion[each.name] += matrix
        return confusion

    def test_label_maps(self, candidate: Candidate) -> Iterator[tuple[int, np.ndarray]]:
        """(index, label map) of every test image, in the order of the test file."""
        for index in track(self.prepared.sets["test"], "submit", "images"):
            yield index, self.label_map(candidate, index)

    def _confusions(
        self, candidates: Sequence[Candidate], indices: Sequence[int], label: str
    ) -> Iterator[Iterator[np.ndarray]]:
        """Of each image the (C, C) confusion matrices of the candidates."""
        for index in track(indices, label, "images"):
            target, size = self.target(index), self.prepared.classes.num_classes
            yield (confusion_matrix(labels, target, size) for labels in self.label_maps(candidates, index))

    def _require(self, wanted: dict[FoldName, tuple[int, ...]]) -> None:
        """Raise ValueError that names the images which a store of a fold lacks."""
        lacking = []
        for (_, _, fold), stored in self.predictions.items():
            missing = sorted(set(wanted.get(fold, ())) - set(stored.card.indices))
            if missing:
                names = ", ".join(self.prepared.entries[index].file_name for index in missing[:3])
                lacking.append(
                    f"  {stored.folder}: none of {len(missing)} of {len(wanted[fold])} images, such as {names}"
                )
        if lacking:
            raise ValueError("predictions are missing; run `dvc repro`, which makes them:\n" + "\n".join(lacking))


def _sum(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """The only one itself: a sum of one would copy it."""
    return reduce(np.add, arrays)


def _label_map(candidate: Candidate, probs: dict[Part, np.ndarray]) -> np.ndarray:
    weights = candidate.weights or [1.0] * len(candidate.parts)
    weighed = zip(candidate.parts, weights, strict=True)
    labels = winners(_sum([probs[part] * np.float32(weight) for part, weight in weighed]))
    return labels if candidate.cleaning is None else clean(labels, candidate.cleaning)


def load_predictions(
    folder: Path, member_names: tuple[str, ...], folds: tuple[FoldName, ...]
) -> dict[ModelKey, Predictions]:
    """The stores of all models that params.yaml names, never what merely lies in the folder.

    Raises FileNotFoundError that names every store which is not there.
    """
    keys = [(round_, member, fold) for round_ in ROUNDS for member in member_names for fold in folds]
    stores = {key: folder / _name(key) for key in keys}
    missing = [store.name for store in stores.values() if not (store / "card.json").is_file()]
    if missing:
        raise FileNotFoundError(
            f"{folder}: holds no predictions of {', '.join(missing)}; `dvc repro` makes them "
            "(or `dvc pull`, where a remote has them)"
        )
    return {key: Predictions(store) for key, store in stores.items()}


def _name(key: ModelKey) -> str:
    return "-".join(map(str, key))


def _one(values: dict[str, Value], what: str) -> Value:
    """The one value that all share; ValueError that names who has which."""
    holders: dict[Value, list[str]] = {}
    for name, value in values.items():
        holders.setdefault(value, []).append(name)
    if len(holders) > 1:
        said = "; ".join(f"{value} of {', '.join(names)}" for value, names in holders.items())
        raise ValueError(f"the predictions have different {what} and cannot be averaged: {said}; run `dvc repro`")
    return next(iter(holders))
