"""What `segpipe check-submission` found, as text and as JSON."""

import math

import numpy as np

from segpipe.data.source.problems import shown_id
from segpipe.submission.check import Checked, Difference

LINES_SHOWN = 50


def to_text(checked: Checked) -> str:
    """Problems first, then the shares of classes, then how far it lies from the previous file."""
    lines = [f"{shown_id(str(checked.path))}: {checked.format_}, {checked.images} test images"]
    lines += _listed("problem", checked.problems) or ["no problems"]
    lines += [f"warning: {warning}" for warning in checked.warnings]
    if checked.pixels.any():
        lines += ["", *_table(checked)]
    if checked.difference is not None:
        lines += ["", *_difference_lines(checked.difference)]
    return "\n".join(lines)


def to_json(checked: Checked) -> dict:
    """The same as a plain dict that `json.dumps` accepts."""
    shares, changed = checked.shares(), _changed(checked)
    classes = [
        {
            "name": name,
            "training_share": _number(checked.training[i]),
            "share": float(shares[i]),
            "changed_share": None if changed is None else _number(changed[i]),
        }
        for i, name in enumerate(checked.labels)
    ]
    difference = checked.difference
    return {
        "file": str(checked.path),
        "format": checked.format_,
        "images": checked.images,
        "problems": checked.problems,
        "warnings": checked.warnings,
        "classes": classes,
        "previous": None
        if difference is None
        else {
            "file": str(difference.path),
            "images": difference.images,
            "differing_share": difference.differing / max(difference.pixels, 1),
            "most_changed": [{"image": name, "share": share} for share, name in _most_changed(difference)],
            "problems": difference.problems,
        },
    }


def _table(checked: Checked) -> list[str]:
    changed, shares = _changed(checked), checked.shares()
    width = max(map(len, [*checked.labels, "class"]))
    header = f"{'class':{width}}  in training  in the file" + ("" if changed is None else "  changed")
    rows = [
        f"{name:{width}}  {_percent(checked.training[i]):>11}  {_percent(shares[i]):>11}"
        + ("" if changed is None else f"  {_percent(changed[i]):>7}")
        for i, name in enumerate(checked.labels)
    ]
    return [header, *rows]


def _changed(checked: Checked) -> np.ndarray | None:
    """By label of the file, or None where the other file has other labels or there is none."""
    difference = checked.difference
    alike = difference is not None and len(difference.counts) == len(checked.labels)
    return difference.changed_shares() if alike and difference is not None else None


def _difference_lines(difference: Difference) -> list[str]:
    share = difference.differing / max(difference.pixels, 1)
    over = f"over {difference.images} images that both have"
    lines = [f"{shown_id(str(difference.path))}: {_percent(share)} of the pixels differ, {over}"]
    lines += [f"  {_percent(part)} of {shown_id(name)}" for part, name in _most_changed(difference)]
    return lines + _listed("problem", difference.problems)


def _most_changed(difference: Difference) -> list[tuple[float, str]]:
    return sorted(difference.most_changed, key=lambda entry: (-entry[0], entry[1]))


def _listed(what: str, lines: list[str]) -> list[str]:
    if not lines:
        return []
    more = [f"  and {len(lines) - LINES_SHOWN} more"] if len(lines) > LINES_SHOWN else []
    head = f"{len(lines)} {what}{'' if len(lines) == 1 else 's'}:"
    return [head, *(f"  {line}" for line in lines[:LINES_SHOWN]), *more]


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.2f} %"


def _number(share: float) -> float | None:
    return None if math.isnan(share) else float(share)
