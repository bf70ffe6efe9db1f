"""claims/dvc.yaml: one stage instance for each run, written whole from claims.yaml.

The runs list no code among their dependencies, unlike every stage of the main pipeline: each takes minutes, and a
refactoring must not ask for hours of training. A result carries a digest of the code that gave it instead; verdicts
name it, and `segpipe claims` says which results another code gave.
"""

from pathlib import Path
from typing import Any

import yaml

from segpipe.claims.load import FOLDER
from segpipe.claims.plan import Plan, RunSpec
from segpipe.sources import code_deps, code_digest

PIPELINE = FOLDER / "dvc.yaml"
DRAWN = "data/claims/raw/sample"  # what base.yaml names as data.root: the embedded sample, drawn for claims
PAGE, VERDICTS = "docs/claims.md", "claims/verdicts.json"
RUN_CODE = Path("src/segpipe/training/member.py")  # with all that it imports, the code whose digest results carry
# what labels the pool between two rounds
LABELLING_CODE = Path("src/segpipe/inference/teach.py"), Path("src/segpipe/pseudo/labels.py")
_HEADER = """\
# The claims' own pipeline, written by `segpipe claims` from claims.yaml: change that, not this.
# `dvc repro claims/dvc.yaml` makes what is missing. Why the runs name no code: src/segpipe/claims/wiring.py
"""
_TRAINING = ["model", "loss", "optimizer", "scheduler", "augment", "train", "submission.size"]
_SECOND_ROUND = ["teach", "pseudo_label", "retrain"]


def code_digests() -> tuple[str, str]:
    """Of this tree's code: of what trains, and of what labels the pool where a run asks for it."""
    labelling = {file for script in LABELLING_CODE for file in code_deps(script)}
    return code_digest(code_deps(RUN_CODE)), code_digest(labelling)


def result_file(key: str) -> str:
    """Where the result of a run lies, relative to the project's top folder."""
    return f"claims/runs/{key}.json"


def expected_pipeline(plan: Plan) -> dict[str, Any]:
    """The content of claims/dvc.yaml; every stage works in the project's top folder."""
    stages: dict[str, Any] = {}
    roots = {name: plan.dataset_params(name).data.root for name in plan.used_datasets}
    if DRAWN in roots.values():
        stages["sample"] = _stage(
            "Draw the embedded data set for claims, its judge images included",
            "sample.py",
            f"--params claims/base.yaml --out {DRAWN} --judge-out {DRAWN}",
            params=[{"claims/base.yaml": ["sample"]}],
            outs=[DRAWN],
        )
    for name, root in roots.items():
        stages[f"data-{name}"] = _stage(
            f"Check, rasterise and pack the data set {name}",
            "claim_data.py",
            f"--dataset {name} --out data/claims/{name}",
            data=[root],
            params=[{"claims/base.yaml": ["data", "split"]}, {"claims/claims.yaml": [f"datasets.{name}"]}],
            outs=[f"data/claims/{name}"],
        )
    for retrained, name in ((False, "run"), (True, "run_twice")):
        chosen = {key: run for key, run in plan.runs.items() if plan.is_retrained(run) == retrained}
        if chosen:
            stages[name] = _runs(chosen, retrained=retrained)
    results = [result_file(key) for key in plan.runs]
    stages["verdicts"] = _stage(
        "Say what the runs have shown",
        "claim_verdicts.py",
        f"--runs claims/runs --out {VERDICTS} --page {PAGE}",
        data=["claims/claims.yaml", "claims/base.yaml", *results],
        outs=[{VERDICTS: {"cache": False}}, {PAGE: {"cache": False}}],
    )
    return {"stages": stages}


def _runs(runs: dict[str, RunSpec], *, retrained: bool) -> dict[str, Any]:
    """The training runs of one kind: of one round, or with a second one that depends on more parameters."""
    asked, sections = ("Train one arm with one seed", _TRAINING)
    if retrained:
        asked, sections = f"{asked}, label the pool, train on it", [*_TRAINING, *_SECOND_ROUND]
    run = _stage(
        f"{asked}, and score its last weights on judge images",
        "claim_run.py",
        "--run ${key} --prepared data/claims/${item.dataset} --out " + result_file("${key}"),
        data=["data/claims/${item.dataset}"],
        params=[
            {"claims/base.yaml": sections},
            {"claims/claims.yaml": ["arms.${item.arm}", "datasets.${item.dataset}"]},
        ],
        outs=[{result_file("${key}"): {"cache": False}}],
        code=False,
    )
    return {"foreach": {key: {"dataset": run.dataset, "arm": run.arm} for key, run in runs.items()}, "do": run}


def _stage(
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
    stage = {"desc": desc, "wdir": "..", "cmd": f"PYTHONPATH=src python stages/{script} {arguments}", "deps": deps}
    return stage | ({"params": params} if params else {}) | {"outs": outs}


def wire_claims(plan: Plan, path: Path = PIPELINE) -> bool:
    """Write claims/dvc.yaml where it differs from what `plan` asks for; return whether it did."""
    text = _HEADER + yaml.safe_dump(expected_pipeline(plan), sort_keys=False, width=4096, allow_unicode=True)
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return False
    path.write_text(text, encoding="utf-8")
    return True


def check_claims_wired(plan: Plan, path: Path = PIPELINE) -> None:
    """Raise ValueError unless claims/dvc.yaml lists just the runs that claims.yaml asks for."""
    stages = yaml.safe_load(path.read_text(encoding="utf-8"))["stages"]
    found = {key for name in ("run", "run_twice") if name in stages for key in stages[name]["foreach"]}
    wanted = set(plan.runs)
    if found != wanted:
        raise ValueError(
            f"{path}: does not fit claims.yaml (missing: {sorted(wanted - found)}; no longer wanted: "
            f"{sorted(found - wanted)}): run `segpipe claims`, then `dvc repro {path}`"
        )
