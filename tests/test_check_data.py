"""`segpipe check DIR`: what is told of a data set, in words and as JSON, and that nothing is written."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from coco_folder import GLASS, PAPER, Picture, box, data_params, pictures, split_params, write_folder
from label_map_folder import PNG_PARAMS, write_folders
from malformed.breaks import annotation, image, removed, several, written
from malformed.project import OUT, make_project
from typer.testing import CliRunner

from segpipe.cli import app
from segpipe.data.prepare.check import check_data
from segpipe.data.prepare.prepare import prepare
from segpipe.data.prepare.summary import PLACES_SHOWN, closing_lines, printable, to_text

ROOT = "data/raw/mine"
KNOWN = ("root", "errors", "left_out", "warnings", "census")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The sound project of the malformed inputs, as the current folder."""
    make_project(tmp_path, {})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["check", ROOT, *words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout


def as_json(*words: str) -> tuple[int, dict]:
    code, text = check("--json", *words)
    return code, json.loads(text)


def files_of(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def test_a_sound_folder_is_summed_up_and_nothing_is_written(project):
    before = files_of(project)
    code, text = check()
    assert code == 0 and files_of(project) == before
    head, *_ = lines = text.splitlines()
    assert head == f"{ROOT}: no errors, 11 warnings of 2 kinds"  # Paper in no image of val; ten small images
    assert [line.split() for line in lines if line.startswith(("train", "pool"))] == [
        ["train", "2", "0"],
        ["pool", "2", "not", "labelled"],
    ]
    # a.png has 2 x 2 pixels of Glass, one of them beneath Paper; c.png to f.png have 2 x 2 each; all six have 24
    assert next(line.split() for line in lines if line.startswith("Glass")) == [
        "Glass",
        "13.19",
        "%",
        "5",
        "4",
        "1",
        "4",
    ]
    assert "image sizes, height x width: 1 different; most frequent 4 x 6 (10)" in lines


def test_the_json_has_what_prepare_writes_beside_the_data(project):
    code, found = as_json()
    assert code == 0 and tuple(found) == KNOWN and found["errors"] == []
    from segpipe.params import load_params

    params = load_params()
    prepare(params.data, params.split, Path(OUT))
    written_there = json.loads((project / OUT / "data_check.json").read_text())
    assert {key: written_there[key] for key in ("census", "warnings")} == {
        key: found[key] for key in ("census", "warnings")
    }


def test_all_that_is_wrong_comes_at_once_beside_what_is_sound(project):
    several(
        annotation(0, category_id=99),
        image("test.json", height=5),
        written("b.png", b"no image"),
        removed("p.png"),
    )(project / ROOT)
    code, found = as_json()
    assert code == 1
    assert [line.split("/")[-1].split(";")[0] for line in found["errors"]] == [
        "test.json: image 10: x.png has height 4 and width 6",
        "train.json: annotation 100: category_id is 99, which 'categories' does not list",
        "pool.json: image 10: file_name 'p.png' does not exist",
        "train.json: image 11: b.png cannot be decoded: it is of another format or damaged "
        "(8 bytes, the first b'no image')",
    ]
    assert found["census"]["sets"]["val"]["images"] == 4, "what is sound is counted"
    code, text = check()
    assert code == 1 and "4 errors" in text.splitlines()[0]
    assert all(f"  {line}" in text.splitlines() for line in found["errors"])


def test_errors_are_those_of_prepare(project):
    from segpipe.params import load_params

    several(annotation(0, category_id=99), written("x.png", b""), removed("c.png"))(project / ROOT)
    params = load_params()
    with pytest.raises(ValueError) as refused:
        prepare(params.data, params.split, Path(OUT))
    assert as_json()[1]["errors"] == [line.strip() for line in str(refused.value).splitlines()[1:-1]]


def test_where_the_classes_are_not_known_there_is_no_census(project):
    written("train.json", b"no JSON")(project / ROOT)
    code, found = as_json()
    assert code == 1 and found["census"] is None
    assert [line for line in found["errors"] if "train.json: the file is not JSON" in line]
    assert check()[0] == 1


def test_lists_that_are_not_there_are_named_with_what_is_and_how_to_say_it(project):
    removed("train.json", "test.json")(project / ROOT)
    code, text = check()
    assert code == 1
    assert f"data.train: 'train.json' does not exist in {ROOT}; expected a COCO file" in text
    assert "which holds pool.json, val.json." in text
    assert f"segpipe check {ROOT} --train FILE [--val FILE]" in text


def test_lists_can_be_named(project):
    (project / ROOT / "train.json").rename(project / ROOT / "mine.json")
    code, found = as_json("--train", "mine.json", "--val", "val.json")
    assert code == 0
    assert {name: part["images"] for name, part in found["census"]["sets"].items()} == {
        "train": 2,
        "val": 4,
        "judge": 0,
        "test": 0,
        "unlabeled": 0,
    }


def test_one_labelled_list_alone_is_checked_with_images_held_out_of_it(project):
    code, found = as_json("--train", "val.json")
    assert code == 0 and found["census"]["sets"]["train"]["images"] == 4


def test_a_folder_that_is_not_there_and_options_without_a_folder_are_mistakes(project):
    for words in (["check", "data/raw/other"], ["check", "--json"], ["check", "--train", "train.json"]):
        with pytest.raises(ValueError, match=r"data/raw/other|name its folder"):
            CliRunner().invoke(app, words, catch_exceptions=False)


def test_it_starts_without_the_slow_libraries(project):
    code = "import sys; from segpipe.data.prepare import check, summary; print({'torch', 'pandas'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_what_is_found_does_not_depend_on_the_number_of_processes(tmp_path):
    root = tmp_path / "raw"
    several_kinds(root)
    for on_problem in ("stop", "skip"):
        data = data_params(root, on_problem=on_problem, unlabeled=("pool.json",))
        one, two = (check_data(data, split_params(), processes=number).to_json() for number in (1, 2))
        assert one == two and one["census"]["sets"]["val"]["images"] == 4


def test_label_maps_are_checked_and_counted_though_they_name_no_objects(tmp_path):
    root = tmp_path / "raw"
    write_folders(root, train=[Picture("a.png", annotations=[box(GLASS, 0, 0, 2, 3)]), *pictures("b", "bad")])
    (root / "train/masks/bad.png").write_bytes(b"no image")
    checked = check_data(data_params(root, **PNG_PARAMS), split_params())
    assert [("bad.png" in str(error), "is no PNG" in str(error)) for error in checked.errors] == [(True, True)]
    train = checked.to_json()["census"]["sets"]["train"]
    assert (train["images"], train["without_annotation"]) == (2, 1)
    assert train["classes"]["Glass"] == {"pixels": 6, "objects": 0, "images": 1}


# Skip


def test_skip_lists_what_it_leaves_out_and_counts_the_rest(tmp_path):
    root = tmp_path / "raw"
    several_kinds(root)
    checked = check_data(data_params(root, on_problem="skip", unlabeled=("pool.json",)), split_params())
    assert checked.errors == []
    assert [str(problem).split(": ", 1)[1].split(";")[0] for problem in checked.left_out] == [
        "image 13: file_name 'gone.png' does not exist",
        "annotation 100: polygon 0 has no area: all points lie on one line",
        "annotation 101: category_id is 99, which 'categories' does not list",
        "image 10: a.png has a faulty annotation",
        "image 11: b.png has a faulty annotation",
        "image 14: cut.png cannot be decoded: it begins as a PNG but is cut off or damaged (20 bytes, the first "
        "b'\\x89PNG\\r\\n\\x1a\\n')",
        "image 10: p.png has height 5 and width 5",
    ]
    sets = checked.census.to_json()["sets"]
    assert (sets["train"]["images"], sets["val"]["images"], sets["unlabeled"]["images"]) == (1, 4, 1)
    assert "left out (data.on_problem: skip):" in to_text(checked)


def test_skip_trains_on_the_rest(tmp_path):
    root = tmp_path / "raw"
    several_kinds(root)
    out = tmp_path / "prepared"
    data = data_params(root, on_problem="skip", unlabeled=("pool.json",))
    prepare(data, split_params(), out)
    check = json.loads((out / "data_check.json").read_text())
    assert check["left_out"] == [str(problem) for problem in check_data(data, split_params()).left_out]
    assert check["images"] == {"labeled": 5, "judge": 0, "test": 2, "unlabeled": 1}
    table = json.loads((out / "table.json").read_text())
    assert table["images"][0]["file_name"] == "sound.png"


def test_skip_that_leaves_too_little_is_an_error(tmp_path):
    root = tmp_path / "raw"
    write_folder(root)
    for name in "ab":
        (root / f"{name}.png").write_bytes(b"no image")
    checked = check_data(data_params(root, on_problem="skip"), split_params())
    assert [str(error) for error in checked.errors] == [
        "params.yaml: data.train: no sound image is left; expected at least one in each labelled list."
    ]


def several_kinds(root: Path) -> None:
    """A faulty and an unknown annotation, a missing, a cut off and a resized image; one training image is sound."""
    line = box(GLASS, 0, 0, 2, 2) | {"segmentation": [[0, 0, 1, 1, 2, 2]]}
    write_folder(
        root,
        train=[
            Picture("a.png", annotations=[line]),
            Picture("b.png", annotations=[box(99, 0, 0, 2, 2)]),
            Picture("sound.png", annotations=[box(PAPER, 0, 0, 2, 2)]),
            Picture("gone.png", annotations=[box(PAPER, 0, 0, 2, 2)]),
            Picture("cut.png", annotations=[box(PAPER, 0, 0, 2, 2)]),
        ],
        pool=pictures("p", "q"),
    )
    (root / "gone.png").unlink()
    (root / "cut.png").write_bytes((root / "cut.png").read_bytes()[:20])
    Picture("p.png", 5, 5).write(root)


# The text


def test_ten_thousand_warnings_are_three_examples_and_a_count(tmp_path):
    root = tmp_path / "raw"
    outside = [box(GLASS, -3, 0, 2, 2) for _ in range(10_000)]
    write_folder(root, train=[Picture("a.png", annotations=outside)])
    checked = check_data(data_params(root), split_params())
    text = to_text(checked)
    kind = text[text.index("  annotations that reach more") :].splitlines()
    assert kind[0].endswith("cut off: 10,000") and kind[PLACES_SHOWN + 1] == "    and 9,997 more"
    assert len(text.splitlines()) < 40
    assert len(json.dumps(checked.to_json())) < 30_000


def test_prepare_ends_with_the_class_table_and_a_line_a_kind(tmp_path, capsys):
    root = tmp_path / "raw"
    write_folder(root, train=[Picture("a.png", annotations=[box(GLASS, -3, 0, 2, 2)])])
    prepare(data_params(root), split_params(), tmp_path / "prepared")
    said = capsys.readouterr().out.splitlines()
    assert re.split(r" {2,}", said[0]) == [
        "class",
        "pixels",
        "objects",
        "median size",
        "images in train",
        "images in val",
    ]
    assert [line for line in said if line.startswith("warning: annotations that reach")]
    found = json.loads((tmp_path / "prepared/data_check.json").read_text())
    assert said == closing_lines(found)


def test_names_cannot_command_the_terminal():
    assert printable("a\x1b[31m\x9bb\nПример 名") == "a?[31m?b\nПример 名"
