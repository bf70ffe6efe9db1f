"""Soft labels: the loss by hand and against torch, distributions that follow their pixels, a retraining on them."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from safetensors.torch import load_file
from test_learner import batch, learner_of, params, weights
from test_losses import TWO_PIXELS, log_of, make_loss, random_batch, term
from tiny_training import job_of, make_smaller

from segpipe.data.augment import Augment
from segpipe.data.cutmix import CutMix
from segpipe.data.dataset import EpochBatches, Part, Sample, make_loader
from segpipe.data.lineage import Lineage
from segpipe.data.pseudo_labels import PseudoLabels
from segpipe.data.soft_labels import SoftLabels, write_card
from segpipe.data.store import PackedArrays, PackedWriter
from segpipe.inference.probs import quantise, winners
from segpipe.labels import IGNORE_INDEX
from segpipe.losses.weighted_sum import TERMS
from segpipe.params import MemberParams, read_yaml
from segpipe.params.training import merge
from segpipe.stage import write_json
from segpipe.training.loop import Training
from segpipe.training.member import train_member
from segpipe.training.tracking.tracker import Tracker, describe_run

TESTS = Path(__file__).resolve().parent
V = IGNORE_INDEX
CLASSES = 7  # more than the four planes at which libraries stop

# The loss. Pixel 1 is of class 0 and given 0.8 of it, pixel 2 of class 1 and given 0.6, pixel 3 does not count.

LOGITS, TARGETS = TWO_PIXELS
SHARES = torch.tensor([[204, 51], [51, 204], [0, 255]], dtype=torch.uint8).T[None, :, None, :]  # 0.8 and 0.2
FIRST, SECOND = 0.8 * log_of(0.8) + 0.2 * log_of(0.2), 0.2 * log_of(0.4) + 0.8 * log_of(0.6)


def soft_term(name, logits, targets, soft, **changes):
    return make_loss({name: 1.0}, **changes).terms(logits, targets, soft)[name]


def test_ce_is_the_cross_entropy_with_each_pixel_s_distribution():
    torch.testing.assert_close(soft_term("ce", LOGITS, TARGETS, SHARES), -(FIRST + SECOND).squeeze() / 2)


def test_soft_ce_smooths_the_distribution():
    spread = (log_of(0.8, 0.2).mean() + log_of(0.4, 0.6).mean()) / 2
    expected = -0.9 * (FIRST + SECOND).squeeze() / 2 - 0.1 * spread
    torch.testing.assert_close(soft_term("soft_ce", LOGITS, TARGETS, SHARES), expected)


def test_class_weights_go_by_the_class_of_the_pixel():
    expected = -(3 * FIRST + SECOND).squeeze() / 4
    torch.testing.assert_close(soft_term("ce", LOGITS, TARGETS, SHARES, class_weights=[3.0, 1.0]), expected)


def random_shares(targets, num_classes, seed=0):
    """(N, C, H, W) uint8, most of each pixel's to its own class."""
    generator = torch.Generator().manual_seed(seed)
    shares = torch.randint(100, (len(targets), num_classes, *targets.shape[1:]), generator=generator, dtype=torch.uint8)
    known = torch.where(targets == V, 0, targets)
    return shares.scatter_(1, known.unsqueeze(1), 200)


@pytest.mark.parametrize("name, smoothing", [("ce", 0.0), ("soft_ce", 0.1)])
def test_value_and_gradient_agree_with_torch(name, smoothing):
    logits, targets = random_batch()
    soft, valid = random_shares(targets, 5), targets != V
    ours, theirs = logits.double().requires_grad_(), logits.double().requires_grad_()
    shares = soft.double() / soft.sum(1, keepdim=True)
    judge = F.cross_entropy(theirs, shares, label_smoothing=smoothing, reduction="none")[valid].mean()
    found = soft_term(name, ours, targets, soft)
    found.backward()
    judge.backward()
    torch.testing.assert_close(found, judge)
    torch.testing.assert_close(ours.grad, theirs.grad)
    assert (ours.grad.abs().sum(1) == 0)[~valid].all(), "ignored pixels teach nothing"


