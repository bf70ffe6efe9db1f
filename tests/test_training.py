"""A run from its first update to its model folder, on a few tiny images."""

import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from tiny_training import ROOT, job_of, make_tiny, train

from segpipe.data.dataset import EpochBatches
from segpipe.data.prepared import Prepared
from segpipe.models.checkpoint import load_segmenter, read_card
from segpipe.params import TrainParams, load_params
from segpipe.training import loop
from segpipe.training.engine import check_engine
from segpipe.training.evaluate import Tune, evaluate
from segpipe.training.job import parts_of
from segpipe.training.learner import Learner
from segpipe.training.outcome import Best, closing_lines

WEIGHTS = ("model", "third", "two_thirds", "last")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where the state of a run lies
    return tmp_path


def scores(monkeypatch, given: list[float]) -> list[float]:
    """Make the scores of tune images these, in turn; returns those that are left."""
    left = list(given)
    monkeypatch.setattr(loop, "pooled_miou", lambda confusions: left.pop(0))
    return left


def history(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "plots/history.csv")


# Which weights are kept


def test_the_best_scored_weights_are_kept_and_the_first_of_equals(tiny, folder, monkeypatch):
    left = scores(monkeypatch, [0.2, 0.4, 0.4, 0.1])
    train(tiny, folder, epochs=4, validate_every=1)
    card = read_card(folder / "model")
    assert left == [] and (card.chosen_epoch, card.chosen_weights) == (2, "raw")
    assert history(folder)["tune_miou"].tolist() == [0.2, 0.4, 0.4, 0.1]
    files = {name: load_file(folder / f"model/{name}.safetensors") for name in WEIGHTS}
    same = [name for name in WEIGHTS if all(torch.equal(files[name][k], v) for k, v in files["model"].items())]
    assert same == ["model", "two_thirds"], "2 of 4 epochs is two thirds, rounded down"


def test_raw_and_averaged_weights_are_both_scored_and_the_better_is_named(tiny, folder, monkeypatch):
    scores(monkeypatch, [0.2, 0.1, 0.2, 0.3])  # raw, then averaged, of two epochs
    train(tiny, folder, epochs=2, validate_every=1, ema=0.9)
    card, rows = read_card(folder / "model"), history(folder)
    assert (card.chosen_epoch, card.chosen_weights) == (2, "ema")
    assert rows["tune_miou"].tolist() == [0.2, 0.3]
    assert rows["tune_miou_raw"].tolist() == [0.2, 0.2] and rows["tune_miou_ema"].tolist() == [0.1, 0.3]
    model, last = (load_file(folder / f"model/{name}.safetensors") for name in ("model", "last"))
    assert model.keys() == last.keys() and not all(torch.equal(model[name], last[name]) for name in model)


def test_averaging_changes_no_raw_weight(tiny, folder):
    train(tiny, folder / "without")
    train(tiny, folder / "with", ema=0.9)
    without, with_average = (load_file(folder / f"{name}/model/last.safetensors") for name in ("without", "with"))
    assert all(torch.equal(tensor, with_average[name]) for name, tensor in without.items())


def test_patience_ends_a_run_that_no_longer_improves_and_every_file_is_there(tiny, folder, monkeypatch, capsys):
    left = scores(monkeypatch, [0.3, 0.2, 0.1, 0.9])
    train(tiny, folder, epochs=9, validate_every=1, patience=2)
    assert left == [0.9]
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "train: stopped after epoch 3 of 9: 2 scores in a row without a better one (train.patience)",
        "train: kept epoch 1 (raw), mIoU 0.300",
    ]
    assert history(folder)["epoch"].tolist() == [1, 2, 3]
    assert read_card(folder / "model").chosen_epoch == 1
    files = {name: load_file(folder / f"model/{name}.safetensors") for name in WEIGHTS}
    name = next(iter(files["last"]))
    assert torch.equal(files["two_thirds"][name], files["last"][name]), "where the end came sooner, the end's weights"
    assert not torch.equal(files["model"][name], files["last"][name])


