"""Each recipe trains: its network, loss, optimiser, schedule and augmentation, on a few tiny images for a step."""

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tiny_training import Tiny, make_tiny, train

from segpipe.params import check_params, load_params
from segpipe.recipe import apply_recipe, list_recipes
from segpipe.training.engine import usable_precisions

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Sixteen drawn images of 64 x 64: what a recipe says of data is left aside, its own images are elsewhere."""
    return make_tiny(tmp_path_factory.mktemp("prepared"))[1]


def shrunk(name: str, folder: Path) -> dict[str, object]:
    """Params of the recipe with what a test cannot have: weights of the hub, loader processes, bf16 on an old CPU."""
    shutil.copy(ROOT / "params.yaml", folder / "params.yaml")
    apply_recipe(name, folder / "params.yaml", ROOT / "recipes")
    raw = load_params(folder / "params.yaml").model_dump(mode="json")
    raw["model"]["encoder_weights"] = None
    raw["train"]["workers"] = 0
    if raw["train"]["precision"] not in usable_precisions():
        raw["train"]["precision"] = "fp32"
    return raw


@pytest.mark.parametrize("name", list_recipes(ROOT / "recipes"))
def test_a_recipe_trains_a_step(tmp_path, monkeypatch, prepared, name):
    monkeypatch.chdir(tmp_path)
    params = check_params(shrunk(name, tmp_path))
    tiny: Tiny = (params, prepared)
    # all sixteen images are one update: batch normalisation has enough of them even where features are 2 x 2
    _, files = train(tiny, tmp_path / "out", epochs=1, validate_every=1, batch_size=16)
    history = files["history.csv"].decode().splitlines()
    assert len(history) == 2 and "nan" not in history[1]
    assert load_file(tmp_path / "out/model/model.safetensors")
