"""One door for every architecture: a description in, a network out."""

import difflib
from pathlib import Path
from typing import TypedDict

import segmentation_models_pytorch as smp
import timm
from safetensors.torch import load_file
from torch import nn

from segpipe.models.deeplabv3 import DeepLabV3
from segpipe.models.dropout import SMP_PROJECTION, dropout_problems
from segpipe.params import ModelParams, stop_on

OWN = ("deeplabv3", "deeplabv3plus")
SMP_ARCHITECTURES = {
    f"smp.{name}": getattr(smp, name)
    for name in (
        "DeepLabV3",
        "DeepLabV3Plus",
        "FPN",
        "Linknet",
        "MAnet",
        "PAN",
        "PSPNet",
        "UPerNet",
        "Unet",
        "UnetPlusPlus",
    )
}


class Architecture(TypedDict):
    """All that a network's shape and function depend on; stands in every checkpoint's description.

    Dilation, stride and dropout are in no state dict: weights alone rebuild another function.
    """

    arch: str
    encoder: str
    output_stride: int
    atrous_rates: list[int]
    decoder_channels: int
    low_level_channels: int
    separable: bool
    dropout: dict
    num_classes: int


def architecture(model: ModelParams, num_classes: int) -> Architecture:
    """The description of `model`; raises ValueError naming an unknown architecture or encoder and the nearest ones."""
    stop_on("params.yaml", check_names(model))
    return Architecture(
        arch=model.arch,
        encoder=model.encoder,
        output_stride=model.output_stride,
        atrous_rates=list(model.atrous_rates),
        decoder_channels=model.decoder_channels,
        low_level_channels=model.low_level_channels,
        separable=model.separable,
        dropout=model.dropout.model_dump(mode="json"),
        num_classes=num_classes,
    )


def check_names(model: ModelParams) -> list[str]:
    """What of section `model` does not exist (architecture, encoder, weights), a line each with the nearest names."""
    problems = []
    if model.arch not in (*OWN, *SMP_ARCHITECTURES):
        problems.append(_unknown("model.arch", model.arch, [*OWN, *SMP_ARCHITECTURES]))
    # the part after a dot is a tag of pretrained weights; which one is encoder_weights' business
    if model.encoder not in timm.list_models():
        problems.append(_unknown("model.encoder", model.encoder, timm.list_models()))
    weights = model.encoder_weights
    if weights not in (None, "imagenet") and not Path(weights).is_file():
        problems.append(
            f"model.encoder_weights: found {weights!r}; allowed: empty, imagenet, "
            "or the path of a .safetensors file that exists"
        )
    return [*problems, *(dropout_problems(model) if model.arch in SMP_ARCHITECTURES else ())]


def build_network(description: Architecture) -> nn.Module:
    """A network with random weights: (N, 3, H, W) float normalised -> logits (N, C, H, W).

    Raises ValueError when the library refuses the combination, with its reason.
    """
    arch, encoder, num_classes = description["arch"], description["encoder"], description["num_classes"]
    dropout = description["dropout"]
    try:
        if arch in OWN:
            return DeepLabV3(
                encoder,
                num_classes,
                output_stride=description["output_stride"],
                atrous_rates=description["atrous_rates"],
                channels=description["decoder_channels"],
                low_level_channels=description["low_level_channels"] if arch == "deeplabv3plus" else None,
                separable=description["separable"],
                dropout_encoder=dropout["encoder"],
                dropout_levels=dropout["encoder_stages"],
                dropout_decoder=dropout["decoder"],
                dropout_projection=dropout["projection"],
            )
        options = {"encoder_weights": None, "classes": num_classes}
        if arch.startswith("smp.DeepLab"):
            options["encoder_output_stride"] = description["output_stride"]
            options["decoder_atrous_rates"] = tuple(description["atrous_rates"])
            options["decoder_channels"] = description["decoder_channels"]
            options["decoder_aspp_separable"] = description["separable"]
        if arch in SMP_PROJECTION:
            options[SMP_PROJECTION[arch]] = dropout["projection"]
        # smp reaches timm's own encoders, with timm's padding and normalisation, by the prefix tu-
        return SMP_ARCHITECTURES[arch](f"tu-{encoder}", **options)
    except (RuntimeError, ValueError, TypeError, AttributeError, NotImplementedError, KeyError) as error:
        raise ValueError(f"model: {arch} cannot be built on {encoder}: {error}") from error


def load_encoder_weights(network: nn.Module, model: ModelParams) -> None:
    """Put pretrained weights into the encoder: downloaded by timm (`imagenet`) or from a .safetensors file.

    Raises ValueError when they cannot be had or do not fit, naming the first layers that differ.
    """
    if model.encoder_weights is None:
        return
    target = network.encoder if model.arch in OWN else network.encoder.model
    if model.encoder_weights == "imagenet":
        try:
            state = timm.create_model(model.encoder, pretrained=True).state_dict()
        except Exception as error:  # the hub's client raises a dozen unrelated types when it is unreachable
            raise ValueError(
                f"model.encoder_weights: imagenet weights of {model.encoder} could not be downloaded "
                f"({type(error).__name__}); give the path of a .safetensors file instead, or leave it empty"
            ) from error
    else:
        state = load_file(model.encoder_weights)
    # timm's features-only encoders may be flat: stages_0 for stages.0
    plain = {name.replace("_", "."): tensor for name, tensor in state.items()}
    wanted = target.state_dict()
    found = {name: plain.get(name.replace("_", ".")) for name in wanted}
    missing = [name for name, tensor in found.items() if tensor is None or tensor.shape != wanted[name].shape]
    if missing:
        raise ValueError(
            f"model.encoder_weights: {model.encoder_weights} does not fit {model.encoder}: "
            f"{len(missing)} of {len(wanted)} tensors are missing or of another shape, first {', '.join(missing[:3])}"
        )
    target.load_state_dict(found)


def stride_of(description: Architecture) -> int:
    """Input height and width must be multiples of this; dilation keeps the grid finer than the encoder's own."""
    return (
        32
        if not description["arch"].lower().endswith(("deeplabv3", "deeplabv3plus"))
        else max(16, description["output_stride"])
    )


def normalisation(encoder: str) -> tuple[list[float], list[float]]:
    """(mean, std) for images scaled to 0..1, from the encoder's own pretraining configuration."""
    config = timm.get_pretrained_cfg(encoder) if timm.is_model_pretrained(encoder) else None
    mean, std = (
        (config.mean, config.std) if config else (timm.data.IMAGENET_DEFAULT_MEAN, timm.data.IMAGENET_DEFAULT_STD)
    )
    return list(mean), list(std)


def _unknown(key: str, found: str, names: list[str]) -> str:
    nearest = difflib.get_close_matches(found, names, n=3, cutoff=0.4)
    return f"{key}: found {found!r}; nearest: {', '.join(nearest) or ', '.join(names[:10])}"
