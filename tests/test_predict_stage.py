"""The stages that predict: interrupted ones go on, processes share the work, memory does not grow with the images."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tracemalloc
from contextlib import nullcontext
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from dvc.utils.hydra import apply_overrides
from small_model import write_model
from tiny_training import ROOT, largest_file, make_tiny

from segpipe.data.prepared import Prepared
from segpipe.data.soft_labels import SoftLabels
from segpipe.data.store import PackedArrays, PackedWriter
from segpipe.inference import fold as fold_module
from segpipe.inference.fold import Work, predict_fold
from segpipe.inference.identity import identity_of
from segpipe.inference.portions import predicted_rows
from segpipe.inference.predict import Predictor
from segpipe.inference.probs import Predictions, winners
from segpipe.inference.ranks import alone
from segpipe.inference.teach import teach
from segpipe.models.checkpoint import STAGES_OF_TRAINING
from segpipe.params import ViewParams, load_params
from segpipe.pseudo.taught import Taught
from segpipe.state import FOLDER
from segpipe.wire import wire

CPU = torch.device("cpu")
VIEWS = ViewParams(flips=True, scales=(1.0,), window=None, overlap=0.5)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Prepared data of the recipe `tiny`, and two models of its classes in the folders of the pipeline."""
    folder = tmp_path_factory.mktemp("tiny")
    params, prepared_folder = make_tiny(folder)
    prepared = Prepared(prepared_folder, fold=0)
    for seed, member in enumerate(("main", "second")):
        write_model(folder / f"{member}-0", image_size=prepared.image_size, classes=prepared.classes, seed=seed)
    return params, prepared, folder


@pytest.fixture
def work(tiny, tmp_path, monkeypatch):
    """All images to predict, three in a batch, with the state in this test's own folder."""
    params, prepared, _ = tiny
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("segpipe.inference.views.BATCH_SIZE", 3)
    threads = torch.get_num_threads()
    yield Work("predict", prepared, range(len(prepared.entries)), VIEWS, params.train, tmp_path / "out")
    torch.set_num_threads(threads)


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


class StopAfter(Predictor):
    """A predictor that is killed in its third batch."""

    calls, limit = 0, 2

    def __call__(self, images, sampled=None):
        type(self).calls += 1
        if type(self).calls > self.limit:
            raise MemoryError
        return super().__call__(images, sampled)


@pytest.fixture
def counted(monkeypatch):
    """A fresh class of predictor that counts its batches, and can be stopped."""
    counting = type("Counting", (StopAfter,), {"calls": 0, "limit": 1000})
    monkeypatch.setattr(fold_module, "Predictor", counting)
    return counting


def portions(root: Path):
    return sorted(path.name for path in (root / FOLDER).glob("*/batch-*.json"))


# An interrupted run goes on


def test_a_killed_run_goes_on_after_its_last_batch_and_ends_with_the_same_bytes(work, tiny, counted, tmp_path, capsys):
    model = tiny[2] / "main-0"
    predict_fold(work, model, (64, 64))
    expected, batches = bytes_of(work.out), counted.calls
    assert batches > 4 and not portions(tmp_path) and not list((tmp_path / FOLDER).iterdir())
    shutil.rmtree(work.out)
    counted.calls, counted.limit = 0, 2
    with pytest.raises(MemoryError):
        predict_fold(work, model, (64, 64))
    assert len(portions(tmp_path)) == 2 and not work.out.exists()
    counted.calls, counted.limit = 0, 1000
    predict_fold(work, model, (64, 64))
    assert counted.calls == batches - 2
    assert bytes_of(work.out) == expected
    assert f"predict: going on after 6 of {len(work.indices)} images" in capsys.readouterr().out
    assert not list((tmp_path / FOLDER).iterdir())


