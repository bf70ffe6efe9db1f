import json

import pytest

from segpipe.data.source.records import Category
from segpipe.labels import IGNORE_INDEX, MAX_CLASSES, ClassTable, build_class_table, distinct_colors

GLASS, PAPER, METAL = Category(7, "Glass"), Category(2, "Paper"), Category(30, "Metal")


def test_classes_stand_in_ascending_category_id_after_the_background():
    table = build_class_table([GLASS, METAL, PAPER], background="class")
    assert table.names == ("Background", "Paper", "Glass", "Metal")
    assert table.category_ids == (None, 2, 7, 30)
    assert table.class_index == {2: 1, 7: 2, 30: 3}
    assert table.num_classes == 4


def test_without_a_background_class_the_categories_start_at_index_0():
    table = build_class_table([GLASS, METAL, PAPER], background="ignore")
    assert table.names == ("Paper", "Glass", "Metal")
    assert table.class_index == {2: 0, 7: 1, 30: 2}


@pytest.mark.parametrize("background, first", [("class", 1), ("ignore", 0)])
def test_a_stated_order_overrides_the_category_ids(background, first):
    table = build_class_table([GLASS, METAL, PAPER], background=background, order=["Metal", "Paper", "Glass"])
    assert table.names[first:] == ("Metal", "Paper", "Glass")
    assert table.class_index == {30: first, 2: first + 1, 7: first + 2}


def test_with_ignored_background_a_category_may_be_named_background():
    table = build_class_table([Category(0, "Background"), PAPER], background="ignore")
    assert table.class_index == {0: 0, 2: 1}


def test_all_faults_of_an_order_are_reported_at_once_with_the_nearest_name():
    with pytest.raises(ValueError) as error:
        build_class_table([GLASS, METAL, PAPER], background="class", order=["Papr", "Glass", "Glass", "Stone"])
    message = str(error.value)
    assert "leaves out ['Paper', 'Metal']" in message
    assert "names 'Papr', which is no category (did you mean 'Paper'?)" in message
    assert "names 'Stone', which is no category" in message
    assert "names ['Glass'] more than once" in message


@pytest.mark.parametrize(
    "categories, background, order, fragment",
    [
        ([], "ignore", None, "has no classes"),
        ([GLASS, Category(8, "Glass")], "class", None, "'categories' names ['Glass'] more than once"),
        ([GLASS, Category(8, "Glass")], "class", ["Glass"], "'categories' names ['Glass'] more than once"),
        ([GLASS, Category(7, "Paper")], "class", None, "uses category ids [7] more than once"),
        ([Category(1, "Background")], "class", None, "set data.background: ignore"),
        ([GLASS], "class", ["Background", "Glass"], "adds it by itself"),
        ([GLASS], "class", [], "leaves out ['Glass']"),
        ([GLASS], "void", None, "data.background is 'void'"),
        ([Category(i, f"c{i}") for i in range(MAX_CLASSES)], "class", None, "has 255 classes"),
    ],
)
def test_impossible_class_tables_are_refused(categories, background, order, fragment):
    with pytest.raises(ValueError) as error:
        build_class_table(categories, background=background, order=order)
    assert fragment in str(error.value)


def test_the_most_classes_fit_below_the_ignore_label():
    table = build_class_table([Category(i, f"c{i}") for i in range(MAX_CLASSES)], background="ignore")
    assert table.num_classes == MAX_CLASSES == 254
    assert max(table.class_index.values()) < IGNORE_INDEX


def test_a_table_survives_json():
    table = build_class_table([GLASS, METAL, PAPER], background="class")
    assert ClassTable.from_json(json.loads(json.dumps(table.to_json()))) == table


@pytest.mark.parametrize(
    "written, fragment",
    [
        ({"names": ["a"], "category_ids": [1]}, "expected the keys ['category_ids', 'colors', 'names']"),
        ({"names": "a", "category_ids": [1], "colors": [[0, 0, 0]]}, "'names' of a class table in JSON is 'a'"),
        ({"names": ["a"], "category_ids": [1], "colors": []}, "0 colors"),
        ({"names": ["a", "a"], "category_ids": [1, 2], "colors": [[0, 0, 0], [1, 1, 1]]}, "['a'] more than once"),
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
