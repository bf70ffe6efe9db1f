"""How long 10,000 resamples of 300 groups take: the paired comparison of two models by either mIoU.

PYTHONPATH=src python benchmarks/bootstrap.py
"""

import time

import numpy as np

from segpipe.metrics.bootstrap import compare_miou


def main() -> None:
    """Print seconds for each statistic and number of classes."""
    for num_classes in (12, 150):
        rng = np.random.default_rng(0)
        better = rng.poisson(5, (300, num_classes, num_classes)) + 100 * np.eye(num_classes, dtype=int)
        worse = np.array([rng.permuted(matrix, axis=1) for matrix in better])
        for statistic in ("pooled", "per_image"):
            start = time.perf_counter()
            compare_miou(better, worse, range(300), statistic=statistic)
            print(f"{num_classes} classes, {statistic}: {time.perf_counter() - start:.2f} s")


if __name__ == "__main__":
    main()
