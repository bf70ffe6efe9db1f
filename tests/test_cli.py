"""`segpipe recipe` and `wire`: what they print and what they refuse; `check`: tests/test_check.py."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from segpipe.cli import app
from segpipe.params import load_params, read_yaml
from segpipe.recipe import apply_recipe, list_recipes

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def project(tmp_path, monkeypatch):
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    for name in ("src", "stages", "recipes"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", list_recipes(ROOT / "recipes"))
def test_every_recipe_gives_valid_params_and_keeps_the_comments(project, name):
    comments = [line.split("#")[1] for line in (project / "params.yaml").read_text().splitlines() if "#" in line]
    apply_recipe(name)
    load_params()
    after = (project / "params.yaml").read_text()
    assert all(comment in after for comment in comments)
    assert apply_recipe(name) == [], "a second time changes nothing"


@pytest.mark.parametrize("name", [name for name in list_recipes(ROOT / "recipes") if name != "sample"])
def test_after_any_recipe_and_edit_the_recipe_sample_leads_back_to_the_default(project, name):
    before = read_yaml(project / "params.yaml")
    assert apply_recipe(name)
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(
        text.replace("main: {}", "main: {seed: 5}").replace("confidence:", "confidence: 1 #")
    )
    apply_recipe("sample")
    assert read_yaml(project / "params.yaml") == before


def test_the_recipe_sample_is_the_default_with_every_key_but_those_of_tracking():
    """After a change of the default, or with a new key, recipes/sample.yaml wants the same line."""
    default = read_yaml(ROOT / "params.yaml")
    assert read_yaml(ROOT / "recipes/sample.yaml") == {key: default[key] for key in default if key != "tracking"}


def test_the_contests_recipes_differ_in_the_network_alone():
    b7, b3 = (read_yaml(ROOT / f"recipes/contest_{name}.yaml") for name in ("b7", "b3"))
    assert {key: b7[key] for key in b7 if key != "model"} == {key: b3[key] for key in b3 if key != "model"}
    assert b7["model"]["encoder_weights"] == b3["model"]["encoder_weights"] == "noisy-student"


def test_recipe_shows_each_change_and_wires(project):
    result = CliRunner().invoke(app, ["recipe", "tiny"])
    assert result.exit_code == 0
    assert "train.epochs: " in result.output
    assert "dvc.yaml: rewrote" in result.output
    assert "second" not in (project / "dvc.yaml").read_text()


def test_recipe_without_a_name_lists_them_with_a_sentence_each(project):
    *lines, last = CliRunner().invoke(app, ["recipe"]).output.splitlines()
    assert [line.split()[0] for line in lines] == list_recipes()
    assert "tiny         The smallest run of the embedded sample" in "\n".join(lines)
    assert all(line.endswith(".") and len(line) < 180 for line in lines)
    assert "leaves the rest" in last


def test_an_unknown_recipe_names_the_nearest(project):
    with pytest.raises(ValueError, match="did you mean camvid"):
        apply_recipe("camvd")


WRONG = {
    "unknown keys and impossible values, all at once": (
        "loss:\n  dcie: 1.0\ntrain:\n  epochs: 0\noptimiser:\n",
        [
            "3 problems",
            "loss.dcie: unknown key; did you mean loss.dice?",
            "train.epochs: found 0",
            "did you mean optimizer?",
        ],
    ),
    "an unknown key of a member": ("members:\n  main:\n    los: {}\n", ["members.main.los: unknown key"]),
    "a value where keys belong": ("loss: 3\n", ["loss: found 3"]),
    "no keys at all": ("- loss\n", ["wrong.yaml: found ['loss'], expected sections"]),
    "no YAML": ("loss: [\n", ["wrong.yaml: not valid YAML", "line"]),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_wrong_recipe_is_one_error_and_changes_nothing(project, mistake):
    text, said = WRONG[mistake]
    (project / "own").mkdir()
    (project / "own/wrong.yaml").write_text(text)
    before = (project / "params.yaml").read_bytes()
    with pytest.raises(ValueError) as error:
        apply_recipe("wrong", folder=project / "own")
    assert all(part in str(error.value) for part in said), error.value
    assert (project / "params.yaml").read_bytes() == before
