"""`segpipe check`: keys, files, lists in dvc.yaml, and names that only the libraries know, all in one message."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from coco_folder import write_folder
from malformed.project import with_values
from ruamel.yaml import YAML

from segpipe.doctor.parameters import parameter_problems
from segpipe.doctor.survey import examine_environment
from segpipe.params import Params, check_params, load_params
from segpipe.training.check import check_members, member_problems

ROOT = Path(__file__).resolve().parent.parent
RAW = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))
TWO = {"member_names": ["main", "second"], "members": {"main": {}, "second": {}}, "ensemble.rule": "best"}
TYPO = "'HorizontalFlipp' is no albumentations transform; did you mean HorizontalFlip?"


def changed(changes: dict[str, Any]) -> dict:
    """The committed parameters for two equal members, with the values at these dotted keys."""
    return with_values(RAW, TWO | changes)


def params(changes: dict[str, Any]) -> Params:
    return check_params(changed(changes))


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The pipeline's own files, and a data set in data/raw/mine; `write` changes params.yaml."""
    shutil.copy(ROOT / "dvc.yaml", tmp_path / "dvc.yaml")
    for name in ("src", "stages"):
        (tmp_path / name).symlink_to(ROOT / name)
    write_folder(tmp_path / "data/raw/mine")
    monkeypatch.chdir(tmp_path)
    return tmp_path


MINE = {"data.root": "data/raw/mine", "data.unlabeled": None}


def write(folder: Path, changes: dict[str, Any]) -> Params:
    YAML().dump(changed(changes), folder / "params.yaml")
    return load_params(folder / "params.yaml")


def check(folder: Path, before: str = "") -> subprocess.CompletedProcess:
    words = [sys.executable, "-m", "segpipe.cli", "check"]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{before}:{ROOT / 'src'}"}
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)


# Members


def test_the_committed_members_are_sound():
    check_members(load_params(ROOT / "params.yaml"))


@pytest.mark.parametrize(
    "ratio, said",
    [
        (0.05, "makes 0 pseudo-labelled images of 8 labelled ones in an update; set retrain.ratio 0.25"),
        (
            0.4,
            "makes 3 pseudo-labelled images of 8 labelled ones in an update; they cannot be split evenly",
        ),
        (0.5, None),
    ],
)
def test_a_ratio_that_the_second_round_would_refuse_is_told_before_the_first(ratio, said):
    changes = {"train.batch_size": 8, "train.accumulate": 2, "members.second": {"retrain": {"ratio": ratio}}}
    lines = member_problems(params(changes))
    assert len(lines) == bool(said)
    assert not said or lines[0].startswith(f"members.second.retrain.ratio: found {ratio}, which {said}")
    assert member_problems(params(changes | {"data.unlabeled": []})) == [], "nothing is retrained"


def test_all_problems_of_all_members_come_at_once_each_at_its_key():
    second = {"model": {"encoder": "resnet10tt"}, "augment": {"train": ["HorizontalFlipp"]}, "train": {"accumulate": 3}}
    changes = {"model.arch": "smp.Unett", "augment.pseudo": ["HorizontalFlipp"], "members.second": second}
    lines = member_problems(params(changes | {"train.batch_size": 8}))
    assert [line.split("; ")[0] for line in lines] == [
        "model.arch: found 'smp.Unett'",
        f"augment.pseudo.0: {TYPO.split('; ')[0]}",
        "members.second.model.encoder: found 'resnet10tt'",
        f"members.second.augment.train.0: {TYPO.split('; ')[0]}",
        "train.batch_size: found 8, which cannot be split evenly into 3 parts (train.devices x train.accumulate)",
    ]
    assert lines[-1].endswith("; set train.batch_size 9, or train.accumulate 1 or 2 (for member second)"), (
        "the shared value is wrong beside an override only"
    )
    with pytest.raises(ValueError, match=r"^params.yaml: 5 problems\n  model.arch: "):
        check_members(params(changes | {"train.batch_size": 8}))


def test_an_override_that_mends_a_shared_value_leaves_the_others_problem():
    mended = {"members.second": {"augment": {"pseudo": []}}, "augment.pseudo": ["HorizontalFlipp"]}
    assert member_problems(params(mended)) == [f"augment.pseudo.0: {TYPO}"]
    both = mended | {"members.main": {"augment": {"pseudo": []}}}
    assert member_problems(params(both)) == [], "nobody uses the shared list"


# Files and lists


def problems(folder: Path, changes: dict[str, Any]) -> list[str]:
    return parameter_problems(write(folder, MINE | changes), libraries=False)


def test_files_that_are_there_are_no_problem(project):
    assert problems(project, {}) == []


