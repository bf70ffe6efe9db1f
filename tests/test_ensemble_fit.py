"""What tune images choose: weights against brute force, regions and holes by hand and against scipy."""

import tracemalloc
from itertools import product

import numpy as np
import pytest
from coco_folder import box, pictures, prepare_folder, write_folder
from ensemble_stores import CLEAN, SHAPE, ensemble_of, prepare_four
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from segpipe.data.prepared import Prepared
from segpipe.ensemble.average import Ensemble, load_predictions
from segpipe.ensemble.candidates import list_candidates
from segpipe.ensemble.cleaning import Cleaning, CleaningFit, clean, find_regions
from segpipe.ensemble.decide import decide
from segpipe.ensemble.fit import fit_candidates
from segpipe.ensemble.weights import PixelSample, greedy_counts, shrunk_weights
from segpipe.inference.probs import PredictionWriter
from segpipe.labels import IGNORE_INDEX
from segpipe.metrics.confusion import confusion_matrix, mean_iou
from segpipe.params import EnsembleParams, load_params

ASKED = EnsembleParams(rule="best", fit="greedy", rounds=4, shrink=0.5, min_pixels=(2,), fill_holes=(2,))

# Weights


def of_glass(*models):
    """(M, 2, N) uint8: each model's probability of class 1, in 255ths; class 0 has the rest."""
    sure = np.array(models, np.uint8)
    return np.stack([255 - sure, sure], axis=1)


def test_greedy_selection_by_hand():
    # alone, a and b each miss one of the last two pixels and c three; a with b is right everywhere, so b joins, once
    probs = of_glass([255, 0, 200, 60], [255, 0, 60, 200], [0, 255, 0, 0])
    target = np.array([1, 0, 1, 1], np.uint8)
    assert greedy_counts(probs, target, 1) == (1, 0, 0)
    assert greedy_counts(probs, target, 5) == (1, 1, 0)


def test_a_model_may_be_picked_more_than_once():
    # each alone and both together miss one of the first two pixels; twice the first with the second misses none
    probs = of_glass([200, 100, 0], [0, 255, 0])
    assert greedy_counts(probs, np.array([1, 1, 0], np.uint8), 6) == (2, 1)


def score(probs, counts, target):
    total = sum(count * model.astype(int) for count, model in zip(counts, probs, strict=True))
    return mean_iou(confusion_matrix(total.argmax(0).astype(np.uint8), target, probs.shape[1]))


@st.composite
def cases(draw):
    models, classes, pixels = draw(st.integers(1, 3)), draw(st.integers(2, 3)), draw(st.integers(1, 12))
    probs = draw(arrays(np.uint8, (models, classes, pixels)))
    return probs, draw(arrays(np.uint8, pixels, elements=st.sampled_from([*range(classes), IGNORE_INDEX])))


@given(cases(), st.integers(1, 4))
@settings(deadline=None)
def test_greedy_is_between_the_best_single_model_and_the_best_of_all_bags(case, rounds):
    probs, target = case
    counts = greedy_counts(probs, target, rounds)
    if (target == IGNORE_INDEX).all():
        assert counts == (1,) * len(probs)  # nothing is known of any
        return
    found = score(probs, counts, target)
    bags = [bag for bag in product(range(rounds + 1), repeat=len(probs)) if 1 <= sum(bag) <= rounds]
    assert counts in bags
    assert found <= max(score(probs, bag, target) for bag in bags)
    assert found >= max(score(probs, np.eye(len(probs), dtype=int)[m], target) for m in range(len(probs)))
    assert found == max(score(probs, bag, target) for bag in walk(probs, target, rounds))


def walk(probs, target, rounds):
    """The bags that a greedy walk passes, told once more and plainly."""
    bag = [0] * len(probs)
    for _ in range(rounds):
        grown = [[count + (i == m) for i, count in enumerate(bag)] for m in range(len(probs))]
        bag = max(grown, key=lambda each: score(probs, each, target))
        yield bag


@given(st.lists(st.integers(0, 20), min_size=1, max_size=8).filter(any), st.floats(0, 1))
def test_weights_add_up_to_1_and_lie_between_the_shares_and_equal_ones(counts, shrink):
    weights, equal = shrunk_weights(counts, shrink), 1 / len(counts)
    assert sum(weights) == pytest.approx(1)
    for weight, count in zip(weights, counts, strict=True):
        low, high = sorted((count / sum(counts), equal))
        assert low - 1e-12 <= weight <= high + 1e-12
    assert shrunk_weights(counts, 1) == pytest.approx([equal] * len(counts))


