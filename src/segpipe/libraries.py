"""Versions of the libraries that decide a run's numbers, for model.json, selection.json and the report.

In one environment they never differ, so equal runs still give equal files; in another they are the first thing to
compare when numbers do.
"""

import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

# distributions, by the names that pip knows
TRAINING = (
    "torch",
    "torchvision",
    "lightning-fabric",
    "timm",
    "segmentation-models-pytorch",
    "albumentations",
    "opencv-python-headless",
    "numpy",
    "madgrad",
)
SCORING = ("numpy", "pandas", "opencv-python-headless")

Libraries = dict[str, str | None]


def library_versions(names: Iterable[str]) -> Libraries:
    """The version of Python, then that of each distribution in `names`; None where it is not installed."""
    return {"python": platform.python_version()} | {name: installed_version(name) for name in names}


def installed_version(name: str) -> str | None:
    """The version of a distribution as its description gives it, build tag included; None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
