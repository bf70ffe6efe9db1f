"""Each malformed input gets one clear error before slow work begins; all of them at once, in one list.

The table stands in tests/malformed/: lists.py and entries.py.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from malformed.breaks import annotation, copied, edited, image, removed, several, written
from malformed.page import CASES, PAGE, page
from malformed.project import OUT, ROOT, make_project, refusal

REPOSITORY = Path(__file__).resolve().parent.parent


def test_a_sound_project_is_not_refused(tmp_path):
    assert refusal(tmp_path, None, {}) == ""


def test_the_table_has_at_least_60_different_mistakes():
    assert len({(case.says, str(case.params)) for case in CASES}) == len(CASES) >= 60


@pytest.mark.parametrize("case", CASES, ids=[f"{case.says[0].split(': ')[0]} {case.mistake}" for case in CASES])
def test_a_mistake_gets_one_clear_error_before_anything_is_written(case, tmp_path):
    message = refusal(tmp_path, case.break_it, case.params)
    assert [fragment for fragment in case.says if fragment not in message] == [], message
    assert "Traceback" not in message and "Error:" not in message
    assert str(tmp_path) not in message, "paths stand as the user wrote them"
    assert list((tmp_path / OUT).rglob("*")) == []


def test_ten_mistakes_in_one_folder_stand_in_one_message(tmp_path):
    eight = several(
        annotation(0, category_id=99),
        annotation(1, segmentation=[[0, 0, float("nan"), 0, 2, 2]]),
        image("pool.json", file_name="../p.png"),
        image("test.json", height=5),
        removed("val.json"),
        written("judge.json", b"no JSON"),
        written("b.png", b"no image"),
        copied("a.png", "y.png"),
    )
    two = {"data.judge": "judge.json", "data.classes": ["Glas", "Paper"], "split.group_by": r"([a-z])\d"}
    head, *lines, advice = refusal(tmp_path, eight, two).split("\n")
    assert (head, advice) == (f"{ROOT}: 10 problems", "Mend the above.")
    said = [
        "params.yaml: data.val: 'val.json' does not exist",
        f"{ROOT}/judge.json: the file is not JSON",
        "data.classes leaves out ['Glass']",
        "params.yaml: split.group_by: the pattern",
        f"{ROOT}/test.json: image 10: x.png has height 4 and width 6",
        f"{ROOT}/test.json: image 11: y.png is a byte-identical copy of a.png",
        f"{ROOT}/train.json: annotation 100: category_id is 99",
        f"{ROOT}/train.json: annotation 101: polygon 0 has a point whose x is nan",
        f"{ROOT}/pool.json: image 10: file_name '../p.png' leads upwards",
        f"{ROOT}/train.json: image 11: b.png cannot be decoded",
    ]
    assert [line for line, start in zip(lines, said, strict=True) if not line.startswith(f"  {start}")] == []


def test_of_many_alike_each_kind_is_shown_with_a_count_of_the_rest(tmp_path):
    def break_it(root):
        edited("train.json", lambda content: content["annotations"].extend(many))(root)
        written("a.png", b"")(root)

    many = [
        {"id": 1000 + i, "image_id": 11, "category_id": 99, "segmentation": [[0, 0, 2, 0, 2, 2]]} for i in range(200)
    ]
    head, *lines, _ = refusal(tmp_path, break_it, {}).split("\n")
    assert head == f"{ROOT}: 201 problems"
    assert len(lines) == 25 + 2
    assert lines[24:26] == [
        f"  {ROOT}/train.json: annotation 1024: category_id is 99, which 'categories' does not list; expected "
        "one of [2, 7].",
        "    and 175 more like that: annotation 1025, annotation 1026, annotation 1027, ...",
    ]
    assert "image 10: a.png is an empty file" in lines[26]


def test_skip_tells_of_what_it_would_leave_out_beside_what_it_cannot(tmp_path):
    broken = several(written("x.png", b""), written("p.png", b""))
    lines = refusal(tmp_path, broken, {"data.on_problem": "skip"}).split("\n")
    assert lines[0] == f"{ROOT}: 1 problem" and "test.json: image 10: x.png is an empty file" in lines[1]
    assert lines[2] == "data.on_problem: skip leaves out what has 1 problem besides:"
    assert "pool.json: image 10: p.png is an empty file" in lines[3]


def test_the_stage_ends_with_the_message_and_exit_code_1_instead_of_a_traceback(tmp_path):
    removed("train.json")(make_project(tmp_path, {}))
    command = [sys.executable, str(REPOSITORY / "stages/prepare.py"), "--out", OUT]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "src")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.startswith(f"prepare.py: {ROOT}: 1 problem\n")
    assert not (tmp_path / OUT).exists()


def test_the_page_of_bad_input_tells_what_the_table_gives():
    assert PAGE.read_text(encoding="utf-8") == page(), "PYTHONPATH=src:tests python -m malformed.page"
