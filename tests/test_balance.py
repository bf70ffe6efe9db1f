"""What a run adds to its loss: factors, weights of classes, and what the history says of the terms."""

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_training import job_of, make_tiny, train

from segpipe.data.class_counts import count_classes
from segpipe.data.dataset import EpochBatches, make_loader
from segpipe.labels import IGNORE_INDEX
from segpipe.losses.weighted_sum import SegmentationLoss
from segpipe.models.build import architecture
from segpipe.models.checkpoint import new_segmenter
from segpipe.params import LossParams
from segpipe.training.balance import balance_factors, balanced_terms
from segpipe.training.engine import start_engine
from segpipe.training.job import class_weight_rows, parts_of
from segpipe.training.learner import Learner


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where the state of a run lies
    return tmp_path


def loss_of(tiny, **changes) -> LossParams:
    return tiny[0].loss.model_copy(update=changes)


def with_loss(tiny, **changes):
    """The same set with other parameters of the loss."""
    return tiny[0].model_copy(update={"loss": loss_of(tiny, **changes)}), tiny[1]


# Factors


def test_factors_make_the_terms_as_large_as_their_weights_say_and_leave_the_loss_as_it_is():
    weights, values = {"ce": 1.0, "dice": 0.5, "lovasz": 0.5}, {"ce": 2.4, "dice": 0.8, "lovasz": 0.9}
    factors = balance_factors(weights, values)
    scaled = {name: weights[name] * factors[name] * values[name] for name in weights}
    total = sum(weights[name] * values[name] for name in weights)
    assert scaled == pytest.approx({"ce": total / 2, "dice": total / 4, "lovasz": total / 4})


def test_a_term_that_is_zero_at_the_start_keeps_its_weight():
    assert balance_factors({"ce": 1.0, "dice": 1.0}, {"ce": 0.0, "dice": 0.0}) == {"ce": 1.0, "dice": 1.0}


def test_measuring_the_terms_changes_nothing_of_training(tiny, folder):
    job = job_of(with_loss(tiny, balance=True), folder)
    fabric = start_engine(job.params.train, 0)
    parts = parts_of(job)
    batches = EpochBatches(parts, 0)
    segmenter = new_segmenter(architecture(job.params.model, job.prepared.classes.num_classes))
    learner = Learner(
        fabric,
        segmenter,
        job.params,
        updates_per_epoch=batches.updates,
        epochs=2,
        num_labeled=job.params.train.batch_size,
        pseudo_weight=0.0,
    )
    before = {name: tensor.clone() for name, tensor in segmenter.state_dict().items()}
    drawn = torch.get_rng_state()
    loader = make_loader(parts, batches, 0)
    rows = balanced_terms(learner, loader, batches)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(tensor, before[name]) for name, tensor in segmenter.state_dict().items())
    assert all(part.training for part in segmenter.modules())
    assert [row["term"] for row in rows] == ["ce", "dice"]
    assert balanced_terms(learner, loader, batches) == rows
    learner.balance_terms(rows)
    (ce, dice), weights = (row["value"] * learner.loss_fn.scaled[row["term"]] for row in rows), learner.loss_fn.weights
    assert ce / dice == pytest.approx(weights["ce"] / weights["dice"])


def test_factors_are_written_told_and_kept_by_a_run_that_goes_on(tiny, folder, capsys):
    balanced = with_loss(tiny, balance=True)
    whole = train(balanced, folder / "whole", save_seconds=0)[1]
    rows = pd.read_csv(folder / "whole/plots/loss_balance.csv")
    assert rows.columns.tolist() == ["term", "weight", "value", "factor"]
    assert rows["factor"].nunique() == 2 and "train: loss.balance: ce " in capsys.readouterr().out
    # a run that was finished, taken up again, has them from its state: its weights are no longer those of the start
    again = train(balanced, folder / "again", save_seconds=0)[1]
    assert "finished before" in capsys.readouterr().out
    assert again == whole
    assert train(tiny, folder / "without")[1]["last.safetensors"] != whole["last.safetensors"]


# The history


def test_the_history_has_each_term_and_shares_of_the_gradient_that_sum_to_one(tiny, folder):
    train(tiny, folder)
    history = pd.read_csv(folder / "plots/history.csv")
    loss = tiny[0].loss
    assert (loss.ce * history["loss_ce"] + loss.dice * history["loss_dice"]).tolist() == pytest.approx(
        history["train_loss"].tolist(), rel=1e-5
    )
    shares = history[["gradient_ce", "gradient_dice"]]
    assert shares.sum(axis=1).tolist() == pytest.approx([1, 1]) and (shares > 0).all(axis=None)


def test_looking_at_gradients_changes_no_bit_of_training(tiny, folder, monkeypatch):
    looked = train(tiny, folder / "looked")[1]
    monkeypatch.setattr(SegmentationLoss, "gradient_norms", lambda self, logits, _: logits.new_ones(len(self.names)))
    (folder / ".checkpoints").rename(folder / "gone")
    not_looked = train(tiny, folder / "not_looked")[1]
    assert looked["last.safetensors"] == not_looked["last.safetensors"]


# Weights of classes


def test_classes_are_counted_by_pixels_and_by_images():
    targets = [np.array([[0, 0, 1]], np.uint8), np.array([[0, IGNORE_INDEX, 0]], np.uint8)]
    counts = count_classes(targets, 3)
    assert counts.pixels.tolist() == [4, 1, 0] and counts.images.tolist() == [2, 1, 0]


def test_class_weights_come_from_the_folds_training_images_alone(tiny, folder):
    job = job_of(tiny, folder)
    prepared = job.prepared
    rows = class_weight_rows(prepared, 0, loss_of(tiny, class_weights="inverse_frequency"))
    targets = [prepared.target(index) for index in prepared.folds[0].train]
    counted = [int(sum((target == index).sum() for target in targets)) for index in range(len(rows))]
    assert [row["pixels"] for row in rows] == counted
    assert [row["class"] for row in rows] == list(prepared.classes.names)
    assert class_weight_rows(prepared, 0, loss_of(tiny, class_weights="none")) == []


def test_a_list_of_another_length_is_refused_before_training_and_names_the_classes(tiny, folder):
    job = job_of(tiny, folder)
    listed = loss_of(tiny, class_weights=(1.0, 2.0))
    with pytest.raises(ValueError, match=r"loss.class_weights: found 2 weights; expected 12, .*Background, .*Battery"):
        class_weight_rows(job.prepared, 0, listed)


def test_class_weights_are_written_and_told_and_change_training(tiny, folder, capsys):
    weighed = with_loss(tiny, class_weights="effective_number")
    files = train(weighed, folder / "weighed")[1]
    rows = pd.read_csv(folder / "weighed/plots/class_weights.csv")
    assert rows.columns.tolist() == ["class", "pixels", "images", "weight"]
    assert (rows["weight"] * rows["pixels"]).sum() / rows["pixels"].sum() == pytest.approx(1)
    assert "weights of the classes in the loss: Background " in capsys.readouterr().out
    assert files["last.safetensors"] != train(tiny, folder / "without")[1]["last.safetensors"]
