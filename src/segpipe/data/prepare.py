"""From COCO files to the prepared data set: checked, rasterised once, resized once, packed.

The image table holds labelled images first (training, validation, judge), then test, then pool; a file that two
unlabelled lists share is stored once. Nothing is held in memory but the parsed annotations and one image.
"""

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from segpipe.data.coco import Annotation, CocoFile, ImageRecord, Problem, check_image_size, decode_image, read_coco
from segpipe.data.prepared import ImageEntry
from segpipe.data.rasterize import rasterize
from segpipe.data.resize import resize_image, resize_labels
from segpipe.data.split import Fold, group_names, seeded_folds, tune_and_judge
from segpipe.data.store import PackedWriter
from segpipe.labels import IGNORE_INDEX, ClassTable, build_class_table
from segpipe.params import DataParams, SplitParams
from segpipe.progress import track
from segpipe.stage import write_json

LABELED_SOURCES = ("train", "val", "judge")


@dataclass(frozen=True)
class Source:
    """An image to prepare: which list named it, its record, and its annotations (none for unlabelled lists)."""

    name: str
    record: ImageRecord
    annotations: tuple[Annotation, ...]


def prepare(data: DataParams, split: SplitParams, out: Path) -> None:
    """Write the prepared data set to the folder `out`.

    Raises ValueError with every problem found in the annotation files and images. With `on_problem: skip` broken
    images, and labelled ones with a broken annotation, are left out and listed in `data_check.json`; broken test
    images, files of other categories and images in two lists are refused all the same.
    """
    files, problems = _read_files(data)
    _stop_on(problems, data, unskippable=_category_problems(files) + _overlap_problems(files))
    files, incomplete = _without_incomplete(files)
    problems += incomplete
    classes = build_class_table(files["train"][0].categories, background=data.background, order=data.classes)
    sources = _list_sources(files)
    entries, kept, image_problems, class_pixels = _pack(sources, classes, data, out)
    problems += image_problems
    _stop_on(image_problems, data, unskippable=_duplicate_problems(kept, entries))
    sets = _sets(kept, files)
    groups = _scene_groups(entries, split)
    entries = [ImageEntry(**(entry.to_json() | {"group": group})) for entry, group in zip(entries, groups, strict=True)]
    folds = _folds(kept, groups, split, own_judge=data.judge is not None)
    write_json(out / "classes.json", classes.to_json())
    write_json(out / "folds.json", {"folds": [fold.to_json() for fold in folds]})
    table = {"image_size": data.image_size, "sets": sets, "images": [entry.to_json() for entry in entries]}
    write_json(out / "table.json", table)
    write_json(out / "data_check.json", _data_check(classes, class_pixels, sets, problems))


def _read_files(data: DataParams) -> tuple[dict[str, list[CocoFile]], list[Problem]]:
    root, problems = Path(data.root), []
    names = {"train": [data.train], "val": [data.val], "judge": [data.judge], "test": [data.test]}
    names["unlabeled"] = list(data.unlabeled or ())
    files: dict[str, list[CocoFile]] = {}
    for source, paths in names.items():
        files[source] = []
        for path in filter(None, paths):
            file, found = read_coco(root / path, root, labeled=source in LABELED_SOURCES)
            files[source].append(file)
            problems += found
    return files, problems


def _category_problems(files: dict[str, list[CocoFile]]) -> list[Problem]:
    """Validation and judge files must list the training file's categories, or indices would mean other things."""
    expected = {category.id: category.name for category in files["train"][0].categories}
    return [
        Problem(str(file.path), "'categories'", f"found {found}", f"the training file's categories: {expected}")
        for source in ("val", "judge")
        for file in files[source]
        if (found := {category.id: category.name for category in file.categories}) != expected
    ]


def _overlap_problems(files: dict[str, list[CocoFile]]) -> list[Problem]:
    """A labelled image may stand in one list only; the pool and the test set may share images."""
    seen: dict[str, str] = {}
    problems = []
    for source, coco_files in files.items():
        for file in coco_files:
            for image in file.images:
                first = seen.setdefault(image.file_name, source)
                if first != source and first in LABELED_SOURCES:
                    expected = (
                        f"an image that data.{first} does not list already: scores would come from training images"
                    )
                    problems.append(Problem(str(file.path), f"image {image.id}", f"found {image.file_name}", expected))
    return problems


