"""Listeners of training: they hear everything, fail without harm, and change nothing. No network, no key."""

import json
import os
import pty
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML
from tiny_training import make_tiny, train

from segpipe.data.prepared import Prepared
from segpipe.labels import IGNORE_INDEX, ClassTable
from segpipe.params import TrackingParams
from segpipe.training.tracking import wandb_run
from segpipe.training.tracking.dvclive_curves import DvcliveCurves
from segpipe.training.tracking.listener import Example, Run
from segpipe.training.tracking.redact import without_secrets
from segpipe.training.tracking.tracker import Tracker, describe_run, make_listeners
from segpipe.training.tracking.wandb_run import WandbRun

ROOT = Path(__file__).resolve().parent.parent
KEY = "0123456789abcdef0123456789abcdef01234567"  # of the right form, of nobody
CLASSES = ClassTable(("Background", "Paper"), ((), ("Paper",)), ((0, 0, 0), (255, 0, 0)))
ROWS = [
    {"epoch": 1, "lr": 0.1, "train_loss": 2.0, "tune_miou": float("nan")},
    {"epoch": 2, "lr": 0.05, "train_loss": 1.0, "tune_miou": 0.25},
]


def tracking(**changes) -> TrackingParams:
    raw = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))["tracking"]
    return TrackingParams.model_validate(raw | changes)


def run_in(folder: Path) -> Run:
    return Run("baseline@main-0", ("baseline", "main"), {"seed": 3}, CLASSES, folder)


def example(name: str = "a.jpg") -> Example:
    preds, target = np.zeros((8, 6), np.uint8), np.full((8, 6), IGNORE_INDEX, np.uint8)
    preds[:4], target[:2] = 1, 1
    return Example(name, np.full((8, 6, 3), 90, np.uint8), preds, target)


def follow(tracker: Tracker) -> None:
    """What training tells a tracker in two epochs, of which the second is scored."""
    with tracker:
        tracker.log(ROWS[0])
        tracker.show(2, [example("a.jpg"), example("b.jpg")])
        tracker.log(ROWS[1])


class Recorder:
    """Writes down what it hears; raises in `fails_in`."""

    name = "recorder"

    def __init__(self, images: int = 2, fails_in: str = "", error: Exception | None = None):
        self.images, self.heard, self.fails_in, self.error = images, [], fails_in, error or OSError("disk full")

    def _hear(self, event, *what):
        if event == self.fails_in:
            raise self.error
        self.heard.append((event, *what))

    def start(self, run):
        self._hear("start", run.name)

    def show(self, epoch, examples):
        self._hear("show", epoch, [shown.file_name for shown in examples])

    def log(self, row):
        self._hear("log", row["epoch"])

    def finish(self, *, failed):
        self._hear("finish", failed)


EVENTS = [("start", "baseline@main-0"), ("log", 1), ("show", 2, ["a.jpg", "b.jpg"]), ("log", 2), ("finish", False)]


# The tracker


def test_a_listener_hears_the_run_in_order(tmp_path):
    listener = Recorder()
    follow(Tracker([listener], run_in(tmp_path)))
    assert listener.heard == EVENTS


def test_a_listener_sees_as_many_images_as_it_asks_for(tmp_path):
    one, none = Recorder(images=1), Recorder(images=0)
    tracker = Tracker([one, none], run_in(tmp_path))
    follow(tracker)
    assert tracker.images == 1
    assert ("show", 2, ["a.jpg"]) in one.heard
    assert [event[0] for event in none.heard] == ["start", "log", "log", "finish"]


@pytest.mark.parametrize("event", ["start", "log", "show", "finish"])
def test_a_listener_that_fails_is_dropped_with_one_line_and_the_others_hear_on(event, tmp_path, capsys):
    failing, sound = Recorder(fails_in=event), Recorder()
    follow(Tracker([failing, sound], run_in(tmp_path)))
    assert sound.heard == EVENTS
    assert failing.heard == EVENTS[: [name for name, *_ in EVENTS].index(event)], "nothing after its failure"
    assert capsys.readouterr().out == "recorder stopped (OSError: disk full); training goes on without it\n"


