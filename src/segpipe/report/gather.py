"""What the page is about, read from the files that the other stages left; no HTML here."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from segpipe.data.prepared import Prepared
from segpipe.data.pseudo_labels import PseudoLabels
from segpipe.ensemble.average import Ensemble, load_predictions
from segpipe.ensemble.candidates import ROUNDS, Candidate, fitted_of, list_candidates
from segpipe.params import ALL, FoldName, Params
from segpipe.stage import read_json

# what names things is text, whatever it looks like: a class may be called "NA" or "1.0"
_TEXT = ("class", "actual", "predicted", "file_name", "group", "image", "left_out", "why", "name")


@dataclass(frozen=True)
class ModelRun:
    """One model: its score on tune images, NaN without any, and how it came about, one row of `history` an epoch."""

    round: str
    member: str
    fold: FoldName
    tune_miou: float
    history: pd.DataFrame

    @property
    def chosen_epoch(self) -> float:
        """The first epoch of highest tune mIoU, as training chooses it; NaN where no score is a number.

        Of the fold `all`, which has no tune images, the last.
        """
        if self.fold == ALL:
            return float(self.epochs)
        known = self.history.dropna(subset="tune_miou")
        return float(known.loc[known["tune_miou"].idxmax(), "epoch"]) if len(known) else float("nan")

    @property
    def is_averaged(self) -> bool:
        """Whether the moving average of the weights was the better one in the chosen epoch."""
        if "tune_miou_ema" not in self.history:
            return False
        row = self.history.set_index("epoch").loc[self.chosen_epoch]
        return bool(row["tune_miou_ema"] > row["tune_miou_raw"])

    @property
    def epochs(self) -> int:
        """How many were trained; 0 where retraining had no pseudo label and kept the baseline."""
        return int(self.history["epoch"].max()) if len(self.history) else 0


@dataclass(frozen=True)
class PseudoRun:
    """The pseudo labels of one fold: share of the pool's pixels kept, tables of the stage `pseudo_label`, the labels.

    `quality` is by class, `calibration` by confidence on tune images, `images` by image, the most reliable first.
    """

    fold: FoldName
    kept: float
    quality: pd.DataFrame
    calibration: pd.DataFrame
    images: pd.DataFrame
    summary: dict[str, float]
    labels: PseudoLabels


@dataclass(frozen=True)
class Judged:
    """The submission on judge images: a table by class, the (C, C) confusion matrix, a table by image."""

    iou: pd.DataFrame
    confusion: np.ndarray
    per_image: pd.DataFrame


@dataclass(frozen=True)
class Run:
    """All of it; `judged` is how the chosen candidate did on judge images, None where no fold is scored."""

    params: Params
    prepared: Prepared
    ensemble: Ensemble
    chosen: Candidate
    selection: dict
    data_check: dict
    models: list[ModelRun]
    pseudo: list[PseudoRun]
    judged: Judged | None

    @property
    def one_teacher(self) -> bool:
        """Whether a single model taught each fold: it always agrees with itself."""
        return len(self.params.teachers) == 1

    @cached_property
    def index_of(self) -> dict[str, int]:
        """From file name to index of the image table."""
        return {entry.file_name: index for index, entry in enumerate(self.prepared.entries)}

    @property
    def headline(self) -> dict:
        """The chosen candidate's row of selection.json."""
        return next(row for row in self.selection["candidates"] if row["name"] == self.chosen.name)


def gather(
    params: Params,
    *,
    prepared_folder: Path,
    predictions_folder: Path,
    pseudo_folder: Path,
    submission_folder: Path,
    metrics_folder: Path,
    plots_folder: Path,
) -> Run:
    """Read everything that params names, never what merely lies in the folders."""
    prepared = Prepared(prepared_folder, judge=True)
    folds, members = params.split.train_folds, params.member_names
    ensemble = Ensemble(prepared, load_predictions(predictions_folder, members, folds), folds)
    selection = read_json(submission_folder / "selection.json")
    known = [*list_candidates(members), *fitted_of(selection, members)]
    chosen = next((c for c in known if c.name == selection["chosen"]), None)
    if chosen is None:
        raise ValueError(
            f"{submission_folder / 'selection.json'}: chose {selection['chosen']!r}, which params.yaml does not know "
            f"(its members: {', '.join(members)}); run `dvc repro`"
        )
    return Run(
        params=params,
        prepared=prepared,
        ensemble=ensemble,
        chosen=chosen,
        selection=selection,
        data_check=read_json(prepared_folder / "data_check.json"),
        models=[
            _read_model(round_, member, fold, metrics_folder, plots_folder)
            for member in members
            for fold in folds
            for round_ in ROUNDS
        ],
        pseudo=[_read_pseudo(fold, pseudo_folder, metrics_folder, plots_folder) for fold in folds],
        judged=_read_judged(plots_folder / "ensemble") if ensemble.scored_folds else None,
    )


def read_csv(path: Path) -> pd.DataFrame:
    """A table of `plots/`: names as text, empty cells as NaN; raises FileNotFoundError that says what makes it."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not found; `dvc repro` makes it")
    return pd.read_csv(path, dtype=dict.fromkeys(_TEXT, str), keep_default_na=False, na_values=[""])


def _read_judged(folder: Path) -> Judged:
    iou = read_csv(folder / "iou.csv")
    confusion = read_csv(folder / "confusion.csv")["pixels"].to_numpy().reshape(len(iou), len(iou))
    return Judged(iou, confusion, read_csv(folder / "per_image.csv"))


def _read_model(round_: str, member: str, fold: FoldName, metrics: Path, plots: Path) -> ModelRun:
    key = f"{member}-{fold}"
    miou = read_json(metrics / round_ / f"{key}.json").get("miou", float("nan"))  # {} for the fold `all`
    return ModelRun(round_, member, fold, miou, read_csv(plots / round_ / key / "history.csv"))


def _read_pseudo(fold: FoldName, pseudo: Path, metrics: Path, plots: Path) -> PseudoRun:
    folder = plots / "pseudo_label" / str(fold)
    quality, calibration, images = (read_csv(folder / f"{name}.csv") for name in ("quality", "calibration", "images"))
    values = read_csv(folder / "summary.csv")
    return PseudoRun(
        fold,
        read_json(metrics / "pseudo_label" / f"{fold}.json")["kept"],
        quality,
        calibration,
        images.fillna({"left_out": ""}),
        dict(zip(values["name"], values["value"], strict=True)),
        PseudoLabels(pseudo / str(fold)),
    )