@pytest.mark.parametrize("end, content", [(".000.bin", b"x"), (".index", b""), (".json", b"{"), (".json", b"{}")])
def test_a_damaged_or_half_written_batch_is_predicted_again(work, tiny, counted, tmp_path, end, content):
    model = tiny[2] / "main-0"
    predict_fold(work, model, None)
    expected, batches = bytes_of(work.out), counted.calls
    counted.calls, counted.limit = 0, 2
    with pytest.raises(MemoryError):
        predict_fold(work, model, None)
    (file,) = (tmp_path / FOLDER).glob(f"*/batch-000001{end}")
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2 :] = content.ljust(len(damaged) - len(damaged) // 2, b"x") if end == ".000.bin" else b""
    file.write_bytes(bytes(damaged) if end == ".000.bin" else content)
    counted.calls, counted.limit = 0, 1000
    predict_fold(work, model, None)
    assert counted.calls == batches - 1
    assert bytes_of(work.out) == expected


@pytest.mark.parametrize("what", ["views", "size", "weights", "threads", "images"])
def test_what_another_run_has_kept_is_not_taken(work, tiny, counted, tmp_path, what):
    model = shutil.copytree(tiny[2] / "main-0", tmp_path / "model")
    counted.limit = 2
    with pytest.raises(MemoryError):
        predict_fold(work, model, (64, 64))
    size = (64, 64)
    if what == "views":
        work = replace(work, views=VIEWS.model_copy(update={"flips": False}))
    elif what == "threads":
        work = replace(work, train=work.train.model_copy(update={"threads": work.train.threads + 1}))
    elif what == "images":
        work = replace(work, indices=work.indices[1:])
    elif what == "size":
        size = (32, 32)
    else:
        shutil.copy(tiny[2] / "second-0/model.safetensors", model)
    counted.calls, counted.limit = 0, 1000
    predict_fold(work, model, size)
    assert counted.calls == -(-len(work.indices) // 3)


def test_asked_to_stop_it_ends_between_two_batches_and_says_how_to_go_on(work, tiny, monkeypatch, tmp_path):
    class Signalled(Predictor):
        def __call__(self, images, sampled=None):
            os.kill(os.getpid(), signal.SIGTERM)
            return super().__call__(images, sampled)

    monkeypatch.setattr(fold_module, "Predictor", Signalled)
    with pytest.raises(SystemExit, match=r"stopped by SIGTERM; 3 of \d+ images are kept: the same command goes on"):
        predict_fold(work, tiny[2] / "main-0", None)
    assert len(portions(tmp_path)) == 1 and not work.out.exists()


def test_what_is_kept_needs_no_room_again(work, tiny, counted, tmp_path, monkeypatch):
    model, names = tiny[2] / "main-0", len(work.prepared.classes.names)
    counted.limit = 2
    with pytest.raises(MemoryError):
        predict_fold(work, model, (64, 64))
    held = sum(path.stat().st_size for path in (tmp_path / FOLDER).glob("*/*"))
    left = 2 * 64 * 64 * names * len(work.indices) - held
    counted.limit = 1000
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=left - 1))
    with pytest.raises(ValueError, match="out: the predictions need up to"):
        predict_fold(work, model, (64, 64))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=left))
    predict_fold(work, model, (64, 64))