def _stop_on(problems: list[Problem], data: DataParams, *, unskippable: list[Problem]) -> None:
    """Raise ValueError with all problems; with `on_problem: skip`, only with those that skipping cannot mend."""
    # a submission without one of its images would be refused: a test image cannot be skipped
    test_files = ("data.test", str(Path(data.root) / data.test))
    in_test = [problem for problem in problems if problem.file in test_files]
    stopping = in_test + unskippable if data.on_problem == "skip" else problems + unskippable
    if not stopping:
        return
    count = "1 problem" if len(stopping) == 1 else f"{len(stopping)} problems"
    advice = "Mend the files" + (
        "." if unskippable or in_test else ", or set data.on_problem to skip to go on without what is broken."
    )
    raise ValueError(f"{data.root}: {count}\n" + "\n".join(f"  {problem}" for problem in stopping) + f"\n{advice}")


def _without_incomplete(files: dict[str, list[CocoFile]]) -> tuple[dict[str, list[CocoFile]], list[Problem]]:
    """The files without images that lost a faulty annotation (its pixels would turn background); what is left out."""
    expected = "sound annotations only: what a faulty one covers would pass for background, so the image is left out"
    problems = [
        Problem(str(file.path), f"image {image.id}", f"{image.file_name} has a faulty annotation", expected)
        for coco_files in files.values()
        for file in coco_files
        for image in file.images
        if image.id in file.incomplete
    ]
    complete = {
        source: [
            replace(file, images=tuple(image for image in file.images if image.id not in file.incomplete))
            for file in coco_files
        ]
        for source, coco_files in files.items()
    }
    return complete, problems


def _list_sources(files: dict[str, list[CocoFile]]) -> list[Source]:
    seen, sources = set(), []
    for name, coco_files in files.items():
        for file in coco_files:
            for record in file.images:
                if record.file_name not in seen:
                    seen.add(record.file_name)
                    sources.append(Source(name, record, file.annotations_by_image.get(record.id, ())))
    return sources


def _pack(
    sources: list[Source], classes: ClassTable, data: DataParams, out: Path
) -> tuple[list[ImageEntry], list[Source], list[Problem], np.ndarray]:
    """Decode, check, rasterise, resize and write every image; a broken one is a problem and is left out."""
    root, entries, kept, problems = Path(data.root), [], [], []
    class_pixels = np.zeros(256, np.int64)
    class_index = classes.class_index
    fill = 0 if data.background == "class" else IGNORE_INDEX
    with ExitStack() as stack:
        images = stack.enter_context(PackedWriter(out / "images"))
        targets = stack.enter_context(PackedWriter(out / "targets"))
        native_targets = stack.enter_context(PackedWriter(out / "native_targets", codec="zlib"))
        for source in track(sources, "prepare", "images"):
            record = source.record
            try:
                image = decode_image(root / record.file_name)
            except ValueError as error:
                problems.append(Problem(f"data.{source.name}", f"image {record.id}", str(error), "an image that opens"))
                continue
            if problem := check_image_size(record, *image.shape[:2]):
                name = f"{problem.where}: {record.file_name}"
                problems.append(replace(problem, file=f"data.{source.name}", where=name))
                continue
            images.add(resize_image(image, data.image_size))
            if source.name in LABELED_SOURCES:
                size = (record.height, record.width)
                target = rasterize(source.annotations, class_index, *size, overlap=data.overlap, fill=fill)
                targets.add(resize_labels(target, data.image_size))
                native_targets.add(target)
                class_pixels += np.bincount(target.ravel(), minlength=256)
            entries.append(_entry(root, record))
            kept.append(source)
    return entries, kept, problems, class_pixels


def _entry(root: Path, record: ImageRecord) -> ImageEntry:
    content = hashlib.sha256((root / record.file_name).read_bytes()).hexdigest()[:32]
    return ImageEntry(record.file_name, record.id, record.height, record.width, record.file_name, content)


