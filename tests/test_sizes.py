"""Images of any size and proportion in one set: stretched, letterboxed or at their own size; predictions led back."""

import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from coco_folder import GLASS, PAPER, Picture, box, data_params, prepare_folder, write_folder
from hypothesis import given
from hypothesis import strategies as st
from label_map_folder import write_folders
from pipeline_run import run_stages
from scipy.ndimage import maximum_filter, minimum_filter

from segpipe.data.augment import Augment
from segpipe.data.dataset import EpochBatches, Part, Sample, make_loader
from segpipe.data.prepared import Prepared
from segpipe.data.resize import padded, resize_labels, stored_size
from segpipe.data.store import PackedArrays, PackedWriter
from segpipe.inference.predict import Predictor, predict_probs
from segpipe.inference.probs import Predictions, to_scored_size
from segpipe.labels import IGNORE_INDEX
from segpipe.params import ViewParams
from segpipe.stage import read_json

SIDES = st.integers(1, 300)
SIZES = st.tuples(SIDES, SIDES)


@given(SIZES, SIZES)
def test_a_letterboxed_image_touches_two_sides_of_the_box_and_keeps_its_proportions_to_a_pixel(native, box_size):
    height, width = stored_size(native, box_size, "letterbox")
    assert 1 <= height <= box_size[0] and 1 <= width <= box_size[1]
    assert height == box_size[0] or width == box_size[1]
    factor = min(box_size[0] / native[0], box_size[1] / native[1])
    assert abs(height - max(factor * native[0], 1)) <= 0.5 + 1e-9
    assert abs(width - max(factor * native[1], 1)) <= 0.5 + 1e-9


@pytest.mark.parametrize(
    "native, expected",
    [((480, 640), (384, 512)), ((640, 480), (512, 384)), ((100, 100), (512, 512)), ((5000, 3), (512, 1))],
    ids=["landscape", "portrait", "square", "needle"],
)
def test_letterboxed_sizes_by_hand(native, expected):
    assert stored_size(native, (512, 512), "letterbox") == expected


def test_stretching_fills_the_box_and_without_one_images_keep_their_size():
    assert stored_size((480, 640), (512, 512), "stretch") == (512, 512)
    assert stored_size((480, 640), None, "stretch") is None


def test_letterbox_needs_a_box(tmp_path):
    with pytest.raises(ValueError, match=r"fits images into data.image_size, which is empty; give it, or choose"):
        data_params(tmp_path, resize="letterbox", image_size=None)


def test_the_margin_lies_below_and_to_the_right():
    image = np.full((1, 2, 3), 9, np.uint8)
    assert padded(image, (2, 3), 114)[..., 1].tolist() == [[9, 9, 114], [114, 114, 114]]
    assert padded(image, None, 114).tolist() == padded(image, (1, 2), 114).tolist() == image.tolist()


# Predictions led back to each image's own size


