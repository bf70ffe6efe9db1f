"""Dilated depthwise convolutions that do not make a CPU wait, and what else of a timm encoder costs time for nothing.

oneDNN computes a dilated depthwise convolution without its fast path: of an EfficientNet-b0 at output stride 16 the
backward passes of three such layers were a tenth of a training step. Pixels a dilation apart never meet those between
them, so the image falls into dilation x dilation smaller ones on which the same kernel is an undilated convolution
(space to batch; https://arxiv.org/abs/1511.07122 introduces dilation so, TensorFlow computes it so).
"""

import torch
import torch.nn.functional as F
from torch import nn


class Depthwise(nn.Conv2d):
    """A depthwise convolution that keeps its input's size; the weights are those of `nn.Conv2d`."""

    def __init__(self, channels: int, kernel: int, *, dilation: int = 1) -> None:
        padding = dilation * (kernel // 2)
        super().__init__(channels, channels, kernel, padding=padding, dilation=dilation, groups=channels, bias=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, C, H, W); as `nn.Conv2d`, up to rounding."""
        dilation = self.dilation[0]
        # GPUs have kernels for it; images of two pixels gain nothing: 10 ms for 6 at dilation 12 of 16x16 features
        if dilation == 1 or images.device.type != "cpu" or min(images.shape[-2:]) <= 2 * dilation:
            return super().forward(images)
        parts = space_to_batch(images, dilation)
        done = F.conv2d(parts, self.weight, padding=self.kernel_size[0] // 2, groups=self.groups)
        return batch_to_space(done, dilation, images.shape)


def space_to_batch(images: torch.Tensor, factor: int) -> torch.Tensor:
    """(N, C, H, W) -> (N x factor x factor, C, h, w): every factor-th pixel together, zeros where one is missing."""
    padded = F.pad(images, (0, -images.shape[-1] % factor, 0, -images.shape[-2] % factor))
    count, channels, height, width = padded.shape
    grid = padded.permute(0, 2, 3, 1).reshape(count, height // factor, factor, width // factor, factor, channels)
    parts = grid.permute(0, 2, 4, 1, 3, 5).reshape(-1, height // factor, width // factor, channels)
    return parts.permute(0, 3, 1, 2)


def batch_to_space(parts: torch.Tensor, factor: int, shape: torch.Size) -> torch.Tensor:
    """What `space_to_batch` took apart, with this shape (N, C, H, W)."""
    _, channels, height, width = parts.shape
    grid = parts.permute(0, 2, 3, 1).reshape(shape[0], factor, factor, height, width, channels)
    padded = grid.permute(0, 3, 1, 4, 2, 5).reshape(shape[0], height * factor, width * factor, channels)
    return padded[:, : shape[-2], : shape[-1]].permute(0, 3, 1, 2)


def without_waste(encoder: nn.Module) -> None:
    """Change how a timm encoder is computed, not what: names and values of its weights stay.

    Its dilated depthwise convolutions become `Depthwise`. SiLU no longer works in place: autograd would keep a copy of
    each input for its gradient, so that it costs a pass over memory and saves none.
    """
    for module in list(encoder.modules()):
        if isinstance(module, nn.SiLU):
            module.inplace = False
        for name, child in module.named_children():
            if _is_dilated_depthwise(child):
                swapped = Depthwise(child.in_channels, child.kernel_size[0], dilation=child.dilation[0])
                swapped.weight = child.weight
                setattr(module, name, swapped)


def _is_dilated_depthwise(module: nn.Module) -> bool:
    if type(module) is not nn.Conv2d or module.bias is not None:
        return False
    kernel, dilation = module.kernel_size[0], module.dilation[0]
    return (
        module.groups == module.in_channels == module.out_channels
        and dilation > 1
        and module.kernel_size == (kernel, kernel)
        and kernel % 2 == 1
        and module.dilation == (dilation, dilation)
        and module.stride == (1, 1)
        and module.padding == (dilation * (kernel // 2),) * 2
        and module.padding_mode == "zeros"
    )
