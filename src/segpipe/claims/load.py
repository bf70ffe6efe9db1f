"""claims.yaml, read and checked whole: every mistake is said before anything runs."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from segpipe.claims.folder import FIRST, ClaimsFolder
from segpipe.claims.plan import SECOND_ROUND, Claim, Plan
from segpipe.params import Params, check_params, describe_faults, not_allowed, read_yaml, stop_on
from segpipe.params.sections import merge

DATASET_SECTIONS = ("data", "split", "submission")
ARM_SECTIONS = ("model", "loss", "optimizer", "scheduler", "augment", "train")
ARM_KEYS = (*ARM_SECTIONS, *SECOND_ROUND, "teachers", "dataset", "epochs")
RESERVED = "raw"  # the folder beside those of the data sets
# what every arm of a claim shares: the number of updates, the images in each, and when they are scored (at the end)
EQUAL_TERMS = ("epochs", "batch_size", "validate_every")


def load_plan(path: Path = FIRST) -> Plan:
    """Read claims.yaml of the folder `path`, and its base.yaml; raises ValueError with every problem of both."""
    folder = ClaimsFolder(path)
    base_file, claims_file = folder.base, folder.claims
    base = read_yaml(base_file)
    check_params(base, str(base_file))  # a fault here would come back from every arm
    raw = read_yaml(claims_file)
    stop_on(str(claims_file), list(_shape_problems(raw)))
    claims = {name: Claim.model_validate(claim) for name, claim in raw["claims"].items()}
    datasets, arms = ({name: overrides or {} for name, overrides in raw[kind].items()} for kind in ("datasets", "arms"))
    plan = Plan(folder, base, datasets, arms, claims)
    stop_on(str(claims_file), [*_name_problems(plan), *_override_problems(plan)])
    return plan


def _shape_problems(raw: object) -> Iterator[str]:
    """What keeps the file from being read as datasets, arms and claims at all."""
    for kind in (kinds := ("datasets", "arms", "claims")):
        part = raw.get(kind) if isinstance(raw, dict) else None
        if not isinstance(part, dict) or not part:
            yield f"{kind}: found {part!r}; expected names, each with what belongs to it beneath"
            continue
        for name, content in part.items():
            if not isinstance(name, str):
                yield f"{kind}.{name}: found a name that is no text; put it in quotes"
            elif not isinstance(content, dict | None):
                yield f"{kind}.{name}: found {content!r}; expected keys and values beneath"
            elif kind == "claims":
                try:
                    Claim.model_validate(content or {})
                except ValidationError as error:
                    yield from describe_faults(error, Claim, prefix=f"claims.{name}.")
    yield from (not_allowed(key, key, kinds) for key in (raw if isinstance(raw, dict) else ()) if key not in kinds)


def _name_problems(plan: Plan) -> Iterator[str]:
    """Names become files, and each name that a claim uses must exist."""
    for kind, names in (("datasets", plan.datasets), ("arms", plan.arms), ("claims", plan.claims)):
        for name in names:
            if not re.fullmatch(r"[A-Za-z0-9_]+", name) or name == RESERVED:
                yield f"{kind}.{name}: becomes part of a file name: use letters, digits and _, and not {RESERVED}"
    named = {f"claims.{name}": claim.dataset for name, claim in plan.claims.items()}
    named |= {f"arms.{name}": arm["dataset"] for name, arm in plan.arms.items() if "dataset" in arm}
    for key, dataset in named.items():
        if not isinstance(dataset, str) or dataset not in plan.datasets:
            yield not_allowed(f"{key}.dataset", str(dataset), list(plan.datasets))
    for name, claim in plan.claims.items():
        for arm in claim.confirm.arms:
            if arm not in plan.arms:
                yield not_allowed(f"claims.{name}.confirm", arm, list(plan.arms))
        yield from _epoch_problems(name, claim, plan)
    used = {arm for claim in plan.claims.values() for arm in claim.confirm.arms}
    yield from (f"arms.{name}: no claim uses it; remove it, or name it in a claim" for name in plan.arms.keys() - used)


def _epoch_problems(name: str, claim: Claim, plan: Plan) -> Iterator[str]:
    for arm in claim.confirm.arms:
        overrides = plan.arms.get(arm, {})
        retrain, epochs = overrides.get("retrain"), overrides.get("epochs", claim.epochs)
        second = retrain.get("epochs") if isinstance(retrain, dict) else None
        if isinstance(second, int) and isinstance(epochs, int) and second >= epochs:
            yield (
                f"arms.{arm}.retrain.epochs: found {second}; both rounds share the {epochs} epochs of claims.{name}, "
                "and the first needs one"
            )


def _override_problems(plan: Plan) -> Iterator[str]:
    """Overrides of sections that are theirs, and valid together with base.yaml: a typo must not wait for its run."""
    for name, overrides in plan.datasets.items():
        yield from _foreign_sections(f"datasets.{name}", overrides, DATASET_SECTIONS)
        yield from _faults(f"datasets.{name}", plan.base, overrides)
    for name, overrides in plan.arms.items():
        key = f"arms.{name}"
        if name not in plan.runnable:
            reason = overrides["not_run"]
            if not isinstance(reason, str) or not reason.strip():
                yield f"{key}.not_run: found {reason!r}; expected the reason in words"
            # what would be run is checked like the others: one day the reason goes
            overrides = {section: values for section, values in overrides.items() if section != "not_run"}
        yield from _foreign_sections(key, overrides, ARM_KEYS)
        yield from _term_problems(key, overrides)
        train = overrides.get("train")
        shared = [term for term in EQUAL_TERMS if isinstance(train, dict) and term in train]
        yield from (f"{key}.train.{term}: all arms of a claim share it; it stands in base.yaml" for term in shared)
        yield from _faults(key, plan.base, overrides)


def _term_problems(key: str, overrides: dict[str, Any]) -> Iterator[str]:
    """An arm's own data set and epochs, and its second round."""
    epochs = overrides.get("epochs")
    if ("epochs" in overrides) != ("dataset" in overrides):
        yield (
            f"{key}: an arm has `epochs` of its own together with a `dataset` of its own, so that it makes the updates "
            "that its claim's other arms make, or neither"
        )
    elif "epochs" in overrides and not (type(epochs) is int and epochs > 0):
        yield f"{key}.epochs: found {epochs!r}; expected a whole number above 0"
    retrain = overrides.get("retrain")
    if "retrain" in overrides and not (isinstance(retrain, dict) and "epochs" in retrain):
        yield f"{key}.retrain: found {retrain!r}; expected `epochs`, those of the claim that are the second round's"
    teachers = overrides.get("teachers", 1)
    if type(teachers) is not int or teachers < 1:
        yield f"{key}.teachers: found {teachers!r}; expected a whole number above 0"
    for section in (*SECOND_ROUND[1:], "teachers"):
        if section in overrides and "retrain" not in overrides:
            yield f"{key}.{section}: belongs to a second round; give `retrain: epochs` as well"


def _foreign_sections(key: str, overrides: dict[str, Any], allowed: tuple[str, ...]) -> Iterator[str]:
    yield from (not_allowed(f"{key}.{name}", name, allowed) for name in overrides if name not in allowed)


def _faults(key: str, base: dict[str, Any], overrides: dict[str, Any]) -> list[str]:
    known = {name: value for name, value in overrides.items() if name in Params.model_fields}
    try:
        check_params(merge(base, known), key)
    except ValueError as error:
        return [f"{key}: {line.strip()}" for line in str(error).splitlines()[1:]]
    return []
