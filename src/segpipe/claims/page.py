"""docs/claims.md: the verdicts for people."""

import json
from typing import Any

from segpipe.claims.evidence import UNDECIDED
from segpipe.claims.verdicts import NOT_RUN

_TOP = """\
# Claims and verdicts

Written by the stage `verdicts` of `claims/dvc.yaml` from the results in `claims/runs/`. What is claimed, and how it was
put to the test, stands in `claims/claims.yaml`. [How to test a claim of your own](testing-a-claim.md).

- Every run of a claim makes the same number of updates, sees the same images in the same order for the same seed, and
  is scored once, with its last weights, on judge images that decide nothing else. Scores are pooled mIoU.
- A difference is the mean over seeds, paired by seed and image; its 95 % interval covers another draw of the images
  *and* of the seeds. *Supported* and *refuted* mean that it lies on one side of what was claimed.
- *Could have shown* is the smallest true difference that this experiment finds with a probability of 80 %.
- `code` is a digest of the code that trained and scored: `git log -- claims/runs` leads to the commits.
"""

_ARMS = """\
| arm | overrides of `claims/base.yaml` | mean mIoU | each seed | standard deviation over seeds |
|---|---|---|---|---|"""


def claims_page(verdicts: dict[str, Any]) -> str:
    """The whole page, from the content of verdicts.json."""
    claims = verdicts["claims"]
    rows = [f"| [{claim['text']}](#{claim['name']}) | {claim['source']} | **{_said(claim)}** |" for claim in claims]
    table = ["| claim | from | verdict |", "|---|---|---|", *rows]
    return "\n".join([_TOP, *table, "", *(_section(claim) for claim in claims)])


def _said(claim: dict[str, Any]) -> str:
    """The verdict in words, with what it would take to decide an open one."""
    if claim["verdict"] == NOT_RUN:
        reasons = [f"{arm['name']}: {arm['overrides']['not_run']}" for arm in claim["arms"] if not arm["scores"]]
        return f"{NOT_RUN} ({'; '.join(reasons)})"
    if claim["verdict"] != UNDECIDED:
        return claim["verdict"]
    if len(claim["code"]) > 1:
        return f"{UNDECIDED} (its runs were made by different code: repeat them)"
    if any(part.get("too_few_groups") for part in claim["evidence"]):
        return f"{UNDECIDED} (too few scenes among the judge images)"
    needed = [part["seeds_needed"] for part in claim["evidence"] if part["verdict"] == UNDECIDED]
    if None in needed:
        return f"{UNDECIDED} (no number of seeds would do on these images)"
    return f"{UNDECIDED} (needs about {max(needed)} seeds)"


def _section(claim: dict[str, Any]) -> str:
    said = _said(claim)
    parts = [
        f'<a id="{claim["name"]}"></a>',
        f"## {claim['text']}",
        f"**{said[0].upper()}{said[1:]}.**",
        "\n".join(_comparison(part) if "better" in part else _spread(part) for part in claim["evidence"]),
        "\n".join([_ARMS, *(_arm_row(arm) for arm in claim["arms"])]),
        _terms(claim),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _terms(claim: dict[str, Any]) -> str:
    """On what the arms were equal, and what gave the figures."""
    updates = " or ".join(map(str, claim["updates"])) or "no"
    return (
        f"Data set `{claim['dataset']}`; {updates} updates for each run ({claim['epochs']} "
        f"{'epoch' if claim['epochs'] == 1 else 'epochs'}); seeds {', '.join(map(str, claim['seeds']))}; "
        f"{claim['images']} judge images in {claim['groups']} groups. Code `{'`, `'.join(claim['code'])}`, with "
        f"{'; or '.join(claim['libraries'])}."
    )


def _arm_row(arm: dict[str, Any]) -> str:
    if not arm["scores"]:
        return f"| {arm['name']} | not run: {arm['overrides']['not_run']} | – | – | – |"
    overrides = f"`{json.dumps(arm['overrides'], ensure_ascii=False)}`" if arm["overrides"] else "none"
    each = ", ".join(f"{score:.3f}" for score in arm["scores"])
    return f"| {arm['name']} | {overrides} | {arm['mean']:.4f} | {each} | {arm['spread']:.4f} |"


def _comparison(part: dict[str, Any]) -> str:
    margin = f" (claimed: above {part['by']:+.3f})" if part["by"] else ""
    return (
        f"- `{part['better']}` minus `{part['than']}`: {part['value']:+.4f}, 95 % interval {part['low']:+.4f} to "
        f"{part['high']:+.4f}{margin}: {part['verdict']}. Standard error over seeds {part['over_seeds']:.4f}, over "
        f"images {part['over_images']:.4f}; could have shown {part['smallest']:.4f}."
    )


def _spread(part: dict[str, Any]) -> str:
    return (
        f"- Standard deviation over seeds of `{part['spread']}`: {part['value']:.4f}, 95 % interval {part['low']:.4f} "
        f"to {part['high']:.4f} (claimed: below {part['below']:.4f}): {part['verdict']}. The seeds lie up to "
        f"{part['largest_gap']:.4f} apart."
    )