def test_a_sample_of_pixels_is_a_grid_that_fits_the_budget():
    sizes = [(40, 60), (30, 30)]
    sample = PixelSample(sizes, num_models=2, num_classes=3, budget=2 * 3 * 400)
    rng = np.random.default_rng(0)
    for height, width in sizes:
        image = rng.dirichlet([1] * 3, size=(2, height, width))
        sample.add(list(image), np.full((height, width), 1, np.uint8))
    probs, target = sample.arrays()
    assert sample.step == 3 and probs.shape == (2, 3, target.size) and target.size == 13 * 20 + 10 * 10
    assert PixelSample(sizes, 2, 3, budget=10**9).step == 1


# Regions and holes

ISLANDS = """
00000000
01110020
01210000
01110000
00000003
"""


def drawn(text):
    return np.array([[int(letter) for letter in line] for line in text.split()], np.uint8)


def test_regions_by_hand():
    found = find_regions(drawn(ISLANDS), 4)
    rows = zip(found.classes, found.sizes, found.around, found.enclosed, strict=True)
    assert sorted((int(c), int(n), int(a), bool(e)) for c, n, a, e in rows) == [
        (0, 29, 1, False),  # its border: twelve pixel sides of class 1, four of class 2, two of class 3
        (1, 8, 0, False),  # outside 0, inside 2
        (2, 1, 0, True),
        (2, 1, 1, True),
        (3, 1, 0, False),  # at the edge
    ]


def test_small_regions_take_what_most_of_their_border_has():
    cleaned = clean(drawn(ISLANDS), Cleaning((0, 0, 0, 2), (0, 0, 0, 0)))
    assert (cleaned == np.where(drawn(ISLANDS) == 3, 0, drawn(ISLANDS))).all()
    cleaned = clean(drawn(ISLANDS), Cleaning((0, 0, 2, 2), (0, 0, 0, 0)))
    assert cleaned[2, 2] == 1 and cleaned[1, 6] == 0 and cleaned[4, 7] == 0
    assert (clean(drawn(ISLANDS), Cleaning((0, 0, 1, 1), (0, 0, 0, 0))) == drawn(ISLANDS)).all(), (
        "fewer than, not up to"
    )


def test_holes_are_filled_by_the_class_around_them_and_only_there():
    cleaned = clean(drawn(ISLANDS), Cleaning((0, 0, 0, 0), (0, 2, 0, 0)))
    assert cleaned[2, 2] == 1 and cleaned[1, 6] == 2 and cleaned[4, 7] == 3


label_maps = arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 2))


@given(label_maps)
@settings(deadline=None)
def test_regions_are_those_of_scipy(label_map):
    found = find_regions(label_map, 3)
    sizes = []
    for value in range(3):
        numbers, count = ndimage.label(label_map == value, structure=np.ones((3, 3)))
        sizes += [(value, int((numbers == number).sum())) for number in range(1, count + 1)]
    assert sorted(zip(found.classes.tolist(), found.sizes.tolist(), strict=True)) == sorted(sizes)
    assert (found.classes[found.numbers] == label_map).all()


@given(label_maps, st.integers(0, 2), st.integers(1, 9))
@settings(deadline=None)
def test_filled_holes_lie_within_what_scipy_fills(label_map, value, size):
    holes = [0, 0, 0]
    holes[value] = size
    changed = clean(label_map, Cleaning((0, 0, 0), tuple(holes))) != label_map
    inside = ndimage.binary_fill_holes(label_map == value) & (label_map != value)
    assert (changed <= inside).all()
    # a small hole of scipy that is one region of one class, without another class at a corner, is filled here too
    numbers, count = ndimage.label(inside, structure=np.ones((3, 3)))
    for number in range(1, count + 1):
        hole = numbers == number
        around = ndimage.binary_dilation(hole, np.ones((3, 3))) & ~hole
        if len(np.unique(label_map[hole])) == 1 and (label_map[around] == value).all() and hole.sum() < size:
            assert changed[hole].all()


@given(
    st.lists(st.tuples(*[arrays(np.uint8, (6, 7), elements=st.sampled_from([0, 1, 2]))] * 2), min_size=1, max_size=3)
)
@settings(deadline=None)
def test_sizes_are_chosen_by_scores_that_are_exactly_those_of_cleaned_images(images):
    fit = CleaningFit(3, (4, 2), (3,))
    for label_map, target in images:
        fit.add(label_map, target)
    found = fit.choose()

    def score_of(cleaning):
        return mean_iou(sum(confusion_matrix(clean(preds, cleaning), target, 3) for preds, target in images))

    # the same sweep, by cleaning the images themselves
    best = Cleaning((0, 0, 0), (0, 0, 0))
    for index in range(3):
        for key, sizes in (("min_pixels", (2, 4)), ("fill_holes", (3,))):
            for size in sizes:
                values = {name: list(getattr(best, name)) for name in ("min_pixels", "fill_holes")}
                values[key][index] = size
                tried = Cleaning(**{name: tuple(value) for name, value in values.items()})
                if score_of(tried) > score_of(best):
                    best = tried
    assert found == best


# From stores


@pytest.fixture
def prepared(tmp_path):
    return prepare_four(tmp_path)


