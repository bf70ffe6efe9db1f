import numpy as np
import pytest
import torch

from segpipe.data.augment import Augment, build_transforms, check_transforms
from segpipe.data.dataset import EpochBatches, Part, Sample, collate, make_loader
from segpipe.data.store import PackedArrays, PackedWriter
from segpipe.labels import IGNORE_INDEX

V = IGNORE_INDEX
STRONG = [{"HorizontalFlip": {"p": 0.5}}, {"Affine": {"rotate": [-30, 30], "p": 1}}, {"GaussNoise": {"p": 1}}]
IMAGE = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
TARGET = np.random.default_rng(1).integers(0, 3, (16, 24), np.uint8)


def refusals(*transforms):
    with pytest.raises(ValueError) as error:
        build_transforms(transforms, "augment.train")
    head, *lines = str(error.value).split("\n")
    assert head == f"params.yaml: {len(lines)} problem{'s' if len(lines) > 1 else ''}"
    assert check_transforms(transforms, "augment.train") == [line.strip() for line in lines]
    return check_transforms(transforms, "augment.train")


# One outcome for each seed, epoch and image


def draw(seed=0, epoch=3, index=5, transforms=STRONG):
    image, target = Augment(transforms, seed, "augment.train")(IMAGE, TARGET, epoch=epoch, index=index)
    return image.tobytes() + target.tobytes()


def test_the_same_seed_epoch_and_image_give_the_same_result_whatever_was_drawn_before():
    augment = Augment(STRONG, 0, "augment.train")
    for epoch in range(3):  # another history, such as another worker's
        augment(IMAGE, TARGET, epoch=epoch, index=1)
    image, target = augment(IMAGE, TARGET, epoch=3, index=5)
    assert image.tobytes() + target.tobytes() == draw()


@pytest.mark.parametrize("other", [{"seed": 1}, {"epoch": 4}, {"index": 6}])
def test_another_seed_epoch_or_image_is_drawn_anew(other):
    assert draw(**other) != draw()


def test_the_choice_within_one_of_is_drawn_by_the_same_seed():
    either = [{"OneOf": {"transforms": [{"HorizontalFlip": {"p": 1}}, {"VerticalFlip": {"p": 1}}], "p": 1}}]
    augment = Augment(either, 0, "augment.train")
    flips = {"left-right": IMAGE[:, ::-1].tobytes(), "up-down": IMAGE[::-1].tobytes()}
    drawn = [augment(IMAGE, TARGET, epoch=epoch, index=0)[0].tobytes() for epoch in range(20)]
    assert set(drawn) == set(flips.values())
    assert drawn == [augment(IMAGE, TARGET, epoch=epoch, index=0)[0].tobytes() for epoch in range(20)]


def test_image_and_target_are_moved_together():
    coded = np.repeat(TARGET[..., None], 3, axis=-1) * 100  # the image shows its own target
    shift = [{"Affine": {"rotate": [90, 90], "scale": 1, "p": 1, "interpolation": 0}}, {"HorizontalFlip": {"p": 1}}]
    image, target = Augment(shift, 0, "augment.train")(coded, TARGET, epoch=0, index=0)
    assert (target == V).any() and (target != TARGET).any()
    np.testing.assert_array_equal(image[..., 0][target != V], target[target != V] * 100)


# The list in params.yaml


@pytest.mark.parametrize(
    "entry, said",
    [
        ("HorizontalFlop", "0: 'HorizontalFlop' is no albumentations transform; did you mean HorizontalFlip?"),
        ({"Compose2": None}, "0: 'Compose2' is no albumentations transform; did you mean Compose?"),
        ({"Affine": {"rotat": 5}}, "0.Affine.rotat: unknown argument; did you mean rotate?; valid: scale, translate"),
        ({"Affine": {"rotate": "much"}}, "0.Affine: 2 validation errors for InitSchema rotate"),
        ({"HorizontalFlip": {"p": 2}}, "0.HorizontalFlip: 1 validation error for InitSchema p Input should be less"),
        ({"HorizontalFlip": 0.5}, "0.HorizontalFlip: found 0.5; expected its arguments by name"),
        ({"HorizontalFlip": {}, "VerticalFlip": {}}, "0: found ['HorizontalFlip', 'VerticalFlip']; expected one"),
        ({"OneOf": {"transforms": [{"Rotat": {}}]}}, "0.OneOf.0: 'Rotat' is no albumentations transform; did you"),
        ({"OneOf": {"transforms": [0.5]}}, "0.OneOf.0: found 0.5; expected one transform name with its arguments"),
        ({"OneOf": None}, "0.OneOf.transforms: found None; expected a list of transforms"),
    ],
)
def test_what_albumentations_does_not_know_is_refused_with_the_nearest_name(entry, said):
    (line,) = refusals(entry)
    assert line.startswith(f"augment.train.{said}")