def test_a_folder_that_is_not_there_is_one_and_the_sample_is_drawn(project):
    [line] = problems(project, {"data.root": "data/raw/other"})
    assert line.startswith("data.root: 'data/raw/other' does not exist; expected the folder that holds the COCO files")
    assert problems(project, {"data.root": "data/raw/sample"}) == []


def test_a_folder_that_dvc_keeps_is_brought_back(project):
    (project / "data/raw/other.dvc").touch()
    [line] = problems(project, {"data.root": "data/raw/other"})
    assert "`dvc checkout data/raw/other.dvc`" in line


def test_every_misspelt_file_is_named(project):
    (project / "data/raw/sample").mkdir()
    lines = problems(project, {"data.train": "trian.json", "data.test": "tets.json"})
    assert [line.split(";")[0] for line in lines] == [
        "data.train: 'trian.json' does not exist in data/raw/mine",
        "data.test: 'tets.json' does not exist in data/raw/mine",
    ]
    assert problems(project, {"data.root": "data/raw/sample"}) != [], "one that was drawn is looked into"


def test_a_file_of_folds_that_is_not_there_is_named(project):
    lines = problems(project, {"data.val": None, "split.file": "folds.csv"})
    assert lines == ["split.file: 'folds.csv' does not exist in data/raw/mine; expected a CSV file in data/raw/mine."]
    (project / "data/raw/mine/folds.csv").write_text("file_name,fold\n")
    assert problems(project, {"data.val": None, "split.file": "folds.csv"}) == []


def test_lists_that_do_not_fit_the_members_ask_for_wire(project):
    one = {"member_names": ["main"], "members": {"main": {}}}
    [line] = problems(project, one)
    assert line == (
        "dvc.yaml: the lists of teach, ensemble, report, plots do not fit params.yaml and the code: run `segpipe wire`"
    )


# The commands


def test_check_says_all_of_it_without_a_traceback(project):
    write(project, MINE | {"data.val": "vla.json", "model.arch": "smp.Unett", "augment.train": ["HorizontalFlipp"]})
    done = check(project)
    assert done.returncode == 2 and done.stdout == ""
    head, *lines = done.stderr.splitlines()
    assert head == "segpipe: params.yaml: 3 problems"
    assert [line.split(":")[0].strip() for line in lines] == ["data.val", "model.arch", "augment.train.0"]


def test_check_names_the_file_that_has_the_problem(project):
    one = MINE | {"member_names": ["main"], "members": {"main": {}}}
    write(project, one)
    assert check(project).stderr.startswith("segpipe: dvc.yaml: 1 problem\n  dvc.yaml: the lists of teach, ")
    write(project, one | {"data.val": "vla.json"})
    assert check(project).stderr.startswith("segpipe: params.yaml, dvc.yaml: 2 problems\n  data.val: ")


def test_check_passes_what_is_sound(project):
    write(project, MINE)
    done = check(project)
    assert (done.returncode, done.stdout) == (0, "params.yaml: valid; members main, second, folds 0\n"), done.stderr


@pytest.mark.parametrize("text", ['raise ImportError("libtorch.so: cannot open")', "import os; os._exit(139)"])
def test_where_the_libraries_are_broken_keys_and_files_are_checked_all_the_same(project, text):
    (project / "broken").mkdir()
    (project / "broken/torch.py").write_text(text)
    write(project, MINE | {"data.val": "vla.json"})
    done = check(project, str(project / "broken"))
    head, file, names = done.stderr.splitlines()
    assert done.returncode == 2 and head == "segpipe: params.yaml: 2 problems"
    assert file.startswith("  data.val: 'vla.json' does not exist")
    assert "could not be checked (" in names and ("libtorch.so" in names or "ended with code 139" in names)
    write(project, MINE)
    text = (project / "params.yaml").read_text().replace("name: madgrad", "name: madgrd")
    (project / "params.yaml").write_text(text)
    said = check(project, str(project / "broken")).stderr
    assert said.splitlines()[1:] == [
        "  optimizer.name: found 'madgrd'; allowed: madgrad, adamw, sgd; did you mean madgrad?"
    ]


def test_the_doctor_says_of_params_what_check_says(project):
    second = {"augment": {"pseudo": ["HorizontalFlipp"]}}
    write(project, MINE | {"members.second": second, "data.train": "trian.json"})
    survey = examine_environment()
    [finding] = [finding for finding in survey.sections["this tree"] if finding.topic == "params.yaml"]
    assert finding.verdict == "bad" and not survey.sound
    file, name = finding.found.splitlines()
    assert file.startswith("data.train: 'trian.json' does not exist")
    assert name == f"members.second.augment.pseudo.0: {TYPO}"
