"""`segpipe predict`: label maps of any images, the same as the pipeline's, in one folder and nowhere else."""

import json
import os
import shutil
import signal
from pathlib import Path
from threading import Lock
from time import sleep

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from small_model import CLASSES, ROOT, write_model
from typer.testing import CliRunner

from segpipe.cli import app
from segpipe.data.resize import GREY, padded, resize_image, stored_size
from segpipe.data.source.images import decode_image
from segpipe.drawing import label_overlay
from segpipe.inference import folder as folder_module
from segpipe.inference.predict import Predictor
from segpipe.labels import ClassTable, distinct_colors
from segpipe.models.checkpoint import load_segmenter
from segpipe.params import ViewParams

SIZES = {"a.jpg": (60, 90), "deep/er/b.png": (90, 60), "deep/c.jpg": (60, 90), "d.bmp": (33, 80)}


def picture(size, seed):
    coarse = np.random.default_rng(seed).integers(0, 256, (size[0] // 12 + 2, size[1] // 12 + 2, 3), np.uint8)
    return cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)


def write_picture(path, size, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture(size, seed))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    names = {
        f"stretch-{seed}": write_model(folder / f"stretch-{seed}", image_size=(48, 64), seed=seed) for seed in (0, 1)
    }
    names["letterbox"] = write_model(folder / "letterbox", image_size=(48, 64), resize="letterbox")
    names["native"] = write_model(folder / "native", image_size=None)
    other = ClassTable(("Cat", "Dog", "Owl"), (("Cat",), ("Dog",), ("Owl",)), distinct_colors(3, background=False))
    names["zoo"] = write_model(folder / "zoo", image_size=(48, 64), classes=other)
    return names


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The current folder: params.yaml and a folder of photos."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    for seed, (name, size) in enumerate(SIZES.items()):
        write_picture(Path("photos") / name, size, seed)
    threads = torch.get_num_threads()
    yield tmp_path
    torch.set_num_threads(threads)


def predict(*words):
    return CliRunner().invoke(app, ["predict", *map(str, words)], catch_exceptions=False)


def refused(*words):
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        predict(*words)
    return str(caught.value)


def files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file()
    }


def label_map(name, out="out"):
    return cv2.imread(str((Path(out) / "labels" / name).with_suffix(".png")), cv2.IMREAD_UNCHANGED)


# What is written


@pytest.mark.parametrize("kind", ["stretch-0", "letterbox", "native"])
def test_label_maps_are_those_of_a_network_that_sees_what_prepare_would_show_it(project, models, kind):
    done = predict(models[kind], "photos", "--out", "out")
    assert done.exit_code == 0 and "4 images predicted" in done.output
    segmenter, card = load_segmenter(models[kind])
    for name, size in SIZES.items():
        image = decode_image(project / "photos" / name)
        seen = resize_image(image, stored_size(size, card.image_size, card.resize))
        batch = torch.from_numpy(padded(seen, card.image_size, GREY).transpose(2, 0, 1)[None].copy())
        with torch.inference_mode():
            probs = (segmenter(batch).softmax(1) + segmenter(batch.flip(-1)).softmax(1).flip(-1)) / 2
        probs = probs[0, :, : seen.shape[0], : seen.shape[1]].permute(1, 2, 0).numpy()
        expected = cv2.resize(probs, size[::-1], interpolation=cv2.INTER_LINEAR).argmax(-1)
        found = label_map(name)
        assert found.shape == size and found.dtype == np.uint8
        assert (found == expected).mean() > 0.999  # batches of several images round otherwise
        assert len(np.unique(found)) > 1
    assert json.loads(Path("out/labels/classes.json").read_text())["names"] == list(CLASSES.names)


def test_photographs_are_turned_as_their_exif_data_ask(project, models):
    Path("turned").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    Image.fromarray(picture((40, 70), 0)).save("turned/a.jpg", exif=exif)
    predict(models["stretch-0"], "turned", "--out", "out")
    assert label_map("a.png").shape == (70, 40)


