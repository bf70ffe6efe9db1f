"""What dvc.yaml must list and cannot compute: every module a stage imports, every model an aggregating stage reads.

DVC has no "all of a matrix" as a dependency, so those lists follow from params.yaml and the imports. `segpipe wire`
writes them; a test holds them equal; aggregating stages refuse to run when they are not.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from ruamel.yaml import YAML

from segpipe.data.split import scored_folds
from segpipe.params import FoldName, Params
from segpipe.sources import code_deps

PIPELINE = Path("dvc.yaml")
ROUNDS = ("baseline", "retrain")
CODE = ("stages/", "src/")


def member_deps(params: Params) -> dict[str, list[str]]:
    """For each aggregating stage the outputs of other stages that it reads, one for each member, round and fold."""
    members, folds = params.member_names, params.split.train_folds
    models = [f"{member}-{fold}" for member in members for fold in folds]
    predictions = [f"data/predictions/{round_}-{model}" for round_ in ROUNDS for model in models]
    sample = [f"${{data.root}}/{params.submission.sample}"] if params.submission.sample else []
    report = ["data/submission", *predictions]
    report += [f"metrics/{round_}/{model}.json" for round_ in ROUNDS for model in models]
    report += [f"plots/{round_}/{model}" for round_ in ROUNDS for model in models]
    for fold in folds:
        report += [f"data/pseudo/{fold}", f"metrics/pseudo_label/{fold}.json", f"plots/pseudo_label/{fold}"]
    report += ["metrics/ensemble.json", "plots/ensemble"]
    return {
        "teach": ["data/prepared", *(f"data/models/baseline/{member}-${{item.fold}}" for member in params.teachers)],
        "ensemble": ["data/prepared", *predictions, *sample],
        "report": ["data/prepared", *report],
    }


def weights_deps(params: Params) -> dict[str, list[str]]:
    """For the stages that train, the files and folders of encoder weights that members name."""
    paths = (params.member(name).model.weights_path for name in params.member_names)
    files = sorted({path.as_posix() for path in paths if path is not None})
    return dict.fromkeys(ROUNDS, files)


def plots(params: Params) -> list[dict[str, Any]]:
    """The top-level `plots:` of dvc.yaml, which knows no matrix; what only scored folds have is not asked of `all`."""

    def histories(folds: Sequence[FoldName]) -> list[str]:
        members = params.member_names
        return [f"plots/{round_}/{m}-{fold}/history.csv" for round_ in ROUNDS for m in members for fold in folds]

    scored = scored_folds(params.split.train_folds)
    tables = [  # title, template, file, column of x, column of y
        ("mIoU of every candidate on judge images", "seg_intervals", "candidates.csv", "miou", "name"),
        ("IoU per class of the submission on judge images", "seg_iou_bars", "iou.csv", "iou", "class"),
        ("What is taken for what on judge images, in %", "seg_confusion", "confusion.csv", "predicted", "actual"),
    ]
    curves = [
        ("mIoU on tune images", "tune_miou", scored),
        ("Training loss", "train_loss", params.split.train_folds),
        ("Learning rate", "lr", params.split.train_folds),
    ]
    drawn = {
        title: {"template": template, "x": x, "y": {f"plots/ensemble/{table}": y}}
        for title, template, table, x, y in tables
        if scored
    }
    if scored:  # of tune images, which `all` has not
        tables_of = [f"plots/pseudo_label/{fold}/calibration.csv" for fold in scored]
        drawn["Pseudo labels: right pixels of tune images by confidence"] = {
            "template": "seg_calibration",
            "x": "confidence",
            "y": dict.fromkeys(tables_of, "precision"),
        }
    drawn |= {
        title: {"template": "seg_curves", "x": "epoch", "y": dict.fromkeys(histories(folds), column)}
        for title, column, folds in curves
        if folds
    }
    return [{title: definition} for title, definition in drawn.items()]


def wire(params: Params, path: Path = PIPELINE) -> list[str]:
    """Rewrite the lists in dvc.yaml, keeping its comments; return the names of what changed (stages, "plots")."""
    round_trip = YAML()
    round_trip.width, round_trip.preserve_quotes = 4096, True
    pipeline = round_trip.load(path.read_text(encoding="utf-8"))
    changed = _rewrite(pipeline, params, path.parent)
    if changed:
        with path.open("w", encoding="utf-8") as file:
            round_trip.dump(pipeline, file)
    return changed


def wiring_problems(params: Params, path: Path = PIPELINE) -> list[str]:
    """What `segpipe wire` would rewrite in dvc.yaml, as a line that says so; none where it fits."""
    if not path.is_file():
        return [f"{path}: not found; run the command in the project's top folder"]
    changed = _rewrite(yaml.safe_load(path.read_text(encoding="utf-8")), params, path.parent)
    lists = f"the lists of {', '.join(changed)} do not fit params.yaml and the code"
    return [f"{path}: {lists}: run `segpipe wire`"] if changed else []


def left_behind(params: Params, root: Path = Path()) -> list[str]:
    """Models, `<member>-<fold>`, and folds that params.yaml no longer names and whose metrics or plots are still there.

    These belong to git, and DVC removes no output of a stage that is gone.
    """
    folds = [str(fold) for fold in params.split.train_folds]
    models = [f"{member}-{fold}" for member in params.member_names for fold in folds]
    wanted = dict.fromkeys(ROUNDS, models) | {"pseudo_label": folds}
    there = {
        path.stem
        for stage, names in wanted.items()
        for path in (*(root / "metrics" / stage).glob("*.json"), *(root / "plots" / stage).glob("*/"))
        if path.stem not in names
    }
    return sorted(there)


def _rewrite(pipeline: dict, params: Params, root: Path) -> list[str]:
    """Put the expected lists into the parsed dvc.yaml; return the names of what changed."""
    changed = []
    for stage, deps in expected_deps(params, pipeline, root).items():
        if pipeline["stages"][stage]["deps"] != deps:
            pipeline["stages"][stage]["deps"] = deps
            changed.append(stage)
    if pipeline.get("plots") != plots(params):
        pipeline["plots"] = plots(params)
        changed.append("plots")
    return changed


def expected_deps(params: Params, pipeline: dict, root: Path = Path()) -> dict[str, list[str]]:
    """For each stage of the parsed dvc.yaml the deps it should list: code, then data, then encoder weights.

    The data of a stage that is no aggregator are kept as they are written; of one that trains, outputs of stages are.
    """
    outs = {out for stage in pipeline["stages"].values() for out in stage["outs"]}
    aggregated, weights, expected = member_deps(params), weights_deps(params), {}
    for name, stage in pipeline["stages"].items():
        script = next(word for word in stage["cmd"].split() if word.startswith("stages/"))
        code = [Path(dep).relative_to(root).as_posix() for dep in code_deps(root / script, root / "src")]
        data = aggregated.get(name) or [dep for dep in stage["deps"] if not dep.startswith(CODE)]
        if name in weights:  # what else stands there is an older file of weights
            data = [*(dep for dep in data if dep in outs), *weights[name]]
        expected[name] = [*code, *data]
    return expected


def check_wired(params: Params, path: Path = PIPELINE) -> None:
    """Raise ValueError unless the aggregating stages of dvc.yaml list just what params.yaml asks for."""
    pipeline = yaml.safe_load(path.read_text(encoding="utf-8"))
    for stage, deps in member_deps(params).items():
        found = [dep for dep in pipeline["stages"][stage]["deps"] if not dep.startswith(CODE)]
        if found != deps:
            missing, extra = sorted(set(deps) - set(found)), sorted(set(found) - set(deps))
            raise ValueError(
                f"dvc.yaml: stage {stage} does not fit member_names, teach.members, split.train_folds and "
                f"submission.sample of params.yaml (missing: {missing}; no longer wanted: {extra}): "
                "run `segpipe wire`, then `dvc repro`"
            )
