"""Drawing groups of images with replacement and adding up what each holds. Needs numpy only."""

from collections.abc import Callable, Hashable, Sequence

import numpy as np

from segpipe.metrics.confusion import check_confusions, class_counts

_CHUNK_ELEMENTS = 1_000_000  # resample counts held in memory at once, 8 MB


def paired_counts(models: Sequence[np.ndarray], groups: Sequence[Hashable]) -> np.ndarray:
    """Class counts per image, (N, models, 3, C) int64, as `class_counts` gives them.

    `models` holds (N, C, C) confusion matrices, one model an element; `groups` names the group of each image. Raises
    ValueError when their numbers or classes differ, when the models were scored against different targets, and when
    no image has a counted pixel.
    """
    matrices = [check_confusions(confusions) for confusions in models]
    for confusions in matrices:
        if len(confusions) != len(groups):
            raise ValueError(
                f"{len(confusions)} confusion matrices but {len(groups)} groups; expected one of each per image"
            )
        if confusions.shape != matrices[0].shape:
            raise ValueError(
                f"the models have {matrices[0].shape[1]} and {confusions.shape[1]} classes; expected the same"
            )
    counts = np.stack([class_counts(confusions) for confusions in matrices], axis=1)
    for model in range(1, len(matrices)):
        differs = (counts[:, model, 1] != counts[:, 0, 1]).any(axis=-1)
        if differs.any():
            raise ValueError(
                f"image {np.flatnonzero(differs)[0]} has other true pixel counts for one model than for the other; "
                "score both on the same targets, in the same order"
            )
    if not counts.any():
        raise ValueError(f"none of the {len(groups)} images has a labelled pixel, so there is nothing to resample")
    return counts


def group_sums(values: np.ndarray, counts: np.ndarray, groups: Sequence[Hashable]) -> np.ndarray:
    """(N, ...) values of images added up by group, in order of appearance: (groups, ...).

    A group without a counted pixel is left out: it says nothing, so it must not pass for a scene.
    """
    numbers: dict[Hashable, int] = {}
    group_of_image = np.array([numbers.setdefault(group, len(numbers)) for group in groups])
    sums = np.zeros((len(numbers), *values.shape[1:]), values.dtype)
    np.add.at(sums, group_of_image, values)
    return sums[np.unique(group_of_image[counts.any(axis=(1, 2, 3))])]


def resampled(
    group_sums: np.ndarray, resamples: int, seed: int, score: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """`score` of what each resample of the groups adds up to: (resamples, ...) float64.

    `group_sums` is (groups, ...); each resample draws as many groups as there are, with replacement. `score` gets
    (some resamples, ...) sums at a time, so that memory stays flat in the number of resamples.
    """
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}; expected at least 1")
    num_groups = len(group_sums)
    rng = np.random.default_rng(seed)
    rows = max(1, _CHUNK_ELEMENTS // num_groups)
    chunks = []
    for start in range(0, resamples, rows):
        number = min(rows, resamples - start)
        drawn = rng.integers(num_groups, size=(number, num_groups))
        drawn += num_groups * np.arange(number)[:, None]
        times = np.bincount(drawn.ravel(), minlength=number * num_groups).reshape(number, num_groups)
        sums = _weighted_sums(times.astype(np.float64), group_sums.reshape(num_groups, -1))
        chunks.append(score(sums.reshape(number, *group_sums.shape[1:])))
    return np.concatenate(chunks)


def _weighted_sums(times: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """times @ columns, (resamples, groups) by (groups, columns), the same bits for equal columns and any chunk.

    float64 holds counts of pixels exactly, in any order of addition, so that BLAS, which is fast, may choose it. For
    fractions the order must be fixed: a model would otherwise differ from its own copy in the last digit.
    """
    if np.issubdtype(columns.dtype, np.integer):
        return times @ columns.astype(np.float64)
    return np.stack([(times * column).sum(axis=1) for column in columns.T], axis=-1)