def test_several_models_are_averaged_by_their_probabilities(project, models):
    both = [models["stretch-0"], models["stretch-1"]]
    assert predict(*both, "photos", "--out", "out").exit_code == 0
    segmenters = [load_segmenter(folder)[0] for folder in both]
    looked = ViewParams(flips=True, scales=(1.0,), window=None, overlap=0.5)
    image = resize_image(decode_image(project / "photos/a.jpg"), (48, 64))
    ((probs, _),) = Predictor(segmenters, looked, (48, 64), device=torch.device("cpu"))([image])
    expected = cv2.resize(probs, SIZES["a.jpg"][::-1], interpolation=cv2.INTER_LINEAR).argmax(-1)
    assert (label_map("a.jpg") == expected).mean() > 0.999


def test_overlays_colour_the_label_map_over_the_image(project, models):
    predict(models["stretch-0"], "photos", "--out", "out", "--overlays")
    for name in SIZES:
        drawn = decode_image((Path("out/overlays") / name).with_suffix(".jpg"))
        expected = label_overlay(decode_image(Path("photos") / name), label_map(name), CLASSES)
        assert drawn.shape == expected.shape and np.abs(drawn.astype(int) - expected).mean() < 12


def test_the_coco_file_read_by_pycocotools_gives_the_label_maps(project, models):
    predict(models["stretch-0"], "photos", "--out", "out", "--coco", "found.json")
    coco = COCO("found.json")
    assert {c["id"]: c["name"] for c in coco.loadCats(coco.getCatIds())} == {1: "Paper", 2: "Glass"}
    assert {info["file_name"] for info in coco.imgs.values()} == set(SIZES)
    for info in coco.imgs.values():
        labels = np.zeros((info["height"], info["width"]), np.uint8)
        for entry in coco.loadAnns(coco.getAnnIds(info["id"])):
            mask = coco.annToMask(entry)
            assert entry["area"] == mask.sum() and not labels[mask == 1].any()
            labels[mask == 1] = entry["category_id"]
        np.testing.assert_array_equal(labels, label_map(info["file_name"]))


def test_a_list_names_images_relative_to_its_own_folder(project, models):
    Path("photos/some.txt").write_text("deep/c.jpg\n\n  a.jpg \n", encoding="utf-8")
    predict(models["stretch-0"], "photos/some.txt", "--out", "out")
    assert [name for name in files("out") if name.endswith(".png")] == ["labels/a.png", "labels/deep/c.png"]


def test_the_same_command_twice_writes_the_same_bytes(project, models):
    for out in ("one", "two"):
        predict(models["native"], "photos", "--out", out, "--overlays", "--coco", f"{out}/all.json")
    assert files("one") == files("two")


@pytest.mark.parametrize("name", [os.fsdecode(b"caf\xe9.jpg"), "two\u2028lines.jpg", "caf\u00e9.jpg"])
def test_a_name_may_be_any_that_a_file_has(project, models, name):
    write_picture(Path("named/a.jpg"), (30, 40))
    Path("named/a.jpg").rename(Path("named") / name)
    for again in (False, True):
        done = predict(models["stretch-0"], "named", "--out", "out", "--coco", "found.json")
        assert f"{0 if again else 1} images predicted" in done.output
    assert label_map_exists(name)
    assert [image["file_name"] for image in json.loads(Path("found.json").read_bytes())["images"]] == [name]


def label_map_exists(name):
    return (Path("out/labels") / name).with_suffix(".png").is_file()


def test_few_probabilities_at_the_images_own_sizes_are_held_at_once(project, models, monkeypatch):
    lock, held, most = Lock(), 0, 0
    resized = folder_module.to_scored_size

    def slow(probs, size, scored):
        nonlocal held, most
        needed = size[0] * size[1] * probs.shape[-1] * 4
        with lock:
            held += needed
            most = max(most, held)
        sleep(0.05)
        with lock:
            held -= needed
        return resized(probs, size, scored)

    predict(models["stretch-0"], "photos", "--out", "whole")
    monkeypatch.setattr(folder_module, "to_scored_size", slow)
    monkeypatch.setattr(folder_module, "WRITTEN_BYTES", 70_000)  # one of 60 x 90 pixels and 3 classes has 64,800
    predict(models["stretch-0"], "photos", "--out", "out")
    assert 0 < most <= 70_000 and files("out") == files("whole")


