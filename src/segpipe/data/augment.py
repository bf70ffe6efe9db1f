"""The augmentation list of params.yaml as one albumentations transform, drawn from a seed for each sample.

albumentations 2.0.8 gives every loader worker the same random sequence and repeats it each epoch (its issues 2473
and 2559). Here each call is reseeded from (seed, epoch, image, how often the image came before in the epoch), so that
results depend on no worker count.
"""

import difflib
import functools
import inspect
import os
import warnings
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import otherwise asks the package index for updates
import albumentations as A

from segpipe.labels import IGNORE_INDEX
from segpipe.params import stop_on

GROUPS = ("OneOf", "SomeOf", "Sequential")  # their argument `transforms` is a list like the outer one
_NOT_8_BIT = "does not give 8-bit images; the network takes them and normalises by itself: leave it out"
_FROM_ELSEWHERE = "needs images, boxes or texts beside the image, which training does not have"
_VOLUMES = "is for volumes"
_NO_GROUP = f"is no group that a list can hold; take {', '.join(GROUPS)}"
UNUSABLE = {  # what albumentations has and a list in params.yaml cannot use; all else is tried out by a test
    "GridElasticDeform": "puts class 0 where it brings in pixels from outside; take ElasticTransform or GridDistortion",
    "Lambda": "takes functions, which a list in YAML cannot have",
} | {
    name: reason
    for reason, names in {
        _NOT_8_BIT: ("FromFloat", "Normalize", "ToFloat", "ToTensorV2"),
        _FROM_ELSEWHERE: (
            *("BBoxSafeRandomCrop", "RandomCropNearBBox", "RandomSizedBBoxSafeCrop", "AtLeastOneBBoxRandomCrop"),
            *("FDA", "HistogramMatching", "PixelDistributionAdaptation"),
            *("Mosaic", "OverlayElements", "TextImage"),
        ),
        _VOLUMES: (
            *("CenterCrop3D", "CoarseDropout3D", "CubicSymmetry", "Pad3D", "PadIfNeeded3D", "RandomCrop3D"),
            "ToTensor3D",
        ),
        _NO_GROUP: ("Compose", "OneOrOther", "RandomOrder", "ReplayCompose", "SelectiveChannelTransform"),
    }.items()
    for name in names
}


class Augment:
    """Albumentations transforms, the same outcome for the same (seed, epoch, index, repeat)."""

    def __init__(self, transforms: Sequence[str | dict[str, Any]], seed: int, key: str) -> None:
        self._compose = build_transforms(transforms, key)
        self._seed = seed

    def __call__(
        self, image: np.ndarray, target: np.ndarray, *, epoch: int, index: int, repeat: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """`image` (H, W, 3) uint8 and `target` (H, W) uint8, transformed together."""
        self._start((epoch, index, repeat))
        result = self._compose(image=image, mask=target)
        return result["image"], result["mask"]

    def with_origin(
        self, image: np.ndarray, target: np.ndarray, origin: np.ndarray, *, epoch: int, index: int, repeat: int = 0
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The same image and target, and `origin` (H, W, 4) uint8 transformed as the target is."""
        self._start((epoch, index, repeat))
        result = self._compose(image=image, mask=target, origin=origin)
        return result["image"], result["mask"], result["origin"]

    def _start(self, drawn_for: tuple[int, int, int]) -> None:
        seed = np.random.SeedSequence([self._seed, *drawn_for]).generate_state(1)[0]
        self._compose.set_random_seed(int(seed))


def build_transforms(transforms: Sequence[str | dict[str, Any]], key: str) -> A.Compose:
    """The list at `key` of params.yaml as one transform.

    Pixels that a geometric transform brings in from outside the image become IGNORE_INDEX in the target, not class 0;
    so do the pixels that a dropout transform erases. Raises ValueError with every unknown name and argument and the
    nearest valid one.
    """
    built, problems = _build_all(transforms, key)
    stop_on("params.yaml", problems)
    return A.Compose(built, additional_targets={"origin": "mask"})


def check_transforms(transforms: Sequence[str | dict[str, Any]], key: str) -> list[str]:
    """What `build_transforms` would refuse of the list at `key`, a line each."""
    return _build_all(transforms, key)[1]


def _build_all(transforms: Sequence[str | dict[str, Any]], key: str) -> tuple[list[Any], list[str]]:
    problems: list[str] = []
    return [_build(entry, f"{key}.{position}", problems) for position, entry in enumerate(transforms)], problems


def _build(entry: str | dict[str, Any], key: str, problems: list[str]) -> Any:
    named = {entry: None} if isinstance(entry, str) else entry
    if not isinstance(named, dict) or len(named) != 1:  # inner lists come here unchecked
        found = list(named) if isinstance(named, dict) else named
        problems.append(f"{key}: found {found!r}; expected one transform name with its arguments beneath it")
        return None
    name, arguments = next(iter(named.items()))
    if not isinstance(arguments, dict | None):
        problems.append(f"{key}.{name}: found {arguments!r}; expected its arguments by name")
        return None
    arguments = dict(arguments or {})
    if name in UNUSABLE:
        problems.append(f"{key}.{name}: {UNUSABLE[name]}")
        return None
    transform = usable_transforms().get(name)
    if transform is None:
        problems.append(f"{key}: {name!r} is no albumentations transform{_nearest(name, list(usable_transforms()))}")
        return None
    if name in GROUPS:
        inner = arguments.get("transforms")
        if not isinstance(inner, list) or not inner:
            problems.append(f"{key}.{name}.transforms: found {inner!r}; expected a list of transforms")
            return None
        arguments["transforms"] = [_build(e, f"{key}.{name}.{i}", problems) for i, e in enumerate(inner)]
        if None in arguments["transforms"]:
            return None
    known = list(inspect.signature(transform.__init__).parameters)[1:]
    unknown = [argument for argument in arguments if argument not in known]
    problems += [f"{key}.{name}.{a}: unknown argument{_nearest(a, known)}; valid: {', '.join(known)}" for a in unknown]
    if unknown:
        return None
    if arguments.get("mask_interpolation", cv2.INTER_NEAREST) != cv2.INTER_NEAREST:
        found = arguments["mask_interpolation"]
        problems.append(
            f"{key}.{name}.mask_interpolation: found {found!r}; between two classes lies no third: leave it out"
        )
        return None
    if "fill_mask" in known:
        arguments.setdefault("fill_mask", IGNORE_INDEX)
    return _construct(transform, arguments, f"{key}.{name}", problems)


def _construct(transform: Any, arguments: dict[str, Any], key: str, problems: list[str]) -> Any:
    # YAML has lists where albumentations wants tuples
    arguments = {k: tuple(v) if isinstance(v, list) and k != "transforms" else v for k, v in arguments.items()}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # it only warns about values it then leaves out
            return transform(**arguments)
    except (ValueError, TypeError, UserWarning) as error:
        problems.append(f"{key}: {' '.join(str(error).split())}")
        return None


@functools.cache
def usable_transforms() -> dict[str, type]:
    """The transforms and groups that a list may name."""
    classes = {name: each for name, each in vars(A).items() if inspect.isclass(each)}
    bases = {A.BasicTransform, A.DualTransform, A.ImageOnlyTransform, A.Transform3D}
    transforms = {n: c for n, c in classes.items() if issubclass(c, A.BasicTransform) and c not in bases}
    return {n: c for n, c in transforms.items() if n not in UNUSABLE} | {name: classes[name] for name in GROUPS}


def _nearest(name: str, names: list[str]) -> str:
    match = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean {match[0]}?" if match else ""
