"""folds.csv: every file name survives it, people's spreadsheets are understood, and what is wrong with it is told."""

import cv2
import numpy as np
import pytest
from coco_folder import GLASS, box, pictures, prepare_folder, split_params, write_folder
from hypothesis import given, settings
from hypothesis import strategies as st

from segpipe.data.fold_table import FoldRow, folds_of, read_fold_rows, read_folds, write_fold_rows
from segpipe.data.prepared import Prepared
from segpipe.data.split import Fold

TRAIN = [f"t{number}.png" for number in range(8)]
OF_A_FILE = {"val": None}


@pytest.fixture
def root(tmp_path):
    return tmp_path / "raw"


@pytest.fixture(scope="module")
def table_file(tmp_path_factory):
    return tmp_path_factory.mktemp("table") / "folds.csv"


# The table

NAMES = st.text(st.characters(codec=None, exclude_characters="\0"), min_size=1)  # surrogates and line ends among them
PLACES = st.sampled_from([(None, None), (None, "judge"), (0, None), (0, "tune"), (12, "judge"), (999, "tune")])


@settings(deadline=None)
@given(st.lists(st.tuples(NAMES, NAMES, PLACES)))
def test_rows_of_any_names_are_the_same_once_written_and_read(table_file, rows):
    rows = [FoldRow(name, group, *place) for name, group, place in rows]
    write_fold_rows(table_file, rows)
    read, faults = read_fold_rows(table_file)
    assert ([row for _, row in read], faults) == (rows, [])


def test_the_table_is_what_a_person_would_write(table_file):
    rows = [
        FoldRow("a.png", "a.png", 1, "tune"),
        FoldRow("b, c.png", "s", None, None),
        FoldRow("j", "j", None, "judge"),
    ]
    write_fold_rows(table_file, rows)
    assert table_file.read_text() == 'file_name,group,fold,half\na.png,a.png,1,tune\n"b, c.png",s,,\nj,j,,judge\n'


@pytest.mark.parametrize(
    "text",
    [
        "file_name,fold\na.png,0\nb.png,\n",
        "fold,file_name,half\n0,a.png,\n,b.png,\n",
        "file_name;fold\r\na.png;0\r\nb.png;\r\n",
        "\ufefffile_name\tfold\na.png\t0\nb.png\t",
        "file_name , fold\n\na.png, 0 \n\nb.png,  \n",
    ],
)
def test_what_spreadsheets_write_is_understood(table_file, text):
    table_file.write_text(text, encoding="utf-8", newline="")
    rows, faults = read_fold_rows(table_file)
    assert [row for _, row in rows] == [FoldRow("a.png", "a.png", 0, None), FoldRow("b.png", "b.png", None, None)]
    assert faults == []


def test_folds_by_hand():
    rows = [
        FoldRow("a", "", 0, "tune"),
        FoldRow("b", "", 1, "tune"),
        FoldRow("c", "", 0, "judge"),
        FoldRow("d", "", None, None),
        FoldRow("e", "", None, "judge"),
        FoldRow("f", "", 1, "judge"),
    ]
    expected = [Fold((1, 3, 5), (0,), (2, 4)), Fold((0, 2, 3), (1,), (5, 4))]
    assert folds_of(rows, {name: i for i, name in enumerate("abcdef")}) == expected
    # the order of rows means nothing, so that a table may be sorted
    assert folds_of(rows[::-1], {name: i for i, name in enumerate("abcdef")}) == expected


def test_a_table_that_was_changed_after_prepare_is_noticed(root):
    write_folder(root)
    table = prepare_folder(root) / "folds.csv"
    table.write_text(table.read_text().replace("a.png", "z.png", 1), encoding="utf-8")
    with pytest.raises(ValueError, match=r"folds\.csv: line 2: no image 'z\.png'; the file was changed"):
        read_folds(table, {})


# What prepare writes


def test_prepare_says_of_each_labelled_image_what_folds_do_with_it(root):
    write_folder(root, judge=pictures("j"))
    rows = (prepare_folder(root, judge="judge.json") / "folds.csv").read_text().splitlines()
    assert rows == [
        "file_name,group,fold,half",
        "a.png,a.png,,",
        "b.png,b.png,,",
        *(f"{stem}.png,{stem}.png,0,tune" for stem in "cdef"),
        "j.png,j.png,,judge",
    ]


def test_folds_are_drawn_by_the_pixels_of_the_targets(root):
    # of eight images t0 to t3 have glass: each fold holds out two of them, one of which judges
    glass = {"annotations": [box(GLASS, 0, 0, 3, 3)]}
    write_folder(root, train=pictures("t0", "t1", "t2", "t3", **glass) + pictures("t4", "t5", "t6", "t7"))
    for seed in range(4):
        prepared = Prepared(prepare_folder(root, split=split_params(folds=2, seed=seed), val=None), judge=True)
        for fold in (prepared.folds[0], prepared.folds[1]):
            assert [sum(i < 4 for i in half) for half in (fold.tune, fold.judge)] == [1, 1]
            assert (len(fold.tune), len(fold.judge)) == (2, 2)


