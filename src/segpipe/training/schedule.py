"""Learning-rate schedules, counted in updates (steps of the optimiser) and without state.

The rate of an update follows from its number alone: resuming needs no more, and neither batch size nor accumulation
bends the curve. Nothing here imports torch, so that `segpipe show schedule` answers at once.
"""

import math
from typing import TYPE_CHECKING

from segpipe.params import OptimizerParams, SchedulerParams

if TYPE_CHECKING:
    from torch.optim import Optimizer

MADGRAD_EPS = 1e-6  # madgrad's default `eps`, which it adds to every learning rate but 0

# what to change where a schedule falls too early
_SHAPED_BY = {
    "step": ("scheduler.gamma", "scheduler.step_epochs"),
    "cosine": ("scheduler.final_factor",),
    "poly": ("scheduler.power",),
    "onecycle": ("scheduler.final_factor", "scheduler.peak_at"),
    "constant": (),
}


def lr_factor(params: SchedulerParams, update: int, updates_per_epoch: int, total_updates: int) -> float:
    """What the learning rate is multiplied by at `update`, counted from 0: a number from 0 to 1.

    `onecycle` rises from `start_factor` to 1 over `peak_at` of the updates and falls to `final_factor`, by cosines both
    ways (Smith and Topin 2017, https://arxiv.org/abs/1708.07120; values as torch's OneCycleLR). The others begin with a
    linear warm-up of `warmup_updates`; then `step` multiplies by gamma every `step_epochs` of the whole run, `cosine`
    falls to `final_factor` (Loshchilov and Hutter 2017, https://arxiv.org/abs/1608.03983; one cycle, as torch's
    CosineAnnealingLR), `poly` is (1 - progress)^power as in the DeepLab papers, and `constant` stays. The ends of
    `cosine` and `poly` are what would follow the last update, so that no update is made with a rate of 0.
    """
    if params.name == "onecycle":
        return _onecycle(params, update, total_updates)
    if update < params.warmup_updates:
        return (update + 1) / (params.warmup_updates + 1)
    if params.name == "step":
        return params.gamma ** (update // (updates_per_epoch * params.step_epochs))
    progress = min((update - params.warmup_updates) / max(total_updates - params.warmup_updates, 1), 1.0)
    if params.name == "cosine":
        return _cosine(1.0, params.final_factor, progress)
    if params.name == "poly":
        return (1 - progress) ** params.power
    return 1.0


def _onecycle(params: SchedulerParams, update: int, total_updates: int) -> float:
    # as torch counts: the peak ends its share of the updates, the last update has the final rate
    peak, last = max(params.peak_at * total_updates - 1, 0.0), total_updates - 1
    if update < peak:
        return _cosine(params.start_factor, 1.0, update / peak)
    return _cosine(1.0, params.final_factor, min((update - peak) / max(last - peak, 1e-9), 1.0))


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def base_rates(params: OptimizerParams) -> dict[str, float]:
    """The learning rates that the factor multiplies, `optimizer.lr` first: of "all", or of "rest" and "encoder"."""
    if params.encoder_lr_factor == 1:
        return {"all": params.lr}
    return {"rest": params.lr, "encoder": params.lr * params.encoder_lr_factor}


def set_learning_rates(optimizer: "Optimizer", factor: float) -> None:
    """Set each group's `lr` to its `initial_lr` (which `build_optimizer` sets) times `factor`; before each update."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor


def floor_warning(
    optimizer: OptimizerParams, scheduler: SchedulerParams, updates_per_epoch: int, total_updates: int
) -> str | None:
    """A sentence where MADGRAD's floor makes more than half of the updates deaf to the schedule, else None.

    MADGRAD adds 1e-6 to its learning rate: below that, less of it changes little.
    """
    if optimizer.name != "madgrad":
        return None
    for part, base in base_rates(optimizer).items():
        first = total_updates
        while first and base * lr_factor(scheduler, first - 1, updates_per_epoch, total_updates) < MADGRAD_EPS:
            first -= 1
        if first < total_updates / 2:
            keys = ["optimizer.lr", *(["optimizer.encoder_lr_factor"] if part == "encoder" else [])]
            keys += _SHAPED_BY[scheduler.name] if base >= MADGRAD_EPS else ()
            whose = "its learning rate" if part == "all" else f"the learning rate of the {part}"
            return (
                f"madgrad adds {MADGRAD_EPS:g} to {whose}, which stays below that from update {first + 1} of "
                f"{total_updates} on, so that the schedule has no say in the rest: change {_one_of(keys)}"
            )
    return None


def _one_of(keys: list[str]) -> str:
    return " or ".join([", ".join(keys[:-1]), keys[-1]] if len(keys) > 1 else keys)
