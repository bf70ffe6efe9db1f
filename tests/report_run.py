"""A run as the report reads it, drawn at random with hostile names; shared by the tests of the report."""

from pathlib import Path

import numpy as np
import pandas as pd
from ruamel.yaml import YAML

from segpipe.data.fold_table import FoldRow, write_fold_rows
from segpipe.data.lineage import Lineage
from segpipe.data.near_copies import write_near_copies
from segpipe.data.prepare.census import Census
from segpipe.data.prepare.check import data_check
from segpipe.data.prepare.image_census import image_census
from segpipe.data.prepare.warn import warn_of_image
from segpipe.data.prepared import ImageEntry, Prepared
from segpipe.data.source.lists import Source
from segpipe.data.source.problems import Findings, Problem
from segpipe.data.source.records import Annotation, ImageRecord
from segpipe.data.store import PackedWriter
from segpipe.ensemble.average import Ensemble, load_predictions
from segpipe.ensemble.decide import decide
from segpipe.inference.probs import PredictionWriter
from segpipe.labels import IGNORE_INDEX, ClassTable, distinct_colors
from segpipe.metrics.confusion import mean_iou
from segpipe.params import Params, check_params
from segpipe.pseudo.labels import make_pseudo_labels
from segpipe.report.page import write_report
from segpipe.stage import write_json
from segpipe.tables import write_confusion, write_iou

HOSTILE = "<script>alert(1)</script>"
NAMES = ("Background", "NA", HOSTILE, "Never seen")
CLASSES = ClassTable(NAMES, ((), *((name,) for name in NAMES[1:])), distinct_colors(4, background=True))
SIDE = 24  # pixels
LIBRARIES = {"python": "3.11.0", "torch": "2.11.0", "madgrad": None}
FOLDERS = {
    "prepared_folder": "prepared",
    "predictions_folder": "predictions",
    "pseudo_folder": "pseudo",
    "submission_folder": "submission",
    "metrics_folder": "metrics",
    "plots_folder": "plots",
}


def fake_params(folds: int) -> Params:
    raw = YAML(typ="safe").load(Path("params.yaml").read_text(encoding="utf-8"))
    raw["member_names"], raw["members"] = ["main", "second"], {"main": {}, "second": {"seed": 7}}
    raw["data"] |= {"val": None, "root": f"data/raw/{HOSTILE}"}
    raw["split"] |= {"folds": 2, "train_folds": list(range(folds))}
    raw["ensemble"]["rule"], raw["submission"]["size"] = "best", [SIDE, SIDE]
    return check_params(raw)


def write_run(
    folder: Path, params: Params, *, confidence: float = 0.6, seed: int = 0, near_copies: dict[int, str] | None = None
) -> None:
    """All that the report reads, drawn at random, through the writers of the stages before it."""
    rng = np.random.default_rng(seed)
    write_prepared(folder / "prepared", rng, near_copies or {})
    for fold in params.split.train_folds:
        for member in params.member_names:
            for round_ in ("baseline", "retrain"):
                write_model(folder, (round_, member, fold), rng)
        write_pseudo(folder, params, fold, confidence, rng)
    write_ensemble(folder, params)


