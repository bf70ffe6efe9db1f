"""DVC itself on a tiny project: what runs again, what does not, and whose code runs.

One real `dvc repro` is made for this file; each test works on a copy of it.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from dvc_project import command, make_tiny_project, stages_run
from malformed.page import DVC_SAYS

from segpipe.stage import read_json

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A committed tiny project in which every stage has run."""
    folder = tmp_path_factory.mktemp("finished") / "project"
    make_tiny_project(folder)
    command(folder, "dvc", "repro")
    command(folder, "git", "add", "-A")
    command(folder, "git", "commit", "-qm", "a tiny project")
    return folder


@pytest.fixture
def project(finished, tmp_path):
    folder = tmp_path / "project"
    shutil.copytree(finished, folder, symlinks=True)
    return folder


def test_git_holds_metrics_plots_and_lock_but_no_data(finished):
    tracked = command(finished, "git", "ls-files").stdout.split()
    assert {"dvc.lock", "metrics/ensemble.json", "plots/baseline/main-0/history.csv"} <= set(tracked)
    assert not [name for name in tracked if name.startswith("data/")]


def test_repro_again_runs_nothing(project):
    assert "Data and pipelines are up to date" in command(project, "dvc", "repro").stdout


def test_one_changed_loss_weight_reruns_training_and_what_follows_and_nothing_before(project):
    output = command(project, "dvc", "exp", "run", "-S", "loss.dice=0.25").stdout
    run = stages_run(output)
    # DVC may predict with a baseline before or after teaching with it: only the chain has one order
    chain = ["baseline@main-0", "teach@0", "pseudo_label@0", "retrain@main-0", "predict@retrain-main-0", "ensemble"]
    assert [name for name in run if name in chain] == chain
    assert {"predict@baseline-main-0", "report"} <= set(run)
    assert not {"sample", "prepare"} & set(run)
    rows = [line for line in command(project, "dvc", "metrics", "diff").stdout.splitlines() if ".json" in line]
    assert 1 <= len(rows) <= 8
    changed = [line for line in command(project, "dvc", "params", "diff").stdout.splitlines() if "params.yaml" in line]
    assert len(changed) == 1
    assert changed[0].split()[1:] == ["loss.dice", "0.5", "0.25"]
    assert "loss.dice" in command(project, "dvc", "exp", "show", "--md", "--only-changed").stdout
    # and back: everything returns from the run cache, nothing is trained
    again = command(project, "dvc", "exp", "run", "-S", "loss.dice=0.5").stdout
    assert stages_run(again) == []
    assert command(project, "git", "status", "--porcelain", "--untracked-files=no").stdout == ""


def test_an_experiment_on_one_model_leaves_the_rest_alone(project):
    output = command(project, "dvc", "exp", "run", "-S", "optimizer.lr=0.01", "baseline@main-0").stdout
    assert stages_run(output) == ["baseline@main-0"]
    rows = command(project, "dvc", "metrics", "diff").stdout
    assert "metrics/baseline/main-0.json" in rows
    assert "metrics/ensemble.json" not in rows


def test_a_threshold_changes_labels_without_inference(project):
    output = command(project, "dvc", "repro", "pseudo_label@0").stdout
    assert stages_run(output) == []
    output = command(project, "dvc", "exp", "run", "-S", "pseudo_label.confidence=0.9", "pseudo_label@0").stdout
    assert stages_run(output) == ["pseudo_label@0"]


def test_an_unknown_key_is_refused_before_anything_runs(project):
    done = command(project, "dvc", "exp", "run", "-S", "loss.dcie=0.3", check=False)
    assert done.returncode != 0
    assert "loss.dcie" in done.stdout
    done = command(project, "dvc", "exp", "run", "-S", "optimizer.name=madgrd", check=False)
    assert done.returncode != 0
    assert "did you mean madgrad?" in done.stdout