def test_an_error_in_training_passes_through_and_the_listener_hears_of_it(tmp_path):
    listener = Recorder()
    with pytest.raises(ValueError, match="diverged"), Tracker([listener], run_in(tmp_path)):
        raise ValueError("training diverged")
    assert listener.heard[-1] == ("finish", True)


def test_ctrl_c_within_a_listener_still_stops_training(tmp_path):
    class Interrupted(Recorder):
        def log(self, row):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        follow(Tracker([Interrupted()], run_in(tmp_path)))


def test_the_line_of_a_failure_holds_no_secret(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "not-long-but-mine")
    error = RuntimeError("401 for key not-long-but-mine\nTraceback: not-long-but-mine")
    follow(Tracker([Recorder(fails_in="log", error=error)], run_in(tmp_path)))
    assert capsys.readouterr().out == "recorder stopped (RuntimeError: 401 for key ***); training goes on without it\n"


@pytest.mark.parametrize(
    "message, said",
    [
        (f"invalid key {KEY}", "invalid key ***"),
        (f"key=wandb_v1_{KEY}{KEY}", "key=***"),
        ("POST https://me:hunter2@example.org/graphql failed", "POST https://***@example.org/graphql failed"),
        ("no space left on device\nin line 3", "no space left on device"),
        ("", ""),
    ],
)
def test_messages_lose_what_looks_like_a_key_and_all_but_their_first_line(message, said):
    assert without_secrets(ValueError(message)) == f"ValueError: {said}"


