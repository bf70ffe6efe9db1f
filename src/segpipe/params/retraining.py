"""What of the second round must fit together, member by member: epochs with and without the pool, and soft labels."""

from collections.abc import Iterator, Mapping

from segpipe.params.sections import Params
from segpipe.params.training import merge


def epoch_problems(params: Params) -> list[str]:
    """Epochs that leave none to the pool, or too few for its weight to rise in; each at the key that was written."""
    problems = dict[str, None]()
    for name, override, member in _members(params, {"retrain": params.retrain.model_dump()}):
        retrain = member["retrain"]
        epochs, finetune, ramp = (retrain[key] for key in ("epochs", "finetune_epochs", "ramp_epochs"))
        if not all(type(number) is int and number >= 0 for number in (epochs, finetune, ramp)) or not epochs:
            continue
        key = {part: _key(name, override, part) for part in retrain}
        if finetune >= epochs:
            line = f"{key['finetune_epochs']}: found {finetune}, which leaves none of the {epochs} epochs of "
            problems[f"{line}{key['epochs']} to the pseudo labels; expected at most {epochs - 1}, or more epochs"] = (
                None
            )
        elif ramp > epochs - finetune:
            line = f"{key['ramp_epochs']}: found {ramp}, so that the weight of pseudo labels never reaches "
            line += f"{key['pseudo_weight']}; expected at most {epochs - finetune}, the epochs with pseudo labels "
            problems[f"{line}({key['epochs']} less {key['finetune_epochs']})"] = None
    return list(problems)


def soft_problems(params: Params) -> list[str]:
    """What soft labels lack, of every member with its overrides."""
    shared, problems = {"retrain": params.retrain.model_dump(), "loss": params.loss.model_dump()}, dict[str, None]()
    for name, override, member in _members(params, shared):
        if member["retrain"]["labels"] != "soft":
            continue
        key = _key(name, override, "labels")
        if not params.teach.probs:
            line = f"{key}, teach.probs: found soft with false, so that no teacher's probabilities are kept; set "
            problems[f"{line}teach.probs: true, or {key}: hard"] = None
        if not member["loss"]["ce"] and not member["loss"]["soft_ce"]:
            own_loss = {"ce", "soft_ce"} & override.get("loss", {}).keys()
            loss = f"members.{name}.loss" if own_loss else "loss"
            line = f"{key}, {loss}.ce, {loss}.soft_ce: found soft with a weight of 0 on both, the only terms that use "
            problems[f"{line}soft labels; give one of them a weight above 0, or set {key}: hard"] = None
    return list(problems)


def _members(params: Params, shared: dict) -> Iterator[tuple[str, dict, dict]]:
    """Name, overridden sections and merged sections of each member; a fault inside of these is told elsewhere."""
    for name in params.member_names:
        override = params.members.get(name)
        override = {key: value for key, value in (override or {}).items() if isinstance(value, Mapping)}
        yield name, override, merge(shared, override)


def _key(name: str, override: dict, part: str) -> str:
    """Where a value of `retrain` was written, so that it can be found there."""
    return f"members.{name}.retrain.{part}" if part in override.get("retrain", {}) else f"retrain.{part}"
