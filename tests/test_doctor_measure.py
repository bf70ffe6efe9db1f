"""`segpipe doctor`, the measuring half: what is counted, what the rates say, and one run through the command."""

import dataclasses
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from coco_folder import data_params, pictures, prepare_folder, split_params, write_folder
from torch import nn

from segpipe.doctor.machine import Machine
from segpipe.doctor.measured import Measured, Memory, Spread, data_share, faster_precision, judge
from segpipe.doctor.memory import process_memory, reset_peak, state_bytes
from segpipe.doctor.page import member_lines, section_lines
from segpipe.doctor.survey import measure_member
from segpipe.doctor.trainee import Clocked
from segpipe.doctor.trial import forward_gmac, measure, parameter_counts
from segpipe.params import load_params
from segpipe.recipe import apply_recipe
from segpipe.training.optim import build_optimizer
from segpipe.wire import wire

ROOT = Path(__file__).resolve().parent.parent
PARAMS = load_params(ROOT / "params.yaml")
GIB = 2**30
MACHINE = Machine(4, 4, "", 8 * GIB, 4 * GIB, "", ("avx2",), load=0.1)


class Bytes(nn.Module):
    """A network of two convolutions that takes 8-bit images, as Segmenter does."""

    def __init__(self):
        super().__init__()
        self.network = nn.Module()
        self.network.encoder = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.network.head = nn.Conv2d(4, 2, 1)

    def forward(self, images):
        return self.network.head(self.network.encoder(images.float()))


def steady(rate: float) -> Spread:
    return Spread(rate, rate, rate)


def measured(**changes) -> Measured:
    """A member that is limited by its model, on a CPU: 100 images/s loaded, 10 trained, no precision faster."""
    values = {
        "member": "main",
        "architecture": "deeplabv3 on resnet10t",
        "image_size": (64, 64),
        "batch_size": 8,
        "precision": "fp32",
        "threads": 4,
        "workers": 0,
        "device": "cpu",
        "source": "images of noise",
        "encoder_parameters": 2_000_000,
        "decoder_parameters": 500_000,
        "gmac": 1.25,
        "memory": Memory(10, 10, 30, 50, 100, 200),
        "retrain_images": 8,
        "checkpoints": 80,
        "data": steady(100),
        "model": {"fp32": steady(10), "bf16": steady(10)},
        "both": {"fp32": steady(9), "bf16": steady(9)},
        "more_threads": None,
        "updates": 2,
        "passes": 3,
    }
    return Measured(**(values | changes))


def advice(found: Measured, machine: Machine = MACHINE, gpu_memory: int | None = None) -> dict[str, str]:
    """Topic -> advice, of the findings that have one."""
    return {finding.topic: finding.advice for finding in judge(found, machine, gpu_memory) if finding.advice}


def test_gmac_counts_one_multiplication_for_each_weight_and_pixel_it_meets():
    # 4 x 8 pixels; the first convolution has 4 x 3 x 3 x 3 weights, the second 2 x 4
    assert forward_gmac(Bytes(), (4, 8)) == pytest.approx((4 * 3 * 9 + 2 * 4) * 4 * 8 / 1e9)


def test_parameters_are_those_of_the_encoder_and_the_rest():
    # the rest has a bias for each of two classes
    assert parameter_counts(Bytes()) == {"encoder_parameters": 4 * 3 * 9, "decoder_parameters": 2 * 4 + 2}


@pytest.mark.parametrize(("name", "copies"), [("madgrad", 3), ("adamw", 2)])
def test_the_optimiser_keeps_a_known_number_of_values_for_each_weight(name, copies):
    network = Bytes()
    optimizer = build_optimizer(network, PARAMS.optimizer.model_copy(update={"name": name}))
    assert state_bytes(optimizer) == 0, "nothing before the first update"
    network(torch.zeros(1, 3, 2, 2, dtype=torch.uint8)).sum().backward()
    optimizer.step()
    weights = 4 * sum(parameter.numel() for parameter in network.parameters())
    counters = 4 * sum(1 for _ in network.parameters()) if name == "adamw" else 0  # its step count is a tensor
    assert state_bytes(optimizer) == copies * weights + counters


def test_the_peak_of_memory_includes_what_was_freed_since():
    before = reset_peak()
    held = torch.ones(16 * 2**20)  # 64 MiB, touched
    del held
    assert process_memory("VmHWM") - before > 48 * 2**20


