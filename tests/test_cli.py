"""`segpipe recipe` and `wire`: what they print and what they refuse; `check`: tests/test_check.py."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from segpipe.cli import app
from segpipe.params import load_params
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
    changes = apply_recipe(name)
    assert changes
    load_params()
    after = (project / "params.yaml").read_text()
    assert all(comment in after for comment in comments)
    assert apply_recipe(name) == [], "a second time changes nothing"


def test_recipe_shows_each_change_and_wires(project):
    result = CliRunner().invoke(app, ["recipe", "tiny"])
    assert result.exit_code == 0
    assert "train.epochs: " in result.output
    assert "dvc.yaml: rewrote" in result.output
    assert "second" not in (project / "dvc.yaml").read_text()


def test_recipe_without_a_name_lists_them(project):
    assert "camvid" in CliRunner().invoke(app, ["recipe"]).output


def test_an_unknown_recipe_names_the_nearest(project):
    with pytest.raises(ValueError, match="did you mean camvid"):
        apply_recipe("camvd")


def test_a_recipe_with_an_unknown_key_or_impossible_value_changes_nothing(project):
    (project / "own").mkdir()
    before = (project / "params.yaml").read_text()
    for text, message in (("loss:\n  dcie: 1.0\n", "loss.dcie"), ("train:\n  epochs: 0\n", "train.epochs")):
        (project / "own" / "wrong.yaml").write_text(text)
        with pytest.raises(ValueError, match=message):
            apply_recipe("wrong", folder=project / "own")
    assert (project / "params.yaml").read_text() == before
