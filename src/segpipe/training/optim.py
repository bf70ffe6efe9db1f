"""Optimisers and learning-rate schedules, counted in updates."""

from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from segpipe.params import OptimizerParams, SchedulerParams


def build_optimizer(model: nn.Module, params: OptimizerParams) -> Optimizer:
    """The optimiser named in params.yaml over all of the model's parameters.

    MADGRAD (Defazio and Jelassi 2021, https://arxiv.org/abs/2101.11075) adds eps = 1e-6 to the learning rate, so
    decaying below that has no effect; its weight decay is coupled (added to the gradient), AdamW's is not.
    """
    if params.name == "madgrad":
        from madgrad import MADGRAD

        return MADGRAD(model.parameters(), lr=params.lr, momentum=params.momentum, weight_decay=params.weight_decay)
    return AdamW(model.parameters(), lr=params.lr, weight_decay=params.weight_decay)


def lr_factor(params: SchedulerParams, update: int, updates_per_epoch: int, total_updates: int) -> float:
    """What the learning rate is multiplied by at `update`, counted from 0.

    Linear warm-up over `warmup_updates`, then `step` (gamma every `step_epochs`), `poly` ((1 - progress)^power,
    as in the DeepLab papers) or `constant`.
    """
    if update < params.warmup_updates:
        return (update + 1) / (params.warmup_updates + 1)
    if params.name == "step":
        return params.gamma ** (update // (updates_per_epoch * params.step_epochs))
    if params.name == "poly":
        remaining = total_updates - params.warmup_updates
        progress = min((update - params.warmup_updates) / max(remaining, 1), 1.0)
        return (1 - progress) ** params.power
    return 1.0


def build_scheduler(
    optimizer: Optimizer, params: SchedulerParams, updates_per_epoch: int, total_updates: int
) -> LambdaLR:
    """Step it once after every update."""
    return LambdaLR(optimizer, lambda update: lr_factor(params, update, updates_per_epoch, total_updates))
