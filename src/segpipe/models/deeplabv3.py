"""Our own DeepLabV3 (Chen et al. 2017, https://arxiv.org/abs/1706.05587) on any timm encoder with `features_only`.

Unlike smp's, it takes dropout after each decoder convolution and in the encoder, and any number of atrous rates.
"""

from collections.abc import Sequence

import timm
import torch
import torch.nn.functional as F
from torch import nn


class DeepLabV3(nn.Module):
    """Encoder features at `output_stride`, atrous spatial pyramid pooling, logits at input size.

    Dropout stands after the encoder's last features (`dropout_encoder`), after each decoder convolution
    (`dropout_decoder`) and after the projection (`dropout_projection`); never on the logits, where it would train
    the loss on randomly erased classes.
    """

    def __init__(
        self,
        encoder: str,
        num_classes: int,
        *,
        output_stride: int,
        atrous_rates: Sequence[int],
        dropout_encoder: float,
        dropout_decoder: float,
        dropout_projection: float,
        channels: int,
    ) -> None:
        super().__init__()
        stride = {} if output_stride == 32 else {"output_stride": output_stride}
        self.encoder = timm.create_model(encoder, pretrained=False, features_only=True, out_indices=(-1,), **stride)
        self.encoder_dropout = nn.Dropout2d(dropout_encoder)
        self.aspp = ASPP(self.encoder.feature_info.channels()[-1], channels, atrous_rates, dropout_decoder)
        self.projection_dropout = nn.Dropout(dropout_projection)
        self.refine = conv_block(channels, channels, 3, dropout=dropout_decoder)
        self.classifier = nn.Conv2d(channels, num_classes, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) float normalised, H and W multiples of the stride -> logits (N, C, H, W)."""
        features = self.encoder_dropout(self.encoder(images)[-1])
        features = self.refine(self.projection_dropout(self.aspp(features)))
        logits = self.classifier(features)
        return F.interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=False)


class ASPP(nn.Module):
    """Parallel convolutions at several dilations beside a 1x1 convolution and image pooling, projected together."""

    def __init__(self, in_channels: int, channels: int, atrous_rates: Sequence[int], dropout: float) -> None:
        super().__init__()
        branches = [conv_block(in_channels, channels, 1, dropout=dropout)]
        branches += [conv_block(in_channels, channels, 3, dilation=rate, dropout=dropout) for rate in atrous_rates]
        self.branches = nn.ModuleList(branches)
        self.pooled = conv_block(in_channels, channels, 1, dropout=dropout)
        self.project = conv_block(channels * (len(branches) + 1), channels, 1, dropout=0.0)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(N, C_in, h, w) -> (N, channels, h, w)."""
        pooled = self.pooled(features.mean((2, 3), keepdim=True)).expand(-1, -1, *features.shape[-2:])
        return self.project(torch.cat([*(branch(features) for branch in self.branches), pooled], dim=1))


def conv_block(in_channels: int, channels: int, kernel: int, *, dropout: float, dilation: int = 1) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU and, where above 0, dropout of whole channels."""
    padding = dilation * (kernel // 2)
    convolution = nn.Conv2d(in_channels, channels, kernel, padding=padding, dilation=dilation, bias=False)
    layers = [convolution, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Dropout2d(dropout)) if dropout > 0 else nn.Sequential(*layers)
