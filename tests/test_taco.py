"""The recipe `taco` on a drawn miniature of TACO: all of its 60 categories, on a few small images in two batches."""

import json
import shutil
from pathlib import Path

import pytest
from coco_folder import Picture, box, write_list

from segpipe.data.prepare.prepare import prepare
from segpipe.data.prepared import Prepared
from segpipe.data.sample.scenes import KINDS
from segpipe.params import load_params
from segpipe.recipe import apply_recipe

ROOT = Path(__file__).resolve().parent.parent
# in the order of their ids, from 0, as in data/annotations.json of github.com/pedropro/TACO (1,500 images)
CATEGORIES = """Aluminium foil;Battery;Aluminium blister pack;Carded blister pack;Other plastic bottle
Clear plastic bottle
Glass bottle;Plastic bottle cap;Metal bottle cap;Broken glass;Food Can;Aerosol;Drink can;Toilet tube;Other carton
Egg carton;Drink carton;Corrugated carton;Meal carton;Pizza box;Paper cup;Disposable plastic cup;Foam cup;Glass cup
Other plastic cup;Food waste;Glass jar;Plastic lid;Metal lid;Other plastic;Magazine paper;Tissues;Wrapping paper
Normal paper;Paper bag;Plastified paper bag;Plastic film;Six pack rings;Garbage bag;Other plastic wrapper
Single-use carrier bag;Polypropylene bag;Crisp packet;Spread tub;Tupperware;Disposable food container
Foam food container;Other plastic container;Plastic glooves;Plastic utensils;Pop tab;Rope & strings;Scrap metal;Shoe
Squeezable tube;Plastic straw;Paper straw;Styrofoam piece;Unlabeled litter;Cigarette""".replace("\n", ";").split(";")
SHOWN = {  # of each class one category
    "UNKNOWN": "Unlabeled litter",
    "General trash": "Cigarette",
    "Paper": "Normal paper",
    "Paper pack": "Drink carton",
    "Metal": "Drink can",
    "Glass": "Glass bottle",
    "Plastic": "Clear plastic bottle",
    "Styrofoam": "Foam cup",
    "Plastic bag": "Plastic film",
    "Battery": "Battery",
    "Clothing": "Shoe",
}


@pytest.fixture
def miniature(tmp_path, monkeypatch):
    """Ten images with six categories each, side by side from left to right; the recipe applied to params.yaml."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    apply_recipe("taco", tmp_path / "params.yaml", ROOT / "recipes")
    pictures = []
    for number in range(10):
        boxes = [box(6 * number + place, place, 0, place + 1, 4) for place in range(6)]
        pictures.append(Picture(f"batch_{number % 2 + 1}/{number:06}.png", annotations=boxes))
    root = tmp_path / "data/raw/taco"
    root.mkdir(parents=True)
    write_list(root, "annotations.json", pictures, dict(enumerate(CATEGORIES)))
    monkeypatch.chdir(tmp_path)
    return load_params()


def test_the_recipe_makes_the_contests_classes_of_all_60_categories(miniature):
    assert len(set(CATEGORIES)) == 60
    prepare(miniature.data, miniature.split, Path("data/prepared"))
    prepared = Prepared(Path("data/prepared"), judge=True)
    assert prepared.classes.names == ("Background", *(kind.name for kind in KINDS)), "the classes of the sample"
    assert sorted(name for names in prepared.classes.categories for name in names) == sorted(CATEGORIES)
    for class_, category in SHOWN.items():
        image, place = divmod(CATEGORIES.index(category), 6)
        shown = set(prepared.native_target(image)[:, place].tolist())
        assert {prepared.classes.names[index] for index in shown} == {class_}


def test_the_recipe_holds_images_out_by_folds_since_taco_has_no_validation_file(miniature):
    prepare(miniature.data, miniature.split, Path("data/prepared"))
    prepared = Prepared(Path("data/prepared"), judge=True)
    held_out = [index for fold in range(5) for index in (*prepared.folds[fold].tune, *prepared.folds[fold].judge)]
    assert sorted(held_out) == [*range(10)]
    assert prepared.sets["test"] == prepared.pool() == ()


def test_a_category_of_another_release_is_named_with_the_nearest(miniature):
    """An older annotations.json calls a clear bottle a drink bottle."""
    path = Path("data/raw/taco/annotations.json")
    content = json.loads(path.read_text())
    content["categories"][5]["name"] = "Plastic drink bottle"
    path.write_text(json.dumps(content))
    with pytest.raises(
        ValueError, match=r"leaves out \['Plastic drink bottle'\]; names 'Clear plastic bottle', which is"
    ):
        prepare(miniature.data, miniature.split, Path("data/prepared"))
