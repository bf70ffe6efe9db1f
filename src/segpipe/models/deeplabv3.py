"""Our own DeepLabV3 (Chen et al. 2017, https://arxiv.org/abs/1706.05587) and DeepLabV3+ (Chen et al. 2018,
https://arxiv.org/abs/1802.02611) on any timm encoder with `features_only`.

Unlike smp's, they take any output stride and number of atrous rates, and dropout after encoder stages and after each
decoder convolution. docs/models.md says what each option does, and what it costs.
"""

from collections.abc import Sequence

import timm
import torch
import torch.nn.functional as F
from torch import nn

from segpipe.models.aspp import ASPP, after_convolution, conv_block
from segpipe.models.depthwise import Depthwise, without_waste
from segpipe.models.dropout import drop_after_levels

LOW_LEVEL_STRIDE = 4
_PROBE = 64  # height and width of an image that shows an encoder's strides: a multiple of every stride


class DeepLabV3(nn.Module):
    """Encoder features at `output_stride`, atrous spatial pyramid pooling, logits at input size.

    With `low_level_channels` it is DeepLabV3+: the pyramid's result meets features of stride 4, projected to so many
    channels. Dropout stands after the encoder's levels `dropout_levels` (none named: after its last features), after
    each decoder convolution (`dropout_decoder`) and after the pyramid's projection (`dropout_projection`); never on the
    logits, where it would train the loss on randomly erased classes.
    """

    def __init__(
        self,
        encoder: str,
        num_classes: int,
        *,
        output_stride: int,
        atrous_rates: Sequence[int],
        channels: int,
        low_level_channels: int | None,
        separable: bool,
        dropout_encoder: float,
        dropout_levels: Sequence[int],
        dropout_decoder: float,
        dropout_projection: float,
    ) -> None:
        super().__init__()
        strides = (output_stride,) if low_level_channels is None else (LOW_LEVEL_STRIDE, output_stride)
        self.encoder = features_at(encoder, strides)
        self.encoder_dropout = drop_after_levels(self.encoder, dropout_levels, dropout_encoder)
        in_channels = self.encoder.feature_info.channels()
        self.aspp = ASPP(in_channels[-1], channels, atrous_rates, separable=separable, dropout=dropout_decoder)
        self.projection_dropout = nn.Dropout(dropout_projection)
        if low_level_channels is None:
            self.refine = conv_block(channels, channels, 3, separable=separable, dropout=dropout_decoder)
        else:
            self.skip = conv_block(in_channels[0], low_level_channels, 1, dropout=dropout_decoder)
            merge = SeparableMerge if separable else Merge
            self.refine = merge(channels, low_level_channels, dropout_decoder)
        self.classifier = nn.Conv2d(channels, num_classes, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) float normalised, H and W multiples of the stride -> logits (N, C, H, W)."""
        *low_level, features = self.encoder(images)
        features = self.projection_dropout(self.aspp(features))
        features = self.refine(features, *(self.skip(level) for level in low_level))
        logits = self.classifier(features)
        return F.interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=False)


class Merge(nn.Module):
    """Features of the pyramid, enlarged, and of low level, side by side through a 3x3 convolution, as in the paper."""

    def __init__(self, channels: int, low_level_channels: int, dropout: float) -> None:
        super().__init__()
        self.block = conv_block(channels + low_level_channels, channels, 3, dropout=dropout)

    def forward(self, features: torch.Tensor, low_level: torch.Tensor) -> torch.Tensor:
        """(N, channels, h, w), (N, C_low, H, W) -> (N, channels, H, W)."""
        return self.block(torch.cat([_enlarged(features, low_level), low_level], dim=1))


class SeparableMerge(nn.Module):
    """The same with a separable convolution, its 1x1 part first (BSConv, https://arxiv.org/abs/2003.13549).

    A 1x1 convolution of parts side by side is the sum of theirs, and it commutes with bilinear enlargement. So its wide
    part is computed before enlarging, on 1/16 of the pixels at output stride 16, and nothing is laid side by side.
    """

    def __init__(self, channels: int, low_level_channels: int, dropout: float) -> None:
        super().__init__()
        self.pointwise = nn.Conv2d(channels + low_level_channels, channels, 1, bias=False)
        self.block = nn.Sequential(Depthwise(channels, 3), *after_convolution(channels, dropout))

    def forward(self, features: torch.Tensor, low_level: torch.Tensor) -> torch.Tensor:
        """(N, channels, h, w), (N, C_low, H, W) -> (N, channels, H, W)."""
        wide, narrow = self.pointwise.weight.split([features.shape[1], low_level.shape[1]], dim=1)
        # in place: nobody needs the enlarged part by itself, not even its gradient
        return self.block(_enlarged(F.conv2d(features, wide), low_level).add_(F.conv2d(low_level, narrow)))


def _enlarged(features: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return F.interpolate(features, size=like.shape[-2:], mode="bilinear", align_corners=False)


def features_at(encoder: str, strides: Sequence[int]) -> nn.Module:
    """A timm encoder with random weights: images -> features (N, C, h, w) at these strides: the last, and 4 before it.

    Raises ValueError when it has no features at such strides, with its reason.
    """
    wanted = {} if strides[-1] == 32 else {"output_stride": strides[-1]}
    # encoders end with features at 4, 8, 16 and 32; dilation makes the later ones finer and leaves their number
    indices = (-4, -1)[-len(strides) :]
    said = " and ".join(map(str, strides))
    try:
        network = timm.create_model(encoder, pretrained=False, features_only=True, out_indices=indices, **wanted)
        without_waste(network)
        found = _strides(network)
    except Exception as error:  # a thousand encoders refuse in as many ways, some with a bare assert
        reason = str(error) or f"timm refuses output_stride {strides[-1]} for it"
        other = "model.output_stride 32 or another encoder" if wanted else "another encoder"
        raise ValueError(f"it gives no features at stride {said}: {reason}; choose {other}") from error
    if found != list(strides):
        raise ValueError(f"it gives features at stride {' and '.join(map(str, found))}, where {said} is asked for")
    return network


def _strides(encoder: nn.Module) -> list[int]:
    """Input size over feature size of what it really gives; raises ValueError where that is not (N, C, h, w)."""
    training = encoder.training
    with torch.no_grad():
        features = encoder.eval()(torch.zeros(1, 3, _PROBE, _PROBE, device=next(encoder.parameters()).device))
    encoder.train(training)
    for feature, channels in zip(features, encoder.feature_info.channels(), strict=True):
        if feature.ndim != 4 or feature.shape[1] != channels or feature.shape[2] != feature.shape[3]:
            raise ValueError(f"features of shape {tuple(feature.shape)} for {channels} channels")
    return [_PROBE // feature.shape[-1] for feature in features]
