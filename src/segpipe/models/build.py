"""One door for every architecture: a description in, a network out."""

from contextlib import suppress
from typing import Any, TypedDict

from torch import nn

from segpipe.models.deeplabv3 import DeepLabV3
from segpipe.models.dropout import SMP_PROJECTION, set_head_dropout
from segpipe.models.names import OWN, SMP, SMP_ARCHITECTURES, configuration, name_problems
from segpipe.params import ModelParams, stop_on


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
    stop_on("params.yaml", name_problems(model))
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
        return _smp_network(description)
    except (RuntimeError, ValueError, TypeError, AttributeError, LookupError, AssertionError) as error:
        raise ValueError(f"model: {arch} cannot be built on {encoder}: {_reason(error, description)}") from error


def _reason(error: Exception, description: Architecture) -> str:
    """The library's own; in words where an encoder that smp cannot dilate only stops."""
    text = " ".join(str(error).split())
    stopped_at_stride = isinstance(error, TypeError | AssertionError) and (not text or "output_stride" in text)
    if description["output_stride"] == 32 or not stopped_at_stride:
        return text or type(error).__name__
    said = f" ({text})" if text else ""
    return f"the encoder cannot be dilated to an output_stride below 32{said}; choose another architecture or encoder"


def _smp_network(description: Architecture) -> nn.Module:
    arch, encoder, projection = description["arch"], description["encoder"], description["dropout"]["projection"]
    options: dict[str, Any] = {"encoder_weights": None, "classes": description["num_classes"]}
    if arch.startswith("smp.DeepLab"):
        if len(description["atrous_rates"]) != 3:
            raise ValueError(f"it takes three atrous_rates, found {description['atrous_rates']}")
        options["encoder_output_stride"] = description["output_stride"]
        options["decoder_atrous_rates"] = tuple(description["atrous_rates"])
        options["decoder_channels"] = description["decoder_channels"]
        options["decoder_aspp_separable"] = description["separable"]
    if option := SMP_PROJECTION.get(arch):
        options[option] = projection
    if encoder.startswith(SMP):
        return SMP_ARCHITECTURES[arch](encoder.removeprefix(SMP), **options)
    if arch == "smp.DPT":
        options["num_classes"] = 0  # it holds the whole model: without this, with a head that nothing trains
    network = _on_timm(arch, encoder, options)
    if arch == "smp.DPT":
        set_head_dropout(network, projection)
    return network


def _on_timm(arch: str, encoder: str, options: dict[str, Any]) -> nn.Module:
    # smp reaches timm's own encoders, with timm's padding and normalisation, by the prefix tu-
    build, name, config = SMP_ARCHITECTURES[arch], f"tu-{encoder}", configuration(encoder, None)
    if config is not None and config.fixed_input_size:
        with suppress(TypeError):  # of those that cannot take other sizes either; most transformers can, if asked
            return build(name, **options, dynamic_img_size=True)
    return build(name, **options)
