"""docs/claims.md, and the page of any other folder: verdicts for people. Text of claims.yaml is shown as text."""

import html
import json
import re
from pathlib import Path
from typing import Any

from segpipe.claims.evidence import MIN_SEEDS, TOO_FEW_SEEDS, UNDECIDED
from segpipe.claims.folder import ClaimsFolder
from segpipe.claims.verdicts import NOT_RUN

_TOP = """\
# Claims and verdicts{of}

Written by the stage `verdicts` of `{pipeline}` from the results in `{runs}/`. What is claimed, and how it was
put to the test, stands in `{claims}`. [How to test a claim of your own](testing-a-claim.md).

- Every run of a claim makes the same number of updates and is scored once, with its last weights, on judge images that
  decide nothing else. For the same seed it sees the same images in the same order, unless its arm changes
  `train.sampling`, has a second round, or another data set. Scores are pooled mIoU.
- A difference is the mean over seeds, paired by seed and image; its 95 % interval covers another draw of the images
  *and* of the seeds. *Supported* and *refuted* mean that it lies on one side of what was claimed.
- *Could have shown* is how far from what was claimed the truth must lie to be found with a probability of 80 %.
- `code` is a digest of the code that trained and scored: `git log -- {runs}` leads to the commits.
"""

_ARMS = """\
| arm | overrides of `{base}` | mean mIoU | each seed | standard deviation over seeds |
|---|---|---|---|---|"""


def claims_page(verdicts: dict[str, Any], folder: ClaimsFolder) -> str:
    """The whole page, from the content of the folder's verdicts.json."""
    claims = verdicts["claims"]
    rows = [
        f"| [{_text(claim['text'])}](#{claim['name']}) | {_text(claim['source'])} | **{_said(claim)}** |"
        for claim in claims
    ]
    table = ["| claim | from | verdict |", "|---|---|---|", *rows]
    of = "" if folder.is_first else f": {_text(folder.path.name)}"
    top = _TOP.format(of=of, pipeline=folder.pipeline, runs=folder.runs, claims=folder.claims)
    return "\n".join([top, *table, "", *(_section(claim, folder.base) for claim in claims)])


def _text(text: str) -> str:
    """Text of the user's as Markdown that shows it: no markup, no HTML, no cell that ends early."""
    return re.sub(r"([\\`*_\[\]|~])", r"\\\1", html.escape(" ".join(text.split()), quote=False))


def _said(claim: dict[str, Any]) -> str:
    """The verdict in words, with what it would take to decide an open one."""
    if claim["verdict"] == NOT_RUN:
        arms: dict[str, list[str]] = {}  # by reason: several arms often lack the same
        for arm in claim["arms"]:
            if not arm["scores"]:
                arms.setdefault(_text(arm["overrides"]["not_run"]), []).append(f"`{arm['name']}`")
        return f"{NOT_RUN} ({'; '.join(', '.join(names) + ': ' + reason for reason, names in arms.items())})"
    if claim["verdict"] != UNDECIDED:
        return claim["verdict"]
    if claim["mixed"]:
        return f"{UNDECIDED} (its runs were made by different code or libraries: repeat them)"
    if any(part.get("too_few_groups") for part in claim["evidence"]):
        return f"{UNDECIDED} (too few scenes among the judge images)"
    open_ones = [part for part in claim["evidence"] if part["verdict"] == UNDECIDED]
    if all(part["seeds_needed"] for part in open_ones):
        return f"{UNDECIDED} (needs about {max(part['seeds_needed'] for part in open_ones)} seeds)"
    if "spread" in open_ones[0]:
        return f"{UNDECIDED} (too close to what was claimed for any number of seeds)"
    return f"{UNDECIDED} (no number of seeds would do on these images)"


def _section(claim: dict[str, Any], base: Path) -> str:
    said = _said(claim)
    few_seeds = len(claim["seeds"]) < MIN_SEEDS and any("better" in part for part in claim["evidence"])
    parts = [
        f'<a id="{claim["name"]}"></a>',
        f"## {_text(claim['text'])}",
        f"**{said[0].upper()}{said[1:]}.**" + (f" {TOO_FEW_SEEDS}" if few_seeds else ""),
        "\n".join(_comparison(part) if "better" in part else _spread(part) for part in claim["evidence"]),
        "\n".join([_ARMS.format(base=base), *(_arm_row(arm) for arm in claim["arms"])]),
        _terms(claim) if claim["updates"] else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _terms(claim: dict[str, Any]) -> str:
    """On what the arms were equal, and what gave the figures."""
    return (
        f"Data set `{claim['dataset']}`; {' or '.join(map(str, claim['updates']))} updates for each run "
        f"({claim['epochs']} {'epoch' if claim['epochs'] == 1 else 'epochs'}); seeds "
        f"{', '.join(map(str, claim['seeds']))}; {claim['images']} judge images in {claim['groups']} groups. Code "
        f"`{'`, `'.join(claim['code'])}`{_labelling(claim)}, with {'; or '.join(claim['libraries'])}."
    )


def _labelling(claim: dict[str, Any]) -> str:
    return f", pool labelled by `{'`, `'.join(claim['labelling'])}`" if "labelling" in claim else ""


def _arm_row(arm: dict[str, Any]) -> str:
    changed = {name: values for name, values in arm["overrides"].items() if name != "not_run"}
    overrides = _text(json.dumps(changed, ensure_ascii=False)) if changed else "none"
    if not arm["scores"]:
        return f"| {arm['name']} | {overrides}; not run | – | – | – |"
    each = ", ".join(f"{score:.3f}" for score in arm["scores"])
    return f"| {arm['name']} | {overrides} | {arm['mean']:.4f} | {each} | {arm['spread']:.4f} |"


def _comparison(part: dict[str, Any]) -> str:
    margin = f" (claimed: above {part['by']:+.3f})" if part["by"] else ""
    beyond = f" above or below {part['by']:+.3f}" if part["by"] else ""
    return (
        f"- `{part['better']}` minus `{part['than']}`: {part['value']:+.4f}, 95 % interval {part['low']:+.4f} to "
        f"{part['high']:+.4f}{margin}: {part['verdict']}. Standard error over seeds {part['over_seeds']:.4f}, over "
        f"images {part['over_images']:.4f}; could have shown {part['smallest']:.4f}{beyond}."
    )


def _spread(part: dict[str, Any]) -> str:
    return (
        f"- Standard deviation over seeds of `{part['spread']}`: {part['value']:.4f}, 95 % interval {part['low']:.4f} "
        f"to {part['high']:.4f} (claimed: below {part['below']:.4f}): {part['verdict']}. The seeds lie up to "
        f"{part['largest_gap']:.4f} apart. This interval is over seeds only, on these images."
    )
