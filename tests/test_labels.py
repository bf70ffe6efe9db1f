import json

import pytest

from segpipe.data.source.records import Category
from segpipe.labels import IGNORE_INDEX, MAX_CLASSES, ClassTable, build_class_table, distinct_colors

GLASS, PAPER, METAL = Category(7, "Glass"), Category(2, "Paper"), Category(30, "Metal")
ALL = [GLASS, METAL, PAPER]


def refusal(*category_lists, **chosen) -> str:
    """What a choice of classes is told."""
    with pytest.raises(ValueError) as error:
        build_class_table(*category_lists, **{"background": "class"} | chosen)
    return str(error.value)


def test_classes_stand_in_ascending_category_id_after_the_background():
    table = build_class_table(ALL, background="class")
    assert table.names == ("Background", "Paper", "Glass", "Metal")
    assert table.categories == ((), ("Paper",), ("Glass",), ("Metal",))
    assert table.class_index(ALL) == {2: 1, 7: 2, 30: 3}
    assert table.num_classes == 4


def test_without_a_background_class_the_categories_start_at_index_0():
    table = build_class_table(ALL, background="ignore")
    assert table.names == ("Paper", "Glass", "Metal")
    assert table.class_index(ALL) == {2: 0, 7: 1, 30: 2}


@pytest.mark.parametrize("background, first", [("class", 1), ("ignore", 0)])
def test_a_stated_order_overrides_the_category_ids(background, first):
    table = build_class_table(ALL, background=background, classes=["Metal", "Paper", "Glass"])
    assert table.names[first:] == ("Metal", "Paper", "Glass")
    assert table.class_index(ALL) == {30: first, 2: first + 1, 7: first + 2}


def test_with_ignored_background_a_category_may_be_named_background():
    categories = [Category(0, "Background"), PAPER]
    assert build_class_table(categories, background="ignore").class_index(categories) == {0: 0, 2: 1}


# Rename, merge, leave out


def test_an_entry_with_one_category_renames_and_one_with_several_merges():
    table = build_class_table(ALL, background="class", classes=[{"Bottles": ["Glass"]}, {"Rest": ["Metal", "Paper"]}])
    assert table.names == ("Background", "Bottles", "Rest")
    assert table.categories == ((), ("Glass",), ("Metal", "Paper"))
    assert table.class_index(ALL) == {7: 1, 30: 2, 2: 2}


def test_a_class_may_have_the_name_of_one_of_its_categories():
    table = build_class_table(ALL, background="ignore", classes=[{"Paper": ["Paper", "Metal"]}, "Glass"])
    assert table.class_index(ALL) == {2: 0, 30: 0, 7: 1}


@pytest.mark.parametrize("classes", [None, ["Metal"]])
def test_dropped_categories_have_no_class_and_ignored_ones_the_ignore_index(classes):
    table = build_class_table(ALL, background="class", classes=classes, drop=["Paper"], ignore=["Glass"])
    assert table.names == ("Background", "Metal")
    assert table.class_index(ALL) == {2: None, 7: IGNORE_INDEX, 30: 1}


def test_a_category_named_background_can_be_renamed_or_dropped():
    categories = [Category(0, "Background"), PAPER]
    renamed = build_class_table(categories, background="class", classes=[{"Scenery": ["Background"]}, "Paper"])
    assert renamed.names == ("Background", "Scenery", "Paper") and renamed.class_index(categories) == {0: 1, 2: 2}
    dropped = build_class_table(categories, background="class", drop=["Background"])
    assert dropped.names == ("Background", "Paper") and dropped.class_index(categories) == {0: None, 2: 1}


# Several files


def test_names_decide_where_files_give_them_other_ids():
    other = [Category(1, "Paper"), Category(2, "Metal"), Category(3, "Wood")]
    table = build_class_table(ALL, other, background="class")
    assert table.names == ("Background", "Paper", "Glass", "Metal", "Wood"), "what only a later file lists comes last"
    assert table.class_index(ALL) == {2: 1, 7: 2, 30: 3}
    assert table.class_index(other) == {1: 1, 2: 3, 3: 4}


def test_the_classes_that_a_file_cannot_show_are_those_of_which_it_has_no_category():
    table = build_class_table(ALL, background="class", classes=[{"Rest": ["Metal", "Paper"]}, "Glass"])
    assert table.lacking([METAL]) == [2] and table.lacking([GLASS]) == [1] and table.lacking([GLASS, PAPER]) == []


def test_of_a_part_of_the_files_other_categories_may_be_named():
    classes = ["Glass", {"Rest": ["Wood"]}]
    table = build_class_table([GLASS], background="class", classes=classes, drop=["Tin"], part=True)
    assert table.names == ("Background", "Glass", "Rest")
    assert "leaves out ['Glass']" in refusal([GLASS], classes=["Wood"], part=True)


