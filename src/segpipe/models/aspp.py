"""Atrous spatial pyramid pooling (Chen et al. 2017, https://arxiv.org/abs/1706.05587), and its convolutions."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from segpipe.models.depthwise import Depthwise


class ASPP(nn.Module):
    """Parallel convolutions at several dilations beside a 1x1 convolution and image pooling, projected together."""

    def __init__(
        self, in_channels: int, channels: int, atrous_rates: Sequence[int], *, separable: bool, dropout: float
    ) -> None:
        super().__init__()
        dilated = [
            conv_block(in_channels, channels, 3, dilation=rate, separable=separable, dropout=dropout)
            for rate in atrous_rates
        ]
        self.branches = nn.ModuleList([conv_block(in_channels, channels, 1, dropout=dropout), *dilated])
        self.pooled = conv_block(in_channels, channels, 1, dropout=dropout)
        self.project = conv_block(channels * (len(self.branches) + 1), channels, 1, dropout=0.0)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(N, C_in, h, w) -> (N, channels, h, w)."""
        pooled = self.pooled(features.mean((2, 3), keepdim=True))
        spatial = torch.cat([branch(features) for branch in self.branches], dim=1)
        # a 1x1 convolution of parts laid side by side is the sum of theirs; the pooled part is the same everywhere
        convolution, *rest = self.project
        of_spatial, of_pooled = convolution.weight.split([spatial.shape[1], pooled.shape[1]], dim=1)
        projected = F.conv2d(spatial, of_spatial) + F.conv2d(pooled, of_pooled)
        for layer in rest:
            projected = layer(projected)
        return projected


def conv_block(
    in_channels: int, channels: int, kernel: int, *, dropout: float, dilation: int = 1, separable: bool = False
) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU and, where above 0, dropout of whole channels.

    Separable: a convolution of each channel by itself, then 1x1 (https://arxiv.org/abs/1802.02611, section 3.1).
    """
    padding = dilation * (kernel // 2)
    if separable and kernel > 1:
        convolution: list[nn.Module] = [
            Depthwise(in_channels, kernel, dilation=dilation),
            nn.Conv2d(in_channels, channels, 1, bias=False),
        ]
    else:
        convolution = [DilatedConv2d(in_channels, channels, kernel, padding=padding, dilation=dilation, bias=False)]
    return nn.Sequential(*convolution, *after_convolution(channels, dropout))


def after_convolution(channels: int, dropout: float) -> list[nn.Module]:
    """Batch normalisation, ReLU and, where above 0, dropout of whole channels."""
    layers = [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
    return [*layers, nn.Dropout2d(dropout)] if dropout > 0 else layers


class DilatedConv2d(nn.Conv2d):
    """`nn.Conv2d` that computes a 3x3 kernel as the 1x1 it is where its outer taps see padding only."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, C_in, h, w) -> (N, C, h, w)."""
        if self.kernel_size != (3, 3) or self.dilation[0] < max(images.shape[-2:]):
            return super().forward(images)
        return F.conv2d(images, self.weight[:, :, 1:2, 1:2])
