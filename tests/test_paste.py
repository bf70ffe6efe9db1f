"""Pasted objects: what is found, what is cut, where it lands, and that the same draw gives the same bytes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from segpipe.data.augment import Augment
from segpipe.data.dataset import Part, Sample
from segpipe.data.paste import Paste, class_problems, find_objects, make_paste
from segpipe.labels import IGNORE_INDEX
from segpipe.params import PasteParams

V = IGNORE_INDEX
NAMES = ("Background", "Can", "Cup")
ALWAYS = PasteParams(p=1.0, classes=("Can",), objects=1, min_pixels=1, scale=(1.0, 1.0), flip=False)
EIGHT = np.ones((3, 3))  # neighbours of a pixel, its corners among them
label_maps = arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.sampled_from([0, 1, 2, V]))


def changed(**changes) -> PasteParams:
    return PasteParams.model_validate(ALWAYS.model_dump() | changes)


def images_for(targets):
    """Images whose colours tell where each pixel was: row, column, number of the image."""
    for number, target in enumerate(targets):
        rows, columns = np.indices(target.shape)
        yield np.stack([rows, columns, np.full_like(rows, number)], axis=-1).astype(np.uint8)


def paste_of(*targets, labels=(1,), params=ALWAYS, seed=0) -> Paste:
    targets = [np.array(target, np.uint8) for target in targets]
    return Paste(list(images_for(targets)), targets, range(len(targets)), labels=labels, params=params, seed=seed)


def laid(paste: Paste, shape=(8, 9), fill=0, epoch=1, index=0, repeat=0):
    """Image and target of this size, all 200 and all `fill`, with what is laid on them."""
    image, target = np.full((*shape, 3), 200, np.uint8), np.full(shape, fill, np.uint8)
    return paste(image, target, epoch=epoch, index=index, repeat=repeat)


# What an object is


@given(label_maps, st.integers(1, 3))
def test_objects_are_the_pieces_that_scipy_finds(target, min_pixels):
    found = find_objects([target], [0], [1, 2], min_pixels)
    for objects in found:
        pieces, count = ndimage.label(target == objects.label, EIGHT)
        expected = []
        for number, (rows, columns) in enumerate(ndimage.find_objects(pieces), start=1):
            if (pieces == number).sum() >= min_pixels:
                box = columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start
                expected.append((0, *box))
        assert sorted(map(tuple, objects.boxes.tolist())) == sorted(expected), f"{count} pieces"
        assert objects.boxes.dtype == np.int32


@given(label_maps)
def test_what_is_cut_is_one_piece_however_others_reach_into_its_box(target):
    paste = paste_of(target)
    pieces, _ = ndimage.label(target == 1, EIGHT)
    slices = ndimage.find_objects(pieces)
    (objects,) = paste.objects
    cut = {tuple(box): paste._cut(1, np.array(box)) for box in objects.boxes.tolist()}
    for number, place in enumerate(slices, start=1):
        rows, columns = place
        box = 0, columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start
        piece, mask = cut[box]
        np.testing.assert_array_equal(mask == 255, pieces[place] == number)
        assert set(mask.ravel().tolist()) <= {0, 255}
        assert piece[0, 0].tolist() == [rows.start, columns.start, 0]


# Where it lands


@given(label_maps, st.integers(0, 20))
def test_a_pasted_object_brings_its_own_pixels_and_its_class_and_leaves_the_rest(target, epoch):
    paste = paste_of(target)
    image, pasted = laid(paste, shape=(9, 9), fill=V, epoch=epoch)
    moved = pasted == 1
    assert set(pasted.ravel().tolist()) <= {1, V} and (image[~moved] == 200).all()
    if not (target == 1).any():
        assert not moved.any()
        return
    rows, columns = np.nonzero(moved)
    origin = image[moved]
    shift = origin[0, :2].astype(int) - (rows[0], columns[0])
    # as drawn: the whole object moved by one step, none of its neighbours
    np.testing.assert_array_equal(origin[:, :2], np.stack([rows, columns], axis=1) + shift)
    pieces, _ = ndimage.label(target == 1, EIGHT)
    number = pieces[tuple(origin[0, :2])]
    assert moved.sum() == (pieces == number).sum() and (pieces[origin[:, 0], origin[:, 1]] == number).all()


def test_every_place_where_the_object_is_whole_is_taken():
    paste = paste_of([[1, 1]])
    corners = {tuple(np.argwhere(laid(paste, (3, 4), epoch=epoch)[1])[0].tolist()) for epoch in range(300)}
    assert corners == {(row, column) for row in range(3) for column in range(3)}


def test_half_of_the_objects_are_mirrored_where_asked():
    target = [[1, 0], [1, 1]]
    shapes = [laid(paste_of(target, params=changed(flip=True)), (2, 2), epoch=epoch)[1].tolist() for epoch in range(60)]
    mirrored = shapes.count([[0, 1], [1, 1]])
    assert mirrored + shapes.count(target) == 60 and 15 < mirrored < 45


def test_an_object_grows_and_shrinks_with_its_pixels_up_to_the_size_of_the_image():
    target = np.zeros((40, 60), np.uint8)
    target[10:30, 10:40] = 1
    sizes = set()
    for epoch in range(60):
        image, pasted = laid(paste_of(target, params=changed(scale=(0.3, 9.0))), (50, 50), epoch=epoch)
        rows, columns = np.nonzero(pasted)
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert abs(width - 1.5 * height) < 2 and (pasted == 1).sum() == height * width
        # its colours are those from 10 to 29 and from 10 to 39, stretched
        colors = image[pasted == 1][:, :2].astype(int)
        assert np.abs(colors.min(axis=0) - [10, 10]).max() <= 2 >= np.abs(colors.max(axis=0) - [29, 39]).max()
        sizes.add(int(width))
    assert min(sizes) < 15 and max(sizes) == 50


def test_classes_are_drawn_alike_however_many_objects_they_have_and_objects_up_to_the_largest_number():
    many = np.zeros((20, 20), np.uint8)
    many[::2, ::2] = 1
    many[1, 1] = 2  # touches objects of class 1, which are others
    params = changed(objects=2)
    drawn = [laid(paste_of(many, labels=(1, 2), params=params), (30, 30), epoch=epoch)[1] for epoch in range(100)]
    counts = np.array([[(target == label).sum() for label in (1, 2)] for target in drawn])
    assert set(counts.sum(axis=1).tolist()) == {1, 2}
    assert 0.35 < counts[:, 1].sum() / counts.sum() < 0.65


def test_the_share_of_images_that_get_objects_is_p():
    paste = paste_of([[1]], params=changed(p=0.25))
    with_object = sum(laid(paste, index=index)[1].any() for index in range(400))
    assert 70 < with_object < 130


# The same draw


@pytest.mark.parametrize("other", [{"epoch": 2}, {"index": 1}, {"repeat": 1}])
def test_each_epoch_image_and_repeat_is_drawn_anew_and_the_same_one_again_alike(other):
    paste = paste_of([[1, 1, 0], [0, 1, 1]], params=changed(objects=3))

    def bytes_of(**draw) -> bytes:
        return b"".join(array.tobytes() for array in laid(paste, (30, 30), **draw))

    assert bytes_of() == bytes_of() != bytes_of(**other)
    again = paste_of([[1, 1, 0], [0, 1, 1]], params=changed(objects=3), seed=1)
    assert b"".join(array.tobytes() for array in laid(again, (30, 30))) != bytes_of()


def test_the_images_that_objects_come_from_stay_as_they_are():
    targets = [np.array([[1, 0], [0, 2]], np.uint8)]
    images = list(images_for(targets))
    before = images[0].copy()
    paste = Paste(images, targets, [0], labels=[1], params=changed(flip=True), seed=0)
    for epoch in range(9):
        laid(paste, (3, 3), epoch=epoch)
    assert (images[0] == before).all() and targets[0].tolist() == [[1, 0], [0, 2]]


# Names and absent objects


def made(params: PasteParams, *targets):
    return make_paste(list(images_for(targets)), targets, range(len(targets)), NAMES, params, 0)


def test_off_it_looks_at_no_target():
    assert make_paste([], None, [0], NAMES, changed(p=0.0, classes=()), 0) is None


def test_names_that_no_class_has_are_told_all_at_once_with_the_nearest():
    found = class_problems(changed(classes=("Cann", "Cup", "Background")), NAMES)
    assert found == [
        "augment.paste.classes: found 'Cann'; allowed: Can, Cup; did you mean Can?",
        "augment.paste.classes: found 'Background'; allowed: Can, Cup",
    ]
    with pytest.raises(ValueError, match=r"params.yaml: 1 problem\n  augment.paste.classes: found 'Kan'; .* mean Can"):
        made(changed(classes=("Kan",)), np.ones((2, 2), np.uint8))


def test_a_class_without_objects_is_told_and_if_all_are_it_is_refused(capsys):
    only_cans = np.ones((2, 2), np.uint8)
    assert made(changed(classes=("Can", "Cup")), only_cans) is not None
    assert "warning: augment.paste: no object of 1 pixels or more in these training images: Cup" in "".join(
        capsys.readouterr()
    )
    with pytest.raises(ValueError, match=r"no object of 5 pixels .*: Can; name other classes, lower min_pixels, or se"):
        made(changed(min_pixels=5), only_cans)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"classes": []}, "p is above 0 and classes names none; name the classes whose objects are pasted, or p: 0"),
        ({"classes": ["Can", "Can"]}, "found a class twice in ['Can', 'Can']; name each once"),
        ({"scale": [1.4, 0.7]}, "is no range; expected two numbers above 0, the smaller one first"),
        ({"scale": [0, 1]}, "is no range"),
        ({"scale": 1.5}, "is no range"),
        ({"scale": [True, 2]}, "is no range"),
        ({"scale": [1]}, "is no range"),
    ],
)
def test_values_that_cannot_be_are_refused(changes, said):
    with pytest.raises(ValueError) as error:
        changed(**changes)
    assert said in str(error.value)


def test_no_object_lies_on_the_margin_of_a_narrow_image():
    narrow, can = np.zeros((8, 4), np.uint8), np.ones((3, 3), np.uint8)
    targets = [narrow, can]
    images = [np.full((*target.shape, 3), 7, np.uint8) for target in targets]
    paste = Paste(images, targets, [1], labels=[1], params=ALWAYS, seed=0)
    part = Part(images, targets, [Sample(0, 0)], Augment([], 0, "augment.train"), 1, (8, 20), paste=paste)
    for epoch in range(40):
        _, target = part.draw(0, epoch=epoch, repeat=0)
        assert target.shape == (8, 20) and (target[:, 4:] == V).all() and (target[:, :4] == 1).sum() == 9
    assert not narrow.any(), "what is stored stays"