@pytest.mark.parametrize("checkpoints", [True, False])
def test_teaching_is_refused_before_it_starts_where_the_disk_is_full(work, tiny, counted, monkeypatch, checkpoints):
    usage = shutil.disk_usage(work.out.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(ValueError, match="out: the predictions need up to"):
        teach(pool_of(work), 0, [tiny[2] / "main-0"], checkpoints=checkpoints)
    assert counted.calls == 0 and not work.out.exists()


def pool_of(work):
    looked = [*work.prepared.pool(), *work.prepared.folds[0].tune]
    return replace(work, stage="teach", indices=looked)


def test_other_code_that_decides_what_is_kept_does_not_take_what_was_kept(work, tiny, counted, tmp_path, monkeypatch):
    counted.limit = 2
    for version in ("this", "another"):

        def digest(files, root, version=version):
            return version if any(str(file).endswith("inference/teach.py") for file in files) else "the same"

        monkeypatch.setattr("segpipe.inference.identity.code_digest", digest)
        counted.calls = 0
        with pytest.raises(MemoryError):
            teach(pool_of(work), 0, [tiny[2] / "main-0"], checkpoints=False)
    assert len(list((tmp_path / FOLDER).iterdir())) == 2


def test_what_a_section_says_besides_how_images_are_looked_at_changes_no_answer(work, tiny, tmp_path):
    more = load_params(ROOT / "params.yaml").teach.model_copy(update=VIEWS.model_dump())
    said = [
        identity_of([tiny[2] / "main-0"], views, threads=1, device=CPU, code=fold_module.__file__)
        for views in (VIEWS, more, more.model_copy(update={"flips": False}))
    ]
    assert said[0] == said[1] != said[2]


def test_a_full_disk_leaves_whole_batches_only(work, tiny, tmp_path):
    with largest_file(10_000), pytest.raises(OSError, match="File too large"):
        predict_fold(work, tiny[2] / "main-0", None)
    assert portions(tmp_path) == []


def test_teaching_goes_on_too(work, tiny, counted):
    teachers = [tiny[2] / f"{member}-0" for member in ("main", "second")]
    for folder, name in product(teachers, STAGES_OF_TRAINING):
        shutil.copy(folder / "model.safetensors", folder / f"{name}.safetensors")
    work, soft = pool_of(work), work.out.with_name("soft")
    teach(work, 0, teachers, checkpoints=True, soft=soft)
    expected = bytes_of(work.out), bytes_of(soft)
    shutil.rmtree(work.out)
    shutil.rmtree(soft)
    counted.calls, counted.limit = 0, 1
    with pytest.raises(MemoryError):
        teach(work, 0, teachers, checkpoints=True, soft=soft)
    counted.limit = 1000
    teach(work, 0, teachers, checkpoints=True, soft=soft)
    assert (bytes_of(work.out), bytes_of(soft)) == expected


def test_probabilities_of_the_pool_are_those_behind_classes_and_confidence(work, tiny, counted):
    teachers, work = [tiny[2] / f"{member}-0" for member in ("main", "second")], pool_of(work)
    counted.limit = 2
    with pytest.raises(MemoryError):
        teach(work, 0, teachers, checkpoints=False)  # what it kept is not enough for the next
    counted.limit = 1000
    teach(work, 0, teachers, checkpoints=False, soft=work.out.with_name("soft"))
    taught, soft = Taught(work.out), SoftLabels(work.out.with_name("soft"))
    for index in taught.pool:
        (classes, confidence), probs = taught.answer(index), soft.probs(index)
        assert probs.shape == (*classes.shape, len(work.prepared.classes.names))
        assert (winners(probs) == classes).all()
        assert (np.abs(probs.max(-1).astype(int) - confidence) <= 1).all()
    with pytest.raises(KeyError):
        soft.probs(taught.tune[0])
    expected = bytes_of(work.out)
    shutil.rmtree(work.out)
    teach(work, 0, teachers, checkpoints=False)
    assert bytes_of(work.out) == expected


def test_the_room_for_probabilities_is_counted(work, tiny, monkeypatch, capsys):
    work, soft = pool_of(work), work.out.with_name("soft")
    names, images = len(work.prepared.classes.names), len(work.indices)
    kept = 64 * 64 * (2 * images + names * len(work.prepared.pool()))
    usage = shutil.disk_usage(work.out.parent)
    for missing in (1, 0):  # outputs, the same in portions, and two numbers an image
        free = 2 * kept + 16 * images - missing
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: usage._replace(free=free))
        with pytest.raises(ValueError, match="the predictions need up to") if missing else nullcontext():
            teach(work, 0, [tiny[2] / "main-0"], checkpoints=False, soft=soft)
        assert soft.exists() != bool(missing)
    assert f"MB for the probabilities of {len(work.prepared.pool())} images (teach.probs)" in capsys.readouterr().out


# What comes out


def test_images_of_several_sizes_stand_in_the_store_in_the_order_of_the_list(work, tiny, tmp_path):
    sizes = [(40, 64), (64, 40), (40, 64), (48, 48), (64, 40), (40, 64), (40, 64)]
    with PackedWriter(tmp_path / "images") as writer:
        for seed, size in enumerate(sizes):
            writer.add(np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8))
    _, prepared, folder = tiny
    mixed = Prepared(prepared.path, fold=0)
    mixed.images, mixed.image_size = PackedArrays(tmp_path / "images"), None
    mixed.entries = tuple(
        replace(entry, height=size[0], width=size[1]) for entry, size in zip(mixed.entries, sizes, strict=False)
    )
    order = [6, 1, 0, 3, 2, 5, 4]
    predict_fold(replace(work, prepared=mixed, indices=order), folder / "main-0", None)
    predictions = Predictions(work.out)
    assert predictions.card.indices == order
    segmenter, _ = fold_module.load_segmenter(folder / "main-0")
    for index in order:
        ((probs, _),) = Predictor([segmenter], VIEWS, None, device=CPU)([mixed.images[index]])
        np.testing.assert_allclose(predictions.probs(index, sizes[index]), probs, atol=2 / 255)


