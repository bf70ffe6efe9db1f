"""Weights of any number of models: greedy forward selection with replacement on labelled pixels, shrunk to equal ones.

Caruana, Niculescu-Mizil, Crew and Ksikes, Ensemble Selection from Libraries of Models, ICML 2004. Needs no torch.
"""

from collections.abc import Sequence

import numpy as np

from segpipe.metrics.confusion import confusion_matrix, mean_iou

_CHUNK = 2**15  # pixels whose sums stay in the processor's cache


def greedy_counts(probs: np.ndarray, target: np.ndarray, rounds: int) -> tuple[int, ...]:
    """How often each of M models is picked.

    `probs` is (M, C, N) uint8, 255ths, `target` (N,) uint8 of classes or IGNORE_INDEX. In each round the model joins
    whose probabilities, added to the sum of those picked so far, give the highest pooled mIoU, the first of equals.
    The bag of the round with the highest score is kept, the first of equals, so that more rounds never do worse here.
    Sums are whole numbers: no order of addition matters.
    """
    if rounds < 1:
        raise ValueError(f"rounds is {rounds}; expected at least 1")
    total = np.zeros(probs.shape[1:], np.int32)
    counts = np.zeros(len(probs), int)
    best, kept = -1.0, counts
    for _ in range(rounds):
        scores = np.nan_to_num([_score(total, model, target) for model in probs], nan=-1.0)
        winner = int(scores.argmax())
        counts = counts.copy()
        counts[winner] += 1
        total += probs[winner]
        if scores[winner] > best:
            best, kept = scores[winner], counts
    # no pixel counts: nothing is known of any model
    return tuple(kept.tolist()) if kept.any() else (1,) * len(probs)


def shrunk_weights(counts: Sequence[int], shrink: float) -> tuple[float, ...]:
    """Weights that add up to 1: the share of each count, pulled towards equal weights by `shrink`, 0 to 1."""
    shares = np.array(counts) / sum(counts)
    return tuple(float(weight) for weight in (1 - shrink) * shares + shrink / len(counts))


def _score(total: np.ndarray, added: np.ndarray, target: np.ndarray) -> float:
    num_classes, confusion = len(total), 0
    for start in range(0, target.size, _CHUNK):
        part = np.s_[:, start : start + _CHUNK]
        preds = _argmax(total[part] + added[part])
        confusion = confusion + confusion_matrix(preds, target[start : start + _CHUNK], num_classes)
    return mean_iou(confusion)


def _argmax(sums: np.ndarray) -> np.ndarray:
    """(C, N) to (N,) uint8, the first of equals; numpy's own is several times slower along the first axis."""
    best, preds = sums[0].copy(), np.zeros(sums.shape[1], np.uint8)
    for index in range(1, len(sums)):
        better = sums[index] > best
        preds[better] = index
        np.maximum(best, sums[index], out=best)
    return preds


class PixelSample:
    """Pixels of labelled images on a regular grid, as many as `budget` bytes of probabilities hold.

    The grid is as fine as all images together allow, so that memory is flat in their number.
    """

    def __init__(self, sizes: Sequence[tuple[int, int]], num_models: int, num_classes: int, budget: int) -> None:
        pixels = sum(height * width for height, width in sizes)
        allowed = max(budget // (num_models * num_classes), 1)
        self.step = max(int(np.ceil(np.sqrt(pixels / allowed))), 1)
        self._probs: list[np.ndarray] = []
        self._targets: list[np.ndarray] = []

    def add(self, probs: Sequence[np.ndarray], target: np.ndarray) -> None:
        """One image: (H, W, C) float probabilities of each model, and the (H, W) uint8 target."""
        grid = np.ix_(*(np.arange(min(self.step // 2, length - 1), length, self.step) for length in target.shape))
        num_classes = probs[0].shape[-1]
        stored = [np.rint(each[grid] * 255).astype(np.uint8).reshape(-1, num_classes).T for each in probs]
        self._probs.append(np.stack(stored))
        self._targets.append(target[grid].ravel())

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """(M, C, N) uint8 probabilities and (N,) uint8 targets."""
        return np.concatenate(self._probs, axis=-1), np.concatenate(self._targets)
