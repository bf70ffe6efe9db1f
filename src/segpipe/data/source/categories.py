"""Which categories the annotation files list, held against one another and against `data.classes`.

Names decide: ids are those of one file, and another file may give a name another id.
"""

from collections.abc import Iterator, Sequence

from segpipe.data.source.problems import Problem, short
from segpipe.data.source.records import CocoFile
from segpipe.labels import ClassTable, build_class_table
from segpipe.params import DataParams


def class_table(train: Sequence[CocoFile], held_out: Sequence[CocoFile], data: DataParams) -> ClassTable:
    """The class table of a data set: of the training files, and with `data.classes` of all labelled files.

    Without it held-out files bring no class, since nothing would be trained on it. Raises ValueError as
    `build_class_table` does; where a file that `data` names could not be read, it may have any category.
    """
    without_class = {*data.drop, *data.ignore}
    brought = [
        [category for category in file.categories if data.classes is not None or category.name in without_class]
        for file in held_out
    ]
    return build_class_table(
        *(file.categories for file in train),
        *brought,
        background=data.background,
        classes=data.classes,
        drop=data.drop,
        ignore=data.ignore,
        part=len(train) + len(held_out) < len(data.train) + len(data.val or ()) + len(data.judge or ()),
    )


def category_problems(
    train: Sequence[CocoFile], held_out: Sequence[CocoFile], data: DataParams
) -> Iterator[Problem | str]:
    """Categories that belong nowhere, and classes that a file could not show.

    Where un-annotated pixels are background, each labelled file must list a category of every class: objects of the
    others would pass for background. Else it is enough that some training file does.
    """
    try:
        table = class_table(train, held_out, data)
    except ValueError as error:
        files = train if data.classes is None else [*train, *held_out]
        yield f"{error} The categories are those of {', '.join(str(file.path) for file in files)}."
        table = None
    whole = len(train) == len(data.train)
    known = {category.name for file in train for category in file.categories} | {*data.drop, *data.ignore}
    for file in (*train, *held_out):
        lacks, adds = [], []
        if table and data.background == "class":
            lacks = [_described(table, index) for index in table.lacking(file.categories)]
        if whole and data.classes is None:
            adds = [category for category in file.categories if category.name not in known]
        if lacks or adds:
            yield _problem(file, lacks, [f"{category.id} {short(category.name)}" for category in adds], train)
    if table and whole and data.background == "ignore":
        trained = [category for file in train for category in file.categories]
        if untrained := [_described(table, index) for index in table.lacking(trained)]:
            found = f"no file of data.train has a category of {', '.join(untrained)}"
            yield Problem("params.yaml", "data.classes", found, "one of each class, or nothing is trained on it")


def _problem(file: CocoFile, lacks: list[str], adds: list[str], train: Sequence[CocoFile]) -> Problem:
    expected = []
    if lacks:
        expected.append("a category of each class, also of those that no image shows, or objects pass for background")
    if adds:
        names = ", ".join(str(trained.path) for trained in train)
        expected.append(f"the names of {names}, or each name in data.classes, data.drop or data.ignore")
    differences = ", ".join([*(f"lacks {name}" for name in lacks), *(f"adds {name}" for name in adds)])
    return Problem(str(file.path), "'categories'", f"the list {differences}", "; ".join(expected))


def _described(table: ClassTable, index: int) -> str:
    """The name of a class, with its categories where they are called otherwise."""
    name, categories = table.names[index], table.categories[index]
    return short(name) if categories == (name,) else f"{short(name)} ({', '.join(categories)})"
