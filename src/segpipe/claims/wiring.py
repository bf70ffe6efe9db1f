"""dvc.yaml of a folder of claims: one stage instance for each run, written whole from claims.yaml.

The runs list no code among their dependencies, unlike every stage of the main pipeline: each takes minutes, and a
refactoring must not ask for hours of training. A result carries a digest of the code that gave it instead; verdicts
name it, and `segpipe claims` says which results another code gave.
"""

from pathlib import Path
from typing import Any

import yaml

from segpipe.claims.folder import FIRST, ClaimsFolder
from segpipe.claims.plan import Plan, RunSpec
from segpipe.params import read_yaml
from segpipe.sources import code_deps, code_digest

DRAWN = "data/claims/raw/sample"  # what base.yaml names as data.root: the embedded sample, drawn for claims
RUN_CODE = Path("src/segpipe/training/member.py")  # with all that it imports, the code whose digest results carry
# what labels the pool between two rounds
LABELLING_CODE = Path("src/segpipe/inference/teach.py"), Path("src/segpipe/pseudo/labels.py")
_HEADER = """\
# The claims' own pipeline, written by `{folder.command}` from claims.yaml: change that, not this.
# `dvc repro {folder.pipeline}` makes what is missing. Why the runs name no code: src/segpipe/claims/wiring.py
"""
_TRAINING = ["model", "loss", "optimizer", "scheduler", "augment", "train", "submission.size"]
_SECOND_ROUND = ["teach", "pseudo_label", "retrain"]


def code_digests() -> tuple[str, str]:
    """Of this tree's code: of what trains, and of what labels the pool where a run asks for it."""
    labelling = {file for script in LABELLING_CODE for file in code_deps(script)}
    return code_digest(code_deps(RUN_CODE)), code_digest(labelling)


def expected_pipeline(plan: Plan) -> dict[str, Any]:
    """The content of the plan's dvc.yaml; every stage works in the project's top folder.

    Raises ValueError where it needs the drawn sample, and that is not the one that `claims` draws.
    """
    folder, base = plan.folder, plan.folder.base.as_posix()
    stages: dict[str, Any] = {}
    roots = {name: plan.dataset_params(name).data.root for name in plan.used_datasets}
    if DRAWN in roots.values() and not folder.is_first:
        _check_sample(plan)
    elif DRAWN in roots.values():
        stages["sample"] = _stage(
            folder,
            "Draw the embedded data set for claims, its judge images included",
            "sample.py",
            f"--params {base} --out {DRAWN} --judge-out {DRAWN}",
            params=[{base: ["sample"]}],
            outs=[DRAWN],
        )
    for name, root in roots.items():
        stages[f"data-{name}"] = _stage(
            folder,
            f"Check, rasterise and pack the data set {name}",
            "claim_data.py",
            f"{folder.option}--dataset {name} --out {folder.prepared(name)}",
            data=[root],
            params=[{base: ["data", "split"]}, {folder.claims.as_posix(): [f"datasets.{name}"]}],
            outs=[folder.prepared(name)],
        )
    for retrained, name in ((False, "run"), (True, "run_twice")):
        chosen = {key: run for key, run in plan.runs.items() if plan.is_retrained(run) == retrained}
        if chosen:
            stages[name] = _runs(folder, chosen, retrained=retrained)
    results = [folder.result(key) for key in plan.runs]
    verdicts, page = folder.verdicts.as_posix(), folder.page.as_posix()
    stages["verdicts"] = _stage(
        folder,
        "Say what the runs have shown",
        "claim_verdicts.py",
        f"{folder.option}--runs {folder.runs.as_posix()} --out {verdicts} --page {page}",
        data=[folder.claims.as_posix(), base, *results],
        outs=[{verdicts: {"cache": False}}, {page: {"cache": False}}],
    )
    return {"stages": stages}


def _check_sample(plan: Plan) -> None:
    """Raise ValueError unless the stage of `claims` that draws the sample is there, and draws what the plan asks for.

    DVC knows which pipeline an output is from and refuses one that two of them declare: other folders only read it.
    """
    first = ClaimsFolder(FIRST)
    drawing = read_yaml(first.pipeline)["stages"] if first.pipeline.is_file() else {}
    if "sample" not in drawing:
        raise ValueError(
            f"{plan.folder.claims}: asks for the drawn sample, {DRAWN}, but {first.pipeline} does not draw it, as no "
            f"claim of {first.claims} needs it; state the claim there"
        )
    if plan.base["sample"] != read_yaml(first.base)["sample"]:
        raise ValueError(
            f"{plan.folder.base}: sample: differs from that of {first.base}; there is one drawn sample for all claims, "
            "so both sections must be the same"
        )


def _runs(folder: ClaimsFolder, runs: dict[str, RunSpec], *, retrained: bool) -> dict[str, Any]:
    """The training runs of one kind: of one round, or with a second one that depends on more parameters."""
    asked, sections = ("Train one arm with one seed", _TRAINING)
    if retrained:
        asked, sections = f"{asked}, label the pool, train on it", [*_TRAINING, *_SECOND_ROUND]
    prepared, result = folder.prepared("${item.dataset}"), folder.result("${key}")
    run = _stage(
        folder,
        f"{asked}, and score its last weights on judge images",
        "claim_run.py",
        f"{folder.option}--run ${{key}} --prepared {prepared} --out {result}",
        data=[prepared],
        params=[
            {folder.base.as_posix(): sections},
            {folder.claims.as_posix(): ["arms.${item.arm}", "datasets.${item.dataset}"]},
        ],
        outs=[{result: {"cache": False}}],
        code=False,
    )
    return {"foreach": {key: {"dataset": run.dataset, "arm": run.arm} for key, run in runs.items()}, "do": run}


def _stage(
    folder: ClaimsFolder,
    desc: str,
    script: str,
    arguments: str,
    *,
    outs: list,
    data: list[str] | None = None,
    params: list | None = None,
    code: bool = True,
) -> dict[str, Any]:
    deps = [*(code_deps(Path("stages") / script) if code else ()), *(data or ())]
    stage = {"desc": desc, "wdir": folder.top, "cmd": f"PYTHONPATH=src python stages/{script} {arguments}"}
    stage["deps"] = deps
    return stage | ({"params": params} if params else {}) | {"outs": outs}


def wire_claims(plan: Plan) -> bool:
    """Write the plan's dvc.yaml where it differs from what is asked for; return whether it did."""
    path = plan.folder.pipeline
    stages = yaml.safe_dump(expected_pipeline(plan), sort_keys=False, width=4096, allow_unicode=True)
    text = _HEADER.format(folder=plan.folder) + stages
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return False
    path.write_text(text, encoding="utf-8")
    return True


def check_claims_wired(plan: Plan) -> None:
    """Raise ValueError unless the plan's dvc.yaml lists just the runs that claims.yaml asks for."""
    path = plan.folder.pipeline
    stages = yaml.safe_load(path.read_text(encoding="utf-8"))["stages"]
    found = {key for name in ("run", "run_twice") if name in stages for key in stages[name]["foreach"]}
    wanted = set(plan.runs)
    if found != wanted:
        raise ValueError(
            f"{path}: does not fit claims.yaml (missing: {sorted(wanted - found)}; no longer wanted: "
            f"{sorted(found - wanted)}): run `{plan.folder.command}`, then `dvc repro {path}`"
        )
