"""Dropout by place: inside an encoder of timm, and what of it the architectures of smp can have."""

from collections.abc import Sequence

import torch
from torch import nn

from segpipe.params import ModelParams

# smp's own name of dropout behind the convolution that merges its parts; it has none elsewhere. DPT's has no name
SMP_PROJECTION = {
    "smp.DPT": None,
    "smp.DeepLabV3": "decoder_aspp_dropout",
    "smp.DeepLabV3Plus": "decoder_aspp_dropout",
    "smp.FPN": "decoder_dropout",
    "smp.PSPNet": "psp_dropout",
}


class _After:
    """A forward hook that passes what a module gives through a dropout layer, which whoever made it owns."""

    def __init__(self, dropout: nn.Module) -> None:
        self.dropout = dropout

    def __call__(self, module: nn.Module, args: tuple, output: torch.Tensor) -> torch.Tensor:
        return self.dropout(output)


def drop_after_levels(encoder: nn.Module, levels: Sequence[int], p: float) -> nn.ModuleDict:
    """Dropout of whole channels after these feature levels of a timm encoder, counted from 1; none given: the last.

    It stands in what flows on, so both in the next stage and in the features. The layers come back by level
    (`level2`) for the network to own; the encoder gets hooks alone, so that names of its weights stay. Raises
    ValueError for a level that it does not have.
    """
    info = encoder.feature_info.info
    if beyond := [level for level in levels if level > len(info)]:
        raise ValueError(
            f"model.dropout.encoder_stages names level {', '.join(map(str, beyond))}; "
            f"this encoder's feature levels are 1 to {len(info)}"
        )
    layers = nn.ModuleDict()
    if p == 0:
        return layers
    for level in levels or [len(info)]:
        layer = nn.Dropout2d(p)
        _stage(encoder, info[level - 1]["module"]).register_forward_hook(_After(layer))
        layers[f"level{level}"] = layer
    return layers


def _stage(encoder: nn.Module, name: str) -> nn.Module:
    """The module of that name; timm's features-only encoders may be flat (stages_0 for stages.0) or hold it inside."""
    modules = dict(encoder.named_modules())
    candidates = (name, name.replace(".", "_", 1), f"model.{name}", f"body.{name}")
    found = next((modules[candidate] for candidate in candidates if candidate in modules), None)
    if found is None:
        raise ValueError(f"model.dropout.encoder: this encoder has no stage {name} after which it could stand")
    return found


def set_head_dropout(network: nn.Module, p: float) -> None:
    """Give the dropout in the head of a network of smp the probability `p`; its output is no logit yet."""
    for module in network.segmentation_head.modules():
        if isinstance(module, nn.Dropout):
            module.p = p


def dropout_problems(model: ModelParams) -> list[str]:
    """Dropout that an architecture of smp would silently leave out, a line for each place."""
    wanted = {"encoder": model.dropout.encoder, "decoder": model.dropout.decoder}
    if model.arch not in SMP_PROJECTION:
        wanted["projection"] = model.dropout.projection
    return [
        f"model.dropout.{place}: found {p}; {model.arch} has no dropout there: set 0.0, or use an arch of our own "
        "(deeplabv3, deeplabv3plus)"
        for place, p in wanted.items()
        if p > 0
    ]
