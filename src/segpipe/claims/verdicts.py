"""From the results of all runs to verdicts.json: one entry a claim, with all that the page shows."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from segpipe.claims.evidence import REFUTED, UNDECIDED, compare_arms, overall, seed_spread
from segpipe.claims.plan import Claim, Plan, RunSpec
from segpipe.claims.results import Result, read_result
from segpipe.metrics.confusion import pooled_miou
from segpipe.params import stop_on

NOT_RUN = "not run"
DIGITS = 6  # of every figure: more would differ between machines, and mean nothing


def draw_verdicts(plan: Plan, runs: Path) -> dict[str, Any]:
    """The content of verdicts.json.

    Raises ValueError naming every result that is missing, answers other parameters, or was scored on other images.
    """
    results: dict[RunSpec, Result] = {}
    problems = []
    for key, run in plan.runs.items():
        path = runs / f"{key}.json"
        if not path.is_file():
            problems.append(f"{path}: missing; `dvc repro {plan.folder.pipeline}` makes it")
            continue
        results[run] = read_result(path)
        if results[run].params != plan.fingerprint(run):
            problems.append(f"{path}: was made with other parameters than claims.yaml has; remove it and run again")
    problems += _unlike(plan, results, runs)
    stop_on(str(plan.folder.path), problems)
    drawn = [_verdict(name, claim, plan, results) for name, claim in plan.claims.items()]
    return {"claims": _rounded(drawn)}


def _unlike(plan: Plan, results: dict[RunSpec, Result], runs: Path) -> Iterator[str]:
    """A claim's results are compared image by image, after equally many updates."""
    for name, claim in plan.claims.items():
        made = {run.key: results[run] for run in plan.runs_of(claim) if run in results}
        first = next(iter(made), "")
        for key, result in made.items():
            other = made[first]
            if (result.images, result.groups, result.classes) != (other.images, other.groups, other.classes):
                yield f"{runs / key}.json: was scored on other images or classes than {first}.json; run both again"
            if result.updates != other.updates:
                yield (
                    f"claims.{name}: {key} made {result.updates} updates and {first} {other.updates}; choose the arms' "
                    "epochs so that they make as many"
                )


def _verdict(name: str, claim: Claim, plan: Plan, results: dict[RunSpec, Result]) -> dict[str, Any]:
    arms = claim.confirm.arms
    not_run = [arm for arm in arms if arm not in plan.runnable]
    own = {arm: [results[plan.run_of(claim, arm, seed)] for seed in claim.seeds] for arm in arms if arm not in not_run}
    entry = claim.model_dump(mode="json", exclude={"confirm"}) | {"name": name}
    entry["arms"] = [_arm(arm, plan.arms[arm], own.get(arm, ())) for arm in arms]
    entry |= _provenance([result for made in own.values() for result in made])
    mixed = any(len(entry.get(kind, ())) > 1 for kind in ("code", "labelling", "libraries"))
    evidence = [] if mixed else _evidence(claim, own)
    verdict = UNDECIDED if mixed else overall([part["verdict"] for part in evidence])
    if not mixed and not_run and verdict != REFUTED:  # one comparison that was made may refute
        verdict = NOT_RUN
    return entry | {"mixed": mixed, "evidence": evidence, "verdict": verdict}


def _arm(name: str, overrides: dict[str, Any], made: Iterable[Result]) -> dict[str, Any]:
    scores = [pooled_miou(result.confusions) for result in made]
    entry: dict[str, Any] = {"name": name, "overrides": overrides, "scores": scores}
    if scores:
        entry |= {"mean": float(np.mean(scores)), "spread": float(np.std(scores, ddof=1))}
    return entry


def _provenance(made: list[Result]) -> dict[str, Any]:
    """What the runs have in common, or several values where they should have one."""
    labelling = sorted({result.labelling for result in made if result.labelling})
    return {
        "code": sorted({result.code for result in made}),
        **({"labelling": labelling} if labelling else {}),
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
    groups, first = own[confirm.better][0].groups, matrices[confirm.better]
    settings = {"by": confirm.by, "comparisons": len(confirm.than)}
    return [
        {"better": confirm.better, "than": arm} | asdict(compare_arms(first, matrices[arm], groups, **settings))
        for arm in confirm.than
        if arm in own
    ]


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, DIGITS)
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, list | tuple) else value