def test_a_run_is_named_by_dvc_and_lives_in_the_users_workspace(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_STAGE", "retrain@second-1")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    run = describe_run("retrain", "second", 1, {"seed": 4}, CLASSES)
    assert (run.name, run.root) == ("retrain@second-1", tmp_path)
    assert run.tags == ("retrain", "second", "fold 1")
    assert run.config == {"round": "retrain", "member": "second", "fold": 1, "seed": 4}
    monkeypatch.delenv("DVC_STAGE")
    assert describe_run("baseline", "main", 0, {}, CLASSES).name == "baseline@main-0"


def test_params_choose_the_listeners():
    assert make_listeners(tracking(wandb="disabled", dvclive=False)) == []
    chosen = make_listeners(tracking(wandb="offline", dvclive=True, images=3))
    assert [(listener.name, listener.images) for listener in chosen] == [("wandb", 3), ("DVCLive", 0)]


# Weights & Biases


@pytest.fixture
def quiet_wandb(tmp_path, monkeypatch):
    """The client without a key, without a home, and without an address that could answer."""
    for name in [name for name in os.environ if name.startswith("WANDB_")] + ["DVC_EXP_NAME"]:
        monkeypatch.delenv(name, raising=False)
    for name in ("CACHE", "CONFIG", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    import wandb

    wandb.teardown()
    yield wandb
    wandb.teardown()


def offline_records(path: Path) -> Iterator:
    """The records of a .wandb file: LevelDB's log form, blocks of 32 KiB, after 7 bytes of header."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, position, content = path.read_bytes(), 7, b""
    while position + 7 <= len(data):
        if (rest := 32768 - position % 32768) < 7:
            position += rest
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        content += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield Record.FromString(content)
            content = b""


def offline_run(folder: Path) -> Path:
    (found,) = (folder / "wandb").glob("offline-run-*")
    return found


def test_an_offline_run_holds_curves_config_and_images_with_their_masks(quiet_wandb, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("DVC_EXP_NAME", "brave-auk")
    work = tmp_path / "work"
    follow(Tracker([WandbRun("offline", "litter", 2)], run_in(work)))
    folder = offline_run(work)
    said = f"wandb: baseline@main-0 is written offline; `wandb sync wandb/{folder.name}` sends it\n"
    assert capfd.readouterr() == (said, "")

    records = list(offline_records(next(folder.glob("*.wandb"))))
    (run,) = [record.run for record in records if record.HasField("run")]
    assert (run.project, run.display_name, run.run_group) == ("litter", "baseline@main-0", "brave-auk")
    assert list(run.tags) == ["baseline", "main"]
    assert {item.key: item.value_json for item in run.config.update}["seed"] == "3"
    assert (run.host, run.git.remote_url) == ("-", "")

    steps = {}
    for record in records:
        if record.HasField("history"):
            row = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            steps[row["_step"]] = row
    assert {step: row.get("tune_miou") for step, row in steps.items()} == {1: None, 2: 0.25}
    assert [row["train_loss"] for row in steps.values()] == [2.0, 1.0]
    assert steps[2]["tune_images/captions"] == ["a.jpg", "b.jpg"]
    masks = steps[2]["tune_images/all_masks"]
    assert [set(mask) for mask in masks] == [{"prediction", "ground_truth"}] * 2
    expected = example()
    for name, labels in (("prediction", expected.preds), ("ground_truth", expected.target)):
        stored = cv2.imread(str(folder / "files" / masks[0][name]["path"]), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(stored, labels)


def test_an_offline_run_writes_below_wandb_only_and_names_neither_host_nor_user_nor_packages(quiet_wandb, tmp_path):
    work = tmp_path / "work"
    follow(Tracker([WandbRun("offline", "litter", 2)], run_in(work)))
    assert [path.name for path in work.iterdir()] == ["wandb"]
    names = {path.name for path in offline_run(work).rglob("*") if path.is_file()}
    assert not names & {"wandb-metadata.json", "requirements.txt", "output.log"}


def test_online_without_a_server_is_kept_offline_and_the_key_stands_nowhere(quiet_wandb, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setattr(wandb_run, "START_SECONDS", 2)
    work = tmp_path / "work"
    follow(Tracker([WandbRun("online", "litter", 1)], run_in(work)))
    out, err = capfd.readouterr()
    first, second = out.splitlines()
    assert first.startswith("wandb: online is not possible (") and first.endswith("; the run is kept offline")
    assert second.startswith("wandb: baseline@main-0 is written offline")
    assert err == ""
    assert any(record.HasField("history") for record in offline_records(next(offline_run(work).glob("*.wandb"))))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 3
    assert not [path for path in files if KEY.encode() in path.read_bytes()]
    assert KEY not in out


def test_online_without_a_key_asks_nothing_even_on_a_terminal(tmp_path):
    script = (
        "from pathlib import Path\n"
        "from segpipe.labels import ClassTable\n"
        "from segpipe.training.tracking.listener import Run\n"
        "from segpipe.training.tracking.tracker import Tracker\n"
        "from segpipe.training.tracking.wandb_run import WandbRun\n"
        "run = Run('baseline@main-0', (), {}, ClassTable(('a',), (('a',),), ((0, 0, 0),)), Path())\n"
        "with Tracker([WandbRun('online', 'litter', 0)], run) as tracker:\n"
        "    tracker.log({'epoch': 1, 'train_loss': 2.0})\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment |= {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT / "src"), "WANDB_BASE_URL": "http://127.0.0.1:9"}
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        timeout=60,
    )
    os.close(theirs)
    printed = os.read(ours, 100_000).decode()
    os.close(ours)
    assert done.returncode == 0
    first, second = printed.splitlines()
    assert "No API key" in first and first.endswith("the run is kept offline")
    assert "is written offline" in second


# DVCLive


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty current folder, as far from this repository as DVCLive can see."""
    for name in [name for name in os.environ if name.startswith("DVC")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_dvclive_writes_a_row_an_epoch_and_nothing_but_curves(elsewhere):
    follow(Tracker([DvcliveCurves()], run_in(elsewhere)))
    folder = elsewhere / "dvclive" / "baseline@main-0"
    files = {path.relative_to(elsewhere).as_posix() for path in elsewhere.rglob("*") if path.is_file()}
    curves = {f"dvclive/baseline@main-0/plots/metrics/{name}.tsv" for name in ("lr", "train_loss", "tune_miou")}
    assert files == curves | {"dvclive/baseline@main-0/metrics.json"}
    losses = pd.read_csv(folder / "plots/metrics/train_loss.tsv", sep="\t")
    assert losses.values.tolist() == [[1, 2.0], [2, 1.0]]
    scores = pd.read_csv(folder / "plots/metrics/tune_miou.tsv", sep="\t")
    assert scores.values.tolist() == [[2, 0.25]], "the epoch without a score leaves a gap"
    assert json.loads((folder / "metrics.json").read_text()) == {
        "lr": 0.05, "train_loss": 1.0, "tune_miou": 0.25, "step": 2,
    }  # fmt: skip


def test_dvclive_can_be_read_after_each_epoch_and_begins_anew_with_each_run(elsewhere):
    curve = elsewhere / "dvclive/baseline@main-0/plots/metrics/train_loss.tsv"
    follow(Tracker([DvcliveCurves()], run_in(elsewhere)))
    with Tracker([DvcliveCurves()], run_in(elsewhere)) as tracker:
        tracker.log(ROWS[0])
        assert pd.read_csv(curve, sep="\t").values.tolist() == [[1, 2.0]]


def test_a_stage_name_of_a_subfolder_makes_one_folder(elsewhere):
    run = Run("sub/dvc.yaml:baseline@main-0", (), {}, CLASSES, elsewhere)
    follow(Tracker([DvcliveCurves()], run))
    assert [path.name for path in (elsewhere / "dvclive").iterdir()] == ["sub-dvc.yaml-baseline@main-0"]


# Training itself


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_tiny(tmp_path_factory.mktemp("tiny"))


def test_listeners_change_neither_score_nor_weights_nor_files(tiny, quiet_wandb, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    silent = train(tiny, tmp_path / "silent")
    assert {"model.safetensors", "last.safetensors", "history.csv", "iou.csv"} <= set(silent[1])
    assert not (tmp_path / "wandb").exists() and not (tmp_path / "dvclive").exists()
    shutil.rmtree(tmp_path / ".checkpoints")  # else the finished run would be taken as it is
    followed = train(tiny, tmp_path / "followed", make_listeners(tracking(wandb="offline", dvclive=True)))
    assert offline_run(tmp_path) and (tmp_path / "dvclive/baseline@main-0/metrics.json").is_file()
    shutil.rmtree(tmp_path / ".checkpoints")
    failing = train(
        tiny, tmp_path / "failing", [Recorder(fails_in=name) for name in ("start", "show", "log", "finish")]
    )
    assert followed == silent
    assert failing == silent


def test_the_curve_file_grows_with_each_epoch_and_the_images_stay_the_same(tiny, tmp_path, monkeypatch):
    class Reader(Recorder):
        def __init__(self):
            super().__init__(images=2)
            self.rows, self.shown = [], []

        def show(self, epoch, examples):
            self.shown.append((epoch, [shown.file_name for shown in examples]))
            for shown in examples:
                assert shown.image.shape[:2] == shown.preds.shape == shown.target.shape

        def log(self, row):
            self.rows.append(len(pd.read_csv(tmp_path / "plots/history.csv")))

    monkeypatch.chdir(tmp_path)
    reader = Reader()
    _, files = train(tiny, tmp_path, [reader], epochs=3)
    assert reader.rows == [1, 2, 3]
    assert not [name for name in files if "part" in name]
    (second, names), (third, again) = reader.shown
    assert (second, third) == (2, 3)
    assert names == again
    prepared = Prepared(tiny[1], fold=0)
    tune = {prepared.entries[index].file_name for index in prepared.folds[0].tune}
    assert len(set(names)) == 2 and set(names) <= tune, "never a judge image"


def test_disabled_tracking_imports_no_client_and_leaves_no_folder(tmp_path):
    # without the rest of training: timm imports wandb for purposes of its own
    script = (
        "import sys\n"
        "from segpipe.labels import ClassTable\n"
        "from segpipe.params import TrackingParams\n"
        "from segpipe.training.tracking.tracker import Tracker, describe_run, make_listeners\n"
        "listeners = make_listeners(TrackingParams(wandb='disabled', project='x', images=4, dvclive=False))\n"
        "run = describe_run('baseline', 'main', 0, {}, ClassTable(('a',), (('a',),), ((0, 0, 0),)))\n"
        "with Tracker(listeners, run) as tracker:\n"
        "    assert tracker.images == 0\n"
        "    tracker.log({'epoch': 1})\n"
        "print([name for name in ('wandb', 'dvclive', 'dvc') if name in sys.modules])\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "[]"), done.stderr
    assert list(tmp_path.iterdir()) == []
