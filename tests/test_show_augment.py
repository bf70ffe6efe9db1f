"""`segpipe show augment`: the very images that training sees, on one sheet, and what is said where that cannot be."""

import json
import shutil

import cv2
import numpy as np
import pytest
from dvc.utils.hydra import apply_overrides
from tiny_training import ROOT, make_tiny
from typer.testing import CliRunner

from segpipe.cli import app
from segpipe.data.dataset import Key, SegmentationDataset
from segpipe.data.lineage import Lineage
from segpipe.data.prepared import Prepared
from segpipe.data.store import PackedWriter
from segpipe.doctor.parameters import parameter_problems
from segpipe.labels import IGNORE_INDEX, ClassTable
from segpipe.params import load_params
from segpipe.show.augment import Sheet, plan_sheet, sheet_picture
from segpipe.training.job import labeled_part_of

RARE = ["augment.paste.p=1.0", "augment.paste.classes=[Paper]", "train.sampling=balanced"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    make_tiny(folder)
    (folder / "data").mkdir()
    (folder / "prepared").rename(folder / "data/prepared")
    return folder


@pytest.fixture
def project(made, tmp_path, monkeypatch):
    """A folder with params.yaml and prepared data, in which nothing was trained."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def set_params(*overrides: str) -> None:
    apply_overrides("params.yaml", list(overrides))


def shown(*options: str) -> str:
    result = CliRunner().invoke(app, ["show", "augment", *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_sheet_holds_what_training_loads(project):
    set_params(*RARE)
    params = load_params()
    sheet = plan_sheet(params, None, "baseline", images=3, epochs=2)
    prepared = Prepared(project / "data/prepared", fold=0)
    part = labeled_part_of(prepared, 0, params.member("main"))
    loaded = SegmentationDataset([part])
    for position, (name, row) in zip((0, 8, 15), sheet.rows.items(), strict=True):
        index = part.samples[position].image
        assert prepared.entries[index].file_name == name and len(row) == 3
        np.testing.assert_array_equal(row[0][0], prepared.images[index])
        np.testing.assert_array_equal(row[0][1], prepared.target(index))
        for epoch in (1, 2):
            image, target = loaded[Key(epoch, 0, position, 0)]
            np.testing.assert_array_equal(row[epoch][0], image.numpy().transpose(1, 2, 0))
            np.testing.assert_array_equal(row[epoch][1], target.numpy())


def test_the_command_writes_a_png_and_says_what_the_sheet_cannot_show(project):
    set_params(*RARE)
    text = shown("--images", "2", "--epochs", "3", "--out", "new/sheet.png")
    assert text.startswith("main, baseline: 2 of 16 training images of fold 0, seed 0\naugment.paste: objects to draw")
    assert "train.sampling: an image comes 0." in text and "row 2: " in text and "new/sheet.png: written" in text
    # four columns of 256 pixels, 64 px times 4
    assert cv2.imread("new/sheet.png").shape[1] == 4 * 256 + 3 * 6 + 2 * 6
    shown("--images", "99")
    assert cv2.imread("augment.png").shape[0] > 16 * 2 * 256, "all 16, once each"


def test_pictures_of_any_size_fit_their_columns_and_every_label_has_its_name():
    table = ClassTable(("Background", "Can", "杯"), ((), ("Can",), ("杯",)), ((0, 0, 0), (255, 0, 0), (0, 255, 0)))
    row = [
        (np.full((height, width, 3), 90, np.uint8), np.full((height, width), label, np.uint8))
        for height, width, label in ((30, 50, 0), (600, 300, 1), (20, 20, IGNORE_INDEX), (64, 64, 2))
    ]
    picture = sheet_picture(Sheet({"a long name of a file " * 9: row, "b": row}, table, ""))
    assert picture.shape[1] == 4 * 256 + 3 * 6 + 2 * 6
    colors = {tuple(color) for color in picture.reshape(-1, 3).tolist()}
    over_grey = {(197, 32, 32), (32, 197, 32)}  # 0.65 of the colour over 0.35 of a grey of 90
    assert over_grey <= colors


def test_retraining_shows_the_pseudo_labelled_images_with_their_labels(project):
    with pytest.raises(FileNotFoundError, match=r"data/pseudo/0/card.json: not found; `dvc repro` makes it"):
        shown("--round", "retrain")
    folder, pool = project / "data/pseudo/0", Prepared(project / "data/prepared", fold=0).pool()
    folder.mkdir(parents=True)
    card = {"indices": list(pool[:2]), "lineage": Lineage(frozenset(), frozenset()).to_json()}
    (folder / "card.json").write_text(json.dumps(card))
    with PackedWriter(folder / "labels") as labels:
        for label in (1, 2):
            labels.add(np.full((64, 64), label, np.uint8))
    sheet = plan_sheet(load_params(), None, "retrain", images=4, epochs=1)
    stored = [row[0][1] for row in sheet.rows.values()]
    assert [set(target.ravel().tolist()) for target in stored] == [{1}, {2}]
    assert sheet.said.startswith("main, retrain: 2 of 2 pseudo-labelled images of fold 0")


def test_what_is_missing_or_wrong_is_one_message(project):
    for options, said in (
        (("--member", "mian"), r"--member: found 'mian'; allowed: main; did you mean main\?"),
        (("--out", "sheet.jpg"), r"--out: found 'sheet.jpg'; expected a file name that ends in .png"),
    ):
        with pytest.raises(ValueError, match=said):
            shown(*options)
    set_params("augment.paste.p=0.5", "augment.paste.classes=[Papper]")
    with pytest.raises(ValueError, match=r"augment.paste.classes: found 'Papper'; .*did you mean Paper\?"):
        shown()
    set_params("augment.paste.p=0", "augment.paste.classes=[]", "augment.train=[HorizontalFlop]")
    with pytest.raises(ValueError, match=r"augment.train.0: 'HorizontalFlop' is no albumentations transform"):
        shown()
    set_params("data.image_size=[32,32]")
    with pytest.raises(ValueError, match=r"data/prepared: its image size or folds are not those of params.yaml"):
        shown()
    shutil.rmtree("data/prepared")
    with pytest.raises(FileNotFoundError, match=r"data/prepared/table.json: not found; `dvc repro` makes it"):
        shown()
    assert not list(project.glob("*.png"))


def test_segpipe_check_knows_the_classes_once_they_are_prepared(project):
    set_params("augment.paste.p=0.5", "augment.paste.classes=[Papper]")
    line = "augment.paste.classes: found 'Papper'; allowed: "

    def told() -> list[str]:
        problems = parameter_problems(load_params(), libraries=False)
        return [problem for problem in problems if problem.startswith(line)]

    shutil.copy(ROOT / "dvc.yaml", project / "dvc.yaml")
    for folder in ("src", "stages"):
        (project / folder).symlink_to(ROOT / folder)
    assert len(told()) == 1
    shutil.rmtree("data/prepared")
    assert told() == []