def test_what_albumentations_only_warns_about_is_refused_with_its_advice():
    (line,) = refusals({"ShiftScaleRotate": {}})
    assert line.startswith("augment.train.0.ShiftScaleRotate: ") and "Please use Affine transform instead" in line


def test_all_faults_of_the_list_come_at_once():
    lines = refusals("HorizontalFlip", "Flop", {"Affine": {"rotat": 1, "scal": 1}}, {"HorizontalFlip": {"p": 2}})
    assert [line.split(":")[0].removeprefix("augment.train.") for line in lines] == [
        "1",
        "2.Affine.rotat",
        "2.Affine.scal",
        "3.HorizontalFlip",
    ]


# What comes in from outside the image


def test_a_shift_by_a_quarter_brings_in_ignored_pixels_and_not_class_0():
    shift = build_transforms([{"Affine": {"translate_percent": {"x": 0.25, "y": 0}, "p": 1}}], "augment.train")
    target = np.array([[1, 2, 1, 2]] * 4, np.uint8)
    moved = shift(image=np.zeros((4, 4, 3), np.uint8), mask=target)["mask"]
    assert moved.tolist() == [[V, 1, 2, 1]] * 4


@pytest.mark.parametrize(
    "transform",
    [
        {"Affine": {"scale": [0.4, 0.6], "rotate": [-45, 45], "shear": [-20, 20], "p": 1}},
        {"Rotate": {"limit": [20, 40], "p": 1}},
        {"SafeRotate": {"limit": [20, 40], "p": 1}},
        {"Perspective": {"scale": [0.2, 0.3], "fit_output": True, "p": 1}},
        {"GridDistortion": {"distort_limit": 0.8, "p": 1}},
        {"OpticalDistortion": {"distort_limit": [0.5, 0.9], "p": 1}},
        {"PadIfNeeded": {"min_height": 40, "min_width": 40, "p": 1}},
        {"RandomCrop": {"height": 40, "width": 40, "pad_if_needed": True, "p": 1}},
        {"CropAndPad": {"percent": 0.2, "p": 1}},
        {"OneOf": {"transforms": [{"Rotate": {"limit": [45, 45], "p": 1}}], "p": 1}},
    ],
    ids=lambda transform: next(iter(transform)),
)
def test_geometric_transforms_add_no_label_but_ignore(transform):
    augment = Augment([transform], 0, "augment.train")
    found = set()
    for epoch in range(10):
        image, target = augment(IMAGE, np.full_like(TARGET, 7), epoch=epoch, index=0)
        assert target.dtype == np.uint8 and target.shape == image.shape[:2]
        found |= set(target.ravel().tolist())
    assert found == {7, V}


# Batches

AUGMENTED = Augment(STRONG, 0, "augment.train")


def part(folder, count, per_batch, *, augment=AUGMENTED):
    """`count` images, of which the n-th is all n in image and target."""
    with PackedWriter(folder / "images") as images, PackedWriter(folder / "targets") as targets:
        for number in range(count):
            images.add(np.full((8, 8, 3), number, np.uint8))
            targets.add(np.full((8, 8), number, np.uint8))
    stores = PackedArrays(folder / "images"), PackedArrays(folder / "targets")
    return Part(*stores, [Sample(i, i) for i in range(count)], augment, per_batch, None)


def epoch_of(batches, epoch):
    batches.epoch = epoch
    return [list(batch) for batch in batches]


def test_an_epoch_is_whole_batches_without_an_image_twice(tmp_path):
    batches = EpochBatches([part(tmp_path, 11, 4)], seed=0)
    assert len(batches) == 2
    left_out = set()
    for epoch in range(20):
        keys = epoch_of(batches, epoch)
        assert [len(batch) for batch in keys] == [4, 4]
        positions = [position for batch in keys for _, _, position in batch]
        assert len(set(positions)) == 8 and set(positions) <= set(range(11))
        assert {key[:2] for batch in keys for key in batch} == {(epoch, 0)}
        left_out |= set(range(11)) - set(positions)
    assert left_out == set(range(11))  # other images each time