def test_weights_favour_the_model_that_is_right_on_tune_images(tmp_path, prepared):
    # truth 1 1 0 0; every judge image is left out of it
    glass = {("baseline", "main", 0): [1, 1, 0, 0], ("retrain", "main", 0): [0, 0, 1, 1]}
    unfitted = list_candidates(("main",))
    weighted, cleaned = fit_candidates(ensemble_of(tmp_path, prepared, glass), unfitted, ASKED)
    assert weighted.weights == (0.75, 0.25)  # all picks are the first model's, shrunk by half
    assert weighted.parts == unfitted[-1].parts
    assert cleaned.parts == (("baseline", "main"),) and cleaned.cleaning == Cleaning((0, 0), (0, 0))


def test_only_what_is_asked_for_is_fitted_and_nothing_without_a_scored_fold(tmp_path, prepared):
    unfitted, glass = list_candidates(("main",)), {("baseline", "main", 0): [1, 1, 0, 0]}
    ensemble = ensemble_of(tmp_path, prepared, glass)
    nothing = ASKED.model_copy(update={"fit": "none", "min_pixels": (), "fill_holes": ()})
    assert fit_candidates(ensemble, unfitted, nothing) == []
    only = ASKED.model_copy(update={"fit": "none"})
    assert [each.name for each in fit_candidates(ensemble, unfitted, only)] == ["cleaned"]
    everything = ensemble_of(tmp_path, prepared, {("baseline", "main", "all"): [1, 1, 0, 0]}, folds=("all",))
    assert fit_candidates(everything, unfitted, ASKED) == []


def test_judge_images_have_no_say_in_what_is_fitted(tmp_path, prepared, monkeypatch):
    ensemble = ensemble_of(tmp_path, prepared, {("baseline", "main", 0): [1, 1, 0, 0]})
    opened, read = set(), prepared.native_target
    monkeypatch.setattr(prepared, "native_target", lambda index: (opened.add(index), read(index))[1])
    fit_candidates(ensemble, list_candidates(("main",)), ASKED)
    assert opened == set(prepared.folds[0].tune)


def test_what_is_kept_of_tune_images_does_not_grow_with_them(tmp_path):
    categories = {number: f"c{number:03}" for number in range(1, 160)}
    names = [f"v{number}" for number in range(32)]
    val = pictures(*names, annotations=[box(1, 0, 0, 2, 1)], **SHAPE)
    write_folder(tmp_path / "raw", train=pictures("a", **SHAPE), val=val, categories=categories)
    prepared = Prepared(prepare_folder(tmp_path / "raw"), judge=True)
    size, tune = prepared.classes.num_classes, prepared.folds[0].tune
    shown = [*tune, *prepared.folds[0].judge]
    probs = np.zeros((1, 4, size), np.float32)
    probs[..., 1] = 1
    for name in ("baseline-main-0", "retrain-main-0"):
        with PredictionWriter(tmp_path / "stores" / name, name, list(prepared.classes.names), None) as writer:
            for index in shown:
                writer.add(index, probs, (1, 4))
            writer.finish(CLEAN, {})
    ensemble = Ensemble(prepared, load_predictions(tmp_path / "stores", ("main",), (0,)), (0,))
    tracemalloc.start()
    fit_candidates(ensemble, list_candidates(("main",)), ASKED.model_copy(update={"fit": "none"}))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    matrix = size**2 * 8
    assert len(tune) > 10 and peak < 12 * matrix  # of each of 3 candidates a matrix an image would be 3 * len(tune)


def test_leaving_out_a_copy_of_the_other_model_changes_nothing(tmp_path, prepared):
    first, other = [1, 0.4, 0, 0], [0.2, 0.4, 1, 0.1]
    params = load_params().model_copy(update={"member_names": ("main",), "ensemble": ASKED})
    for retrain, verdicts in ((first, ["identical"] * 2), (other, ["undecided: too few scenes", "identical"])):
        glass = {("baseline", "main", 0): first, ("retrain", "main", 0): retrain}
        rows = decide(ensemble_of(tmp_path, prepared, glass), params).selection["drop_one"]
        assert [row["difference"]["verdict"] for row in rows] == verdicts


def test_a_decision_twice_is_the_same_and_names_its_weights(tmp_path, prepared):
    glass = {("baseline", "main", 0): [1, 0.4, 0, 0], ("retrain", "main", 0): [0.6, 0.7, 1, 0.1]}
    params = load_params().model_copy(update={"member_names": ("main",), "ensemble": ASKED})
    first, second = (decide(ensemble_of(tmp_path, prepared, glass), params).selection for _ in range(2))
    assert first == second
    names = ["baseline-main", "retrain-main", "mean-all", "weighted", "cleaned"]
    assert [row["name"] for row in first["candidates"]] == names
    assert sum(first["candidates"][3]["weights"]) == pytest.approx(1)