def test_the_last_lines_say_why_a_run_ended_and_what_it_keeps_and_nothing_where_nothing_was_scored():
    scored = [{"epoch": epoch, "tune_miou": miou} for epoch, miou in ((1, math.nan), (2, 0.3), (3, math.nan), (4, 0.2))]
    kept = "kept epoch 2 (ema), mIoU 0.300"
    assert closing_lines(scored, Best(2, "ema", 0.3), epochs=4) == [kept]
    assert closing_lines(scored, Best(2, "ema", 0.3), epochs=6) == [
        "stopped after epoch 4 of 6: 1 score in a row without a better one (train.patience)",
        kept,
    ]
    assert closing_lines(scored[:1], Best(1, "raw", math.nan), epochs=1) == []


def test_an_epoch_has_the_rate_of_its_first_update(tiny, folder):
    train(tiny, folder, epochs=3)
    job = job_of(tiny, folder, epochs=3)
    lr, power = job.params.optimizer.lr, job.params.scheduler.power
    assert history(folder)["lr"].tolist() == pytest.approx([lr * (1 - done / 3) ** power for done in range(3)])


# Numbers that must not matter


@pytest.mark.parametrize("changes", [{"workers": 1}, {"workers": 2, "save_seconds": 0}])
def test_loader_processes_and_saves_change_no_bit(tiny, folder, changes):
    plain = train(tiny, folder / "plain")
    shutil.rmtree(folder / ".checkpoints")  # else the finished run would be taken as it is
    assert train(tiny, folder / "other", **changes) == plain


def test_accumulation_makes_as_many_updates_on_the_same_images(tiny, folder):
    def images_of(**changes) -> list[set]:
        job = job_of(tiny, folder, **changes)
        batches = EpochBatches(parts_of(job), 0, pieces=job.params.train.accumulate)
        keys = list(batches)
        size = job.params.train.accumulate
        return [{key for piece in keys[i : i + size] for key in piece} for i in range(0, len(keys), size)]

    assert images_of(accumulate=2) == images_of(accumulate=1)
    train(tiny, folder, accumulate=2)
    assert len(history(folder)) == 2


def test_the_pieces_of_all_ranks_are_the_batch(tiny, folder):
    parts = parts_of(job_of(tiny, folder))
    whole = EpochBatches(parts, 0)
    for pieces, world_size in ((2, 1), (2, 2), (4, 2)):
        ranks = [
            list(EpochBatches(parts, 0, pieces=pieces, rank=rank, world_size=world_size)) for rank in range(world_size)
        ]
        for update in range(whole.updates):
            passes = pieces // world_size
            got = [key for keys in ranks for piece in keys[update * passes : (update + 1) * passes] for key in piece]
            assert sorted(got) == sorted(whole.update_keys(update))


def test_an_epoch_taken_up_in_its_middle_yields_the_rest(tiny, folder):
    batches = EpochBatches(parts_of(job_of(tiny, folder)), 0)
    everything = list(batches)
    batches.start = 3
    assert list(batches) == everything[3:] and len(batches) == len(everything) - 3


# What stops a run


def test_what_is_not_finite_is_told_with_its_images_and_the_state_stays(tiny, folder, monkeypatch):
    updates = Learner._losses

    def spoilt(self, images, targets):
        return updates(self, images, targets) * (math.nan if self.updates == 5 else 1)

    monkeypatch.setattr(Learner, "_losses", spoilt)
    with pytest.raises(ValueError, match=r"update 6 \(epoch 2\) is not finite: loss nan, ce nan, dice nan, gr") as told:
        train(tiny, folder)
    job = job_of(tiny, folder)
    batches = EpochBatches(parts_of(job), job.params.seed)
    batches.epoch = 2
    names = [
        job.prepared.entries[job.prepared.folds[0].train[position]].file_name
        for _, _, position, _ in batches.update_keys(1)
    ]
    assert f"Its images: {', '.join(names)}." in str(told.value)
    (state,) = folder.glob(".checkpoints/*/state.pt")
    saved = torch.load(state, weights_only=True)
    assert saved["learner"]["updates"] == 5
    assert all(tensor.isfinite().all() for tensor in saved["learner"]["network"].values())


