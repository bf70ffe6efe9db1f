"""The page's parts about what went in beside the data: the parameters, the libraries."""

import json
import re
from collections.abc import Iterator

from segpipe.libraries import SCORING, Libraries, library_versions
from segpipe.report.gather import Run
from segpipe.report.markup import (
    MISSING,
    Column,
    Markup,
    join,
    section,
    table,
    tag,
)

# the sections of params.yaml that the report depends on, in its order; it could show stale values of the others
SHOWN: tuple[str, ...] = ("seed", "member_names", "data", "split", "model", "loss", "optimizer", "scheduler", "augment")
SHOWN += ("train", "teach", "pseudo_label", "retrain", "predict", "ensemble", "submission", "members")
NOT_SHOWN = ("sample", "tracking")


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
