"""The optimiser named in params.yaml: its parameter groups, and MADGRAD's step with few launches on a GPU."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from madgrad import MADGRAD
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from segpipe.params import OptimizerParams
from segpipe.training.schedule import base_rates


def build_optimizer(model: nn.Module, params: OptimizerParams) -> Optimizer:
    """The optimiser over all trainable parameters of `model`, grouped by `parameter_groups`.

    MADGRAD (Defazio and Jelassi 2021, https://arxiv.org/abs/2101.11075) has three surprises, told in docs/training.md:
    it adds 1e-6 to the learning rate, its weight decay is coupled (added to the gradient, as SGD's), and it goes on
    from the weights of its first step, so that weights put into the model later are undone.

    AdamW and SGD stay as torch makes them, which groups their steps on a GPU: their fused steps round otherwise.
    """
    groups = parameter_groups(model, params)
    if params.name == "madgrad":
        return GroupedMADGRAD(groups, momentum=params.momentum)
    if params.name == "adamw":
        return AdamW(groups)
    return SGD(groups, momentum=params.momentum)


def parameter_groups(model: nn.Module, params: OptimizerParams) -> list[dict[str, Any]]:
    """Groups for a torch optimiser, with `lr`, `initial_lr` and `weight_decay`; the first has `optimizer.lr`.

    The encoder (`network.encoder` of a Segmenter, or `encoder`) is apart from the rest where `encoder_lr_factor` is
    not 1, parameters of one dimension at most (norms and biases) from the others where `decay_norms` is false. Frozen
    parameters are in no group. Raises ValueError where a factor is given to a model that has no encoder.
    """
    rates = base_rates(params)
    in_encoder = {id(parameter) for parameter in _encoder_parameters(model)} if "encoder" in rates else None
    if in_encoder is not None and not in_encoder:
        raise ValueError(
            f"optimizer.encoder_lr_factor: found {params.encoder_lr_factor:g}, but {type(model).__name__} has no "
            "encoder; expected 1"
        )
    members: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():  # each once, also where modules share it
        if parameter.requires_grad:
            part = "all" if in_encoder is None else "encoder" if id(parameter) in in_encoder else "rest"
            members.setdefault((part, params.decay_norms or parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": members[part, decayed],
            "lr": rate,
            "initial_lr": rate,
            "weight_decay": params.weight_decay if decayed else 0.0,
        }
        for part, rate in rates.items()
        for decayed in (True, False)
        if (part, decayed) in members
    ]


def _encoder_parameters(model: nn.Module) -> Iterator[nn.Parameter]:
    encoder = getattr(getattr(model, "network", model), "encoder", None)
    return encoder.parameters() if encoder is not None else iter(())


class GroupedMADGRAD(MADGRAD):
    """MADGRAD whose step on a GPU is eight calls for each group, instead of eight for each parameter.

    The same operations in the same order on lists of tensors, so the same bits where a list is worked off one by one,
    as on CPUs; there it is slower and not used. State and `state_dict` are madgrad's own, in both directions.
    """

    grouped_on = "cuda"  # type of device; elsewhere, and for cases that are rare here, madgrad's own step

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update; `closure` computes the loss anew, where given."""
        loss = closure() if closure is not None else None  # first, as it makes the gradients
        if not all(self._can_group(group) for group in self.param_groups):
            super().step()
            return loss
        count = self.state.setdefault("k", torch.tensor([0], dtype=torch.long))
        with torch.no_grad():
            for group in self.param_groups:
                if parameters := _with_gradient(group):
                    self._grouped_step(group, parameters, math.pow(count.item() + 1, 0.5))
        count += 1
        return loss

    def _can_group(self, group: dict[str, Any]) -> bool:
        parameters = _with_gradient(group)
        plain = group["momentum"] != 0 and group["eps"] != 0 and not group["decouple_decay"]
        return plain and all(
            parameter.device.type == self.grouped_on and parameter.dtype == torch.float32 and not gradient.is_sparse
            for parameter, gradient in zip(parameters, _gradients(parameters), strict=True)
        )

    def _grouped_step(self, group: dict[str, Any], parameters: list[torch.Tensor], root: float) -> None:
        """One line of MADGRAD.step each; `root` is the square root of the number of this step, counted from 1."""
        lr = group["lr"] + group["eps"] if group["lr"] != 0 else 0.0
        step_size, momentum_share = lr * root, 1 - group["momentum"]
        for parameter in parameters:
            if "grad_sum_sq" not in self.state[parameter]:
                zeros = torch.zeros_like(parameter), torch.zeros_like(parameter)
                self.state[parameter].update(grad_sum_sq=zeros[0], s=zeros[1], x0=parameter.clone())
        states = [self.state[parameter] for parameter in parameters]
        squares, sums, starts = ([state[name] for state in states] for name in ("grad_sum_sq", "s", "x0"))
        gradients = _gradients(parameters)
        if group["weight_decay"] != 0:
            torch._foreach_add_(gradients, parameters, alpha=group["weight_decay"])
        torch._foreach_addcmul_(squares, gradients, gradients, value=step_size)
        roots = torch._foreach_pow(squares, 1 / 3)
        torch._foreach_add_(roots, group["eps"])
        torch._foreach_add_(sums, gradients, alpha=step_size)
        targets = torch._foreach_addcdiv(starts, sums, roots, value=-1)
        torch._foreach_mul_(parameters, 1 - momentum_share)
        torch._foreach_add_(parameters, targets, alpha=momentum_share)


def _with_gradient(group: dict[str, Any]) -> list[torch.Tensor]:
    return [parameter for parameter in group["params"] if parameter.grad is not None]


def _gradients(parameters: list[torch.Tensor]) -> list[torch.Tensor]:
    return [parameter.grad for parameter in parameters if parameter.grad is not None]
