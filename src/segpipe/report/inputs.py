"""The page's parts about what went in: the data, the parameters, the libraries."""

import json
import math
import re
from collections.abc import Iterator

from segpipe.libraries import SCORING, Libraries, library_versions
from segpipe.params import ALL
from segpipe.report.charts import Axis, class_name, range_row
from segpipe.report.gather import Run
from segpipe.report.markup import (
    MISSING,
    Column,
    Markup,
    count,
    join,
    percent,
    section,
    table,
    tag,
    thousands,
)

LEFT_OUT_SHOWN = 50
SETS = {
    "labeled": "Labelled, for training and validation",
    "judge": "Labelled, in a judge file of its own",
    "test": "Test",
    "unlabeled": "Pool to pseudo-label",
}
# the sections of params.yaml that the report depends on, in its order; it could show stale values of the others
SHOWN: tuple[str, ...] = ("seed", "member_names", "data", "split", "model", "loss", "optimizer", "scheduler", "augment")
SHOWN += ("train", "teach", "pseudo_label", "retrain", "predict", "ensemble", "submission", "members")
NOT_SHOWN = ("sample", "tracking")


def data(run: Run) -> Markup:
    """What was read: images, folds, how often each class occurs, what was left out."""
    check, folds = run.data_check, run.prepared.folds
    counts = [(SETS[name], thousands(number)) for name, number in check["images"].items()]
    images = table("Images of each kind.", [Column("Kind"), Column("Images", "number")], counts)
    columns = [Column("Fold"), Column("Train", "number"), Column("Tune", "number"), Column("Judge", "number")]
    columns.append(Column("Used"))
    used = run.params.split.train_folds
    rows = [
        [name, len(fold.train), len(fold.tune), len(fold.judge), "yes" if name in used else "no"]
        for name, fold in folds.items()
        if name != ALL or name in used
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
    ignored = "Every pixel of the labelled images carries a label."
    if check["ignored_pixel_share"]:
        ignored = f"{percent(check['ignored_pixel_share'])} of their pixels carry no label and count nowhere."
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
    said = f"{count(len(problems), 'problem')} led to images or annotations being left out."
    return tag("p", said) + tag("ul", join(items))


def parameters(run: Run) -> Markup:
    """params.yaml, flattened."""
    lead = Markup("The settings that led here, as they stand in ") + tag("code", "params.yaml")
    lead += Markup(", which says what each one means. Left out are ")
    lead += join((tag("code", name) for name in NOT_SHOWN), " and ")
    lead += ": how the embedded data set is drawn, and who listens to training."
    given = run.params.model_dump(mode="json")
    alone = {name: given[name] for name in SHOWN if not isinstance(given[name], dict)}
    groups = {"Top level": alone} | {name: given[name] for name in SHOWN if name not in alone}
    tables = join(_group(title, content) for title, content in groups.items())
    return section("parameters", "Parameters", lead, tag("div", tables, class_="params"))


def _group(title: str, content: dict) -> Markup:
    flat = [(key, value) for name, inner in content.items() for key, value in _flat(name, inner)]
    rows = [(tag("code", _breakable(key)), _breakable(value)) for key, value in flat]
    return table(title, [Column("Setting"), Column("Value")], rows)


def _breakable(text: str) -> Markup:
    """Text that a narrow column breaks between words: after punctuation, before a capital, never inside a number."""
    return join(re.split(r"(?<=[_/(=])|(?<=\.)(?=[a-z])|(?<=[a-z])(?=[A-Z])", text), Markup("<wbr>"))


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
        yield name, "\n".join(_transform(item) for item in value)
    elif isinstance(value, list):
        yield name, ", ".join(_shown(item) for item in value) or "(none)"
    else:
        yield name, _shown(value)


def _transform(item: object) -> str:
    """`{"HorizontalFlip": {"p": 0.5}}` as a call, `HorizontalFlip(p=0.5)`."""
    if isinstance(item, dict) and all(isinstance(given, dict) for given in item.values()):
        written = {name: [f"{key}={_shown(value)}" for key, value in given.items()] for name, given in item.items()}
        return ", ".join(f"{name}({', '.join(arguments)})" for name, arguments in written.items())
    return _shown(item)


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def libraries(run: Run) -> Markup:
    """Which versions trained the models, scored the candidates and drew the page; one column where they agree."""
    lead = (
        "The libraries that decide the numbers. Compare these first where the same data and parameters gave other "
        "scores elsewhere; a different processor, too, may change the last digits."
    )
    columns = _trained_with(run)
    columns["Scored the candidates"] = run.selection["libraries"]
    columns["Drew this page"] = library_versions(SCORING)
    names = dict.fromkeys(name for versions in columns.values() for name in versions)
    rows = [[tag("code", name), *(_version(versions, name) for versions in columns.values())] for name in sorted(names)]
    heads = [Column("Library"), *(Column(title) for title in columns)]
    return section("libraries", "Libraries", lead, table("Versions of the libraries.", heads, rows))


def _trained_with(run: Run) -> dict[str, Libraries]:
    """Versions by the models that were trained with them, all models together where none differs."""
    groups: dict[tuple, list[str]] = {}
    for (round_, member, fold), stored in run.ensemble.predictions.items():
        groups.setdefault(tuple(stored.libraries.items()), []).append(f"{round_}-{member}-{fold}")
    if len(groups) == 1:
        return {"Trained all models": dict(next(iter(groups)))}
    return {f"Trained {', '.join(models)}": dict(versions) for versions, models in groups.items()}


def _version(versions: Libraries, name: str) -> str:
    if name not in versions:
        return MISSING
    return versions[name] or "not installed"
