"""From the results of all runs to verdicts.json: one entry a claim, with all that the page shows."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from segpipe.claims.evidence import UNDECIDED, compare_arms, overall, seed_spread
from segpipe.claims.plan import Claim, Plan, RunSpec
from segpipe.claims.results import Result, read_result
from segpipe.metrics.confusion import pooled_miou
from segpipe.params import stop_on

NOT_RUN = "not run"


def draw_verdicts(plan: Plan, runs: Path) -> dict[str, Any]:
    """The content of verdicts.json; raises ValueError naming every result that is missing or of other parameters."""
    results: dict[RunSpec, Result] = {}
    problems = []
    for key, run in plan.runs.items():
        path = runs / f"{key}.json"
        if not path.is_file():
            problems.append(f"{path}: missing; `dvc repro claims/dvc.yaml` makes it")
            continue
        results[run] = read_result(path)
        if results[run].params != plan.fingerprint(run):
            problems.append(f"{path}: was made with other parameters than claims.yaml has; remove it and run again")
    stop_on("claims", problems)
    return {"claims": [_verdict(name, claim, plan, results) for name, claim in plan.claims.items()]}


def _verdict(name: str, claim: Claim, plan: Plan, results: dict[RunSpec, Result]) -> dict[str, Any]:
    arms = claim.confirm.arms
    not_run = {arm: plan.arms[arm]["not_run"] for arm in arms if "not_run" in plan.arms[arm]}
    own = {
        arm: [results[RunSpec(claim.dataset, claim.epochs, arm, seed)] for seed in claim.seeds]
        for arm in arms
        if arm not in not_run
    }
    entry = claim.model_dump(mode="json", exclude={"confirm"}) | {"name": name}
    entry["arms"] = [_arm(arm, plan.arms[arm], own.get(arm, ())) for arm in arms]
    entry |= _provenance([result for made in own.values() for result in made])
    evidence = _evidence(claim, own)
    verdict = overall([part["verdict"] for part in evidence]) if evidence and not not_run else NOT_RUN
    if len(entry["code"]) > 1 and verdict != NOT_RUN:
        verdict = UNDECIDED
    return entry | {"evidence": evidence, "verdict": verdict}


def _arm(name: str, overrides: dict[str, Any], made: Iterable[Result]) -> dict[str, Any]:
    scores = [pooled_miou(result.confusions) for result in made]
    entry: dict[str, Any] = {"name": name, "overrides": overrides, "scores": scores}
    if scores:
        entry |= {"mean": float(np.mean(scores)), "spread": float(np.std(scores, ddof=1))}
    return entry


def _provenance(made: list[Result]) -> dict[str, Any]:
    """What the runs have in common, or several values where they should have one."""
    return {
        "code": sorted({result.code for result in made}),
        "libraries": sorted({", ".join(f"{n} {v}" for n, v in result.libraries.items()) for result in made}),
        "updates": sorted({result.updates for result in made}),
        "images": len(made[0].images) if made else 0,
        "groups": len(set(made[0].groups)) if made else 0,
    }


def _evidence(claim: Claim, own: dict[str, list[Result]]) -> list[dict[str, Any]]:
    """One entry for each comparison that could be made, or the spread."""
    confirm = claim.confirm
    matrices = {arm: [result.confusions for result in made] for arm, made in own.items()}
    if confirm.spread is not None:
        assert confirm.below is not None
        found = [asdict(seed_spread(matrices[arm], below=confirm.below)) for arm in own]
        return [{"spread": confirm.spread} | entry for entry in found]
    if confirm.better not in own:
        return []
    groups = own[confirm.better][0].groups
    return [
        {"better": confirm.better, "than": arm}
        | asdict(compare_arms(matrices[confirm.better], matrices[arm], groups, by=confirm.by))
        for arm in confirm.than
        if arm in own
    ]
