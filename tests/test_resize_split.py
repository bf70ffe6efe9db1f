import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segpipe.data.resize import resize_image, resize_labels
from segpipe.data.split import Fold, group_names, seeded_folds, tune_and_judge

LABEL_MAPS = arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)))

# Sizes


@given(arrays(np.uint8, st.tuples(st.sampled_from([2, 4, 10]), st.sampled_from([2, 6, 8]))))
def test_half_size_is_every_second_label_of_every_second_row(labels):
    half = (labels.shape[0] // 2, labels.shape[1] // 2)
    np.testing.assert_array_equal(resize_labels(labels, half), labels[::2, ::2])


@given(LABEL_MAPS, st.integers(1, 20), st.integers(1, 20))
def test_resizing_invents_no_label(labels, height, width):
    resized = resize_labels(labels, (height, width))
    assert resized.shape == (height, width) and resized.dtype == np.uint8
    assert set(resized.ravel()) <= set(labels.ravel())


@given(LABEL_MAPS, st.integers(1, 4), st.integers(1, 4))
def test_enlarging_by_whole_numbers_and_shrinking_back_restores_the_labels(labels, down, right):
    height, width = labels.shape
    enlarged = resize_labels(labels, (height * down, width * right))
    np.testing.assert_array_equal(enlarged, labels.repeat(down, axis=0).repeat(right, axis=1))
    np.testing.assert_array_equal(resize_labels(enlarged, (height, width)), labels)


def test_labels_of_odd_sides_come_from_the_pixel_at_or_before_them():
    # 5 columns to 3: 0 * 5/3 = 0, 1 * 5/3 = 1.67, 2 * 5/3 = 3.33
    assert resize_labels(np.array([[10, 11, 12, 13, 14]], np.uint8), (1, 3)).tolist() == [[10, 11, 13]]


def gray(*row):
    return np.repeat(np.array([row], np.uint8)[..., None], 3, axis=-1)


def test_an_image_that_shrinks_is_averaged_over_areas():
    assert resize_image(gray(0, 100, 10, 30), (1, 2))[..., 0].tolist() == [[50, 20]]
    # the average of all four, not only of the two in the middle
    assert resize_image(gray(0, 100, 10, 30), (1, 1))[..., 0].tolist() == [[35]]


def test_an_image_that_grows_is_interpolated():
    assert resize_image(gray(0, 100), (1, 4))[..., 0].tolist() == [[0, 25, 75, 100]]


@pytest.mark.parametrize("size", [None, (3, 4)])
def test_nothing_is_done_where_the_size_stays(size):
    image = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
    assert resize_image(image, size) is image
    assert resize_labels(image[..., 0], size).tolist() == image[..., 0].tolist()


def test_sizes_are_height_then_width():
    image = np.zeros((6, 4, 3), np.uint8)
    assert resize_image(image, (3, 8)).shape == (3, 8, 3)
    assert resize_labels(image[..., 0], (3, 8)).shape == (3, 8)


# Scenes, folds and halves

SCENES = st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=30)


@given(SCENES.filter(lambda groups: len(set(groups)) > 1), st.floats(0.01, 0.99), st.integers(0, 5))
def test_halves_share_no_scene_and_no_side_is_empty(groups, judge_fraction, seed):
    indices = list(range(len(groups)))
    tune, judge = tune_and_judge(indices, groups, judge_fraction, seed)
    assert sorted(tune + judge) == indices
    assert tune and judge
    assert not {groups[i] for i in tune} & {groups[i] for i in judge}


@given(SCENES, st.integers(2, 4), st.integers(0, 5))
def test_folds_hold_every_image_out_exactly_once_and_share_no_scene(groups, num_folds, seed):
    groups += list("wxyz")
    indices = list(range(len(groups)))
    folds = seeded_folds(indices, groups, num_folds, seed)
    assert len(folds) == num_folds and all(folds)
    assert sorted(index for fold in folds for index in fold) == indices
    scenes = [{groups[i] for i in fold} for fold in folds]
    assert sum(map(len, scenes)) == len(set.union(*scenes))


def test_folds_are_as_even_as_scenes_allow():
    # scenes of 4, 2, 1 and 1 images in two folds: 4 | 2 + 1 + 1
    groups = list("aaaabbcd")
    assert sorted(map(len, seeded_folds(list(range(8)), groups, 2, seed=0))) == [4, 4]


def test_the_judge_fraction_counts_scenes_not_images():
    groups = list("aaaaaaabcd")  # four scenes, one of them of seven images
    for seed in range(5):
        _, judge = tune_and_judge(list(range(10)), groups, 0.25, seed)
        assert len({groups[i] for i in judge}) == 1


def test_only_the_listed_images_are_split():
    folds = seeded_folds([3, 5, 8], list("abcdefghi"), 3, seed=0)
    assert sorted(folds) == [[3], [5], [8]]
    tune, judge = tune_and_judge([3, 5], list("abcdefghi"), 0.5, seed=0)
    assert sorted(tune + judge) == [3, 5]


def test_the_same_seed_draws_the_same_and_another_seed_draws_others():
    groups = [str(i) for i in range(20)]
    draws = [str(tune_and_judge(list(range(20)), groups, 0.5, seed)) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    draws = [str(seeded_folds(list(range(20)), groups, 4, seed)) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


def test_one_scene_alone_cannot_be_halved():
    with pytest.raises(ValueError, match=r"found one group of images \('a'\) to hold out; expected two"):
        tune_and_judge([0, 1, 2], ["a", "a", "a"], 0.5, seed=0)


def test_fewer_scenes_than_folds_is_an_error():
    with pytest.raises(ValueError, match=r"split\.folds: found 2 groups of images for 3 folds"):
        seeded_folds([0, 1, 2], ["a", "a", "b"], 3, seed=0)


def test_without_a_pattern_each_image_is_its_own_scene():
    assert group_names(["x/1.jpg", "2.jpg"], None) == ["x/1.jpg", "2.jpg"]


def test_the_pattern_finds_the_start_of_a_name_with_and_without_folders():
    names = ["seq1_001.png", "sub/seq1_002.png", "sub/seq2_001.png"]
    assert group_names(names, r"/(seq\d+)_") == ["seq1", "seq1", "seq2"]


def test_names_that_the_pattern_does_not_match_are_listed():
    with pytest.raises(ValueError, match=r"finds no scene in 2 of 3 file names \(such as a\.png, b\.png\)"):
        group_names(["a.png", "seq1_0.png", "b.png"], r"/(seq\d+)_")


def test_a_pattern_whose_group_stays_empty_finds_no_scene():
    with pytest.raises(ValueError, match=r"finds no scene in 1 of 2 file names \(such as b\.png\)"):
        group_names(["seq1_0.png", "b.png"], r"/(seq\d+)?")


def test_a_fold_is_the_same_after_json():
    fold = Fold((0, 1), (4,), (2, 3))
    assert Fold.from_json(fold.to_json()) == fold
    assert fold.to_json() == {"train": [0, 1], "tune": [4], "judge": [2, 3]}