def test_a_temp_experiment_runs_its_own_tree_while_the_workspace_is_edited(project):
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    words = ["dvc", "exp", "run", "--temp", "-S", "sample.seed=7", "prepare"]
    running = subprocess.Popen(
        words, cwd=project, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    copies, deadline = project / ".dvc/tmp/exps/standalone", time.monotonic() + 120
    while not list(copies.glob("tmp*/src/segpipe/data/prepare/prepare.py")):
        assert time.monotonic() < deadline and running.poll() is None, running.communicate()[0]
        time.sleep(0.02)
    module = project / "src/segpipe/data/prepare/prepare.py"
    module.write_text('raise RuntimeError("the workspace\'s code ran")\n', encoding="utf-8")
    output = running.communicate(timeout=240)[0]
    assert running.returncode == 0, output
    assert "Ran experiment" in output
    assert "the workspace's code ran" not in output
    # the same edit does stop the workspace's own run, so it would have been noticed
    assert "the workspace's code ran" in command(project, "dvc", "repro", "prepare", check=False).stdout


def test_a_stage_refuses_to_run_another_trees_package(project):
    done = command(
        project, sys.executable, "stages/prepare.py", "--out", "x", check=False, PYTHONPATH=str(ROOT / "src")
    )
    assert done.returncode != 0
    assert "PYTHONPATH=src" in done.stdout
    assert not (project / "x").exists()


def test_members_changed_without_wiring_are_refused_with_the_remedy(project):
    params = project / "params.yaml"
    text = params.read_text()
    assert "\n- main\n" in text
    params.write_text(text.replace("\n- main\n", "\n- main\n- second\n"), encoding="utf-8")
    done = command(project, "dvc", "repro", "--single-item", "ensemble", check=False)
    assert done.returncode != 0
    assert "segpipe wire" in done.stdout


def test_user_data_can_be_added_to_dvc(project):
    (project / "data/raw/mine").mkdir()
    (project / "data/raw/mine/train.json").write_text("{}", encoding="utf-8")
    command(project, "dvc", "add", "data/raw/mine")
    assert (project / "data/raw/mine.dvc").is_file()


def test_plots_of_a_run_and_its_strips_are_shown_from_git_and_the_cache(project):
    said = command(project, "dvc", "plots", "diff", "--json", "HEAD").stdout
    shown = json.loads(said[said.index("{") :])
    assert "errors" not in shown
    kinds = {name: plot["type"] for name, plots in shown["data"].items() for plot in plots}
    assert kinds["IoU per class of the submission on judge images"] == "vega"
    strips = [name for name, kind in kinds.items() if kind == "image"]
    assert 1 <= len(strips) <= 8 and all(name.startswith("plots/images/ensemble/") for name in strips)


def test_the_headline_is_that_of_the_selection(finished):
    selection = read_json(finished / "data/submission/selection.json")
    chosen = next(row for row in selection["candidates"] if row["name"] == selection["chosen"])
    assert read_json(finished / "metrics/ensemble.json") == {"miou": chosen["miou"]}


def test_what_dvc_says_itself_is_what_the_page_of_bad_input_says(project):
    root, key, stopped = (message for message, _ in DVC_SAYS.values())
    params = project / "params.yaml"
    sound = params.read_text(encoding="utf-8")
    params.write_text(sound.replace("root: data/raw/sample", "root: data/raw/other"), encoding="utf-8")
    assert root in command(project, "dvc", "repro", check=False).stdout
    params.write_text(sound, encoding="utf-8")
    assert key in command(project, "dvc", "exp", "run", "-S", "loss.dcie=0.25", check=False).stdout
    params.write_text(sound.replace("name: madgrad", "name: madgrd").replace("seed: 2021", "seed: 7"), encoding="utf-8")
    said = command(project, "dvc", "repro", check=False).stdout
    assert stopped in said and "optimizer.name: found 'madgrd'" in said
    assert not (project / "data/raw/sample").exists()
    params.write_text(sound, encoding="utf-8")
    assert stages_run(command(project, "dvc", "repro").stdout) == []
    assert (project / "data/raw/sample/train.json").is_file()


def test_make_fresh_names_the_first_stale_stage_in_a_line_of_its_own(project):
    def fresh() -> str:
        return command(project, "make", "--no-print-directory", "-o", "setup", "fresh").stdout

    shutil.copy(ROOT / "Makefile", project)
    assert fresh() == "Data and pipelines are up to date.\n"
    shutil.rmtree(project / "data")  # as on a clone
    assert fresh() == "Data and pipelines are up to date.\n"
    params = project / "params.yaml"
    params.write_text(params.read_text().replace("judge_fraction: 0.5", "judge_fraction: 0.4"), encoding="utf-8")
    said = "WARNING: dvc.lock is stale from prepare on: run `dvc repro`, then commit dvc.lock, metrics and plots.\n"
    assert fresh() == said