def test_images_beside_the_output_are_not_mixed_with_it(project, models):
    for _ in range(2):
        done = predict(models["stretch-0"], "photos", "--out", "photos/out", "--overlays")
        assert done.exit_code == 0
    assert "0 images predicted; 4 taken from an earlier run" in done.output


# Bad images


def test_bad_images_are_left_out_and_listed_and_the_exit_code_says_so(project, models):
    whole = Path("photos/a.jpg").read_bytes()
    Path("photos/cut.png").write_bytes(Path("photos/deep/er/b.png").read_bytes()[:600])
    Path("photos/junk.jpg").write_bytes(b"no image at all")
    Path("photos/empty.jpg").touch()
    Path("photos/notes.txt").write_text("no image either", encoding="utf-8")
    Path("photos/called_otherwise").write_bytes(whole)
    done = predict(models["stretch-0"], "photos", "--out", "out", "--coco", "found.json")
    assert done.exit_code == 1
    assert "5 images predicted; 1 files are no images; 3 left out" in done.output
    lines = [line.strip() for line in done.output.splitlines() if line.startswith("  left out: ")]
    assert sorted(line.split()[2] for line in lines) == ["cut.png", "empty.jpg", "junk.jpg"]
    assert "empty.jpg is an empty file" in done.output
    assert label_map("called_otherwise").shape == SIZES["a.jpg"] and label_map("junk.jpg") is None
    assert len(json.loads(Path("found.json").read_text())["images"]) == 5


def test_an_image_that_a_list_names_and_is_not_there_is_left_out(project, models):
    Path("photos/some.txt").write_text("a.jpg\ngone.jpg\n", encoding="utf-8")
    done = predict(models["stretch-0"], "photos/some.txt", "--out", "out")
    assert done.exit_code == 1 and "gone.jpg cannot be read (No such file or directory)" in done.output


# Going on


def test_an_interrupted_run_goes_on_with_what_is_left(project, models, monkeypatch):
    predict(models["stretch-0"], "photos", "--out", "whole")
    monkeypatch.setattr("segpipe.inference.views.BATCH_SIZE", 1)

    class Signalled(Predictor):
        def __call__(self, images):
            os.kill(os.getpid(), signal.SIGINT)
            return super().__call__(images)

    with monkeypatch.context() as patched:
        patched.setattr(folder_module, "Predictor", Signalled)
        stopped = predict(models["stretch-0"], "photos", "--out", "out")
    assert stopped.exit_code != 0 and len(list(Path("out/labels").rglob("*.png"))) == 1
    done = predict(models["stretch-0"], "photos", "--out", "out")
    assert "3 images predicted; 1 taken from an earlier run" in done.output
    for name in SIZES:
        assert (label_map(name) == label_map(name, "whole")).mean() > 0.999


@pytest.mark.parametrize(
    "what", ["label map gone", "label map changed", "image changed", "row cut short", "overlay asked for"]
)
def test_what_is_not_provably_finished_is_made_again(project, models, what):
    predict(models["stretch-0"], "photos", "--out", "out")
    expected, options, again = files("out/labels"), [], 1
    if what == "label map gone":
        Path("out/labels/a.png").unlink()
    elif what == "label map changed":
        Path("out/labels/a.png").write_bytes(expected["d.png"])
    elif what == "image changed":
        write_picture(Path("photos/a.jpg"), SIZES["a.jpg"], seed=9)
    elif what == "row cut short":
        rows = Path("out/predicted.csv")
        rows.write_bytes(rows.read_bytes()[:-5])
    else:
        options, again = ["--overlays"], 4
    done = predict(models["stretch-0"], "photos", "--out", "out", *options)
    assert f"{again} images predicted" in done.output
    assert (files("out/labels") == expected) == (what != "image changed")
    assert "0 images predicted; 4 taken" in predict(models["stretch-0"], "photos", "--out", "out", *options).output


