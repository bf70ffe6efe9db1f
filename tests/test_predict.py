"""How images are looked at: flips, scales, windows, any sizes in one set."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_model import write_model

from segpipe.data.resize import GREY, padded, resize_labels
from segpipe.data.store import PackedArrays, PackedWriter
from segpipe.inference.predict import Predictor, predict_probs
from segpipe.inference.probs import to_scored_size
from segpipe.inference.views import BATCH_PIXELS, BATCH_SIZE, window_starts, window_weight
from segpipe.models.checkpoint import load_segmenter
from segpipe.params import ViewParams

CPU = torch.device("cpu")


def views(**changes):
    return ViewParams.model_validate({"flips": False, "scales": (1.0,), "window": None, "overlap": 0.5} | changes)


def smooth(height, width, seed=0):
    """(height, width, 3) uint8 of soft blobs, which look much the same at another scale."""
    coarse = np.random.default_rng(seed).random((height // 16 + 2, width // 16 + 2, 3), np.float32)
    return (cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 1) * 255).astype(np.uint8)


class Pixelwise(torch.nn.Module):
    """Stands for a network that looks at single pixels: each class is as likely as a channel is bright."""

    def forward(self, images):
        self.seen = [*getattr(self, "seen", []), tuple(images.shape)]
        return images.float() / 25


def answers(predictor, images):
    return list(predictor(images))


def expected_probs(image):
    return torch.tensor(image).float().div(25).softmax(-1).numpy()


@pytest.fixture(scope="module")
def segmenters(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return [load_segmenter(write_model(folder / str(seed), image_size=None, seed=seed))[0] for seed in range(2)]


# One look, as it always was


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("box", [None, (48, 64)])
def test_without_scales_and_window_the_bits_are_those_of_the_plain_mean(segmenters, count, box):
    images = [smooth(48, 64, seed) for seed in range(3)]
    batch = torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).copy())
    with torch.inference_mode():
        each = [(s(batch).softmax(1) + s(batch.flip(-1)).softmax(1).flip(-1)) / 2 for s in segmenters[:count]]
        plain = torch.stack(each).mean(0).permute(0, 2, 3, 1).numpy()
        preds = torch.stack(each).argmax(2)
    found = answers(Predictor(segmenters[:count], views(flips=True), box, device=CPU), images)
    for number, (probs, agreement) in enumerate(found):
        assert probs.dtype == np.float32 and agreement.dtype == bool
        np.testing.assert_array_equal(probs, plain[number])
        np.testing.assert_array_equal(agreement, (preds == preds[0]).all(0)[number].numpy())


@pytest.mark.parametrize(
    "changes",
    [{}, {"flips": True, "scales": (0.5, 1.0, 1.5)}, {"window": (32, 32)}, {"window": (32, 48), "scales": (1.0, 2.0)}],
    ids=["plain", "scales", "window", "both"],
)
def test_an_image_alone_and_in_a_batch_gives_the_same_to_a_ten_thousandth(segmenters, changes):
    images = [smooth(50, 70, seed) for seed in range(5)]
    predictor = Predictor(segmenters, views(**changes), None, device=CPU)
    together = answers(predictor, images)
    for image, (probs, _) in zip(images, together, strict=True):
        ((alone, _),) = answers(predictor, [image])
        assert np.ptp(alone) > 0.05, "a network that says the same everywhere would prove nothing"
        np.testing.assert_allclose(alone, probs, atol=1e-4)


# A sample of the pixels


@pytest.mark.parametrize("sampled", [(24, 32), (17, 40), (50, 70)])
@pytest.mark.parametrize("changes", [{"flips": True}, {"scales": (0.5, 1.0)}, {"window": (32, 32)}], ids=str)
@pytest.mark.parametrize("count", [1, 2])
def test_a_sampled_answer_is_the_sample_of_the_answer(segmenters, sampled, changes, count):
    images = [smooth(50, 70, seed) for seed in range(3)]
    predictor = Predictor(segmenters[:count], views(**changes), (64, 72), device=CPU)
    whole = answers(predictor, images)
    for (probs, agreement), (some, agreed) in zip(whole, predictor(images, sampled), strict=True):
        assert some.shape == (*sampled, probs.shape[-1]) and some.dtype == np.float32
        np.testing.assert_allclose(some, to_scored_size(probs, (50, 70), sampled), atol=1e-6)
        assert np.mean(agreed == resize_labels(agreement.astype(np.uint8), sampled)) > 0.999


def test_sampled_images_make_a_batch_only_with_others_of_their_size(segmenters):
    predictor = Predictor(segmenters, views(), (64, 64), device=CPU)
    sizes = [(64, 32), (32, 64), (64, 32), (64, 32)]
    assert predictor.plan(sizes) == [[0, 1, 2, 3]]
    assert predictor.plan(sizes, [(16, 16), (16, 16), (16, 16), None]) == [[0, 2], [1], [3]]


# Scales


def test_scaled_looks_are_brought_back_to_the_images_size_and_averaged_as_probabilities():
    image, network = smooth(96, 128), Pixelwise()
    ((probs, agreement),) = answers(Predictor([network], views(scales=(0.5, 1.0, 2.0)), None, device=CPU), [image])
    assert [shape[2:] for shape in network.seen] == [(48, 64), (96, 128), (192, 256)]
    assert probs.shape == (96, 128, 3) and agreement.all()
    np.testing.assert_allclose(probs.sum(-1), 1, atol=1e-5)
    # blobs of 16 pixels lose little at half the size
    assert np.abs(probs - expected_probs(image)).mean() < 0.02


def test_the_mean_over_scales_is_that_of_the_single_scales(segmenters):
    image = smooth(64, 96)
    singles = [answers(Predictor(segmenters, views(scales=(s,)), None, device=CPU), [image])[0][0] for s in (0.75, 1.5)]
    ((both, _),) = answers(Predictor(segmenters, views(scales=(0.75, 1.5)), None, device=CPU), [image])
    np.testing.assert_allclose(both, np.mean(singles, axis=0), atol=1e-6)


def test_a_letterboxed_image_is_scaled_within_its_scaled_box(segmenters):
    small, large = smooth(30, 64), smooth(64, 40)
    predictor = Predictor(segmenters, views(scales=(0.5, 1.0)), (64, 64), device=CPU)
    assert predictor.plan([small.shape[:2], large.shape[:2]]) == [[0, 1]]
    found = [probs for probs, _ in answers(predictor, [small, large])]
    assert [probs.shape[:2] for probs in found] == [(30, 64), (64, 40)]
    whole = answers(Predictor(segmenters, views(), None, device=CPU), [padded(small, (64, 64), GREY)])[0][0][:30]
    half_image = padded(cv2.resize(small, (32, 15), interpolation=cv2.INTER_AREA), (32, 32), GREY)
    half = answers(Predictor(segmenters, views(), None, device=CPU), [half_image])[0][0][:15, :32]
    back = torch.nn.functional.interpolate(
        torch.from_numpy(half).permute(2, 0, 1)[None], size=(30, 64), mode="bilinear"
    )
    np.testing.assert_allclose(found[0], (whole + back[0].permute(1, 2, 0).numpy()) / 2, atol=1e-4)


# Windows


@given(st.integers(1, 400), st.integers(1, 120), st.floats(0, 0.9))
def test_windows_cover_an_axis_without_a_gap_and_share_what_was_asked(length, window, overlap):
    starts = window_starts(length, window, overlap)
    assert starts[0] == 0 and starts == sorted(set(starts))
    assert starts[-1] + window == length or (window >= length and starts == [0])
    steps = np.diff(starts)
    assert (steps <= max(int(window * (1 - overlap)), 1)).all() and (not len(steps) or np.ptp(steps) <= 1)


@given(st.integers(1, 80), st.integers(1, 80))
def test_a_windows_weight_is_highest_in_the_middle_even_to_both_sides_and_never_nothing(height, width):
    weight = window_weight((height, width))
    assert weight.shape == (height, width) and weight.dtype == np.float32 and weight.min() > 0
    np.testing.assert_allclose(weight, weight[::-1, ::-1], rtol=1e-6)
    assert weight.max() == pytest.approx(weight[height // 2, width // 2]) and weight.max() <= 1


@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.75])
@pytest.mark.parametrize("flips", [False, True])
@pytest.mark.parametrize("size", [(50, 70), (20, 70), (20, 20)])
def test_a_network_of_single_pixels_says_the_same_through_any_window(overlap, flips, size):
    image, network = smooth(*size), Pixelwise()
    predictor = Predictor([network], views(window=(32, 24), overlap=overlap, flips=flips), None, device=CPU)
    ((probs, _),) = answers(predictor, [image])
    np.testing.assert_allclose(probs, expected_probs(image), atol=1e-6)
    assert {shape[2:] for shape in network.seen} == {(min(32, size[0]), min(24, size[1]))}


def test_through_a_window_that_holds_the_image_nothing_changes(segmenters):
    image = smooth(48, 64)
    whole, through = (
        answers(Predictor(segmenters, views(window=window), None, device=CPU), [image])[0][0]
        for window in (None, (48, 64))
    )
    np.testing.assert_array_equal(whole, through)


def test_where_two_windows_disagree_the_answer_passes_smoothly_from_one_to_the_other():
    class WhichWindow(torch.nn.Module):
        """Sure of class 0 in the window whose first pixel is dark, of class 1 in the other."""

        def forward(self, images):
            is_first = images[:, :1, :1, :1] == 0
            sure = torch.where(is_first, 10.0, -10.0).expand(-1, 1, *images.shape[2:])
            return torch.cat([sure, -sure], 1)

    image = np.zeros((8, 96, 3), np.uint8)
    image[:, 32:] = 200
    ((probs, _),) = answers(Predictor([WhichWindow()], views(window=(8, 64)), None, device=CPU), [image])
    line = probs[0, :, 0]
    assert (line[:32] > 0.99).all() and (line[64:] < 0.01).all()
    assert (np.diff(line[31:65]) <= 1e-6).all() and np.abs(np.diff(line)).max() < 0.06
    assert line[47] == pytest.approx(1 - line[48], abs=1e-5)


def test_the_trained_size_is_a_window_for_enlarged_looks():
    network = Pixelwise()
    predictor = Predictor([network], views(window="train", scales=(1.0, 2.0)), (32, 48), device=CPU)
    answers(predictor, [smooth(32, 48)])
    assert {shape[2:] for shape in network.seen} == {(32, 48)}


def test_a_window_of_the_trained_size_needs_one():
    with pytest.raises(ValueError, match=r"window: found train, but .* at each image's own size"):
        Predictor([Pixelwise()], views(window="train"), None, device=CPU)


# Images of any sizes


@given(st.lists(st.sampled_from([(64, 48), (48, 64), (1500, 1200), (3000, 1500)]), max_size=60), st.booleans())
def test_batches_hold_each_image_once_and_only_images_of_one_size(sizes, windowed):
    predictor = Predictor([Pixelwise()], views(window=(64, 64) if windowed else None), None, device=CPU)
    batches = predictor.plan(sizes)
    assert sorted(position for batch in batches for position in batch) == list(range(len(sizes)))
    for batch in batches:
        ((height, width),) = {sizes[position] for position in batch}
        assert len(batch) == 1 or (len(batch) <= BATCH_SIZE and len(batch) * height * width <= BATCH_PIXELS)
    # no more batches than the sizes ask for, in whatever order the images come
    assert len([batch for batch in batches if len(batch) < BATCH_SIZE and np.prod(sizes[batch[0]]) < 5000]) <= 2


def test_images_of_several_sizes_are_seen_together_with_their_like(tmp_path):
    sizes = [(16, 24), (24, 16), (24, 24), (3, 24), (16, 24)]
    with PackedWriter(tmp_path / "images") as writer:
        for seed, size in enumerate(sizes):
            writer.add(smooth(*size, seed))
    images, network = PackedArrays(tmp_path / "images"), Pixelwise()
    order = [4, 1, 0, 3, 2]
    found = list(predict_probs(Predictor([network], views(), None, device=CPU), images, order, label="test"))
    assert sorted(position for position, _, _ in found) == list(range(5))
    for position, probs, _ in found:
        np.testing.assert_allclose(probs, expected_probs(images[order[position]]), atol=1e-6)
    assert [shape[0] for shape in network.seen] == [2, 1, 1, 1]
