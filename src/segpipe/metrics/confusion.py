"""Intersection over union from confusion matrices. Needs numpy only.

One confusion matrix per image, rows = truth, columns = prediction, says all that is needed: mIoU pooled over images or
averaged over them, and through `segpipe.metrics.bootstrap` how sure either is.
"""

from typing import Literal, get_args

import numpy as np

from segpipe.labels import IGNORE_INDEX

# What a class in neither truth nor prediction counts in a mean over classes. Leaderboards differ: some leave it out,
# some count it 0 (an empty class was "not found"), some 1 (it was rightly not predicted).
Absent = Literal["skip", "zero", "one"]


def confusion_matrix(preds: np.ndarray, target: np.ndarray, num_classes: int) -> np.ndarray:
    """Count pixels by true class (row) and predicted class (column).

    Both inputs are uint8, (H, W) or (N, H, W). Pixels whose target is IGNORE_INDEX are not counted, whatever is
    predicted there. Returns (num_classes, num_classes) int64. Raises ValueError when the shapes differ, when either
    is not uint8, and when a counted pixel has a prediction or target that is no class.
    """
    if preds.shape != target.shape:
        raise ValueError(f"predictions have shape {preds.shape}, targets {target.shape}; expected the same")
    if preds.dtype != np.uint8 or target.dtype != np.uint8:
        raise ValueError(f"predictions are {preds.dtype}, targets {target.dtype}; expected uint8 for both")
    if not 1 <= num_classes <= IGNORE_INDEX:
        raise ValueError(f"num_classes is {num_classes}; expected 1 to {IGNORE_INDEX}")
    unknown = preds >= num_classes
    unknown &= target != IGNORE_INDEX
    if unknown.any():
        raise ValueError(f"predicted class {preds[unknown].max()}, but there are only {num_classes} classes, from 0")
    # Each pair becomes one number; 16 bits hold the highest, 255 * 255 + 255. Ignored pixels land behind all classes,
    # so that nothing needs to be masked out, which would copy the arrays.
    pairs = target.astype(np.uint16)
    pairs *= np.uint16(num_classes)
    pairs += preds
    counts = np.bincount(pairs.ravel(), minlength=IGNORE_INDEX * num_classes)
    if counts[num_classes**2 : IGNORE_INDEX * num_classes].any():
        found = np.unique(target[(target >= num_classes) & (target != IGNORE_INDEX)]).tolist()
        raise ValueError(
            f"targets hold {found}, but there are only {num_classes} classes, from 0; "
            f"unlabelled pixels must be {IGNORE_INDEX}"
        )
    return counts[: num_classes**2].reshape(num_classes, num_classes).astype(np.int64)


def iou_per_class(confusion: np.ndarray) -> np.ndarray:
    """Intersection over union of each class, (C,) float64; NaN for a class in neither truth nor prediction."""
    return iou_of_counts(class_counts(np.asarray(confusion)))


def mean_iou(confusion: np.ndarray, absent: Absent = "skip") -> float:
    """Mean of `iou_per_class`; `absent` says what a NaN counts there. NaN if no pixel was counted, whatever `absent`.

    With "skip" the mean is over the classes in truth or prediction, with "zero" and "one" over all C.
    """
    return float(mean_of_known(iou_per_class(confusion), absent))


def pooled_miou(confusions: np.ndarray, absent: Absent = "skip") -> float:
    """mIoU of all images taken as one: the (N, C, C) matrices are added up first. The headline number.

    Not the same as `per_image_miou`: here every pixel counts the same, so a large object outweighs a small one of its
    class, and a false alarm of a few pixels in one image is only a few pixels.
    """
    return mean_iou(check_confusions(confusions).sum(axis=0), absent)


def per_image_miou(confusions: np.ndarray, absent: Absent = "skip") -> float:
    """Mean of `image_mious`: every image counts the same. NaN if no image has a counted pixel."""
    return float(mean_of_known(image_mious(confusions, absent)))


def image_mious(confusions: np.ndarray, absent: Absent = "skip") -> np.ndarray:
    """mIoU of each image alone, (N,) float64, from (N, C, C) matrices; NaN, left out of means, without a counted pixel.

    With "skip" the classes are those in the image's own truth or prediction, so a false alarm of one pixel costs the
    image a class at IoU 0. With "zero" an image without a class can never reach 1; with "one" every class that is
    rightly not predicted counts in full, which lifts all scores where images show few classes.
    """
    return mean_of_known(iou_of_counts(class_counts(check_confusions(confusions))), absent)


def check_confusions(confusions: np.ndarray) -> np.ndarray:
    """The matrices as one (N, C, C) array with N > 0; ValueError for anything else."""
    confusions = np.asarray(confusions)
    if len(confusions) == 0:
        raise ValueError("no confusion matrix was given; expected one per image")
    if confusions.ndim != 3 or confusions.shape[1] != confusions.shape[2]:
        raise ValueError(f"confusion matrices have shape {confusions.shape}; expected (images, classes, classes)")
    return confusions


def class_counts(confusions: np.ndarray) -> np.ndarray:
    """(..., C, C) matrices as (..., 3, C): pixels of each class that agree, that are truly it, that are called it."""
    agree = np.diagonal(confusions, axis1=-2, axis2=-1)
    return np.stack([agree, confusions.sum(axis=-1), confusions.sum(axis=-2)], axis=-2)


def iou_of_counts(class_counts: np.ndarray) -> np.ndarray:
    """(..., 3, C) counts to (..., C) IoU; NaN for a class in neither truth nor prediction."""
    agree, actual, predicted = np.moveaxis(class_counts, -2, 0)
    union = actual + predicted - agree
    return np.divide(agree, union, out=np.full(union.shape, np.nan), where=union > 0)


def mean_of_known(values: np.ndarray, absent: Absent = "skip") -> np.ndarray:
    """(...) mean over the last axis, where a NaN counts as `absent` says; NaN, without numpy's warning, where all is.

    Raises ValueError for an unknown `absent`.
    """
    if absent not in get_args(Absent):
        raise ValueError(f"absent is {absent!r}; expected one of {', '.join(get_args(Absent))}")
    known = ~np.isnan(values)
    number = known.sum(axis=-1)
    total = np.where(known, values, float(absent == "one")).sum(axis=-1)
    counted = number if absent == "skip" else np.full_like(number, values.shape[-1])
    return np.divide(total, counted, out=np.full(np.shape(total), np.nan), where=number > 0)