def test_fewer_images_than_a_batch_are_repeated_evenly_to_fill_one(tmp_path):
    (batch,) = epoch_of(EpochBatches([part(tmp_path, 3, 8)], seed=0), 0)
    counts = np.bincount([position for _, _, position in batch])
    assert counts.sum() == 8 and sorted(counts) == [2, 3, 3]


def test_the_second_part_has_its_own_order_and_starts_anew_when_used_up(tmp_path):
    first, second = part(tmp_path / "1", 8, 2), part(tmp_path / "2", 5, 3)
    keys = epoch_of(EpochBatches([first, second], seed=0), 0)
    assert [[number for _, number, _ in batch] for batch in keys] == [[0, 0, 1, 1, 1]] * 4
    pool = [position for batch in keys for _, number, position in batch if number == 1]
    assert sorted(pool[:5]) == sorted(pool[5:10]) == list(range(5)) and len(pool) == 12
    same_length = EpochBatches([first, part(tmp_path / "3", 8, 2)], seed=0)
    orders = [[[p for _, n, p in batch if n == number] for batch in epoch_of(same_length, 0)] for number in (0, 1)]
    assert orders[0] != orders[1]


def test_the_order_of_labelled_images_does_not_depend_on_the_second_part(tmp_path):
    first, second = part(tmp_path / "1", 8, 2), part(tmp_path / "2", 5, 3)
    both, alone = EpochBatches([first, second], seed=0), EpochBatches([first], seed=0)
    assert [batch[:2] for batch in epoch_of(both, 1)] == epoch_of(alone, 1)


def test_the_seed_and_the_epoch_fix_the_order(tmp_path):
    only = [part(tmp_path, 20, 4)]
    orders = [
        str([[key[1:] for key in batch] for batch in epoch_of(EpochBatches(only, seed), epoch)])
        for seed, epoch in ((0, 1), (0, 1), (1, 1), (0, 2))
    ]
    assert orders[0] == orders[1] and len(set(orders)) == 3


def test_the_number_of_workers_changes_no_batch(tmp_path):
    parts = [part(tmp_path / "1", 8, 2), part(tmp_path / "2", 5, 3)]

    def epochs(workers):
        batches = EpochBatches(parts, seed=0)
        loader = make_loader(parts, batches, workers)
        for epoch in (1, 2):
            batches.epoch = epoch
            for images, targets in loader:
                assert images.shape == (5, 3, 8, 8) and targets.shape == (5, 8, 8)
                yield images.numpy().tobytes() + targets.numpy().tobytes()

    alone = list(epochs(0))
    assert len(set(alone)) == 8  # 2 epochs of 4 batches, all drawn anew
    assert list(epochs(2)) == alone


def test_a_batch_holds_the_labelled_images_first_each_with_its_own_target(tmp_path):
    plain = Augment([], 0, "augment.train")
    parts = [part(tmp_path / "1", 8, 2, augment=plain), part(tmp_path / "2", 5, 3, augment=plain)]
    batches = EpochBatches(parts, seed=0)
    for (images, targets), keys in zip(make_loader(parts, batches, 0), epoch_of(batches, 0), strict=True):
        positions = [position for _, _, position in keys]
        assert images[:, 0, 0, 0].tolist() == images[:, 2, 7, 7].tolist() == targets[:, 0, 0].tolist() == positions


def test_smaller_images_are_padded_below_and_to_the_right_with_ignored_pixels():
    small = torch.full((3, 1, 2), 9, dtype=torch.uint8), torch.full((1, 2), 1, dtype=torch.uint8)
    large = torch.full((3, 2, 3), 8, dtype=torch.uint8), torch.full((2, 3), 2, dtype=torch.uint8)
    images, targets = collate([small, large])
    assert targets.tolist() == [[[1, 1, V], [V, V, V]], [[2, 2, 2], [2, 2, 2]]]
    assert images[0, 0].tolist() == [[9, 9, 114], [114, 114, 114]] and images[1].unique().tolist() == [8]
