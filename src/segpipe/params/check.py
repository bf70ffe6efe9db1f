"""Reading and checking params.yaml: every problem at once, with the key, what was found and the nearest valid name."""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Strict, TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from segpipe.params.retraining import epoch_problems, soft_problems
from segpipe.params.sections import Params, candidate_names, fitted_names
from segpipe.params.training import OVERRIDABLE, MemberParams, merge
from segpipe.params.values import ALL


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Read and check the whole file.

    Read as DVC reads it: PyYAML takes `1e-4` for a string. Raises ValueError that lists every
    problem: key, what was found, what is allowed, and the nearest valid name.
    """
    return check_params(read_yaml(path), str(path))


def read_yaml(path: Path) -> Any:
    """The content of a YAML file, by ruamel as DVC reads it; ValueError when there is no such file or it is no YAML."""
    if not path.is_file():
        raise ValueError(f"{path}: not found; run the command in the project's top folder")
    try:
        return YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise ValueError(f"{path}: not valid YAML: {error.problem or error.context}{place}") from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid YAML: {error}") from error


def stop_on(source: str, problems: Sequence[str]) -> None:
    """Raise ValueError that lists all problems of `source`, one a line, if there are any."""
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise ValueError(f"{source}: {count}\n" + "\n".join(f"  {line}" for line in problems))


def check_params(raw: object, source: str = "params.yaml") -> Params:
    """Params from the parsed file; raises ValueError with all problems, one a line."""
    if not isinstance(raw, dict):
        raise ValueError(f"{source}: found {type(raw).__name__}, expected sections such as 'data:' and 'model:'")
    problems, bad_sections = [], set()
    try:
        Params.model_validate(raw)
    except ValidationError as error:
        problems += describe_faults(error, Params)
        bad_sections = {problem["loc"][0] for problem in error.errors()}
    good = {name: _section_value(name, raw[name]) for name in Params.model_fields if name not in bad_sections}
    problems += _member_problems(raw) + _cross_problems(Params.model_construct(**good))
    stop_on(source, problems)
    return Params.model_validate(raw)


def _section_value(name: str, value: object) -> object:
    field = Params.model_fields[name]
    return TypeAdapter(Annotated[field.annotation, *field.metadata, Strict()]).validate_python(value)


def _member_problems(raw: dict) -> list[str]:
    """What is wrong inside the overrides; faults of the shared sections are reported where they stand."""
    problems, members = [], raw.get("members")
    shared = {key: raw[key] for key in OVERRIDABLE if key in raw}
    for name, override in members.items() if isinstance(members, dict) else ():
        if not isinstance(override, dict):
            continue  # reported with its type already
        problems += [
            _unknown(f"members.{name}.{key}", str(key), OVERRIDABLE) for key in override if key not in OVERRIDABLE
        ]
        kept = {key: value for key, value in override.items() if key in OVERRIDABLE}
        try:
            MemberParams.model_validate(merge(shared, kept))
        except ValidationError as error:
            problems += describe_faults(error, MemberParams, prefix=f"members.{name}.", inside=kept)
    return problems


def _cross_problems(params: "Params") -> list[str]:
    """Keys that must fit one another; a section with a fault of its own is left out."""
    has, problems = params.model_fields_set, []
    if {"data", "split"} <= has:
        sources = {"data.val": params.data.val, "split.folds": params.split.folds, "split.file": params.split.file}
        named = [key for key, value in sources.items() if value is not None]
        if len(named) != 1:
            found = f"{' and '.join(named)} are set" if named else "all are empty"
            problems.append(f"{', '.join(sources)}: {found}; held-out images come from exactly one of them")
    if "split" in has:
        problems += _doubled("split.train_folds", params.split.train_folds)
        if {"data"} <= has and ALL in params.split.train_folds and params.data.test is None:
            problems.append(
                "split.train_folds, data.test: found all with no images to submit, which is what all is trained for; "
                "name a file in data.test, or train numbered folds only"
            )
    problems += [
        f"{name}.window, data.image_size: found train with images at their own sizes; give height and width of the "
        "window, such as those of the crops in augment.train"
        for name in ("teach", "predict")
        if {name, "data"} <= has and getattr(params, name).window == "train" and params.data.image_size is None
    ]
    if {"split", "pseudo_label"} <= has and _unknown_precision(params):
        problems.append(
            "pseudo_label.threshold, split.train_folds: found per_class with all, which has no tune images to "
            "say how precise a class is; use fixed or top_fraction, or train numbered folds only"
        )
    if {"retrain", "member_names", "members"} <= has:
        problems += epoch_problems(params)
    if {"teach", "retrain", "loss", "member_names", "members"} <= has:
        problems += soft_problems(params)
    if {"teach", "member_names"} <= has:
        strangers = (name for name in params.teach.members if name not in params.member_names)
        problems += [not_allowed("teach.members", name, params.member_names) for name in strangers]
    if "member_names" in has:
        problems += _doubled("member_names", params.member_names)
        for name in params.member_names:
            if not re.fullmatch(r"[A-Za-z0-9_]+", name):
                problems.append(f"member_names: found {name!r}; a name becomes a folder: use letters, digits and _")
            if "members" in has and name not in params.members:
                problems.append(f"members: no entry for {name!r} of member_names; add `{name}: {{}}` for no overrides")
        rules = ("best", "tested", *candidate_names(params.member_names))
        rules += tuple(fitted_names(params.ensemble)) if "ensemble" in has else ()
        if "ensemble" in has and params.ensemble.rule not in rules:
            problems.append(not_allowed("ensemble.rule", params.ensemble.rule, rules))
        elif {"ensemble", "split"} <= has and set(params.split.train_folds) == {ALL}:
            problems += _unscored_rule(params.ensemble.rule, params.member_names)
    return problems


def _unknown_precision(params: "Params") -> bool:
    return params.pseudo_label.threshold == "per_class" and ALL in params.split.train_folds


def _unscored_rule(rule: str, member_names: tuple[str, ...]) -> list[str]:
    """With `all` alone nothing is scored, so that no rule but a name can choose."""
    names = candidate_names(member_names)
    if rule in names:
        return []
    return [
        f"ensemble.rule, split.train_folds: found {rule} with all alone, of which nothing is scored; set ensemble.rule "
        f"to what is to be submitted ({', '.join(names)}), or train a numbered fold beside it, which scores"
    ]


def _doubled(key: str, values: tuple) -> list[str]:
    return [f"{key}: found an entry twice in {list(values)}; name each once"] if len(set(values)) < len(values) else []


def describe_faults(
    error: ValidationError, root: type[BaseModel], *, prefix: str = "", inside: Mapping | None = None
) -> Iterator[str]:
    """One line for each fault; with `inside`, only for faults at keys that this mapping holds."""
    for problem in error.errors():
        location, found, kind = problem["loc"], problem["input"], problem["type"]
        if inside is not None and not holds(inside, location):
            continue
        key = prefix + ".".join(str(part) for part in location)
        if kind == "extra_forbidden":
            yield _unknown(key, str(location[-1]), _fields_at(root, location[:-1]))
        elif kind == "missing" and isinstance(location[-1], int):
            key = prefix + ".".join(str(part) for part in location[:-1])
            yield f"{key}: found {list(found)!r}; expected two numbers, height and width"
        elif kind == "missing":
            yield f"{key}: missing; every key is spelled out (the code holds no defaults)"
        elif kind == "literal_error":
            allowed = [
                quoted or number for quoted, number in re.findall(r"'([^']*)'|(\d+)", problem["ctx"]["expected"])
            ]
            yield not_allowed(key, found, allowed)
        elif kind == "value_error":
            message = str(problem["ctx"]["error"])
            yield f"{key}: {message}" if isinstance(found, dict) else f"{key}: {found!r} {message}"
        else:
            yield f"{key}: found {found!r}; {problem['msg'][0].lower()}{problem['msg'][1:]}"


def holds(mapping: object, location: Sequence) -> bool:
    """Whether `mapping` says something of the key at `location`, however deep: a value above the key counts."""
    for part in location:
        if not isinstance(mapping, Mapping):
            return True
        if part not in mapping:
            return False
        mapping = mapping[part]
    return True


def not_allowed(key: str, found: object, allowed: tuple[str, ...] | list[str]) -> str:
    """What to say of a value that is none of `allowed`, with the nearest of them."""
    nearest = difflib.get_close_matches(found, allowed, n=1, cutoff=0.5) if isinstance(found, str) else []
    hint = f"; did you mean {nearest[0]}?" if nearest else ""
    return f"{key}: found {found!r}; allowed: {', '.join(allowed)}{hint}"


def _unknown(key: str, name: str, allowed: tuple[str, ...] | list[str]) -> str:
    nearest = difflib.get_close_matches(name, allowed, n=1, cutoff=0.5)
    parent = key[: -len(name)]
    elsewhere = [full for full in _all_keys(Params) if full.rsplit(".", 1)[-1] == name]
    if nearest:
        return f"{key}: unknown key; did you mean {parent}{nearest[0]}?"
    if elsewhere:
        return f"{key}: unknown key here; did you mean {elsewhere[0]}?"
    return f"{key}: unknown key; valid here: {', '.join(allowed)}"


def _section_type(annotation: object) -> type[BaseModel] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _fields_at(root: type[BaseModel], location: list) -> list[str]:
    section = root
    for part in location:
        section = _section_type(section.model_fields[part].annotation) or section
    return list(section.model_fields)


def _all_keys(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        yield prefix + name
        if inner := _section_type(field.annotation):
            yield from _all_keys(inner, f"{prefix}{name}.")
