"""Terms that are a mean over pixels: ce, soft_ce, focal.

Each is the sum over the valid pixels divided by their number. With class weights each pixel counts by the weight of its
class, and the sum is divided by the sum of those weights, as torch's cross_entropy does: a common factor changes
nothing. soft_ce also weighs what it spreads over the other classes by the weight of each, as torch does;
where all pixels of a batch have classes of weight 0, its terms are 0 (torch divides by 0).

With soft labels ce and soft_ce take the cross-entropy with a pixel's distribution p in place of that with its class,
-sum_c p_c log q_c (Hinton et al. 2015, arXiv 1503.02531, at temperature 1), smoothed as ever by soft_ce. Class weights
go by the pixel's class, and so does focal, whose factor asks how wrong one class is.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from segpipe.labels import IGNORE_INDEX

PIXEL_TERMS = ("ce", "soft_ce", "focal")


class PixelSums:
    """What pixel terms share: the negative log-likelihood of each pixel's class, and what the pixels count.

    `log_probs` is (N, C, H, W), `targets` (N, H, W) int64, `class_weights` (C,) or None, `soft` (N, C, H, W) uint8 with
    a pixel's distribution as shares of its sum, or None; where that sum is 0 the pixel has its class alone. Where no
    pixel is valid each term is 0, and so is its gradient.
    """

    def __init__(
        self, log_probs: Tensor, targets: Tensor, class_weights: Tensor | None, soft: Tensor | None = None
    ) -> None:
        self.log_probs, self.class_weights = log_probs, class_weights
        self.valid = valid = targets != IGNORE_INDEX
        # reduction="none" is 0 at ignored pixels and, unlike torch's own mean, is not summed by atomics on CUDA
        self.nll = F.nll_loss(log_probs, targets, ignore_index=IGNORE_INDEX, reduction="none")
        self.cross_entropy = self.nll if soft is None else self._with_distributions(soft)
        if class_weights is None:
            # pseudo labels can leave no valid pixel: 0 / 1, as asking for it in Python would wait for the device
            self.count = valid.sum().clamp_min(1)
        else:
            self.class_weights = class_weights.to(log_probs.dtype)
            self.of_pixel = self.class_weights[torch.where(valid, targets, 0)] * valid
            total = self.of_pixel.sum()
            self.valid = valid & (total > 0)  # else soft_ce would spread over all pixels, and divide by 1
            self.count = torch.where(total > 0, total, 1)

    def _with_distributions(self, soft: Tensor) -> Tensor:
        """(N, H, W) cross-entropy with each pixel's distribution, 0 at ignored pixels."""
        total = soft.sum(1)
        shares = soft.to(self.log_probs.dtype) / total.clamp_min(1).unsqueeze(1)
        return torch.where(self.valid & (total > 0), -(shares * self.log_probs).sum(1), self.nll)

    def sum(self, values: Tensor) -> Tensor:
        """Of (N, H, W) values that are 0 at ignored pixels, each by the weight of its pixel's class."""
        return (values if self.class_weights is None else values * self.of_pixel).sum()

    def ce(self) -> Tensor:
        """Cross-entropy."""
        return self.sum(self.cross_entropy) / self.count

    def soft_ce(self, smoothing: float) -> Tensor:
        """Cross-entropy with `smoothing`, (1 - s) of it on the target and s spread over all classes."""
        log_probs = self.log_probs
        if self.class_weights is not None:
            log_probs = log_probs * self.class_weights[:, None, None]
        spread = -(log_probs.mean(dim=1) * self.valid).sum() / self.count
        return (1 - smoothing) * self.sum(self.cross_entropy) / self.count + smoothing * spread

    def focal(self, gamma: float) -> Tensor:
        """(1 - p)^gamma * cross-entropy, p the softmax probability of the target."""
        # 1 - exp(-nll) without cancellation, and never 0: the gradient of 0^gamma is infinite for gamma below 1
        wrongness = (-torch.expm1(-self.nll)).clamp_min(torch.finfo(self.nll.dtype).eps)
        return self.sum(wrongness**gamma * self.nll) / self.count