def test_the_clock_starts_when_the_batch_after_the_skipped_ones_is_asked_for():
    clocked = Clocked(["a", "b", "c"], 3, skip=2)
    batches = iter(clocked)
    assert len(clocked) == 3
    assert [next(batches), next(batches)] == ["a", "b"]
    assert clocked.started == 0.0
    assert next(batches) == "c"
    assert clocked.started > 0.0


def test_a_spread_has_the_median_between_its_ends():
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(1.0, 2.0, 3.0)
    assert Spread.of([4.0, 1.0]) == Spread(1.0, 2.5, 4.0)
    assert Spread.of([5.0]) == steady(5.0)


def test_without_loader_processes_loading_and_training_take_turns():
    # an image takes 1/30 s to load and 1/10 s to train
    assert data_share(measured(data=steady(30)), "fp32") == pytest.approx(0.25)


def test_with_loader_processes_only_waiting_counts():
    found = measured(workers=2, data=steady(12), both={"fp32": steady(8), "bf16": steady(10.5)})
    assert data_share(found, "fp32") == pytest.approx(0.2)
    assert data_share(found, "bf16") == 0.0, "noise is no negative share"


@pytest.mark.parametrize(
    ("fp32", "bf16", "expected"),
    [
        (Spread(9, 10, 11), Spread(20, 25, 26), ("bf16", 2.5)),
        (Spread(9, 10, 11), Spread(10, 25, 26), ("fp32", 1.0)),  # the passes overlap
        (steady(10), steady(10.5), ("fp32", 1.0)),  # too little to change the last digits for
        (steady(10), steady(5), ("fp32", 1.0)),
    ],
)
def test_another_precision_is_advised_only_where_it_is_clearly_faster(fp32, bf16, expected):
    found = measured(both={"fp32": fp32, "bf16": bf16})
    assert faster_precision(found) == expected
    assert ("precision" in advice(found)) == (expected[0] == "bf16")
    said = next(finding.found for finding in judge(found, MACHINE, None) if finding.topic == "precision")
    assert ("overlap" in said) == (bf16.low <= fp32.high and fp32.low <= bf16.high)


def test_a_single_pass_must_show_more():
    for rate, expected in ((14, "fp32"), (16, "bf16")):
        found = measured(passes=1, both={"fp32": steady(10), "bf16": steady(rate)})
        assert faster_precision(found)[0] == expected


def test_a_configured_bf16_that_is_slower_is_told_so():
    found = measured(precision="bf16", both={"fp32": steady(20), "bf16": steady(10)})
    assert advice(found)["precision"].startswith("train.precision: fp32 trains 2.0 times as fast")


@pytest.mark.parametrize(
    ("changes", "advised"),
    [
        ({}, None),
        # 400 images/s would take five processes that load 100 each, a fifth in reserve; 3 cores are spare
        ({"device": "cuda", "model": {"fp32": steady(400), "bf16": steady(400)}}, "set train.workers to 3"),
        ({"device": "cuda", "model": {"fp32": steady(150), "bf16": steady(150)}}, "set train.workers to 2"),
        # on a CPU that the model fills there is no core for them
        ({"model": {"fp32": steady(150), "bf16": steady(150)}}, None),
    ],
)
def test_loader_processes_are_advised_where_the_model_waits_and_cores_are_spare(changes, advised):
    found = advice(measured(**changes)).get("workers")
    assert found is None if advised is None else found.startswith(advised)


def test_more_threads_are_advised_where_they_are_faster_and_only_on_a_cpu():
    assert advice(measured(threads=2, more_threads=steady(19)))["threads"].startswith("set train.threads to 4")
    assert "threads" not in advice(measured(threads=2, more_threads=steady(10.2)))
    assert "threads" not in advice(measured(device="cuda", threads=2))


def test_a_peak_above_the_free_memory_is_bad_and_one_near_it_a_warning():
    for peak, gpu_memory, device, expected in (
        (5 * GIB, None, "cpu", "bad"),
        (3.9 * GIB, None, "cpu", "warn"),
        (1 * GIB, None, "cpu", "ok"),
        (5 * GIB, 8 * GIB, "cuda", "ok"),
        (9 * GIB, 8 * GIB, "cuda", "bad"),
    ):
        memory = Memory(0, 0, 0, 0, 0, peak)
        [finding] = [
            finding
            for finding in judge(measured(memory=memory, device=device), MACHINE, gpu_memory)
            if finding.topic == "memory"
        ]
        assert finding.verdict == expected, (peak, device)


