"""A weight for each class by how often it occurs among training images.

- inverse_frequency: 1 / (share of the labelled pixels that are of the class). Together a class's pixels then count as
  much as any other's, and a pixel of a class with one in ten thousand counts a thousand times as much as one of a
  class with one in ten.
- effective_number: (1 - beta) / (1 - beta^n) (Cui et al. 2019, arXiv 1901.05555), with n the number of training
  *images* that show the class. The paper's n are samples that tell something new, and 1 / (1 - beta) is how many of
  those there can be. Neighbouring pixels tell the same, and with n in millions every class would have reached that
  limit: all weights would be equal.
"""

import numpy as np


def weights_by_count(kind: str, pixels: np.ndarray, images: np.ndarray, beta: float) -> np.ndarray:
    """(C,) float64 weights, whose mean over the training pixels is 1; a class without a pixel there has weight 1.

    `pixels` and `images` are (C,) int64: a class's training pixels, and the images that have any of them. `beta` is
    from 0 up to 1, exclusive, and used by "effective_number" only; 0 makes all weights 1.
    """
    present = pixels > 0
    weights = np.ones(len(pixels))
    if not present.any():
        return weights
    if kind == "inverse_frequency":
        raw = 1 / pixels[present]
    else:
        raw = (1 - beta) / -np.expm1(images[present] * np.log(beta)) if beta > 0 else np.ones(present.sum())
    weights[present] = raw * pixels.sum() / (raw * pixels[present]).sum()
    return weights
