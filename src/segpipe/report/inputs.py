"""The page's parts about what went in: the data, and the parameters."""

import json
import math
from collections.abc import Iterator

from segpipe.report.charts import Axis, class_name, range_row
from segpipe.report.gather import Run
from segpipe.report.markup import (
    Column,
    Markup,
    count,
    join,
    percent,
    section,
    table,
    tag,
)

LEFT_OUT_SHOWN = 50

# sections of params.yaml on which the report does not depend, so it could show stale values of them
NOT_SHOWN = ("sample", "tracking")


def data(run: Run) -> Markup:
    """What was read: images, folds, how often each class occurs, what was left out."""
    check, folds = run.data_check, run.prepared.folds
    images = table("Images.", [Column("Set"), Column("Images", "number")], check["images"].items())
    columns = [Column("Fold"), Column("Train", "number"), Column("Tune", "number"), Column("Judge", "number")]
    columns.append(Column("Used"))
    rows = [
        [i, len(fold.train), len(fold.tune), len(fold.judge), "yes" if i in run.params.split.train_folds else "no"]
        for i, fold in enumerate(folds)
    ]
    shares = list(check["class_pixel_shares"].values())
    axis = Axis(0.0, Axis.around([0.0, *shares]).high)
    nothing = math.nan
    share_rows = [
        [
            class_name(run.prepared.classes, i),
            range_row(name, share, nothing, nothing, axis, bar=True),
            percent(share, 2),
        ]
        for i, (name, share) in enumerate(check["class_pixel_shares"].items())
    ]
    share_columns = [Column("Class"), Column(axis.title, "chart"), Column("Share", "number")]
    ignored = f"{percent(check['ignored_pixel_share'])} of the pixels carry no label and count nowhere."
    lead = "What the pipeline read and checked before training. Tune images choose, judge images score and decide."
    return section(
        "data",
        "Data",
        lead,
        tag("div", images + table("Images of each fold.", columns, rows), class_="pair"),
        table("Share of each class in the labelled pixels.", share_columns, share_rows),
        tag("p", ignored, class_="note"),
        tag("h3", "Left out"),
        _left_out(check["left_out"]),
    )


def _left_out(problems: list[str]) -> Markup:
    if not problems:
        return tag("p", "Nothing was left out: every image opened and every annotation could be used.")
    items = [tag("li", tag("code", problem)) for problem in problems[:LEFT_OUT_SHOWN]]
    if len(problems) > LEFT_OUT_SHOWN:
        items.append(tag("li", f"and {len(problems) - LEFT_OUT_SHOWN} more, in data_check.json of the prepared data"))
    return tag("p", f"{count(len(problems), 'problem')} led to images or annotations being left out.") + tag(
        "ul", join(items)
    )


def parameters(run: Run) -> Markup:
    """params.yaml, flattened."""
    lead = Markup("The settings that led here, as they stand in ") + tag("code", "params.yaml")
    lead += Markup(", which says what each one means. Left out are ") + join(
        (tag("code", name) for name in NOT_SHOWN), " and "
    )
    lead += ": how the embedded data set is drawn, and who listens to training."
    given = run.params.model_dump(mode="json")
    rows = [
        (tag("code", key), value)
        for name, content in given.items()
        if name not in NOT_SHOWN
        for key, value in _flat(name, content)
    ]
    columns = [Column("Setting"), Column("Value")]
    return section("parameters", "Parameters", lead, tag("div", table("Settings.", columns, rows), class_="params"))


def _flat(name: str, value: object) -> Iterator[tuple[str, str]]:
    """Dotted keys with their values as text; a list of mappings is one line each."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}", inner)
    elif value is None:
        yield name, "(empty)"
    elif value == {}:
        yield name, "(no overrides)"
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        yield name, "\n".join(_shown(item) for item in value)
    elif isinstance(value, list):
        yield name, ", ".join(_shown(item) for item in value) or "(none)"
    else:
        yield name, _shown(value)


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
