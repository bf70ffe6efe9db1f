"""What names a run: all that its outcome depends on, and nothing else."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny_training import ROOT, job_of, make_smaller

import segpipe
from segpipe.params import PasteParams
from segpipe.state import run_key
from segpipe.training.job import identity, parts_of

RARE = PasteParams(p=0.5, classes=("Paper", "Glass"), objects=2, min_pixels=4, scale=(0.5, 1.5), flip=True)
CPU = SimpleNamespace(device=torch.device("cpu"), world_size=1)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_smaller(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where the state of a run lies
    return tmp_path


def key_of(job) -> str:
    return run_key(identity(job, CPU))


def changed(job, section: str, **changes):
    part = getattr(job.params, section).model_copy(update=changes)
    return replace(job, params=job.params.model_copy(update={section: part}))


def retraining(job, folder: Path):
    """The job as a retraining, with a baseline's weights in `folder` and pseudo labels without content."""
    folder.mkdir(exist_ok=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    labels = SimpleNamespace(labels=SimpleNamespace(digest="d"), indices=(3, 4))
    return replace(job, round="retrain", pseudo=labels, baseline=folder)


@pytest.mark.parametrize(
    "section, changes",
    [
        ("model", {"decoder_channels": 24}),
        ("loss", {"dice": 0.25}),
        ("optimizer", {"lr": 0.01}),
        ("scheduler", {"power": 0.5}),
        ("augment", {"train": ()}),
        ("augment", {"paste": RARE}),
        ("train", {"sampling": "balanced"}),
        ("train", {"epochs": 3}),
        ("train", {"ema": 0.5}),
        ("train", {"threads": 2}),
        ("train", {"patience": 1}),
    ],
)
def test_a_changed_parameter_names_another_run(tiny, folder, section, changes):
    job = job_of(tiny, folder)
    assert key_of(changed(job, section, **changes)) != key_of(job)


def test_other_weights_name_another_run_and_are_never_read_whole(tiny, folder, monkeypatch):
    job = retraining(job_of(tiny, folder), folder / "baseline")
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) if path.suffix != ".safetensors" else pytest.fail())
    before = key_of(job)
    (folder / "baseline/model.safetensors").write_bytes(b"other")
    assert key_of(job) != before


def test_objects_come_from_the_folds_training_images_and_go_onto_labelled_ones(tiny, folder):
    job = retraining(
        changed(changed(job_of(tiny, folder), "augment", paste=RARE), "train", sampling="balanced"), folder
    )
    labeled, pseudo = parts_of(job)
    assert labeled.paste is not None and len(labeled.weights) == len(labeled.samples)
    train = job.prepared.folds[0].train
    found = labeled.paste.objects
    assert {int(box[0]) for objects in found for box in objects.boxes} <= set(train)
    assert [job.prepared.classes.names[objects.label] for objects in found] == ["Paper", "Glass"]
    assert pseudo.paste is None and pseudo.weights is None
    with pytest.raises(ValueError, match=r"augment.paste.classes: found 'Papper'; .*; did you mean Paper\?"):
        parts_of(changed(job, "augment", paste=RARE.model_copy(update={"classes": ("Papper",)})))


def test_what_changes_no_result_names_the_same_run(tiny, folder):
    job = job_of(tiny, folder)
    same = [
        changed(job, "train", workers=2, save_seconds=0),
        changed(job, "retrain", epochs=7),
        changed(job, "augment", pseudo=()),
        replace(job, out=folder / "elsewhere"),
    ]
    assert {key_of(other) for other in same} == {key_of(job)}


def test_other_data_another_fold_size_or_seed_name_another_run(tiny, folder):
    job, moved = job_of(tiny, folder), folder / "moved"
    shutil.copytree(tiny[1], moved)
    at_moved = job_of((tiny[0], moved), folder)
    assert key_of(at_moved) == key_of(job), "where the data lie does not matter: --temp works in a copy"
    text = (moved / "targets.json").read_text(encoding="utf-8")
    (moved / "targets.json").write_text(text.replace('"digest":"', '"digest":"0'), encoding="utf-8")
    others = [
        job_of((tiny[0], moved), folder),
        replace(job, fold=1),
        replace(job, scored_size=(32, 32)),
        replace(job, params=job.params.model_copy(update={"seed": 1})),
    ]
    assert len({key_of(job), *map(key_of, others)}) == 5


def test_a_retraining_follows_its_labels_and_its_baseline(tiny, folder):
    job = retraining(job_of(tiny, folder), folder / "baseline")
    keys = {key_of(job), key_of(changed(job, "retrain", epochs=7)), key_of(changed(job, "augment", pseudo=()))}
    job.pseudo.labels.digest = "other"
    keys.add(key_of(job))
    job.pseudo.indices = (3, 5)
    keys.add(key_of(job))
    (folder / "baseline/model.safetensors").write_bytes(b"other")
    keys.add(key_of(job))
    moved = retraining(job, folder / "moved")
    (folder / "moved/model.safetensors").write_bytes(b"other")
    moved.pseudo.labels.digest, moved.pseudo.indices = "other", (3, 5)
    assert len(keys) == 6 and key_of(moved) in keys


def test_weights_of_an_encoder_are_known_by_their_content(tiny, folder):
    weights = folder / "encoder.safetensors"
    weights.write_bytes(b"one")
    job = changed(job_of(tiny, folder), "model", encoder_weights=str(weights))
    before = key_of(job)
    weights.write_bytes(b"two")
    assert key_of(job) != before


def test_changed_code_names_another_run_and_moved_code_does_not(tiny, folder, monkeypatch):
    job = job_of(tiny, folder)
    key = key_of(job)
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(segpipe, "__file__", str(folder / "src/segpipe/__init__.py"))
    assert key_of(job) == key

    def append_to(name: str) -> None:
        with (folder / "src/segpipe" / name).open("a", encoding="utf-8") as file:
            file.write("# changed\n")

    append_to("progress.py")
    append_to("training/display.py")
    assert key_of(job) == key, "what only shows or tells"
    append_to("losses/overlap.py")
    assert key_of(job) != key
