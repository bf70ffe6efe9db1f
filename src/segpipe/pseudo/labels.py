"""The stage itself: from the teachers' answers to labels with ignored pixels, and tables of how good they are.

    taught ─> guard (no copies of held-out images) ─> reliability (which images) ─> thresholds (which pixels) ─> quality

Seconds, no inference: the answers are read three times, for images, counts and labels. Needs no torch.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from segpipe.data.class_counts import histogram
from segpipe.data.leaks import refuse_leaks
from segpipe.data.lineage import Lineage
from segpipe.data.prepared import Prepared
from segpipe.data.store import PackedWriter
from segpipe.labels import IGNORE_INDEX
from segpipe.params import FoldName, PseudoLabelParams
from segpipe.progress import say
from segpipe.pseudo.evidence import Evidence
from segpipe.pseudo.guard import copies_of_held_out, say_left_out
from segpipe.pseudo.quality import Counted, calibration_table, quality_table, summary
from segpipe.pseudo.reliability import SIGNS, most_reliable, plausibility, reliability, shares_of
from segpipe.pseudo.taught import STEPS, Taught, joint_counts
from segpipe.pseudo.thresholds import Keeper, Threshold, choose_thresholds
from segpipe.pseudo.told import say_guesses, say_kept, say_nothing_kept
from segpipe.stage import write_json

LESS_RELIABLE = "less reliable"


@dataclass(frozen=True)
class Made:
    """What a set of pseudo labels came to: the share of the pool's pixels that is kept, and tables of its quality."""

    share_kept: float
    quality: pd.DataFrame
    calibration: pd.DataFrame
    images: pd.DataFrame
    summary: dict[str, float]

    def write(self, plots: Path) -> None:
        """The tables as CSV files."""
        plots.mkdir(parents=True, exist_ok=True)
        self.quality.to_csv(plots / "quality.csv", index=False)
        self.calibration.to_csv(plots / "calibration.csv", index=False)
        self.images.to_csv(plots / "images.csv", index=False, errors="surrogatepass")
        names, values = self.summary.keys(), self.summary.values()
        pd.DataFrame({"name": names, "value": values}).to_csv(plots / "summary.csv", index=False)


def make_pseudo_labels(prepared: Prepared, fold: FoldName, folder: Path, params: PseudoLabelParams, out: Path) -> Made:
    """Write the labels of the pool to `out`, from what `teach` left in `folder`; return how good they are.

    Images of which no pixel is kept are left out, and so are copies of held-out images. One line says what was kept; an
    empty pool, or thresholds that keep nothing, give an empty set with a warning. Raises ValueError where the teachers
    know what the fold holds out, where their answers are of other images than the prepared ones, and as
    `choose_thresholds` does.
    """
    taught, num_classes = Taught(folder), prepared.classes.num_classes
    _refuse_other_images(prepared, fold, taught)
    refuse_leaks(prepared, fold, taught.lineage, f"{folder}: its teachers")
    labeled = _labeled_counts(prepared, fold)
    images = _judge_images(prepared, fold, taught, labeled, params.keep)
    used = images.index[images["left_out"] == ""].tolist()
    predicted, evidence = np.zeros((num_classes, STEPS), np.int64), Evidence(num_classes)
    for index in used:
        predicted += joint_counts(*taught.answer(index), num_classes)
    for index in taught.tune:
        evidence.add(prepared.entries[index].group, *taught.answer(index), prepared.target(index))
    thresholds = choose_thresholds(params, predicted, evidence)
    kept = _write_labels(prepared, taught, used, thresholds, out)
    images["kept"] = [kept.shares.get(index, 0.0) for index in images.index]
    counted = Counted(predicted, kept.counts, *_kept_of_tune(prepared, taught, thresholds), labeled.sum(0))
    quality = quality_table(prepared.classes.names, counted, evidence, thresholds, params.certainty)
    calibration = calibration_table(evidence)
    share = int(kept.counts.sum()) / max(int(images["pixels"].sum()), 1)
    told, guesses = summary(quality, calibration), say_guesses(prepared.classes.names, thresholds)
    if kept.shares:
        say(say_kept(share, len(taught.pool), told["expected_precision"]))
    else:
        say(say_nothing_kept(len(taught.pool), predicted, params))
    if guesses:
        say(guesses)
    table = images.drop(columns="pixels").sort_values("reliability", ascending=False, kind="stable")
    return Made(share, quality, calibration, table, told)


