"""A folder of label maps scored against a labelled list, whatever made them. Needs no torch."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from segpipe.data.resize import resize_labels
from segpipe.data.source.class_values import CLASSES_FILE
from segpipe.data.source.images import ImageFault
from segpipe.data.source.lists import Source, list_sources, reader
from segpipe.data.source.records import CocoFile
from segpipe.data.source.target import target_of
from segpipe.data.split import group_names
from segpipe.labels import IGNORE_INDEX, ClassTable, build_class_table
from segpipe.metrics.confusion import confusion_matrix
from segpipe.params import Params
from segpipe.score.sheet import Judged, ScoreSheet, Size, fill_sheet
from segpipe.submission.png import png_path, read_png


def score_labels(params: Params, folder: Path, truth: Path, root: Path | None = None) -> ScoreSheet:
    """Score the PNG label maps in `folder`, named as `submission` names them, against `truth`, a list in `data.format`.

    `root` is the folder that the file's images lie in, data.root unless given. Classes, overlaps, groups and the scored
    size are those of `params`. Raises FileNotFoundError without the folder, ValueError with everything that is wrong
    with the file (one without any annotation is no truth), or else with every label map that is missing, of another
    size, or no map of these classes.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; expected one of PNG label maps, as `submission` writes it")
    root = Path(params.data.root) if root is None else root
    file = _read_truth(params, truth, root)
    if params.data.format == "coco" and not any(file.annotations_by_image.values()):
        expected = "a file that says where objects are: against an empty one a map of nothing but background is perfect"
        raise ValueError(f"{truth}: 'annotations': no image has an annotation; expected {expected}")
    classes = _class_table(params, file)
    groups = group_names([image.file_name for image in file.images], params.split.group_by)
    problems, matrices = list(_other_classes(folder, classes)), []
    for source in list_sources({"judge": [file]}):
        path = png_path(folder, source.record.file_name)
        try:
            target = _target(params, source, classes, root)
            preds = read_png(path, target.shape, classes.num_classes)
        except ImageFault as error:  # of the truth
            problems.append(str(error))
        except ValueError as error:
            problems.append(f"{path.relative_to(folder)}: {error}")
        else:
            matrices.append(confusion_matrix(preds, target, classes.num_classes))
    _refuse(f"{folder}: the label maps do not fit {truth}", problems)
    scored_size = params.submission.size
    size: Size = "scored" if scored_size else "native"
    note = "Nothing in the folder says what its model learned from: a score on images that it has seen flatters it."
    return fill_sheet(Judged(str(folder), {size: np.stack(matrices)}, groups, scored_size, classes.names), notes=[note])


def _class_table(params: Params, file: CocoFile) -> ClassTable:
    """The classes of section `data`; ValueError where the file has categories that it does not account for.

    The file may lack categories, as other files of the set have them, but where un-annotated pixels are background it
    must have one of each class, or objects would pass for background.
    """
    data = params.data
    classes = build_class_table(
        file.categories,
        background=data.background,
        classes=data.classes,
        drop=data.drop,
        ignore=data.ignore,
        part=True,
    )
    lacking = [classes.names[index] for index in classes.lacking(file.categories)]
    if lacking and data.background == "class":
        raise ValueError(
            f"{file.path}: 'categories': the list has none of the classes {lacking}; expected a category of each, also "
            "of those that no image shows, or objects pass for background"
        )
    return classes


def _read_truth(params: Params, truth: Path, root: Path) -> CocoFile:
    """The list at `truth`, as `data.format` reads it; ValueError with everything that is wrong with it."""
    read, found = reader(params.data, root)
    place = truth
    if params.data.format == "png" and truth.is_dir():  # its files have names relative to the root
        inside = Path(os.path.relpath(truth, root))
        if ".." in inside.parts:
            raise ValueError(
                f"{truth}: lies outside {root}, where its {CLASSES_FILE} is looked for; give --root FOLDER"
            )
        place = root / inside
    file, problems = read(place, root, labeled=True)
    _refuse(f"{truth}: cannot be scored against", [str(problem) for problem in [*found, *problems]])
    assert file is not None  # an unreadable one is a problem
    return file


def _target(params: Params, source: Source, classes: ClassTable, root: Path) -> np.ndarray:
    """(height, width) uint8 label map at the scored size."""
    fill = 0 if params.data.background == "class" else IGNORE_INDEX
    target = target_of(source, root, classes, overlap=params.data.overlap, fill=fill)
    return resize_labels(target, params.submission.size)


def _other_classes(folder: Path, classes: ClassTable) -> Iterator[str]:
    """What classes.json, which `submission` writes beside its label maps, says against these classes."""
    path = folder / "classes.json"
    if not path.is_file():
        return
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        yield f"classes.json: found no JSON ({error}); remove it, or write {{'names': [...]}}"
        return
    names = content.get("names") if isinstance(content, dict) else content
    if names != list(classes.names):
        yield f"classes.json: found the classes {names}, expected {list(classes.names)}, as the truth has them"


def _refuse(what: str, problems: list[str]) -> None:
    if problems:
        raise ValueError("\n  ".join([f"{what}:", *problems]))