def _duplicate_problems(kept: list[Source], entries: list[ImageEntry]) -> list[Problem]:
    """Byte-identical files in two labelled lists, or in a labelled list and the pool or test set, leak labels."""
    first: dict[str, tuple[str, str]] = {}
    problems = []
    for source, entry in zip(kept, entries, strict=True):
        name, file_name = first.setdefault(entry.content_hash, (source.name, entry.file_name))
        if name != source.name and name in LABELED_SOURCES:
            found = f"found {entry.file_name}, a byte-identical copy of {file_name} in data.{name}"
            problems.append(Problem(f"data.{source.name}", f"image {entry.image_id}", found, "images of its own"))
    return problems


def _scene_groups(entries: list[ImageEntry], split: SplitParams) -> list[str]:
    """The scene of each image; byte-identical images share the first one's, so that no fold separates them."""
    groups = group_names([entry.file_name for entry in entries], split.group_by)
    first: dict[str, str] = {}
    return [first.setdefault(entry.content_hash, group) for entry, group in zip(entries, groups, strict=True)]


def _sets(kept: list[Source], files: dict[str, list[CocoFile]]) -> dict[str, list[int]]:
    index = {source.record.file_name: i for i, source in enumerate(kept)}

    def listed(name: str) -> list[int]:
        names = (image.file_name for file in files[name] for image in file.images)
        return [index[file_name] for file_name in names if file_name in index]

    sets = {"labeled": listed("train") + listed("val"), "judge": listed("judge"), "test": listed("test")}
    # only a pool that params.yaml leaves empty means the test images; one whose images are all broken stays empty
    sets["unlabeled"] = list(dict.fromkeys(listed("unlabeled"))) if files["unlabeled"] else sets["test"]
    return sets


def _folds(kept: list[Source], groups: list[str], split: SplitParams, *, own_judge: bool) -> list[Fold]:
    named = {name: [i for i, source in enumerate(kept) if source.name == name] for name in LABELED_SOURCES}
    train, folds = named["train"], split.folds
    held_out = [named["val"]] if folds is None else seeded_folds(train, groups, folds, split.seed)
    return list(_fold_halves(named, held_out, groups, split, own_judge=own_judge))


def _fold_halves(
    named: dict[str, list[int]], held_out: list[list[int]], groups: list[str], split: SplitParams, *, own_judge: bool
) -> Iterator[Fold]:
    for held in held_out:
        excluded = set(held)
        train = tuple(index for index in named["train"] if index not in excluded)
        if own_judge:
            tune, judge = held, named["judge"]
        else:
            tune, judge = tune_and_judge(held, groups, split.judge_fraction, split.seed)
        _refuse_shared_scenes(train, tune, judge, groups, split)
        for name, indices in (("train", train), ("held-out", held), ("judge", judge)):
            if not indices:
                raise ValueError(f"split: no {name} images are left; give more images, or fewer folds")
        yield Fold(train, tuple(tune), tuple(judge))


def _refuse_shared_scenes(
    train: tuple[int, ...], tune: list[int], judge: list[int], groups: list[str], split: SplitParams
) -> None:
    """Frames of one scene on both sides would be judged by a model that knows the scene."""
    if split.group_by is None:
        return
    seen = {groups[index] for index in (*train, *tune)}
    shared = sorted(seen & {groups[index] for index in judge})
    if shared:
        raise ValueError(
            f"split.group_by: {len(shared)} scenes of the judge images also stand in the training or tuning images, "
            f"such as {', '.join(shared[:3])}; give files that keep scenes apart, or another pattern"
        )


def _data_check(classes: ClassTable, class_pixels: np.ndarray, sets: dict, problems: list[Problem]) -> dict:
    labeled = max(int(class_pixels[: classes.num_classes].sum()), 1)
    return {
        "images": {name: len(indices) for name, indices in sets.items()},
        "class_pixel_shares": {name: int(class_pixels[i]) / labeled for i, name in enumerate(classes.names)},
        "ignored_pixel_share": int(class_pixels[IGNORE_INDEX]) / max(int(class_pixels.sum()), 1),
        "left_out": [str(problem) for problem in problems],
    }