@pytest.mark.parametrize("weighted", [False, True])
def test_a_distribution_of_one_class_is_that_class_to_the_last_bit(weighted):
    logits, targets = random_batch()
    changes = {"class_weights": [1.0, 2.0, 3.0, 4.0, 5.0]} if weighted else {}
    one_hot = 255 * F.one_hot(torch.where(targets == V, 0, targets), 5).permute(0, 3, 1, 2).to(torch.uint8)
    for soft in (one_hot, torch.zeros_like(one_hot)):  # and so is none
        for name in TERMS:
            assert soft_term(name, logits, targets, soft, **changes) == term(name, logits, targets, **changes)


def test_terms_that_need_one_class_go_by_the_target():
    logits, targets = random_batch()
    soft = random_shares(targets, 5)
    others = {name for name in TERMS if soft_term(name, logits, targets, soft) == term(name, logits, targets)}
    assert others == set(TERMS) - {"ce", "soft_ce"}


def test_without_a_valid_pixel_the_loss_is_0_and_so_is_its_gradient():
    logits = torch.randn(2, 5, 4, 4, requires_grad=True)
    targets = torch.full((2, 4, 4), V)
    loss = make_loss().with_terms(logits, targets, random_shares(targets, 5))[0]
    loss.backward()
    assert loss == 0 and (logits.grad == 0).all()


def test_distributions_of_another_shape_are_refused():
    logits, targets = random_batch()
    with pytest.raises(ValueError, match=r"soft labels are \(1, 5, 16, 16\); expected \(2, 5, 16, 16\), as the logits"):
        make_loss().terms(logits, targets, random_shares(targets, 5)[:1])


# Updates


def with_shares(count, seed=0):
    images, targets = batch(count, seed)
    return images, targets, random_shares(targets.long(), 3, seed)


def test_the_distributions_of_an_update_belong_to_the_images_without_true_labels():
    images, targets, soft = with_shares(4)
    both, labelled, pseudo = (learner_of(params(), num_labeled=n) for n in (2, 2, 0))
    both.update([(images, targets, soft[2:])])
    labelled.update([(images[:2], targets[:2])])
    before = pseudo.segmenter(images[2:])
    expected = labelled.loss_sum + 0.5 * pseudo.loss_fn.with_terms(before, targets[2:].long(), soft[2:])[0]
    torch.testing.assert_close(both.loss_sum, expected)


def test_an_update_in_two_passes_is_the_update_of_the_whole_batch():
    images, targets, soft = with_shares(8)
    whole, halves, hard = learner_of(params()), learner_of(params(accumulate=2), num_labeled=2), learner_of(params())
    whole.update([(images, targets, soft[4:])])
    halves.update([(images[p], targets[p], soft[p[2:]]) for p in ([0, 1, 4, 5], [2, 3, 6, 7])])
    hard.update([(images, targets)])
    torch.testing.assert_close(weights(halves), weights(whole))
    assert not torch.allclose(weights(hard), weights(whole))