def smoothed() -> np.ndarray:
    """A picture that survives being rescaled: a few cells of noise, enlarged."""
    noise = np.random.default_rng(0).integers(0, 256, (6, 6, 3), np.uint8)
    return cv2.resize(noise, (64, 64), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize("joined", [True, False])
def test_near_copies_stay_together_unless_told_otherwise(root, joined):
    train = pictures(*(f"t{number}" for number in range(6)), height=64, width=64) + pictures(
        "half", height=32, width=32
    )
    write_folder(root, train=train)
    picture = smoothed()
    cv2.imwrite(str(root / "t0.png"), picture)
    cv2.imwrite(str(root / "half.png"), cv2.resize(picture, (32, 32), interpolation=cv2.INTER_AREA))
    together = set()
    for seed in range(6):
        split = split_params(folds=2, near_duplicates=joined, seed=seed)
        rows, _ = read_fold_rows(prepare_folder(root, split=split, val=None) / "folds.csv")
        first, copy = rows[0][1], rows[6][1]
        assert (first.group == copy.group == "half.png") == joined
        together.add((first.fold, first.half) == (copy.fold, copy.half))
    assert together == {True} if joined else False in together


def test_folds_that_near_copies_make_impossible_say_so(root):
    train = pictures("g", "h", "i", height=64, width=64)
    write_folder(root, train=train)
    for stem, quality in (("g", 90), ("h", 60), ("i", 75)):
        (root / f"{stem}.png").write_bytes(cv2.imencode(".jpg", smoothed(), [cv2.IMWRITE_JPEG_QUALITY, quality])[1])
    said = (
        r"found 1 groups of images for 2 folds; .* Lower it\. 3 pairs of near copies are kept together by split\.near"
    )
    with pytest.raises(ValueError, match=said):
        prepare_folder(root, split=split_params(folds=2), val=None, judge="val.json")


# Folds from a file


def write_given(root, rows, columns=("file_name", "fold", "half")):
    lines = [",".join(columns), *(",".join(map(str, row)) for row in rows)]
    (root / "folds.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_set(root, **lists):
    write_folder(root, train=pictures(*(name.removesuffix(".png") for name in TRAIN)), **lists)


def prepare_given(root, *, split=None, **changes):
    return prepare_folder(root, split=split_params(file="folds.csv", **(split or {})), **OF_A_FILE | changes)


def test_folds_of_one_run_given_to_another_are_the_same_table(root):
    write_set(root)
    drawn = (prepare_folder(root, split=split_params(folds=2, seed=3), val=None) / "folds.csv").read_bytes()
    (root / "folds.csv").write_bytes(drawn)
    assert (prepare_given(root, split={"seed": 8}) / "folds.csv").read_bytes() == drawn


def test_folds_of_a_run_with_a_judge_list_fit_another_with_the_same_list(root):
    write_set(root, judge=pictures("j", "k"))
    out = prepare_folder(root, split=split_params(folds=2), val=None, judge="judge.json")
    drawn = (out / "folds.csv").read_bytes()
    (root / "folds.csv").write_bytes(drawn)
    assert (prepare_given(root, judge="judge.json") / "folds.csv").read_bytes() == drawn


def test_given_folds_may_leave_images_to_all_of_them(root):
    write_set(root)
    write_given(root, [(name, "" if i < 4 else 0) for i, name in enumerate(TRAIN)], ("file_name", "fold"))
    prepared = Prepared(prepare_given(root), judge=True)
    assert prepared.folds[0].train == (0, 1, 2, 3)
    assert len(prepared.folds[0].tune) == len(prepared.folds[0].judge) == 2


def test_names_in_the_file_may_be_written_otherwise(root):
    write_set(root)
    write_given(root, [(f"./{name}", i % 2, "") for i, name in enumerate(TRAIN)])
    rows, _ = read_fold_rows(prepare_given(root) / "folds.csv")
    assert [(row.file_name, row.fold) for _, row in rows] == [(name, i % 2) for i, name in enumerate(TRAIN)]


def test_an_image_that_is_left_out_may_stand_in_the_file(root):
    write_set(root)
    write_given(root, [(name, i % 2, "") for i, name in enumerate(TRAIN)])
    (root / "t7.png").write_bytes(b"no image")
    prepared = Prepared(prepare_given(root, on_problem="skip"), judge=True)
    assert len(prepared.folds[0].train) == 3 and len(prepared.folds[1].train) == 4


HALVED = [(name, i % 2, ("tune", "judge")[i // 4]) for i, name in enumerate(TRAIN)]
DRAWN = [(name, i % 2, "") for i, name in enumerate(TRAIN)]


def rows_with(rows, **changes):
    """The rows, with others in the place of those that `t<number>` names."""
    return [changes.get(row[0].removesuffix(".png"), row) for row in rows]


@pytest.mark.parametrize(
    "rows, said",
    [
        (
            rows_with(DRAWN, t3=("z.png", 1, "")),
            ("line 5: found 'z.png'", "1 of 8 images of data.train are not in it ('t3"),
        ),
        (
            rows_with(DRAWN, t3=("t2.png", 1, "")),
            ("line 5: found 't2.png' again; expected each image once; it stands in l",),
        ),
        (DRAWN[:2], ("6 of 8 images of data.train are not in it ('t2.png', 't3.png', 't4.png', ...)",)),
        (
            rows_with(DRAWN, t3=("t3.png", "one", "")),
            ("line 5: the fold of 't3.png' is 'one'; expected a whole number",),
        ),
        (rows_with(DRAWN, t3=("t3.png", -1, "")), ("the fold of 't3.png' is '-1'",)),
        (rows_with(DRAWN, t3=("t3.png", 10**12, "")), ("the fold of 't3.png' is '1000000000000'",)),
        (rows_with(DRAWN, t3=("t3.png", "\u0663", "")), ("the fold of 't3.png' is '\u0663'",)),
        (rows_with(DRAWN, t3=("t3.png", 1)), ("line 5: 2 cells; expected 3, as in the header",)),
        (
            rows_with(HALVED, t3=("t3.png", 1, "test")),
            ("line 5: the half of 't3.png' is 'test'; expected tune, judge",),
        ),
        (rows_with(HALVED, t3=("t3.png", 1, "")), ("fold 1: 1 of 4 images have no half; expected halves for all",)),
        (rows_with(HALVED, t3=("t3.png", "", "judge")), ("line 5: 't3.png' has the half judge and no fold",)),
        (
            [(*row[:2], "tune") for row in HALVED],
            ("fold 0: all of its images tune; expected some to judge, or a data",),
        ),
        ([(*row[:2], "judge") for row in HALVED], ("fold 1: all of its images judge; expected some to tune",)),
        ([(row[0], 2 * row[1], "") for row in HALVED], ("no image has fold 1, but some have 2",)),
        ([(row[0], "", "") for row in DRAWN], ("no image has a fold; expected a number for each image that a fold",)),
        (
            [(row[0], 0, "") for row in DRAWN],
            ("one fold holds every image out; expected images that it can learn from",),
        ),
        (
            rows_with(DRAWN, t2=("x", 0, ""), t3=("t3.png", "a", ""), t4=("t4.png", 0, "b")),
            ("3 problems", "'x'", "'a'", "'b'"),
        ),
    ],
)
def test_what_is_wrong_with_given_folds_is_told_at_once(root, rows, said):
    write_set(root)
    write_given(root, rows)
    with pytest.raises(ValueError) as caught:
        prepare_given(root)
    assert [part for part in said if part not in str(caught.value)] == [], str(caught.value)


@pytest.mark.parametrize(
    "content, said",
    [
        (b"", "the header '' lacks file_name, fold; expected the columns file_name, group, fold, half"),
        (b"name,fold\nt0.png,0\n", "line 1: the header 'name, fold' lacks file_name"),
        (b"file_name,fold,haf\n", "line 1: the header names 'haf'; expected"),
        (b"file_name,fold,fold\n", "line 1: the header names a column twice"),
        (b"file_name,fold\n\xff.png,0\n", "is not UTF-8"),
        (b'file_name,fold\n"t0.png,0\nt1.png,1\n', "is no CSV (unexpected end of data)"),
        (None, "split.file: 'folds.csv' does not exist in"),
    ],
)
def test_a_file_that_is_no_table_is_told(root, content, said):
    write_set(root)
    if content is not None:
        (root / "folds.csv").write_bytes(content)
    with pytest.raises(ValueError) as caught:
        prepare_given(root)
    assert said in str(caught.value) and "1 problem\n" in str(caught.value)


def test_a_file_outside_the_data_root_is_refused(root):
    write_set(root)
    (root.parent / "folds.csv").write_text("file_name,fold\n")
    (root / "folds.csv").symlink_to(root.parent / "folds.csv")
    with pytest.raises(ValueError, match=r"split\.file: 'folds\.csv' leads out of data\.root"):
        prepare_given(root)


def test_a_fold_that_the_file_does_not_have_cannot_be_trained(root):
    write_set(root)
    write_given(root, DRAWN)
    with pytest.raises(
        ValueError, match=r"there is no fold 2, 5, which split\.train_folds names; expected some of its 2"
    ):
        prepare_given(root, split={"train_folds": [0, 2, 5, "all"]})


def test_scenes_are_not_torn_by_given_folds(root):
    write_set(root)
    write_given(root, DRAWN)
    with pytest.raises(ValueError, match=r"split\.group_by: found 1 scene both in judge images and in training"):
        prepare_given(root, split={"group_by": r"/([tx-z])"})


def test_with_a_judge_list_no_given_half_can_judge(root):
    write_set(root, judge=pictures("j"))
    write_given(root, [*HALVED, ("j.png", "", "judge")])
    with pytest.raises(ValueError, match=r"fold 0: 2 of its images have the half judge; expected tune or nothing"):
        prepare_given(root, judge="judge.json")
    write_given(root, [*DRAWN, ("j.png", 1, "")])
    with pytest.raises(ValueError, match=r"line 10: 'j\.png' is an image of data\.judge, in fold 1; expected no fold"):
        prepare_given(root, judge="judge.json")