def test_one_folder_never_mixes_models_or_views(project, models):
    predict(models["stretch-0"], "photos", "--out", "out")
    before = files("out")
    assert "out: holds predictions made with other models (predicted.json says which)" in refused(
        models["stretch-1"], "photos", "--out", "out"
    )
    params = Path("params.yaml").read_text(encoding="utf-8")
    Path("params.yaml").write_text(params.replace("flips: true ", "flips: false"), encoding="utf-8")
    assert "made with other views" in refused(models["stretch-0"], "photos", "--out", "out")
    assert files("out") == before


# Refusals, before anything is written


def test_models_of_other_classes_or_sizes_are_not_averaged(project, models):
    said = refused(models["stretch-0"], models["zoo"], models["native"], "photos", "--out", "out")
    assert "the models cannot be averaged: 2 problems" in said
    assert "zoo: knows the classes ['Cat', 'Dog', 'Owl'], " in said and "stretch-0 ['Background', 'Paper'" in said
    assert "native: sees images by their own size, " in said and "stretch-0 by stretch to 48x64" in said
    assert "letterbox to 48x64" in refused(models["stretch-0"], models["letterbox"], "photos", "--out", "out")
    assert not Path("out").exists()


def test_a_folder_that_holds_anything_else_is_left_alone(project, models):
    write_picture(Path("out/precious.png"), (8, 8))
    before = files("out")
    assert "out: is not empty and has no predicted.json" in refused(models["stretch-0"], "photos", "--out", "out")
    assert "--out: photos holds the images" in refused(models["stretch-0"], "photos", "--out", "photos")
    assert files("out") == before


def test_two_images_for_one_label_map_are_refused_by_name(project, models):
    write_picture(Path("photos/a.png"), (20, 20))
    said = refused(models["stretch-0"], "photos", "--out", "out")
    assert "a.jpg and a.png would both be written to a.png; rename one, or list one of them" in said
    assert not Path("out").exists()


def test_a_list_that_leads_outside_or_names_an_image_twice_is_refused_with_all_its_lines(project, models):
    Path("photos/some.txt").write_text("../secret.jpg\n/etc/a.jpg\na.jpg\ndeep/../a.jpg\n./a.jpg\n", encoding="utf-8")
    said = refused(models["stretch-0"], "photos/some.txt", "--out", "out")
    assert "4 problems" in said
    Path("photos/some.txt").write_text("a.jpg\n.\n./\na\0.jpg\n", encoding="utf-8")
    nameless = refused(models["stretch-0"], "photos/some.txt", "--out", "out")
    for line, name in ((2, "'.'"), (3, "'./'"), (4, "'a\\x00.jpg'")):
        assert f"line {line}: {name} is no file's name; expected an image, relative to photos" in nameless
    assert "line 1: '../secret.jpg' leads out of photos" in said and "line 5: './a.jpg' stands in line 3, too" in said


def test_a_link_in_the_output_that_leads_out_is_not_followed(project, models):
    predict(models["stretch-0"], "photos", "--out", "out")
    shutil.rmtree("out/labels/deep")
    Path("elsewhere").mkdir()
    Path("out/labels/deep").symlink_to(project / "elsewhere")
    assert "a link leads out of out" in refused(models["stretch-0"], "photos", "--out", "out")
    assert not any(Path("elsewhere").rglob("*.png"))


def test_what_is_not_there_is_told(project, models, monkeypatch):
    assert "nowhere: not found; expected a folder of images" in refused(models["native"], "nowhere", "--out", "out")
    assert "model.json: not found" in refused("nothing", "photos", "--out", "out")
    assert "did you mean cpu?" in refused(models["native"], "photos", "--out", "out", "--device", "cpuu")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "finds no GPU here" in refused(models["native"], "photos", "--out", "out", "--device", "cuda")
    Path("bare").mkdir()
    assert "bare: holds no image" in refused(models["native"], "bare", "--out", "out")
    assert not Path("out").exists()