RANK = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
from test_learner import learner_of, params, weights
from test_soft_labels import with_shares
learner = learner_of(params(devices=2), num_labeled=2)
images, targets, soft = with_shares(8)
picked = ([0, 1, 4, 5], [2, 3, 6, 7])[learner.fabric.global_rank]
learner.update([(images[picked], targets[picked], soft[picked[2:]])])
torch.save(weights(learner), f"{learner.fabric.global_rank}.pt")
"""


def test_an_update_that_two_processes_share_is_the_update_of_the_whole_batch(tmp_path):
    images, targets, soft = with_shares(8)
    whole = learner_of(params())
    whole.update([(images, targets, soft[4:])])
    (tmp_path / "rank.py").write_text(RANK, encoding="utf-8")
    started(tmp_path, "rank.py", str(TESTS))
    for rank in range(2):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt", weights_only=True), weights(whole))


def started(folder, *words):
    """What a script says that starts a second process itself."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DVC_")}
    environment |= {"PYTHONPATH": str(TESTS.parent / "src"), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    words = [sys.executable, *words]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# Distributions follow their pixels

FLIPS = [{"HorizontalFlip": {"p": 0.5}}, {"VerticalFlip": {"p": 0.5}}, {"Transpose": {"p": 0.5}}]
AFFINE = [{"Affine": {"rotate": [-40, 40], "scale": [0.7, 1.4], "p": 1}}, {"ColorJitter": {"p": 1}}]
CUTOUT = [{"CoarseDropout": {"p": 1}}, {"RandomCrop": {"height": 16, "width": 20}}]
BENT = [{"OneOf": {"transforms": ["ElasticTransform", "GridDistortion", "Perspective"], "p": 1}}]


def pool(folder, count, num_classes=CLASSES, size=(24, 32), *, shown=False):
    """Stores of images, pseudo labels (two in ten ignored), and probabilities, which the image is where `shown`."""
    generator = np.random.default_rng(0)
    with (
        PackedWriter(folder / "images") as images,
        PackedWriter(folder / "labels") as labels,
        PackedWriter(folder / "soft" / "probs") as probs,
    ):
        for _ in range(count):
            stored = quantise(generator.dirichlet(np.ones(num_classes), size).astype(np.float32))
            target = np.where(generator.random(size) < 0.2, V, winners(stored)).astype(np.uint8)
            images.add(
                np.ascontiguousarray(stored[..., :3]) if shown else generator.integers(0, 256, (*size, 3), np.uint8)
            )
            labels.add(target)
            probs.add(stored)
    write_card(folder / "soft", range(count))
    return PackedArrays(folder / "images"), PackedArrays(folder / "labels"), SoftLabels(folder / "soft")


def part(stores, transforms, *, soft=True, cutmix=None, padded_to=None, per_batch=2):
    images, labels, probs = stores
    samples = [Sample(index, index) for index in range(len(images))]
    augment = Augment(transforms, 0, "augment.pseudo")
    return Part(images, labels, samples, augment, per_batch, padded_to, cutmix=cutmix, soft=probs if soft else None)


@pytest.mark.parametrize(
    "transforms", [[], FLIPS, AFFINE, CUTOUT, BENT], ids=["none", "flips", "affine", "cut", "bent"]
)
@pytest.mark.parametrize("cutmix", [None, CutMix(1.0, seed=0)], ids=["", "cutmix"])
def test_the_winner_of_each_pixel_that_counts_is_its_class_and_nothing_else_changes(tmp_path, transforms, cutmix):
    stores = pool(tmp_path, 4)
    soft, hard = part(stores, transforms, cutmix=cutmix), part(stores, transforms, cutmix=cutmix, soft=False)
    for position in range(4):
        image, target, shares = soft.draw(position, epoch=1, repeat=0)
        assert all(map(np.array_equal, (image, target), hard.draw(position, epoch=1, repeat=0)))
        counted = target != V
        assert shares.shape == (*target.shape, CLASSES) and counted.mean() > 0.3
        assert (winners(shares) == target)[counted].all()
        assert (np.abs(shares.sum(-1, dtype=int) - 255) <= 4)[counted].all(), "whole distributions, not pieces of them"


def test_a_distribution_is_that_of_the_very_pixel(tmp_path):
    """Where the image shows its own probabilities: its pixels move by another path through the library."""
    stores = pool(tmp_path, 3, num_classes=3, shown=True)
    moved = [{"Affine": {"rotate": [-40, 40], "p": 1, "interpolation": 0}}, {"HorizontalFlip": {"p": 1}}]
    for cutmix in (None, CutMix(1.0, seed=0)):
        mixed = part(stores, moved, cutmix=cutmix)
        for position in range(3):
            image, target, shares = mixed.draw(position, epoch=1, repeat=0)
            np.testing.assert_array_equal(image[target != V], shares[target != V])


def test_a_box_of_another_image_brings_its_distributions(tmp_path):
    stores, cutmix = pool(tmp_path, 4), CutMix(1.0, seed=0)
    plain, mixed = part(stores, []), part(stores, [], cutmix=cutmix)
    for position in range(4):
        mix = cutmix.draw(4, epoch=1, index=position, repeat=0)
        own, other = (plain.draw(at, epoch=1, repeat=0)[2] for at in (position, mix.other))
        shares = mixed.draw(position, epoch=1, repeat=0)[2]
        from_other = (shares != own).any(-1)
        assert from_other.any() != (mix.other == position) and (shares == other)[from_other].all()


@pytest.mark.parametrize("value", [0, 1, 3, V])
def test_pixels_from_outside_have_no_distribution_whatever_fills_them(tmp_path, value):
    stores = pool(tmp_path, 1, size=(24, 32))
    shift = [{"Affine": {"translate_percent": {"x": 0.25, "y": 0}, "fill_mask": value, "p": 1}}]
    _, target, shares = part(stores, shift, padded_to=(30, 40)).draw(0, epoch=1, repeat=0)
    assert (target[:, :10] == value).all() and not shares[:, :10].any()
    assert (target[24:, 10:] == V).all() and not shares[24:].any(), "nor has the margin"
    np.testing.assert_array_equal(shares[:24, 10:], stores[2].probs(0)[:, :30])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_batch_has_the_distributions_of_its_pseudo_labelled_images(tmp_path, workers):
    stores = pool(tmp_path, 5)
    parts = [part(stores, FLIPS[:2], soft=False, per_batch=2), part(stores, AFFINE, per_batch=3)]
    batches = EpochBatches(parts, seed=0, first_alone_from=2)
    loader = make_loader(parts, batches, workers)
    batches.epoch = 1
    for images, targets, soft in loader:
        assert len(images) == len(targets) == 5 and soft.shape == (3, CLASSES, 24, 32) and soft.dtype == torch.uint8
        counted = targets[2:] != V
        assert (soft.argmax(1) == targets[2:])[counted].all()
    batches.epoch = 2
    assert {len(of_labelled_alone) for of_labelled_alone in loader} == {2}


# What cannot be


def test_a_folder_without_probabilities_says_what_makes_them(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"soft/card\.json: not found; `dvc repro` makes it"):
        SoftLabels(tmp_path / "soft")
    write_card(tmp_path / "soft", [])
    with pytest.raises(ValueError, match=r"soft: holds no probabilities; set teach\.probs: true and run `dvc repro`"):
        SoftLabels(tmp_path / "soft")


def test_probabilities_of_other_labels_are_refused(tmp_path):
    _, labels, soft = pool(tmp_path, 2)
    soft.refuse_others([0, 1], labels, CLASSES)
    with pytest.raises(ValueError, match=r"found \(24, 32, 7\) for image 1 .* expected \(24, 32, 8\).*run `dvc repro`"):
        soft.refuse_others([1], labels, 8)
    with pytest.raises(ValueError, match="found no array for image 5 of the image table"):
        soft.refuse_others([5], labels, CLASSES)


# A retraining


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_smaller(tmp_path_factory.mktemp("tiny"))


EVERY_MEANS = {
    "retrain": {"init": "scratch", "epochs": 2, "cutmix": 0.5, "ramp_epochs": 1},
    "loss": {"balance": True, "soft_ce": 0.5, "class_weights": "effective_number"},
}


def retrain_job(tiny, out, labels, **changes):
    """Two epochs from scratch on made-up labels of four images of the pool, with every other means on."""
    job = job_of(tiny, out, **changes)
    prepared, made = job.prepared, out / "made"
    indices = prepared.pool()[:4]
    generator = np.random.default_rng(0)
    with PackedWriter(made / "labels") as kept, PackedWriter(made / "soft" / "probs") as probs:
        for index in indices:
            size = prepared.images.shape(index)[:2]
            stored = quantise(generator.dirichlet(np.ones(prepared.classes.num_classes), size).astype(np.float32))
            kept.add(winners(stored))
            probs.add(stored)
    write_card(made / "soft", indices)
    write_json(made / "card.json", {"indices": list(indices), "lineage": Lineage(frozenset(), frozenset()).to_json()})
    raw = merge(merge(job.params.model_dump(mode="python"), EVERY_MEANS), {"retrain": {"labels": labels}})
    soft = SoftLabels(made / "soft") if labels == "soft" else None
    job = replace(job, round="retrain", params=MemberParams.model_validate(raw))
    return replace(job, pseudo=PseudoLabels(made), soft=soft)


def retrained(tiny, out, labels="soft", **changes):
    """The bytes of the last weights and of the history."""
    job, threads = retrain_job(tiny, out, labels, **changes), torch.get_num_threads()
    run = describe_run("retrain", "main", 0, {}, job.prepared.classes)
    try:
        train_member(job, out / "plots", Tracker([], run))
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(False)
    return [(out / name).read_bytes() for name in ("model/last.safetensors", "plots/history.csv")]


def test_soft_labels_train_to_the_same_bits_twice_interrupted_or_not_and_to_others_than_hard_ones(
    tiny, tmp_path, monkeypatch
):
    for name in ("1", "2", "3", "4"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "1")  # which keeps the state
    whole = retrained(tiny, Path.cwd())
    monkeypatch.chdir(tmp_path / "2")
    assert retrained(tiny, Path.cwd(), accumulate=1, workers=1, save_seconds=0) == whole
    monkeypatch.chdir(tmp_path / "3")
    between, calls = Training._between_updates, []

    def stopped(self):
        between(self)
        if self.learner.updates == 5 and not calls:
            calls.append(5)
            raise RuntimeError("stopped")

    monkeypatch.setattr(Training, "_between_updates", stopped)
    with pytest.raises(RuntimeError, match="stopped"):
        retrained(tiny, Path.cwd(), save_seconds=0)
    assert calls == [5] and retrained(tiny, Path.cwd(), save_seconds=0) == whole
    monkeypatch.chdir(tmp_path / "4")
    assert retrained(tiny, Path.cwd(), labels="hard")[0] != whole[0]


def test_two_processes_learn_from_soft_labels_nearly_as_one_does_and_one_of_them_says_so(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    retrained(tiny, tmp_path)
    for name in ("dvc.yaml", "src", "stages"):
        (tmp_path / name).symlink_to(TESTS.parent / name)
    changes = {"retrain": {"labels": "soft"}, "teach": {"probs": True}, "train": {"devices": 2, "validate_every": 2}}
    raw = merge(merge(read_yaml(tiny[1].parent / "params.yaml"), EVERY_MEANS), changes)
    Path("params.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    words = ["--round", "retrain", "--member", "main", "--fold", "0", "--prepared", str(tiny[1]), "--pseudo", "made"]
    words += ["--soft", "made/soft", "--out", "two", "--metrics", "metrics.json", "--plots", "two_plots"]
    said = started(tmp_path, "stages/train.py", *words).splitlines()
    assert [line for line in said if "soft labels" in line] == [
        "retrain: learns from soft labels of 4 images of the pool: ce and soft_ce ask kept pixels for the teachers' "
        "probabilities, all other terms for the class"
    ]
    alone, two = (load_file(Path(folder) / "last.safetensors") for folder in ("model", "two"))
    # batch statistics are each rank's own, so weights differ a little from those of one process
    distance = sum((two[name] - alone[name]).float().norm() ** 2 for name in two) ** 0.5
    length = sum(alone[name].float().norm() ** 2 for name in alone) ** 0.5
    assert 0 < distance < 0.2 * length
