"""Who may teach, what teachers say of images, and what comes of it when nothing they say is kept."""

import gc
import resource
import runpy
import shutil
import sys
import weakref
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from tiny_training import job_of, make_smaller, train

from segpipe.data.prepared import Prepared
from segpipe.data.pseudo_labels import PseudoLabels
from segpipe.inference.fold import Work
from segpipe.inference.ranks import start_ranks
from segpipe.inference.teach import teach
from segpipe.inference.teachers import check_teachers, steadiness
from segpipe.models.checkpoint import load_segmenter, read_card, write_card
from segpipe.params import load_params, read_yaml
from segpipe.params.training import merge
from segpipe.pseudo.labels import make_pseudo_labels
from segpipe.stage import read_json
from segpipe.training.member import train_member
from segpipe.training.tracking.tracker import Tracker, describe_run
from segpipe.wire import wire

PARAMS = load_params(Path(__file__).parent.parent / "params.yaml")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_smaller(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def teacher(tiny, tmp_path_factory):
    """A trained baseline's folder."""
    folder = tmp_path_factory.mktemp("teacher")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        train(tiny, folder)
    return folder / "model"


@pytest.fixture
def prepared(tiny):
    return Prepared(tiny[1], fold=0)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # which keeps the state


def work_of(prepared, out, indices=None):
    looked = [*prepared.pool(), *prepared.folds[0].tune] if indices is None else indices
    return Work("teach", prepared, looked, PARAMS.teach, PARAMS.train, out)


def steady(folders, prepared, indices):
    with ExitStack() as stack:
        return steadiness(work_of(prepared, Path("out"), indices), folders, start_ranks(1), stack)


def copied(teacher, folder, **changes):
    """The teacher with these changes to its card."""
    shutil.copytree(teacher, folder)
    write_card(replace(read_card(folder), **changes), folder)
    return folder


# Refusals, before any image is labelled


def test_everything_that_forbids_labelling_stands_in_one_message(teacher, prepared, tmp_path):
    card, classes = read_card(teacher), prepared.classes
    others = replace(classes, names=("Background", "Cat", *classes.names[2:]))
    reordered = replace(classes, names=(*classes.names[1:], classes.names[0]))
    knows = replace(card.lineage, tuned_on=card.lineage.tuned_on | prepared.hashes(prepared.folds[0].judge))
    teachers = [
        copied(teacher, tmp_path / "cats", classes=others),
        copied(teacher, tmp_path / "order", classes=reordered),
        copied(teacher, tmp_path / "leaks", lineage=knows),
    ]
    pool, train_image = prepared.pool()[0], prepared.folds[0].train[0]
    entries = list(prepared.entries)
    entries[pool] = replace(entries[pool], content_hash=entries[train_image].content_hash)
    prepared.entries = tuple(entries)
    with pytest.raises(ValueError) as error:
        teach(work_of(prepared, tmp_path / "out"), 0, teachers, checkpoints=False)
    first, cats, order, leaks, overlap = str(error.value).split("\n  ")
    assert first == "teach@0: no image is labelled:"
    assert f"cats: was trained on other classes than the prepared data have ({', '.join(classes.names)})" in cats
    assert f"it lacks {classes.names[1]} and knows Cat besides; train it on these data" in cats
    assert "order: was trained on other classes" in order and "it has them in another order" in order
    judge = prepared.entries[prepared.folds[0].judge[0]].file_name
    assert "leaks was tuned on" in leaks and judge in leaks
    named = f"{entries[pool].file_name} of the pool is the training image {entries[train_image].file_name}"
    assert overlap.startswith(f"data.unlabeled: {named}; expected images without true labels")
    assert not (tmp_path / "out").exists()


def test_a_teacher_of_this_fold_is_welcome_and_its_images_are_known(teacher, prepared):
    assert check_teachers(prepared, 0, [teacher, teacher]) == read_card(teacher).lineage


# One of two members teaches

ROOT = Path(__file__).parent.parent


def run_teach(tiny, folder, members):
    """The stage `teach` of fold 0 in the current folder, where `second` has no baseline; two members in params.yaml."""
    (folder / "params.yaml").write_bytes((tiny[1].parent / "params.yaml").read_bytes())
    changes = {"member_names": ["main", "second"], "members": {"main": {}, "second": {"seed": 7}}}
    raw = merge(read_yaml(folder / "params.yaml"), changes | {"teach": {"members": members}})
    (folder / "params.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    shutil.copy(ROOT / "dvc.yaml", folder)
    for name in ("src", "stages"):
        (folder / name).symlink_to(ROOT / name)
    wire(load_params())
    words = ["--fold", "0", "--prepared", str(tiny[1]), "--models", "models", "--out", "taught", "--soft", "soft"]
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(sys, "argv", ["stages/teach.py", *words])
        runpy.run_path("stages/teach.py")["main"]()


def test_a_member_that_does_not_teach_learns_from_those_that_do(teacher, tiny, prepared, tmp_path):
    shutil.copytree(teacher, tmp_path / "models/main-0")
    run_teach(tiny, tmp_path, ["main"])
    params = load_params()
    work = replace(work_of(prepared, tmp_path / "by_hand"), views=params.teach, train=params.train)
    teach(work, 0, [Path("models/main-0")], checkpoints=True)
    assert {path.name: path.read_bytes() for path in Path("taught").iterdir()} == {
        path.name: path.read_bytes() for path in Path("by_hand").iterdir()
    }
    section = params.pseudo_label.model_copy(update={"confidence": 0.0})
    make_pseudo_labels(prepared, 0, Path("taught"), section, Path("pseudo"))
    assert read_json(Path("pseudo/card.json"))["teachers"] == ["models/main-0"]
    second = params.member("second")
    retrain = second.retrain.model_copy(update={"init": "scratch", "epochs": 1})
    job = replace(job_of(tiny, tmp_path), round="retrain", pseudo=PseudoLabels(Path("pseudo")))
    job = replace(job, params=second.model_copy(update={"retrain": retrain}))
    train_member(job, Path("plots"), Tracker([], describe_run("retrain", "second", 0, {}, prepared.classes)))
    assert prepared.hashes(prepared.pool()) <= read_card(Path("model")).lineage.learned_from


def test_a_member_that_teaches_needs_its_baseline(teacher, tiny, tmp_path):
    shutil.copytree(teacher, tmp_path / "models/main-0")
    with pytest.raises(FileNotFoundError, match="models/second-0"):
        run_teach(tiny, tmp_path, None)


# What is said of images


@torch.inference_mode()
def test_steadiness_is_the_mean_iou_of_earlier_answers_with_the_last(teacher, prepared):
    indices = list(prepared.pool()[:3])
    found = dict(zip(indices, steady([teacher], prepared, indices), strict=True))
    for index in indices:
        image = torch.from_numpy(np.array(prepared.images[index])).permute(2, 0, 1)[None]
        third, two_thirds, last = (
            load_segmenter(teacher, name)[0](image)[0].argmax(0).numpy() for name in ("third", "two_thirds", "last")
        )
        ious = []
        for preds in (third, two_thirds):
            shown = sorted({*preds.flat, *last.flat})
            ious.append(
                np.mean([((preds == c) & (last == c)).sum() / ((preds == c) | (last == c)).sum() for c in shown])
            )
        assert found[index] == pytest.approx(np.mean(ious))


def test_a_teacher_that_never_changed_is_steady(teacher, prepared, tmp_path):
    folder = copied(teacher, tmp_path / "still")
    for name in ("third", "two_thirds"):
        shutil.copy(folder / "last.safetensors", folder / f"{name}.safetensors")
    assert set(steady([folder], prepared, prepared.pool())) == {1.0}
    one, both = (steady(folders, prepared, prepared.pool()) for folders in ([teacher], [teacher, folder]))
    assert both.tolist() == pytest.approx([(value + 1) / 2 for value in one])


def test_many_teachers_neither_hold_many_files_open_nor_their_networks_in_memory(
    teacher, prepared, tmp_path, monkeypatch
):
    monkeypatch.setattr("segpipe.inference.views.BATCH_SIZE", 1)  # a portion for each image
    alive = []

    def loaded(*arguments):
        gc.collect()
        before.append(sum(network() is not None for network in alive))
        segmenter, card = load_segmenter(*arguments)
        alive.append(weakref.ref(segmenter))
        return segmenter, card

    before = []
    monkeypatch.setattr("segpipe.inference.teach.load_segmenter", loaded)
    monkeypatch.setattr("segpipe.inference.teachers.load_segmenter", loaded)
    work = work_of(prepared, tmp_path / "out")
    folders = [teacher, *(copied(teacher, tmp_path / f"teacher-{number}") for number in range(4))]
    assert len(work.indices) >= 12
    with most_files(100):
        teach(work, 0, folders, checkpoints=True)
    assert before == [0, 1, 2, 3, 4] + [0] * 15  # the teachers together, then each one's earlier weights


@contextmanager
def most_files(number):
    """This process may open about so many files more."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = max(int(path.name) for path in Path("/dev/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (opened + number, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_every_image_of_pool_and_tune_has_its_numbers(teacher, prepared, tmp_path):
    for checkpoints in (True, False):
        out = tmp_path / str(checkpoints)
        teach(work_of(prepared, out), 0, [teacher, teacher], checkpoints=checkpoints)
        table = pd.read_csv(out / "images.csv")
        indices = [*prepared.pool(), *prepared.folds[0].tune]
        assert table["index"].tolist() == indices
        assert table["file_name"].tolist() == [prepared.entries[index].file_name for index in indices]
        assert (table["member_agreement"] == 1).all(), "a teacher agrees with itself"
        assert table["mean_confidence"].between(1 / prepared.classes.num_classes, 1).all()
        known = table["checkpoint_agreement"]
        assert known.between(0, 1).all() if checkpoints else known.isna().all()
    for name in ("classes.000.bin", "confidence.000.bin"):
        assert (tmp_path / "True" / name).read_bytes() == (tmp_path / "False" / name).read_bytes()


# Nothing kept


def test_retraining_keeps_the_baseline_when_no_pixel_is_confident_enough(
    teacher, tiny, prepared, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    teach(work_of(prepared, tmp_path / "taught"), 0, [teacher], checkpoints=False)
    section = tiny[0].pseudo_label.model_copy(update={"confidence": 1.0})
    make_pseudo_labels(prepared, 0, tmp_path / "taught", section, tmp_path / "pseudo")
    pseudo = PseudoLabels(tmp_path / "pseudo")
    assert pseudo.indices == ()
    job = replace(job_of(tiny, tmp_path), round="retrain", pseudo=pseudo, baseline=teacher)
    train_member(job, tmp_path / "plots", Tracker([], describe_run("retrain", "main", 0, {}, prepared.classes)))
    assert (tmp_path / "model/model.safetensors").read_bytes() == (teacher / "model.safetensors").read_bytes()
    said = capsys.readouterr().out
    assert "pseudo_label: warning: nothing of" in said and "the baseline stays as it is" in said


def test_a_baseline_that_is_kept_must_not_know_what_the_fold_holds_out_either(
    teacher, tiny, prepared, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    lineage = read_card(teacher).lineage
    tune = prepared.hashes(prepared.folds[0].tune)
    knows = copied(teacher, tmp_path / "knows", lineage=replace(lineage, learned_from=lineage.learned_from | tune))
    teach(work_of(prepared, tmp_path / "taught"), 0, [teacher], checkpoints=False)
    section = tiny[0].pseudo_label.model_copy(update={"keep": 0.0})
    make_pseudo_labels(prepared, 0, tmp_path / "taught", section, tmp_path / "pseudo")
    job = replace(job_of(tiny, tmp_path), round="retrain", pseudo=PseudoLabels(tmp_path / "pseudo"), baseline=knows)
    scratch = job.params.retrain.model_copy(update={"init": "scratch"})
    job = replace(job, params=job.params.model_copy(update={"retrain": scratch}))
    with pytest.raises(ValueError, match="knows learned from"):
        train_member(job, tmp_path / "plots", Tracker([], describe_run("retrain", "main", 0, {}, prepared.classes)))
