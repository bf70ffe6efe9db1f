"""How every candidate scored on judge images, and which of them a rule submits. Needs no torch."""

from dataclasses import asdict

import numpy as np

from segpipe.ensemble.candidates import Candidate
from segpipe.metrics.bootstrap import MIN_GROUPS, Comparison, bootstrap_miou, compare_miou, optimism_of_best
from segpipe.metrics.confusion import per_image_miou, pooled_miou
from segpipe.metrics.holm import holm

SIGNIFICANT = 0.05  # largest Holm-adjusted p-value that counts as better


def select(rule: str, candidates: list[Candidate], confusions: dict[str, np.ndarray], groups: list[str]) -> dict:
    """The content of selection.json: what is submitted and why, and how every candidate scored on judge images.

    `rule` is `best`, `tested` or a candidate's name (`choose`). Differences are paired, against the first member's
    baseline; `p_holm` is corrected for comparing them all. Without judge images (`groups` empty) the rule is a name,
    and rows have no scores. Raises ValueError for any other rule.
    """
    reference = candidates[0].name
    rows = score_rows(candidates, confusions, groups) if groups else [each.to_json() for each in candidates]
    chosen, why = choose(rule, rows) if groups else (rule, None)
    if chosen not in confusions:
        raise ValueError(f"ensemble.rule: no candidate {rule!r}; with these members there are {', '.join(confusions)}")
    selection = {
        "rule": rule,
        "chosen": chosen,
        "reference": reference,
        "judge_images": len(groups),
        "judge_groups": len(set(groups)),
        "candidates": rows,
    }
    if why is not None:
        selection["headline"] = why
    if rule == "best":
        # the winner's score is flattered by having been chosen on the images that score it
        running = [each.name for each in candidates if not each.fitted or each.name == chosen]
        selection["optimism"] = optimism_of_best([confusions[name] for name in running], groups)
    return selection


def score_rows(candidates: list[Candidate], confusions: dict[str, np.ndarray], groups: list[str]) -> list[dict]:
    """One row a candidate: what it is, judge score with interval, paired difference to the first, verdict.

    A fitted candidate's row also has its difference to the best unfitted one (`over_best`), corrected for as many such
    comparisons as there are.
    """
    reference = candidates[0].name
    rows = [_row(candidate, confusions[candidate.name], groups) for candidate in candidates]
    others = [row for row in rows if row["name"] != reference]
    for row in rows:
        row["difference"] = _difference(confusions[row["name"]], confusions[reference], groups)
    rows[0]["difference"]["verdict"] = "reference"
    _correct([row["difference"] for row in others])
    best = _best(_unfitted(rows))["name"]
    fitted = [row for row in rows if _is_fitted(row)]
    for row in fitted:
        row["over_best"] = {"name": best} | _difference(confusions[row["name"]], confusions[best], groups)
    _correct([row["over_best"] for row in fitted])
    return rows


def choose(rule: str, rows: list[dict]) -> tuple[str, str | None]:
    """The name of what `rule` submits, and why, in words; for a name that name, and None.

    `best` is the highest judge score of the unfitted candidates, the first of equals, unless a fitted one beats that
    significantly. `tested` is the first candidate, the reference, unless others beat it significantly: then the highest
    score of those.
    """
    if rule == "best":
        unfitted = _unfitted(rows)
        winners = [row for row in rows if _is_fitted(row) and is_significant(row["over_best"])]
        if winners:
            beaten = f"{_best(unfitted)['name']}, the best of {len(unfitted)} unfitted candidates on these images"
            return _best(winners)["name"], f"chosen for being significantly better than {beaten}"
        return _best(unfitted)["name"], f"chosen as best of {len(unfitted)} on these images"
    if rule == "tested":
        winners = [row for row in rows[1:] if is_significant(row["difference"])]
        reference, others = rows[0]["name"], len(rows) - 1
        if winners:
            which = f"{len(winners)} of {others} are" if len(winners) > 1 else f"it alone of {others} is"
            return _best(winners)["name"], f"chosen over {reference}: {which} significantly better"
        return reference, f"kept: none of {others} other candidates is significantly better"
    return rule, None


def is_significant(difference: dict) -> bool:
    """Whether a difference of `score_rows` is above 0 for certain enough, the correction for several included."""
    enough = difference["num_groups"] >= MIN_GROUPS
    return enough and difference["difference"] > 0 and difference["p_holm"] <= SIGNIFICANT


def _row(candidate: Candidate, own: np.ndarray, groups: list[str]) -> dict:
    interval = bootstrap_miou(own, groups)
    return candidate.to_json() | {
        "miou": pooled_miou(own),
        "low": interval.low,
        "high": interval.high,
        "per_image_miou": per_image_miou(own),
    }


def _difference(own: np.ndarray, other: np.ndarray, groups: list[str]) -> dict:
    compared: Comparison = compare_miou(own, other, groups)
    # such as a retraining that kept its baseline
    verdict = "identical" if np.array_equal(own, other) else compared.verdict
    return asdict(compared) | {"p_holm": compared.p_value, "verdict": verdict}


def _correct(differences: list[dict]) -> None:
    for difference, value in zip(differences, holm([each["p_value"] for each in differences]), strict=True):
        difference["p_holm"] = value


def _best(rows: list[dict]) -> dict:
    return max(rows, key=lambda row: row["miou"])


def _is_fitted(row: dict) -> bool:
    return "weights" in row or "cleaning" in row


def _unfitted(rows: list[dict]) -> list[dict]:
    return [row for row in rows if not _is_fitted(row)]
