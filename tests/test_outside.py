"""Every transform of albumentations that a list can name: what it leaves in the target, and what it is refused for."""

import inspect

import albumentations as A
import numpy as np
import pytest

from segpipe.data.augment import GROUPS, UNUSABLE, build_transforms, check_transforms, usable_transforms
from segpipe.labels import IGNORE_INDEX

V = IGNORE_INDEX
HEIGHT, WIDTH = 64, 48
IMAGE = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
# strong settings, by which pixels from outside come in, or pixels are erased
BRINGS_IN = {
    "Affine": {"scale": [0.4, 0.6], "rotate": [-45, 45], "shear": [-20, 20]},
    "CenterCrop": {"height": 80, "width": 80, "pad_if_needed": True},
    "CoarseDropout": {},
    "Crop": {"x_max": 80, "y_max": 80, "pad_if_needed": True},
    "CropAndPad": {"percent": 0.2},
    "ElasticTransform": {"alpha": 300, "sigma": 10},
    "Erasing": {},
    "GridDistortion": {"distort_limit": 0.8},
    "GridDropout": {},
    "MaskDropout": {},
    "OpticalDistortion": {"distort_limit": [0.5, 0.9]},
    "Pad": {"padding": 10},
    "PadIfNeeded": {"min_height": 80, "min_width": 80},
    "Perspective": {"scale": [0.2, 0.3], "fit_output": True},
    "RandomCrop": {"height": 80, "width": 80, "pad_if_needed": True},
    "Rotate": {"limit": [20, 40]},
    "SafeRotate": {"limit": [20, 40]},
    "ThinPlateSpline": {"scale_range": [0.3, 0.5]},
    "XYMasking": {"num_masks_x": 2, "mask_x_length": 5},
}
REQUIRED = {
    "CropNonEmptyMaskIfExists": {"height": 20, "width": 20},
    "LongestMaxSize": {"max_size": 40},
    "RandomResizedCrop": {"size": [32, 32]},
    "RandomSizedCrop": {"min_max_height": [20, 30], "size": [32, 32]},
    "Resize": {"height": 90, "width": 70},
    "SmallestMaxSize": {"max_size": 40},
}
# these come with a warning that names another one, and so are refused with its advice
ADVISED_AGAINST = {"FrequencyMasking", "PiecewiseAffine", "ShiftScaleRotate", "TimeMasking", "TimeReverse"}
TARGETS = sorted(name for name, each in usable_transforms().items() if issubclass(each, A.DualTransform))


def drawn(name: str, target: np.ndarray, draws: int = 8):
    """Images and targets of the transform, always applied, with as many seeds."""
    entry = {name: {"p": 1} | BRINGS_IN.get(name, {}) | REQUIRED.get(name, {})}
    transform = build_transforms([entry], "augment.train")
    for seed in range(draws):
        transform.set_random_seed(seed)
        result = transform(image=IMAGE, mask=target.copy())
        yield result["image"], result["mask"]


@pytest.mark.parametrize("name", [name for name in TARGETS if name not in ADVISED_AGAINST])
def test_a_target_keeps_its_labels_and_gains_none_but_ignore(name):
    target = np.full((HEIGHT, WIDTH), 3, np.uint8)
    target[20:40, 10:30] = 9
    found = set()
    for image, moved in drawn(name, target):
        assert image.dtype == moved.dtype == np.uint8 and image.shape[:2] == moved.shape
        found |= set(moved.ravel().tolist())
    assert found - {V} <= {3, 9} and found & {3, 9}
    assert (V in found) == (name in BRINGS_IN)


@pytest.mark.parametrize("name", sorted(usable_transforms().keys() - {*TARGETS, *GROUPS}))
def test_what_changes_the_image_alone_keeps_its_size_and_its_8_bits(name):
    target = np.full((HEIGHT, WIDTH), 3, np.uint8)
    for image, kept in drawn(name, target, draws=2):
        assert image.dtype == np.uint8 and image.shape == IMAGE.shape and (kept == 3).all()


def test_every_transform_of_the_library_is_tried_here_or_refused():
    bases = {"BasicTransform", "DualTransform", "ImageOnlyTransform", "Transform3D"}
    classes = {name for name, each in vars(A).items() if inspect.isclass(each)}
    transforms = {name for name in classes if issubclass(getattr(A, name), A.BasicTransform | A.BaseCompose)}
    assert transforms - bases - {"BaseCompose"} == usable_transforms().keys() | UNUSABLE.keys()


@pytest.mark.parametrize("name", sorted({*UNUSABLE, *ADVISED_AGAINST}))
def test_what_training_cannot_use_is_refused_before_it_runs(name):
    (line,) = check_transforms([name], "augment.train")
    assert line.startswith(f"augment.train.0.{name}: ")