def test_a_run_whose_updates_are_all_skipped_stops(tiny, folder, monkeypatch):
    monkeypatch.setattr(Learner, "_losses", lambda self, *_: torch.full((3,), math.nan, requires_grad=True))
    with pytest.raises(ValueError, match=r"every update of epoch 1 was skipped .*; lower optimizer\.lr, .*: stop"):
        train(tiny, folder, on_nonfinite="skip")


# What this machine cannot do


def section(**changes) -> TrainParams:
    raw = load_params(ROOT / "params.yaml").train.model_dump()
    return TrainParams.model_validate(raw | {"batch_size": 8, "precision": "fp32"} | changes)


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"precision": "fp16"}, "train.precision: found fp16, which this CPU cannot compute; give fp32"),
        (
            {"batch_size": 4, "devices": 5},
            "train.batch_size: found 4, which cannot be split evenly into 5 parts (train.devices x train.accumulate); "
            "set train.batch_size 10, or train.devices 1 or 2",
        ),
        (
            {"devices": 4, "accumulate": 2},
            "train.batch_size: found 8, which leaves one image to each of 8 parts (train.devices x train.accumulate), "
            "and batch normalisation needs two; set train.batch_size 16, or train.devices 1 or 2, or "
            "train.accumulate 1",
        ),
        (
            {"batch_size": 2, "devices": 4, "accumulate": 2},
            "train.batch_size: found 2, which cannot be split evenly into 8 parts (train.devices x train.accumulate); "
            "set train.batch_size 16",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_what_would_work(monkeypatch, changes, told):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert [line for line in check_engine(section(**changes)) if line.startswith(told)]
    assert check_engine(section()) == []


def test_several_machines_share_a_batch_too(monkeypatch):
    monkeypatch.setenv("GROUP_WORLD_SIZE", "3")
    assert check_engine(section(devices=2)) == [
        "train.batch_size: found 8, which cannot be split evenly into 6 parts (train.devices x nodes x "
        "train.accumulate); set train.batch_size 12"
    ]


def test_more_gpus_than_there_are_and_half_types_they_lack_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    problems = check_engine(section(devices=4, precision="bf16"))
    assert problems == [
        "train.devices: found 4; this machine has 2: give 1 to 2",
        "train.precision: found bf16, which this GPU cannot compute; give fp32 or fp16",
    ]


def test_compiling_without_a_compiler_is_refused(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert check_engine(section(compile=True)) == [
        "train.compile: found true, but there is no compiler no-such-compiler; install one, or give false"
    ]
    assert check_engine(section()) == []


def test_a_launch_of_another_number_of_processes_is_refused(monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert check_engine(section()) == [
        "train.devices: found 1, but torchrun started 2 processes on this machine; make both the same"
    ]


# Several ranks


SCORE = """
import sys
from pathlib import Path
import numpy as np
from segpipe.data.prepared import Prepared
from segpipe.models.checkpoint import load_segmenter
from segpipe.params import load_params
from segpipe.training.engine import start_engine
from segpipe.training.evaluate import Tune, evaluate
params = load_params(Path(sys.argv[1]) / "params.yaml")
fabric = start_engine(params.train.model_copy(update={"devices": 2}), 0)
prepared = Prepared(Path(sys.argv[1]) / "prepared", fold=0)
segmenter, _ = load_segmenter(Path(sys.argv[2]))
indices = prepared.folds[0].tune[:5]  # an odd number: one rank has an image more
confusions, _ = evaluate(segmenter, Tune(prepared, indices, (64, 64)), fabric)
np.save(f"{sys.argv[3]}/{fabric.global_rank}.npy", confusions)
"""


def torchrun(folder: Path, *arguments: object) -> subprocess.CompletedProcess:
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DVC_")}
    environment |= {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, text=True, capture_output=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_two_ranks_score_each_image_once_and_count_what_one_process_counts(tiny, folder):
    train(tiny, folder)
    (folder / "score.py").write_text(SCORE, encoding="utf-8")
    torchrun(folder, "score.py", tiny[1].parent, folder / "model", folder)
    first, second = np.load(folder / "0.npy"), np.load(folder / "1.npy")
    prepared = Prepared(tiny[1], fold=0)
    segmenter, _ = load_segmenter(folder / "model")
    alone, _ = evaluate(segmenter, Tune(prepared, prepared.folds[0].tune[:5], (64, 64)))
    assert np.array_equal(first, alone) and np.array_equal(second, alone)
    assert alone.sum((1, 2)).tolist() == [64 * 64] * 5


TRAIN = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from tiny_training import train, load_params
folder = Path(sys.argv[2])
train((load_params(folder / "params.yaml"), folder / "prepared"), Path("out"), devices=2, save_seconds=0, epochs=2)
"""


def test_two_ranks_train_one_model_and_write_each_file_once(tiny, folder):
    (folder / "train.py").write_text(TRAIN, encoding="utf-8")
    said = torchrun(folder, "train.py", ROOT / "tests", tiny[1].parent).stdout
    assert said.count("epoch 2/2") == 1, "only the first rank speaks"
    assert len(history(folder / "out")) == 2
    assert {path.stem for path in (folder / "out/model").glob("*.safetensors")} == set(WEIGHTS)
    two = load_file(folder / "out/model/last.safetensors")
    train(tiny, folder / "alone")
    alone = load_file(folder / "alone/model/last.safetensors")
    # batch statistics are each rank's own, so weights differ a little from those of one process
    distance = sum((two[name] - alone[name]).float().norm() ** 2 for name in two) ** 0.5
    length = sum(alone[name].float().norm() ** 2 for name in alone) ** 0.5
    assert 0 < distance < 0.2 * length


REFUSED = """
import math, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from tiny_training import train, load_params
from segpipe.stage import run_stage
from segpipe.training.learner import Learner
folder, losses = Path(sys.argv[2]), Learner._losses
Learner._losses = lambda self, *batch: losses(self, *batch) * math.nan
run_stage(lambda: train((load_params(folder / "params.yaml"), folder / "prepared"), Path("out"), devices=2))
"""


def test_what_two_processes_refuse_is_told_once_and_nothing_else_is_said(tiny, folder):
    (folder / "refused.py").write_text(REFUSED, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "SEGPIPE_TRACEBACK": ""}
    words = [sys.executable, "refused.py", str(ROOT / "tests"), str(tiny[1].parent)]  # Fabric starts the second
    done = subprocess.run(words, cwd=folder, env=environment, text=True, capture_output=True, timeout=300)
    assert done.returncode == 1 and done.stdout.strip() == ""
    assert re.match(r"refused.py: update 1 \(epoch 1\) is not finite: .*\n\Z", done.stderr), done.stderr


SKIP = """
import math, sys
sys.path.insert(0, sys.argv[1])
import torch
from test_learner import batch, learner_of, params, weights
learner = learner_of(params(devices=2, on_nonfinite="skip"))
rank, losses = learner.fabric.global_rank, learner._losses
for update in range(3):
    # a loss that is not finite on one rank alone, with gradients that are
    learner._losses = lambda *batch: losses(*batch) + (math.inf if rank == update == 1 else 0)
    learner.update([batch(seed=10 * update + rank)])
torch.save({"weights": weights(learner), "said": [learner.skipped, learner.mean_loss()]}, f"{rank}.pt")
"""


def test_ranks_agree_which_update_to_skip_and_on_the_loss(folder):
    (folder / "skip.py").write_text(SKIP, encoding="utf-8")
    torchrun(folder, "skip.py", ROOT / "tests")
    first, second = (torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert first["said"] == second["said"] and first["said"][0] == 1
    assert torch.equal(first["weights"], second["weights"])