def test_a_file_with_a_category_that_the_table_does_not_know_is_refused():
    with pytest.raises(ValueError, match=r"knows no category \['Metal'\]"):
        build_class_table([GLASS], background="class").class_index([METAL])


# What is refused


def test_all_faults_of_a_choice_are_reported_at_once_with_the_nearest_name():
    said = refusal(ALL, classes=["Papr", "Glass", {"Bottle": ["Glass", "Stone"]}], drop=["Mtal"], ignore=["Glass"])
    assert said == (
        "data.classes leaves out ['Paper', 'Metal']; names 'Papr', which is no category (did you mean 'Paper'?); "
        "names 'Stone', which is no category; names ['Glass'] more than once. "
        "data.drop names 'Mtal', which is no category (did you mean 'Metal'?). "
        "data.ignore names 'Glass', as does data.classes. "
        "Expected each category of the annotation files exactly once in data.classes, data.drop or data.ignore: "
        "['Paper', 'Glass', 'Metal']; or data.classes empty, for the rest in ascending category id."
    )


@pytest.mark.parametrize(
    "categories, chosen, fragment",
    [
        ([], {"background": "ignore"}, "has no classes"),
        ([GLASS, Category(8, "Glass")], {}, "'categories' names ['Glass'] more than once"),
        ([GLASS, Category(8, "Glass")], {"classes": ["Glass"]}, "'categories' names ['Glass'] more than once"),
        ([GLASS, Category(7, "Paper")], {}, "uses the ids [7] more than once"),
        ([Category(1, "Background")], {}, "set data.background: ignore"),
        ([GLASS], {"classes": ["Background", "Glass"]}, "adds it by itself"),
        ([GLASS], {"classes": [{"Background": ["Glass"]}]}, "data.classes calls a class 'Background', and data.back"),
        ([GLASS], {"classes": []}, "leaves out ['Glass']"),
        ([GLASS, PAPER], {"classes": ["Glass", {"Glass": ["Paper"]}]}, "calls more than one class ['Glass']"),
        ([GLASS, PAPER], {"classes": [{"A": ["Glass", "Glass"]}, "Paper"]}, "data.classes names ['Glass'] more than"),
        ([GLASS, PAPER], {"drop": ["Glass"], "ignore": ["Glass"]}, "data.ignore names 'Glass', as does data.drop"),
        ([GLASS, PAPER], {"drop": ["Paper", "Paper"]}, "data.drop names ['Paper'] more than once"),
        ([GLASS, PAPER], {"drop": ["Glass"], "ignore": ["Paper"]}, "no class is left"),
        ([GLASS], {"background": "void"}, "data.background is 'void'"),
        ([Category(i, f"c{i}") for i in range(MAX_CLASSES)], {}, "has 255 classes"),
    ],
)
def test_impossible_class_tables_are_refused(categories, chosen, fragment):
    assert fragment in refusal(categories, **chosen)


def test_the_most_classes_fit_below_the_ignore_label():
    categories = [Category(i, f"c{i}") for i in range(MAX_CLASSES)]
    table = build_class_table(categories, background="ignore")
    assert table.num_classes == MAX_CLASSES == 254
    assert max(table.class_index(categories).values()) < IGNORE_INDEX


# As JSON


def test_a_table_survives_json():
    table = build_class_table(ALL, background="class", classes=[{"Rest": ["Paper"]}], drop=["Glass"], ignore=["Metal"])
    assert ClassTable.from_json(json.loads(json.dumps(table.to_json()))) == table


ONE = {"names": ["a"], "categories": [["a"]], "colors": [[0, 0, 0]], "ignored": [], "dropped": []}


@pytest.mark.parametrize(
    "written, fragment",
    [
        ({"names": ["a"], "categories": [["a"]]}, "expected the keys ['categories', 'colors', 'dropped', 'ignored', "),
        (ONE | {"names": "a"}, "'names' of a class table in JSON is 'a'"),
        (ONE | {"colors": []}, "0 colors"),
        (ONE | {"names": ["a", "a"], "categories": [["a"], ["b"]], "colors": [[0] * 3, [1] * 3]}, "['a'] more than"),
        (ONE | {"dropped": ["a"]}, "uses the categories ['a'] more than once"),
        (["a"], "has list"),
    ],
)
def test_a_damaged_table_in_json_is_refused(written, fragment):
    with pytest.raises(ValueError) as error:
        ClassTable.from_json(written)
    assert fragment in str(error.value)


@pytest.mark.parametrize("background", [True, False])
def test_colors_are_distinct_and_do_not_change_with_the_number_of_classes(background):
    colors = distinct_colors(MAX_CLASSES, background=background)
    assert len(set(colors)) == MAX_CLASSES
    assert all(0 <= part <= 255 for color in colors for part in color)
    assert distinct_colors(5, background=background) == colors[:5]
    assert (colors[0] == (0, 0, 0)) == background
