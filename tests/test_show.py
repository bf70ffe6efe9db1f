"""`segpipe show schedule`: the numbers that training will use, where they are counted, and what is refused."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from segpipe.cli import app
from segpipe.data.dataset import EpochBatches, Part
from segpipe.doctor.extent import training_images
from segpipe.params import load_params
from segpipe.show.schedule import moments, plan_schedule, to_text

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty folder with params.yaml."""
    shutil.copy(ROOT / "params.yaml", tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def change(**sections) -> None:
    """Lay `section={key: value}` over params.yaml."""
    yaml, path = YAML(), Path("params.yaml")
    content = yaml.load(path.read_text())
    for name, values in sections.items():
        content[name].update(values)
    with path.open("w") as file:
        yaml.dump(content, file)


def coco(names: list[str]) -> None:
    folder = Path("data/raw/own")
    folder.mkdir(parents=True, exist_ok=True)
    images = [{"id": number, "file_name": name} for number, name in enumerate(names)]
    (folder / "train.json").write_text(json.dumps({"images": images}))


def rows(text: str) -> list[list[str]]:
    """update, epoch, rates and what is said, of each line of the table."""
    return [re.split(r" {2,}", line.strip()) for line in text.splitlines() if re.match(r" +\d+ +\d+ +[\d.]", line)]


def shown(*options: str) -> str:
    result = CliRunner().invoke(app, ["show", "schedule", *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_table_has_the_rates_by_hand(project):
    # 20 images in batches of 5: 4 updates an epoch, 12 in all; poly of power 1 over the 10 after the warm-up
    change(sample={"train": 20}, train={"batch_size": 5, "epochs": 3}, optimizer={"name": "adamw", "lr": 0.1})
    change(scheduler={"name": "poly", "power": 1.0, "warmup_updates": 2})
    text = shown("--member", "main")
    assert text.startswith("main, baseline: adamw, poly, 12 updates: 3 epochs of 4\n20 training images of fold 0 ")
    assert rows(text) == [
        ["1", "1", "0.0333", "start"],
        ["3", "1", "0.1", "warm-up is over, highest"],
        ["4", "1", "0.09", "25 %"],
        ["7", "2", "0.06", "50 %"],
        ["10", "3", "0.03", "75 %"],
        ["12", "3", "0.01", "end"],
    ]
    assert "madgrad" not in text


def test_encoder_and_rest_have_a_column_each_and_retrain_its_own_epochs(project):
    change(scheduler={"name": "constant", "warmup_updates": 0}, retrain={"epochs": 1})
    change(optimizer={"lr": 0.1, "encoder_lr_factor": 0.5})
    text = shown("--round", "retrain")
    assert "lr rest  lr encoder" in text
    assert [row[2:4] for row in rows(text)] == [["0.1", "0.05"]] * 5
    assert rows(text)[-1][:2] == ["20", "1"]


def test_a_members_overrides_are_shown(project):
    change(members={"second": {"optimizer": {"lr": 0.5}, "train": {"epochs": 1}}})
    assert plan_schedule(load_params(), "second", "baseline").rates == {"all": 0.5}
    assert plan_schedule(load_params(), "second", "baseline").epochs == 1
    assert plan_schedule(load_params(), None, "baseline").member == "main"


def test_many_steps_are_listed_by_the_first_and_the_last(project):
    change(scheduler={"name": "step", "step_epochs": 1, "warmup_updates": 0}, train={"epochs": 40})
    said = moments(plan_schedule(load_params(), None, "baseline"))
    steps = {update: text for update, text in said.items() if "step" in text}
    assert list(steps) == [20, 40, 60, 780]
    assert steps[780] == "step 39 of 39"


def test_a_run_that_ends_in_its_warm_up_says_so(project):
    change(scheduler={"name": "poly", "warmup_updates": 180}, train={"epochs": 9})
    assert rows(shown())[-1][-1] == "highest, end, still in warm-up"


def test_the_curve_is_a_hill_whose_top_is_where_the_rate_is_highest(project):
    change(scheduler={"name": "onecycle", "peak_at": 0.5, "final_factor": 0.0})
    text = to_text(plan_schedule(load_params(), None, "baseline"))
    drawn = [line.split("┤")[1] for line in text.splitlines() if "┤" in line]
    spans = [(len(line) - len(line.lstrip()), len(line)) for line in drawn]
    assert spans[0][0] <= 29 < spans[0][1] < 60, "the middle of 60 columns"
    assert spans == sorted(spans, key=lambda span: span[1] - span[0]), "each row is wider than the one above"


def test_the_floor_of_madgrad_is_told(project):
    change(scheduler={"name": "step", "step_epochs": 1, "gamma": 0.01}, train={"epochs": 9})
    assert (
        "warning: madgrad adds 1e-06 to its learning rate, which stays below that from update 41 of 180 on" in shown()
    )
    change(optimizer={"name": "sgd"})
    assert "warning" not in shown()


def test_updates_are_counted_as_the_loader_counts_them(project):
    for images, batch_size in ((20, 8), (16, 8), (3, 8)):
        change(sample={"train": images}, train={"batch_size": batch_size})
        part = Part(None, None, range(images), None, batch_size, None)
        assert plan_schedule(load_params(), None, "baseline").updates_per_epoch == len(EpochBatches([part], 0))


def test_images_are_counted_in_the_coco_list_where_nothing_is_prepared(project):
    change(data={"root": "data/raw/own"})
    coco([f"{number}.png" for number in range(24)])
    assert training_images(load_params(), 0) == (24, "data/raw/own/train.json")
    assert "24 training images of fold 0 (from data/raw/own/train.json)" in shown()


def test_of_a_fold_only_what_it_does_not_hold_out_is_counted(project):
    change(
        data={"root": "data/raw/own", "val": None}, split={"folds": 2, "group_by": r"/(\w)\d+", "train_folds": [0, 1]}
    )
    coco([f"a{number}.png" for number in range(9)] + ["b0.png", "b1.png", "b2.png", "b3.png", "c0.png", "d0.png"])
    # scenes of nine, four, one and one images; each fold holds two of them out, one to tune and one to judge
    assert {training_images(load_params(), fold)[0] for fold in (0, 1)} == {10, 5}


def test_where_nothing_can_be_counted_the_message_says_what_to_run(project):
    change(data={"root": "data/raw/own"})
    with pytest.raises(ValueError, match=r"data/raw/own/train.json: not found, .*`dvc repro prepare`"):
        training_images(load_params(), 0)
    coco(["1.png"])
    Path("data/raw/own/train.json").write_text('{"images": 3}')
    with pytest.raises(ValueError, match=r"cannot be counted; `dvc repro prepare` says what is wrong"):
        training_images(load_params(), 0)


def test_the_page_has_the_curves_and_names_stay_text(project):
    change(optimizer={"encoder_lr_factor": 0.5})
    assert "new/page.html: written" in shown("--out", "new/page.html")
    page = Path("new/page.html").read_text(encoding="utf-8")
    assert page.count('<polyline class="line"') == 2 + 2, "two lines, each in the chart and in the legend"
    assert "<script" not in page and "lr encoder" in page


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--member", "secnd"], r"--member: found 'secnd'; allowed: main, second; did you mean second\?"),
        (["--round", "retrian"], r"--round: found 'retrian'; allowed: baseline, retrain; did you mean retrain\?"),
        (["--out", "curve.svg"], r"--out: found 'curve.svg'; expected a file name that ends in .html"),
    ],
)
def test_what_is_refused_is_told_with_the_option(project, options, message):
    with pytest.raises(ValueError, match=message):
        CliRunner().invoke(app, ["show", "schedule", *options], catch_exceptions=False)
    assert not list(project.glob("curve*"))


def test_the_command_needs_no_torch(project):
    code = "import sys; from segpipe.cli import app; app(['show', 'schedule'], standalone_mode=False)"
    code += "; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0