def test_retraining_holds_more_images_and_so_more_activations():
    # 8 labelled images and 12 pseudo-labelled ones: activations grow by 12 / 8 of what 8 images took
    assert measured(retrain_images=20).retrain_peak == 200 + 1.5 * 50
    assert measured(retrain_images=8).retrain_peak == 200


def test_numbers_survive_json():
    found = measured(more_threads=steady(3))
    assert Measured.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_the_page_is_ascii_and_gives_advice_beneath_its_finding():
    found = measured(both={"fp32": steady(9), "bf16": steady(27)})
    lines = list(member_lines("main", found, judge(found, MACHINE, None)))
    assert all(line.isascii() for line in lines)
    assert any("model 91 %, data 9 %" in line for line in lines)
    position = next(i for i, line in enumerate(lines) if line.startswith("  warn  precision"))
    assert lines[position + 1].strip() == (
        "-> train.precision: bf16 trains 3.0 times as fast here; check that the score stays"
    )


def test_a_long_finding_stays_in_its_column():
    [finding] = [found for found in judge(measured(), MACHINE, None) if found.topic == "precision"]
    lines = list(section_lines("title", [dataclasses.replace(finding, found="word " * 60)]))
    assert all(len(line) <= 110 for line in lines)
    assert {line.index("word") for line in lines if "word" in line} == {26}


@pytest.fixture
def torch_as_it_was():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def test_a_member_is_measured_on_its_prepared_images(tmp_path, monkeypatch, torch_as_it_was):
    (tmp_path / "data").mkdir()
    train = pictures("a", "b", "i", "j", height=32, width=32)
    write_folder(tmp_path / "raw", train=train, val=pictures("c", "d", height=32, width=32))
    shutil.move(prepare_folder(tmp_path / "raw"), tmp_path / "data" / "prepared")
    monkeypatch.chdir(tmp_path)
    model = PARAMS.model.model_copy(update={"encoder": "resnet10t"})
    sections = {
        "data": data_params(tmp_path / "raw"),
        "split": split_params(),
        "model": model,
        "train": PARAMS.train.model_copy(update={"batch_size": 2, "threads": 1}),
        "member_names": ("main",),
    }
    found = measure(PARAMS.model_copy(update=sections), "main", 0, 1, tmp_path)
    assert (found.source, found.image_size) == ("training images of fold 0", (32, 32))
    assert {*found.model, *found.both} == {"fp32", "bf16"}
    assert found.memory.optimizer == 3 * found.memory.gradients


def test_a_member_that_cannot_be_built_is_a_clear_error():
    model = PARAMS.model.model_copy(update={"arch": "smp.FPNN"})
    params = PARAMS.model_copy(update={"model": model, "member_names": ("main",)})
    with pytest.raises(ValueError, match=r"model\.arch: found 'smp\.FPNN'; nearest: smp\.FPN"):
        measure(params, "main", 0, 1, Path("nowhere"))


@pytest.fixture
def project(tmp_path, monkeypatch):
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    for name in ("src", "stages"):
        (tmp_path / name).symlink_to(ROOT / name)
    apply_recipe("tiny", tmp_path / "params.yaml", ROOT / "recipes")
    monkeypatch.chdir(tmp_path)
    wire(load_params())
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    return tmp_path


def test_the_command_measures_and_leaves_no_file(project):
    before = sorted(project.rglob("*"))
    done = subprocess.run(
        [sys.executable, "-m", "segpipe.cli", "doctor", "--json", "--seconds", "0", "--passes", "1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)["members"]["main"]
    main = Measured.from_json({key: value for key, value in said.items() if key not in ("data_share", "findings")})
    rates = [main.data, *main.model.values(), *main.both.values()]
    assert all(math.isfinite(rate.median) and rate.median > 0 for rate in rates)
    assert main.gmac > 0
    assert main.memory.peak > main.memory.weights > 0
    assert main.source.startswith("images of noise")
    assert all(0 <= share <= 1 for share in said["data_share"].values())
    assert sorted(project.rglob("*")) == before


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "killed, most likely because memory ran out"),
        ("raise SystemExit('some reason')", "ended with code 1: some reason"),
        ("""print('{"at": "building"}'); print('{"error": "model.arch: found x"}')""", "model.arch: found x"),
    ],
)
def test_a_member_that_could_not_be_measured_says_why(project, monkeypatch, code, said):
    fake = project / "fake" / "segpipe" / "doctor"
    fake.mkdir(parents=True)
    for folder in (fake.parent, fake):
        (folder / "__init__.py").write_text("")
    (fake / "trial.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(project / "fake"))
    assert said in measure_member("main", lambda *_: None, seconds=0, passes=1)
