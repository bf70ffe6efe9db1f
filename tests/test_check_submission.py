"""`segpipe check-submission` on the test images of a small prepared set; and the sample submission before `prepare`."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from coco_folder import GLASS, PAPER, box, data_params, pictures, prepare_folder, write_folder
from typer.testing import CliRunner

from segpipe.cli import app
from segpipe.data.prepare.prepare import prepare
from segpipe.data.prepared import Prepared
from segpipe.params import load_params
from segpipe.submission.check import check_file
from segpipe.submission.fit import fit_problems
from segpipe.submission.layout import layout_of
from segpipe.submission.write import write_submission

ROOT = Path(__file__).resolve().parent.parent
STEMS = [f"x{number}" for number in range(6)]
HALVES = [box(GLASS, 0, 0, 3, 4), box(PAPER, 3, 0, 6, 4)]  # of every labelled image, none is background
RNG = np.random.default_rng(0)
MAPS = {f"{stem}.png": RNG.integers(0, 3, (4, 6)).astype(np.uint8) for stem in STEMS}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Six test images of 4 x 6 pixels, and a sound submission of each format in `out`."""
    train, val = pictures("a", "b", annotations=HALVES), pictures("c", "d", "e", "f", annotations=HALVES)
    write_folder(tmp_path / "raw", train=train, val=val, test=pictures(*STEMS))
    (tmp_path / "data").mkdir()
    prepare_folder(tmp_path / "raw").rename(tmp_path / "data/prepared")
    shutil.copy(ROOT / "params.yaml", tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    change(size=None, formats=["pixels", "rle", "png"])
    params = load_params()
    layout = layout_of(params.submission, Prepared(Path("data/prepared"), fold=0).classes, None)
    write_submission(Path("out"), layout, iter(MAPS.items()))
    return tmp_path


def change(**submission) -> None:
    """Keys of section `submission` in params.yaml; data.root is the folder of this test."""
    raw = yaml.safe_load(Path("params.yaml").read_text())
    raw["submission"] |= submission
    raw["data"] |= {"root": "raw"}
    Path("params.yaml").write_text(yaml.safe_dump(raw))


def check(*arguments: str) -> dict:
    """The answer as JSON, with the exit code."""
    result = CliRunner().invoke(app, ["check-submission", *arguments, "--json"], catch_exceptions=False)
    return json.loads(result.stdout) | {"exit": result.exit_code}


PIXELS, RLE = "out/submission.csv", "out/submission_rle.csv"


@pytest.mark.parametrize("file, format_", [(PIXELS, "pixels"), (RLE, "rle"), ("out/png", "png")])
def test_a_sound_submission_has_no_problems_and_shares_that_are_counted(project, file, format_):
    found = check(file)
    assert (found["exit"], found["format"], found["problems"], found["warnings"]) == (0, format_, [], [])
    pixels = np.concatenate([labels.ravel() for labels in MAPS.values()])
    counted = [float((pixels == index).mean()) for index in range(3)]
    assert [entry["share"] for entry in found["classes"]] == pytest.approx(counted)
    assert [entry["training_share"] for entry in found["classes"]] == pytest.approx([0, 0.5, 0.5])


def test_everything_that_is_wrong_is_told_at_once(project):
    lines = Path(PIXELS).read_text().splitlines()
    fields = [line.split(",")[1] for line in lines]
    lines[1] = f"x0.png,{fields[1]} 0"
    lines[2] = f"x1.png,9{fields[2][1:]}"
    lines[3] = f"x2.png,nan{fields[3][1:]}"
    lines[4] = f"\x1b[31mx3.png,{fields[4]}"
    Path(PIXELS).write_text("\n".join([*lines, lines[5]]) + "\n")
    found = check(PIXELS)
    assert found["exit"] == 1
    assert found["problems"] == [
        "1 id is missing: x3.png",
        "1 id is not of the test set: '\\x1b[31mx3.png'",
        "1 id is there more than once: x4.png",
        "x0.png: found 25 pixels, expected 4 x 6 = 24",
        "x1.png: found class 9, expected 0 to 2",
        "x2.png: found something other than whole numbers separated by single spaces, such as 'nan'",
    ]
    text = CliRunner().invoke(app, ["check-submission", PIXELS]).output
    assert "6 problems:" in text and "\x1b" not in text and "in training" in text


def test_another_order_is_a_warning_unless_the_sample_has_it(project):
    header, *rows = Path(PIXELS).read_text().splitlines()
    Path(PIXELS).write_text("\n".join([header, *rows[::-1]]) + "\n")
    found = check(PIXELS)
    assert (found["exit"], found["warnings"]) == (0, ["the ids are not in the order of the test file"])
    Path("sample.csv").write_text("\n".join([header, *(f"{stem}.png," for stem in STEMS[::-1])]) + "\n")
    assert check(PIXELS, "--sample", "sample.csv")["warnings"] == []


def test_a_sample_that_does_not_fit_the_images_is_a_problem(project):
    Path("sample.csv").write_text("image_id,PredictionString\nx0.png,\nz.png,\n")
    (said,) = check(PIXELS, "--sample", "sample.csv")["problems"]
    assert said.startswith("sample.csv: does not fit the test images by submission.formats: pixels: ")
    assert "5 ids are missing: x1.png, x2.png, x3.png, ...; 1 id is not of the test set: z.png" in said


def test_a_class_that_is_never_predicted_is_a_warning(project):
    layout = layout_of(load_params().submission, Prepared(Path("data/prepared"), fold=0).classes, None)
    write_submission(Path("poor"), layout, iter({name: labels // 2 for name, labels in MAPS.items()}.items()))
    assert check("poor/submission.csv")["warnings"] == ["never predicted, though training images show it: Paper"]


@pytest.mark.parametrize("other", [PIXELS, RLE, "out/png"])
@pytest.mark.parametrize("file", ["new/submission.csv", "new/submission_rle.csv", "new/png"])
def test_the_difference_from_another_file_of_any_format(project, file, other):
    changed = {name: labels.copy() for name, labels in MAPS.items()}
    changed["x2.png"][0] = 1
    changed["x4.png"][:] = 0
    layout = layout_of(load_params().submission, Prepared(Path("data/prepared"), fold=0).classes, None)
    write_submission(Path("new"), layout, iter(changed.items()))
    found = check(file, "--previous", other)
    before, now = (np.concatenate([m.ravel() for m in maps.values()]) for maps in (MAPS, changed))
    assert found["previous"]["differing_share"] == pytest.approx((before != now).mean())
    expected = {name: (MAPS[name] != changed[name]).mean() for name in ("x4.png", "x2.png")}
    assert found["previous"]["most_changed"] == [
        {"image": name, "share": pytest.approx(share)} for name, share in expected.items()
    ]
    for index, entry in enumerate(found["classes"]):
        both, either = (before == index) & (now == index), (before == index) | (now == index)
        assert entry["changed_share"] == pytest.approx(1 - both.sum() / either.sum())


def test_a_zip_is_read_as_what_is_in_it(project):
    for name, folder, files in (("maps.zip", "out/png", "*.png"), ("table.zip", "out", "submission.csv")):
        with zipfile.ZipFile(name, "w") as archive:
            for path in Path(folder).rglob(files):
                archive.write(path, path.relative_to(folder))
    assert check("maps.zip")["problems"] == []
    assert check("table.zip", "--format", "pixels", "--previous", "maps.zip")["previous"]["differing_share"] == 0


def test_a_small_zip_that_would_fill_the_disk_is_refused(project):
    with zipfile.ZipFile("bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("submission.csv", b"0" * 20_000_000)
    with pytest.raises(ValueError, match=r"bomb\.zip: holds 20000000 bytes, far more than a submission"):
        check("bomb.zip", "--format", "pixels")


def packed(name: str, source: str, inside: str) -> bytes:
    """A zip of one file, as bytes that a test may damage."""
    with zipfile.ZipFile(name, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(source, inside)
    return Path(name).read_bytes()


def damaged(whole: bytes) -> bytes:
    """The compressed bytes are no longer what a deflater writes."""
    start = zipfile.sizeFileHeader + int.from_bytes(whole[26:28], "little")
    return whole[:start] + b"\xff" * 8 + whole[start + 8 :]


def encrypted(whole: bytes) -> bytes:
    """The flag that asks for a password is set, in the file's header and in the list at the end."""
    listed = whole.index(b"PK\x01\x02")
    return whole[:6] + b"\x01" + whole[7 : listed + 8] + b"\x01" + whole[listed + 9 :]


def of_a_later_version(whole: bytes) -> bytes:
    """Packed by what zipfile says it cannot read, as soon as it is opened."""
    listed = whole.index(b"PK\x01\x02")
    return whole[: listed + 6] + b"\xff" + whole[listed + 7 :]


@pytest.mark.parametrize(
    "harm, said",
    [
        (damaged, r"table\.zip: submission\.csv in it cannot be read \(Error -3 .*\); expected a whole zip"),
        (encrypted, r"table\.zip: submission\.csv in it cannot be read \(.*password.*\); expected a whole zip"),
        (of_a_later_version, r"table\.zip: is a zip that cannot be read \(zip file version 25\.5\); pack it anew"),
    ],
)
def test_a_table_in_a_zip_that_cannot_be_read_is_one_clear_error(project, harm, said):
    Path("table.zip").write_bytes(harm(packed("table.zip", PIXELS, "submission.csv")))
    with pytest.raises(ValueError, match=said):
        check("table.zip", "--format", "pixels")
    change(formats=["pixels"])
    with pytest.raises(ValueError, match=said):
        check("table.zip")


@pytest.mark.parametrize("harm, said", [(damaged, "Error -3"), (encrypted, "password")])
def test_a_label_map_in_a_zip_that_cannot_be_read_is_told_of_its_image(project, harm, said):
    Path("maps.zip").write_bytes(harm(packed("maps.zip", "out/png/x0.png", "x0.png")))
    assert any(fault.startswith("x0.png: ") and said in fault for fault in check("maps.zip")["problems"])


@pytest.mark.parametrize("file", [PIXELS, "out/png"])
def test_classes_of_run_lengths_matter_to_files_of_run_lengths_only(project, file):
    rle = yaml.safe_load(Path("params.yaml").read_text())["submission"]["rle"]
    change(formats=["pixels", "png"], rle=rle | {"classes": ["Wood"]})
    assert check(file, "--previous", "out/png" if file == PIXELS else PIXELS)["problems"] == []
    for arguments in ((RLE, "--format", "rle"), (file, "--previous", RLE)):
        with pytest.raises(ValueError, match=r"params\.yaml: submission\.rle\.classes: found 'Wood'"):
            check(*arguments)


def test_one_mask_an_image_is_compared_as_that(project):
    rle = {"rows": "image", "id": "{stem}", "columns": ["img", "rle_mask"], "classes": []}
    change(formats=["rle"], rle=rle)
    layout = layout_of(load_params().submission, Prepared(Path("data/prepared"), fold=0).classes, None)
    write_submission(Path("one"), layout, iter(MAPS.items()))
    found = check("one/submission_rle.csv", "--previous", "out/png")
    assert [entry["name"] for entry in found["classes"]] == ["(no mask)", "Glass + Paper"]
    assert (found["exit"], found["previous"]["differing_share"]) == (0, 0)
    assert found["classes"][1]["training_share"] == 1


def test_run_lengths_under_the_samples_columns_are_known_by_params(project):
    Path("raw/sample.csv").write_text("image_id,PredictionString\n")
    change(formats=["rle", "png"], sample="sample.csv")
    edited = Path(RLE).read_text().replace("ImageId_ClassId,EncodedPixels", "image_id,PredictionString")
    Path(RLE).write_text(edited)
    found = check(RLE, "--previous", "out/png")
    assert (found["format"], found["problems"], found["previous"]["differing_share"]) == ("rle", [], 0)


def test_what_cannot_be_checked_at_all_is_an_error(project):
    with pytest.raises(FileNotFoundError, match=r"none\.csv: not found; expected a submission"):
        check("none.csv")
    Path("strange.csv").write_text("a,b\n")
    with pytest.raises(ValueError, match="does not tell whether it is pixels or rle; say so with --format"):
        check("strange.csv")
    with pytest.raises(FileNotFoundError, match="dvc repro"):
        check_file(load_params(), Path(PIXELS), prepared=Path("data/nothing"))
    assert check("strange.csv", "--format", "rle")["problems"][0].startswith("found columns ['a', 'b'], expected [")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b'"', b"\n\n\n", b"a" * 100_000])
def test_files_that_are_no_submission_are_told_and_never_a_traceback(project, content):
    Path("strange.csv").write_bytes(content)
    found = check("strange.csv", "--format", "pixels")
    assert found["exit"] == 1 and found["problems"]


# Before anything slow


def test_a_sample_that_does_not_fit_stops_prepare_before_an_image_is_opened(project):
    change(sample="sample.csv", formats=["pixels"])
    Path("raw/sample.csv").write_text("image_id,PredictionString\nx0.png,\nnew.png,\n")
    for stem in STEMS:
        Path(f"raw/{stem}.png").write_bytes(b"")  # would be a problem of its own
    params = load_params()

    def objection(names, classes):
        return fit_problems(params.submission, Path(params.data.root), names, classes)

    with pytest.raises(ValueError) as refusal:
        prepare(data_params(Path("raw")), params.split, Path("again"), objection=objection)
    said = str(refusal.value)
    assert "raw/sample.csv: does not fit the test images" in said and "1 id is not of the test set: new.png" in said
    assert "x0.png" in said and not Path("again").exists()


@pytest.mark.parametrize(
    "ids, rows, id_",
    [
        ([f"{stem}.png_{index}" for stem in STEMS for index in (1, 2)], "image_class", "{file_name}_{class}"),
        ([f"{stem}_{index}" for stem in STEMS for index in (1, 2)], "image_class", "{stem}_{class}"),
        ([f"{stem}_{name}" for stem in STEMS for name in ("Glass", "Paper")], "image_class", "{stem}_{class_name}"),
        (STEMS, "image", "{stem}"),
    ],
)
def test_the_usual_ids_of_a_sample_are_recognised(project, ids, rows, id_):
    Path("raw/sample.csv").write_text("\n".join(["id,mask", *(f"{i}," for i in ids)]) + "\n")
    rle = yaml.safe_load(Path("params.yaml").read_text())["submission"]["rle"]
    classes = Prepared(Path("data/prepared"), fold=0).classes
    change(sample="sample.csv", formats=["rle"], rle=rle | {"id": "{file_name}-{class}"})
    (said,) = fit_problems(load_params().submission, Path("raw"), list(MAPS), classes)
    assert said.endswith(f"It fits with submission.rle.rows: {rows} and submission.rle.id: '{id_}'")
    change(rle=rle | {"rows": rows, "id": id_})
    assert fit_problems(load_params().submission, Path("raw"), list(MAPS), classes) == []


def test_ids_that_would_not_tell_rows_apart_are_told(project):
    change(formats=["rle", "png"], rle={"rows": "image", "id": "{stem}", "columns": ["a", "b"], "classes": []})
    classes = Prepared(Path("data/prepared"), fold=0).classes
    said = fit_problems(load_params().submission, Path("raw"), ["a/x.png", "b/x.png", "../y.png", "a/x.jpg"], classes)
    assert said == [
        "'../y.png': would be written outside the folder of label maps, or has no valid name",
        "a/x.png and a/x.jpg would both be a/x.png; rename one, or leave png out of the formats",
        "params.yaml: submission.rle.id: found the id x for several rows; expected an id of its own for each",
    ]
