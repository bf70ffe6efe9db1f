"""What `segpipe claims` says: which runs there are, which are missing, which another code made."""

from pathlib import Path

from segpipe.claims.evidence import MIN_SEEDS, TOO_FEW_SEEDS
from segpipe.claims.plan import Plan
from segpipe.claims.results import read_result
from segpipe.claims.wiring import code_digests
from segpipe.stage import read_json


def claims_status(plan: Plan) -> str:
    """One line a claim: runs made of those it needs, and the verdict that was drawn last; then what to do."""
    folder = plan.folder
    found = {key: read_result(path) for key in plan.runs if (path := Path(folder.result(key))).is_file()}
    made = {key: result for key, result in found.items() if result.params == plan.fingerprint(plan.runs[key])}
    drawn = read_json(folder.verdicts)["claims"] if folder.verdicts.is_file() else []
    verdicts = {claim["name"]: claim["verdict"] for claim in drawn}
    lines = []
    for name, claim in plan.claims.items():
        keys = [run.key for run in plan.runs_of(claim)]
        left_out = [arm for arm in claim.confirm.arms if arm not in plan.runnable]
        lines.append(
            f"{name}: {sum(key in made for key in keys)} of {len(keys)} runs, {verdicts.get(name, 'no verdict')}"
            + (f"; not run: {', '.join(left_out)}" if left_out else "")
        )
    few = [name for name, claim in plan.claims.items() if claim.confirm.better and len(claim.seeds) < MIN_SEEDS]
    if few:
        lines.append(f"too few seeds: {', '.join(few)}. {TOO_FEW_SEEDS}")
    if len(made) < len(plan.runs):
        count = len(plan.runs) - len(made)
        missing = "1 run is missing" if count == 1 else f"{count} runs are missing"
        lines.append(
            f"{missing} or of other parameters: `dvc repro {folder.pipeline}` makes {'it' if count == 1 else 'them'}"
        )
    trains, labels = code_digests()
    results = made.values()
    for what, current, found_code in (
        ("made", trains, {result.code for result in results}),
        ("trained on pools labelled", labels, {result.labelling for result in results if result.labelling}),
    ):
        if others := sorted(found_code - {current}):
            lines.append(
                f"{what} by other code than this tree's ({current}): {', '.join(others)}. The verdicts hold for that "
                f"code; to repeat all runs with this one: `dvc repro --force {folder.pipeline}`"
            )
    unknown = {path.stem for path in folder.runs.glob("*.json")} - set(plan.runs)
    if unknown:
        lines.append(
            f"{folder.runs}: no claim needs {', '.join(sorted(unknown))} any more; `git rm` what is not wanted"
        )
    return "\n".join(lines)