def write_prepared(folder: Path, rng: np.random.Generator, near_copies: dict[int, str]) -> None:
    judge = {image: (0, "judge") for image in range(10)} | {image: (1, "judge") for image in range(10, 16)}
    held_out = judge | {16: (0, "tune"), 17: (0, "tune"), 18: (1, "tune"), 19: (1, "tune")}
    sets = {"labeled": list(range(20)), "judge": [], "test": [20, 21, 22], "unlabeled": [23, 24, 25, 26]}
    with (
        PackedWriter(folder / "images") as images,
        PackedWriter(folder / "targets") as targets,
        PackedWriter(folder / "native_targets", codec="runs") as native_targets,
    ):
        for index in range(27):
            images.add(rng.integers(256, size=(SIDE // 2, SIDE // 2, 3)).astype(np.uint8))
            if index < 20:
                target = rng.integers(3, size=(SIDE, SIDE)).astype(np.uint8)
                target[:2] = IGNORE_INDEX
                native_targets.add(target)
                targets.add(target[::2, ::2])
    entries = [ImageEntry(f"a&b/{i:02}.jpg", i, SIDE, SIDE, f"scene {i}", f"hash{i}").to_json() for i in range(27)]
    write_json(
        folder / "table.json", {"image_size": [SIDE // 2] * 2, "resize": "stretch", "sets": sets, "images": entries}
    )
    write_json(folder / "classes.json", CLASSES.to_json())
    rows = [FoldRow(f"a&b/{i:02}.jpg", f"scene {i}", *held_out[i]) for i in range(20)]
    write_fold_rows(folder / "folds.csv", rows)
    write_near_copies(folder / "near_copies.csv", [entry["file_name"] for entry in entries], near_copies)
    write_json(folder / "data_check.json", write_check(folder, sets))


def write_check(folder: Path, sets: dict[str, list[int]]) -> dict:
    """As prepare finds it, of images with one box of each of two classes, and with a hostile problem left out."""
    prepared, census, findings = Prepared(folder, judge=True), Census(CLASSES), Findings()
    for index, entry in enumerate(prepared.entries):
        name = "train" if index < 20 else "test" if index < 23 else "unlabeled"
        boxes = [[x, x, x + 9, x, x + 9, x + 12, x, x + 12] for x in (1, 30)]  # the second beyond the image
        annotations = [Annotation(9 * index + i, index, 1 + i, [box]) for i, box in enumerate(boxes)]
        record = ImageRecord(entry.image_id, entry.file_name, entry.height, entry.width)
        source = Source(name, Path(f"{HOSTILE}.json"), record, tuple(annotations))
        target = prepared.native_target(index) if name == "train" else None
        image = image_census(source, target, {1: 1, 2: 2, 3: 3}, prepared.image_size)
        census.add(image)
        warn_of_image(findings.warnings, image)
    findings.broken.append(Problem(HOSTILE, "image 3", "nothing", "something"))
    return data_check(census, sets, findings)


def write_model(folder: Path, key: tuple[str, str, int], rng: np.random.Generator) -> None:
    round_, member, fold = key
    prepared = Prepared(folder / "prepared", judge=True)
    name = f"{round_}-{member}-{fold}"
    with PredictionWriter(folder / "predictions" / name, name, list(NAMES), (SIDE, SIDE)) as writer:
        for index in [*prepared.folds[fold].judge, *prepared.folds[fold].tune, *prepared.sets["test"]]:
            probs = rng.dirichlet([1, 1, 1], size=(SIDE // 2, SIDE // 2)).astype(np.float32)
            writer.add(index, np.concatenate([probs, 0 * probs[..., :1]], axis=-1), (SIDE, SIDE))
        writer.finish(Lineage(frozenset(), frozenset()), LIBRARIES)
    write_json(folder / "metrics" / round_ / f"{member}-{fold}.json", {"miou": 0.25})
    rows = [{"epoch": i, "lr": 0.1 / i, "train_loss": 1 / i, "tune_miou": 0.2 + (i == 3) / 20} for i in range(1, 6)]
    if member == "main":  # its loss has two terms
        shares = [
            {"loss_ce": 2 / i, "loss_dice": 0.9, "gradient_ce": 1 - i / 10, "gradient_dice": i / 10}
            for i in range(1, 6)
        ]
        rows = [row | share for row, share in zip(rows, shares, strict=True)]
    if name == "retrain-second-0":  # as member.py writes it when no pseudo label was kept
        rows = [{"epoch": 0, "lr": 0.0, "train_loss": float("nan"), "tune_miou": 0.25}]
    plots = folder / "plots" / round_ / f"{member}-{fold}"
    plots.mkdir(parents=True)
    pd.DataFrame(rows).to_csv(plots / "history.csv", index=False)


def write_pseudo(folder: Path, params: Params, fold: int, confidence: float, rng: np.random.Generator) -> None:
    prepared, taught = Prepared(folder / "prepared", fold=fold), folder / "taught" / str(fold)
    indices = [*prepared.pool(), *prepared.folds[fold].tune]
    with PackedWriter(taught / "classes") as classes, PackedWriter(taught / "confidence") as confidences:
        for _ in indices:
            classes.add(rng.integers(3, size=(SIDE // 2, SIDE // 2)).astype(np.uint8))
            confidences.add(rng.integers(256, size=(SIDE // 2, SIDE // 2)).astype(np.uint8))
    card = {"teachers": ["t"], "pool": list(prepared.pool()), "tune": list(prepared.folds[fold].tune)}
    write_json(taught / "card.json", card | {"lineage": {"learned_from": [], "tuned_on": []}})
    names = [prepared.entries[index].file_name for index in indices]
    signs = ("member_agreement", "checkpoint_agreement", "mean_confidence")
    table = {"index": indices, "file_name": names} | {sign: rng.random(len(indices)) for sign in signs}
    pd.DataFrame(table).to_csv(taught / "images.csv", index=False)
    section = params.pseudo_label.model_copy(update={"confidence": confidence})
    made = make_pseudo_labels(prepared, fold, taught, section, folder / "pseudo" / str(fold))
    made.write(folder / "plots" / "pseudo_label" / str(fold))
    write_json(folder / "metrics" / "pseudo_label" / f"{fold}.json", {"kept": made.share_kept})


def write_ensemble(folder: Path, params: Params) -> None:
    """As stages/ensemble.py, but for the submission itself."""
    prepared, folds = Prepared(folder / "prepared", judge=True), params.split.train_folds
    ensemble = Ensemble(prepared, load_predictions(folder / "predictions", params.member_names, folds), folds)
    judged = [prepared.entries[index] for index in ensemble.judge_indices]
    decision = decide(ensemble, params)
    write_json(folder / "submission" / "selection.json", decision.selection | {"libraries": {"numpy": "2.4.6"}})
    own, groups, plots = decision.confusions[decision.chosen.name], decision.groups, folder / "plots" / "ensemble"
    write_iou(own, groups, CLASSES, plots / "iou.csv")
    write_confusion(own.sum(axis=0), NAMES, plots / "confusion.csv")
    names = [entry.file_name for entry in judged]
    per_image = {"file_name": names, "group": groups, "miou": [mean_iou(matrix) for matrix in own]}
    pd.DataFrame(per_image).to_csv(plots / "per_image.csv", index=False)


def report(folder: Path, params: Params, out: str = "out") -> str:
    write_report(params, **{key: folder / name for key, name in FOLDERS.items()}, out=folder / out)
    return (folder / out / "index.html").read_text(encoding="utf-8")
