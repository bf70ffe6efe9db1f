"""CutMix: a box of one pseudo-labelled image laid on another, and the parameters of retraining around it."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from segpipe.data.augment import Augment
from segpipe.data.cutmix import AREA, SHAPE, CutMix, Mix
from segpipe.data.dataset import EpochBatches, Part, Sample
from segpipe.labels import IGNORE_INDEX

fractions = st.floats(0, 1)


def picture(value, height=8, width=8):
    return np.full((height, width, 3), value, np.uint8), np.full((height, width), value % 7, np.uint8)


def test_image_label_and_ignored_pixels_of_the_box_come_together():
    image, target = picture(1, 4, 4)
    other_image, other_target = picture(2, 4, 4)
    other_target[1, 2] = IGNORE_INDEX
    mixed, labels = Mix(other=0, height=0.5, width=0.5, top=0.5, left=1.0).lay(
        (image, target), (other_image, other_target)
    )
    assert labels.tolist() == [[1, 1, 1, 1], [1, 1, IGNORE_INDEX, 2], [1, 1, 2, 2], [1, 1, 1, 1]]
    assert (mixed[..., 0] == 2).tolist() == [
        [False] * 4,
        [False, False, True, True],
        [False, False, True, True],
        [False] * 4,
    ]
    assert (image == 1).all() and (target == 1).all()  # what was given stays


@given(fractions, fractions, fractions, fractions, st.integers(1, 9), st.integers(1, 9))
def test_the_box_lies_within_what_images_of_two_sizes_share(height, width, top, left, rows, columns):
    mix = Mix(0, height, width, top, left)
    mixed, labels = mix.lay(picture(1, 5, 6), picture(2, rows, columns))
    assert mixed.shape == (5, 6, 3) and labels.shape == (5, 6)
    changed = np.argwhere(labels == 2)
    assert len(changed) == round(height * min(5, rows)) * round(width * min(6, columns))
    assert (changed < (rows, columns)).all()


def test_boxes_have_the_sizes_and_shapes_they_should_and_the_probability():
    cutmix = CutMix(0.5, seed=3)
    mixes = [cutmix.draw(10, epoch=1, index=index, repeat=0) for index in range(2_000)]
    boxes = [mix for mix in mixes if mix is not None]
    assert 900 < len(boxes) < 1_100
    areas, shapes = np.array([(mix.height * mix.width, mix.height / mix.width) for mix in boxes]).T
    assert AREA[0] * 0.5 < areas.min() < 0.04 and 0.36 < areas.max() < AREA[1]  # long ones are cut off at the image
    assert SHAPE[0] <= shapes.min() + 1e-9 and shapes.max() <= SHAPE[1] + 1e-9
    assert {mix.other for mix in boxes} == set(range(10))


def test_the_same_draw_gives_the_same_box_and_each_epoch_another():
    first, again, later = (CutMix(1.0, seed=3).draw(9, epoch=epoch, index=4, repeat=0) for epoch in (1, 1, 2))
    assert first == again != later


def part(cutmix, per_batch=2):
    images, targets = zip(*map(picture, range(1, 7)), strict=True)
    samples = [Sample(i, i) for i in range(6)]
    return Part(images, targets, samples, Augment([], 0, "augment.pseudo"), per_batch, None, cutmix=cutmix)


def test_a_part_lays_the_other_sample_as_its_own_augmentation_has_it():
    mixing = part(CutMix(1.0, seed=0))
    for position in range(6):
        mix = mixing.cutmix.draw(6, epoch=1, index=position, repeat=0)
        _, target = mixing.draw(position, epoch=1, repeat=0)
        expected = {(position + 1) % 7, (mix.other + 1) % 7}
        assert set(np.unique(target).tolist()) <= expected
    plain = part(None)
    assert (plain.draw(2, epoch=1, repeat=0)[1] == 3).all()


def test_the_last_epochs_see_true_labels_only():
    batches = EpochBatches([part(None), part(None, per_batch=3)], seed=0, first_alone_from=3)
    per_epoch = {}
    for epoch in (2, 3, 4):
        batches.epoch = epoch
        per_epoch[epoch] = [[key.part for key in keys] for keys in batches]
    assert per_epoch[2] == [[0, 0, 1, 1, 1]] * 3
    assert per_epoch[3] == per_epoch[4] == [[0, 0]] * 3
    batches.epoch = 3
    assert len(batches.update_keys(0)) == 2