def test_memory_does_not_grow_with_the_number_of_images(tmp_path, monkeypatch):
    class Constant(torch.nn.Module):
        def forward(self, images):
            return images.float()

    monkeypatch.chdir(tmp_path)
    image = np.zeros((64, 64, 3), np.uint8)

    def peak(count):
        tracemalloc.start()
        with predicted_rows(
            Predictor([Constant()], VIEWS, None, device=CPU),
            lambda _: image,
            [(64, 64)] * count,
            lambda _, probs, agreement: [np.rint(probs * 255).astype(np.uint8)],
            ranks=alone(CPU),
            identity={"count": count},
            stage="test",
            label="test",
        ) as rows:
            for position in range(count):
                assert rows[position][0].shape == (64, 64, 3)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(16)
    few, many = peak(160), peak(1600)
    # of each image a few numbers are kept, not its 12 kB
    assert many - few < 1440 * 1000


# Processes that share the work


def files(folder: Path):
    return {
        path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def stage(folder, *words):
    """What a stage says that runs in `folder` on the CPU."""
    environment = os.environ | {"PYTHONPATH": "src", "OMP_WAIT_POLICY": "PASSIVE", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_processes_teach_the_bytes_of_one_probabilities_and_all(tiny, tmp_path, monkeypatch):
    params, prepared, folder = tiny
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folder / "main-0", tmp_path / "models/main-0")
    for name in STAGES_OF_TRAINING:
        shutil.copy(folder / "main-0/model.safetensors", f"models/main-0/{name}.safetensors")
    shutil.copy(folder / "params.yaml", tmp_path)
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    for name in ("src", "stages"):
        (tmp_path / name).symlink_to(ROOT / name)
    apply_overrides("params.yaml", ["teach.probs=true", "train.devices=2"])
    wire(load_params())
    looked = [*prepared.pool(), *prepared.folds[0].tune]
    work = Work("teach", prepared, looked, load_params().teach, params.train, tmp_path / "one")
    teach(work, 0, [Path("models/main-0")], checkpoints=True, soft=tmp_path / "one_soft")
    words = ["--prepared", str(prepared.path), "--models", "models", "--out", "two", "--soft", "two_soft"]
    said = stage(tmp_path, sys.executable, "stages/teach.py", "--fold", "0", *words)
    assert said.count("(teach.probs)") == 1, "only the first process speaks"
    for one, two in (("one", "two"), ("one_soft", "two_soft")):
        assert files(tmp_path / one) == files(tmp_path / two)
    assert len(files(tmp_path / "two_soft")) == 4 and not list((tmp_path / FOLDER).iterdir())


@pytest.mark.parametrize("processes", ["torchrun", "train.devices"])
def test_two_processes_write_the_bytes_of_one(tiny, tmp_path, monkeypatch, processes):
    params, prepared, folder = tiny
    monkeypatch.chdir(tmp_path)
    indices = [*prepared.folds[0].judge, *prepared.folds[0].tune, *prepared.sets["test"]]
    for name in ("dvc.yaml", "src", "stages"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copy(folder / "params.yaml", tmp_path)

    def predict(out, *launcher):
        command = [*launcher, str(tmp_path / "stages/predict.py"), "--fold", "0", "--prepared", str(prepared.path)]
        stage(tmp_path, *command, "--model", str(folder / "main-0"), "--out", out)
        return files(tmp_path / out)

    work = Work("predict", prepared, indices, params.predict, params.train, tmp_path / "one")
    predict_fold(work, folder / "main-0", params.submission.size)
    one = files(tmp_path / "one")
    if processes == "torchrun":
        two = predict("two", sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    else:
        text = (tmp_path / "params.yaml").read_text(encoding="utf-8")
        (tmp_path / "params.yaml").write_text(text.replace("devices: 1 ", "devices: 2 "), encoding="utf-8")
        two = predict("two", sys.executable)
    assert one == two and len(one) == 4
    assert not list((tmp_path / FOLDER).iterdir())