def _refuse_other_images(prepared: Prepared, fold: FoldName, taught: Taught) -> None:
    names = taught.images["file_name"].to_dict()
    expected = {*prepared.pool(), *prepared.folds[fold].tune}
    other = [name for index, name in names.items() if index not in expected]
    other += [name for index, name in names.items() if index in expected and prepared.entries[index].file_name != name]
    if other:
        raise ValueError(
            f"{taught.folder}: found answers for {len(other)} images that are not in the pool and no tune images of "
            f"fold {fold}, such as {other[0]}; the data or the fold are others: run `dvc repro teach@{fold}`"
        )


def _labeled_counts(prepared: Prepared, fold: FoldName) -> np.ndarray:
    """(M, C) int64 true pixels of each training image of the fold."""
    num_classes = prepared.classes.num_classes
    targets = (prepared.target(index) for index in prepared.folds[fold].train)
    return np.array([histogram(target)[:num_classes] for target in targets])


def _judge_images(prepared: Prepared, fold: FoldName, taught: Taught, labeled: np.ndarray, keep: float) -> pd.DataFrame:
    """A row for each image of the pool, by index: its name, signs and reliability, and why it is left out, if it is."""
    num_classes, copies = prepared.classes.num_classes, copies_of_held_out(prepared, fold)
    if copies:
        say(say_left_out(copies, prepared))
    images = taught.images.loc[list(taught.pool)].rename(columns={"file_name": "image"})
    counts = [histogram(taught.answer(index)[0])[:num_classes] for index in taught.pool]
    predicted = np.array(counts, np.int64).reshape(len(images), num_classes)
    images["pixels"] = predicted.sum(1)
    images["plausibility"] = plausibility(shares_of(predicted), shares_of(labeled))
    why = {copy.index: copy.why for copy in copies}
    images["left_out"] = [why.get(index, "") for index in images.index]
    apart = images["left_out"] == ""
    scores = reliability(images.loc[apart, list(SIGNS)])
    images["reliability"] = np.nan
    images.loc[apart, "reliability"] = scores
    images.loc[images.index[apart][~most_reliable(scores, keep)], "left_out"] = LESS_RELIABLE
    return images


@dataclass(frozen=True)
class Kept:
    """What was written: pixels by class and confidence, (C, 256), and the share of each image that has a label."""

    counts: np.ndarray
    shares: dict[int, float]


def _write_labels(prepared: Prepared, taught: Taught, used: list[int], thresholds: list[Threshold], out: Path) -> Kept:
    """The store of labels and its card: what it has seen is what its teachers have, the images it keeps, and tune."""
    keeper, shares = Keeper(thresholds), {}
    counts = np.zeros((len(thresholds), STEPS), np.int64)
    with PackedWriter(out / "labels") as labels:
        for index in used:
            predicted, confidence = taught.answer(index)
            label = keeper.keep(predicted, confidence)
            if (label != IGNORE_INDEX).any():
                labels.add(label)
                shares[index] = float((label != IGNORE_INDEX).mean())
                counts += joint_counts(label, confidence, len(thresholds))
    seen = Lineage(frozenset(prepared.hashes(shares)), frozenset(prepared.hashes(taught.tune)))
    lineage = (taught.lineage | seen).to_json()
    write_json(out / "card.json", {"indices": list(shares), "teachers": taught.teachers, "lineage": lineage})
    return Kept(counts, shares)


def _kept_of_tune(prepared: Prepared, taught: Taught, thresholds: list[Threshold]) -> tuple[np.ndarray, np.ndarray]:
    """(C,) int64 pixels of tune images that the thresholds keep, and those of them that are right."""
    keeper, found = Keeper(thresholds), np.zeros((2, 256), np.int64)
    for index in taught.tune:
        label, target = keeper.keep(*taught.answer(index)), prepared.target(index)
        for place, counted in enumerate((target != IGNORE_INDEX, label == target)):
            found[place] += histogram(np.where(counted, label, IGNORE_INDEX).astype(np.uint8))
    return found[0, : len(thresholds)], found[1, : len(thresholds)]