def blobs(height, width, seed):
    """(height, width) uint8 label map of three classes with smooth borders."""
    coarse = np.random.default_rng(seed).random((height // 24 + 2, width // 24 + 2, 3), np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).argmax(-1).astype(np.uint8)


@given(
    native=st.tuples(st.integers(20, 260), st.integers(20, 260)),
    box_size=st.tuples(st.integers(24, 140), st.integers(24, 140)),
    resize=st.sampled_from(["stretch", "letterbox"]),
    seed=st.integers(0, 99),
)
def test_a_perfect_prediction_is_led_back_to_within_a_pixel_of_the_networks_size(native, box_size, resize, seed):
    truth = blobs(*native, seed)
    size = stored_size(native, box_size, resize)
    target = resize_labels(truth, size)
    probs = np.eye(3, dtype=np.float32)[target]
    preds = to_scored_size(probs, native, None).argmax(-1).astype(np.uint8)
    assert preds.shape == native
    # where a label map has one class within a network pixel (and the half by which `nearest` shifts), nothing changes
    reach = [2 * int(np.ceil(1.5 * max(side / new, 1))) + 1 for side, new in zip(native, size, strict=True)]
    uniform = maximum_filter(truth, reach) == minimum_filter(truth, reach)
    np.testing.assert_array_equal(preds[uniform], truth[uniform])


class Brightness(torch.nn.Module):
    """Stands for a network that knows each pixel's class from its first channel, whatever lies around it."""

    def forward(self, images):
        assert images.dtype == torch.uint8
        self.seen = [*getattr(self, "seen", []), tuple(images.shape)]
        classes = images[:, :1].clamp(max=2).long()
        return 20.0 * torch.zeros(len(images), 3, *images.shape[2:]).scatter_(1, classes, 1.0)


def stored(folder, sizes):
    """Images whose pixels are classes 0 to 2."""
    with PackedWriter(folder / "images") as images:
        for seed, size in enumerate(sizes):
            images.add(np.repeat(blobs(*size, seed)[..., None], 3, axis=-1))
    return PackedArrays(folder / "images")


MIXED = [(16, 24), (24, 16), (24, 24), (3, 24), (16, 24)]


@pytest.mark.parametrize("padded_to", [None, (24, 24)], ids=["native", "letterbox"])
@pytest.mark.parametrize("flips", [False, True])
def test_images_of_several_sizes_are_predicted_each_at_its_own(tmp_path, padded_to, flips):
    images, network = stored(tmp_path, MIXED), Brightness()
    order, views = [4, 0, 1, 3, 2], ViewParams(flips=flips, scales=(1.0,), window=None, overlap=0.0)
    predictor = Predictor([network], views, padded_to, device=torch.device("cpu"))
    found = {order[position]: answer for position, *answer in predict_probs(predictor, images, order, label="test")}
    assert len(found) == len(MIXED)
    for index, (probs, agreement) in found.items():
        assert probs.shape == (*MIXED[index], 3) and agreement.shape == MIXED[index]
        np.testing.assert_array_equal(probs.argmax(-1), images[index][..., 0])
    # letterboxed images share a batch, others only with those of their size
    together = (5, 3, 24, 24) if padded_to else (2, 3, 16, 24)
    assert network.seen[0] == together and len(network.seen) == (1 + flips) * (1 if padded_to else 4)


# Training batches


@pytest.mark.parametrize("crop", [None, 12])
def test_letterboxed_images_make_batches_of_one_size(tmp_path, crop):
    sizes = [(24, 16), (6, 24), (24, 24), (24, 5)]
    images = stored(tmp_path, sizes)
    with PackedWriter(tmp_path / "targets") as writer:
        for index in range(len(sizes)):
            writer.add(images[index][..., 0])
    steps = [{"RandomCrop": {"height": crop, "width": crop}}] if crop else []
    part = Part(
        images,
        PackedArrays(tmp_path / "targets"),
        [Sample(index, index) for index in range(len(sizes))],
        Augment([*steps, {"HorizontalFlip": {"p": 0.5}}], 0, "augment.train"),
        2,
        (24, 24),
    )
    batches = EpochBatches([part], seed=0)
    for epoch in range(5):
        batches.epoch = epoch
        for pixels, targets in make_loader([part], batches, 0):
            assert pixels.shape == (2, 3, crop or 24, crop or 24) and targets.shape == (2, crop or 24, crop or 24)
            margin = targets == IGNORE_INDEX
            assert (pixels[:, 0][margin] == 114).all() and (pixels[:, 0][~margin] == targets[~margin]).all()


# Every stage

PNG = ["data.format=png", "data.train=[train]", "data.val=[val]", "data.test=[test]", "data.unlabeled=[pool]"]
COCO = ["data.unlabeled=[pool.json]"]
SMALL = ["sample.train=1", "sample.val=1", "sample.test=1", "sample.unlabeled=1", "sample.judge=1", "sample.size=32"]
SMALL += ["train.epochs=1", "train.batch_size=2", "retrain.epochs=1", "pseudo_label.confidence=0.0"]
SMALL += ["model.encoder=test_efficientnet", "model.decoder_channels=16", "split.group_by=null"]


def mixed(stems, *, labeled):
    """Pictures by turns 36 x 60, 60 x 36 and 48 x 48 pixels large."""
    sizes = [(36, 60), (60, 36), (48, 48)]
    boxes = [box(GLASS, 2, 3, 20, 30), box(PAPER, 10, 10, 34, 34)] if labeled else []
    return [Picture(f"{stem}.png", *sizes[place % 3], boxes) for place, stem in enumerate(stems)]


def write_mixed(write, root):
    write(
        root,
        train=mixed("abgh", labeled=True),
        val=mixed("cdef", labeled=True),
        test=mixed("xyz", labeled=False),
        pool=mixed("pqrs", labeled=False),
    )


@pytest.mark.parametrize(
    "write, values, expected",
    [
        (write_folders, [*PNG, "data.image_size=[32, 48]", "data.resize=letterbox"], [(29, 48), (32, 19), (32, 32)]),
        (write_folder, [*COCO, "data.image_size=null", "data.resize=stretch"], [(36, 60), (60, 36), (48, 48)]),
    ],
    ids=["letterboxed label maps", "COCO at native size"],
)
def test_portraits_and_landscapes_pass_through_every_stage(tmp_path, monkeypatch, write, values, expected):
    own = ["data.root=data/raw/mine", "submission.size=null", "submission.formats=[pixels, png]", *values]
    run_stages(tmp_path, monkeypatch, [*SMALL, *own], write_data=lambda: write_mixed(write, Path("data/raw/mine")))
    prepared = Prepared(tmp_path / "data/prepared", judge=True)
    test = prepared.sets["test"]
    assert [prepared.images[index].shape[:2] for index in test] == expected
    rows = pd.read_csv(tmp_path / "data/submission/submission.csv")["PredictionString"]
    assert [len(row.split(" ")) for row in rows] == [36 * 60, 60 * 36, 48 * 48]
    model = read_json(tmp_path / "data/models/retrain/main-0/model.json")
    assert (model["image_size"], model["resize"]) == (json.loads(json.dumps(prepared.image_size)), prepared.resize)
    stored_probs = Predictions(tmp_path / "data/predictions/retrain-main-0")
    for index in test:
        entry = prepared.entries[index]
        assert stored_probs.probs(index, (entry.height, entry.width)).shape[:2] == (entry.height, entry.width)
    labels = PackedArrays(tmp_path / "data/pseudo/0/labels")
    pool = read_json(tmp_path / "data/pseudo/0/card.json")["indices"]
    assert [labels[i].shape for i in range(len(pool))] == [prepared.images[i].shape[:2] for i in pool]
    assert (tmp_path / "data/report/index.html").is_file()


def test_letterboxed_targets_are_stored_without_a_margin(tmp_path):
    root = tmp_path / "raw"
    write_folder(root, train=mixed("abgh", labeled=True), val=mixed("cdef", labeled=True))
    prepared = Prepared(prepare_folder(root, image_size=[32, 48], resize="letterbox"), fold=0)
    for index in prepared.folds[0].train:
        assert prepared.target(index).shape == prepared.images[index].shape[:2]
        assert IGNORE_INDEX not in prepared.target(index)
        native = prepared.native_target(index)
        np.testing.assert_array_equal(prepared.target(index), resize_labels(native, prepared.target(index).shape))
