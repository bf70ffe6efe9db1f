"""The lists of images that section `data` names: read, and held against one another before any image is opened."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from segpipe.data.source.categories import category_problems, class_table
from segpipe.data.source.class_values import background_problem, read_class_values
from segpipe.data.source.coco import read_coco
from segpipe.data.source.entries import link_leads_out, lookup_fault, normal_name
from segpipe.data.source.label_maps import TEXT_SUFFIXES, read_label_maps
from segpipe.data.source.problems import Findings, Problem, short
from segpipe.data.source.records import Annotation, Category, CocoFile, ImageRecord
from segpipe.labels import ClassTable
from segpipe.params import DataParams

LABELED_SOURCES = ("train", "val", "judge")
SOURCES = (*LABELED_SOURCES, "test", "unlabeled")
PARAMS = "params.yaml"
NAMES_SHOWN = 10  # of a folder in which a list is missing

Files = dict[str, list[CocoFile]]  # by source: train, val, judge, test, unlabeled


@dataclass(frozen=True)
class Source:
    """An image to prepare: which list and file named it, its record, its annotations (none for unlabelled lists).

    `categories` are those of its file, which alone say what the category ids of the annotations mean.
    """

    name: str
    file: Path
    record: ImageRecord
    annotations: tuple[Annotation, ...]
    categories: tuple[Category, ...] = ()


def read_lists(data: DataParams) -> tuple[Files, Findings]:
    """The sound part of every file that `data` names, and what is wrong with the files themselves.

    A list that is missing, no COCO file, or empty cannot be left out, nor can any image of the test set, since a
    submission needs its row; other broken entries can. Raises ValueError when there is no folder `data.root`.
    """
    root, findings = Path(data.root), Findings()
    if problem := _root_problem(root):
        findings.blocking.append(problem)
        raise findings.error(PARAMS, data.on_problem)
    read, problems = reader(data, root)
    findings.blocking += problems
    files: Files = {source: [] for source in SOURCES}
    for source, name, fault in _named_files(data):
        if fault:
            findings.blocking.append(fault)
            continue
        file, problems = read(root / name, root, labeled=source in LABELED_SOURCES, may_be_empty=source == "unlabeled")
        for problem in problems:
            skippable = file is not None and source != "test" and problem.where != "'images'"
            (findings.broken if skippable else findings.blocking).append(problem)
        files[source] += [file] if file else []
    return files, findings


def reader(data: DataParams, root: Path) -> tuple[Callable[..., tuple[CocoFile | None, list[Problem]]], list[Problem]]:
    """How `data.format` reads a list, and what is wrong with a file that all lists share."""
    if data.format == "coco":
        return read_coco, []
    categories, problems = read_class_values(root)
    return partial(read_label_maps, categories=categories, categories_sound=not problems), problems


def missing_files(data: DataParams) -> list[Problem]:
    """What of data.root and the files in it is not there, is no file, or named twice; nothing is read."""
    if problem := _root_problem(Path(data.root)):
        return [problem]
    return [fault for _, _, fault in _named_files(data) if fault]


def check_lists(files: Files, findings: Findings, data: DataParams) -> None:
    """Add to `findings` what is wrong between the lists, and between them and params.yaml; none of it can be left out.

    What only follows from a mistake found before is not told again.
    """
    findings.blocking += _overlap_problems(files)
    if data.format == "png":
        findings.blocking += background_problem(_labeled(files)[0].categories if _labeled(files) else (), data)
    elif data.background == "ignore":
        findings.blocking += _unlabeled_problems(files, data)
    trusted = data.on_problem == "skip" or all(file.categories_sound for file in _labeled(files))
    if trusted and files["train"]:
        findings.blocking += category_problems(files["train"], _held_out(files), data)


def classes_of(files: Files, data: DataParams) -> ClassTable:
    """The class table of sound files; ValueError where `check_lists` finds a problem with their categories."""
    return class_table(files["train"], _held_out(files), data)


def leave_out_incomplete(files: Files, findings: Findings) -> Files:
    """The files without images that lost a faulty annotation (its pixels would turn background); these are findings."""
    expected = "sound annotations only: what a faulty one covers would pass for background, so the image is left out"
    findings.broken += [
        Problem(str(file.path), f"image {image.id}", f"{image.file_name} has a faulty annotation", expected)
        for coco_files in files.values()
        for file in coco_files
        for image in file.images
        if image.id in file.incomplete
    ]
    return {
        source: [
            replace(file, images=tuple(image for image in file.images if image.id not in file.incomplete))
            for file in coco_files
        ]
        for source, coco_files in files.items()
    }


def list_sources(files: Files) -> list[Source]:
    """Every image once, in the order of the image table; where lists share one, the first names it."""
    sources: dict[object, Source] = {}
    for name, coco_files in files.items():
        for file in coco_files:
            for record in file.images:
                annotations = file.annotations_by_image.get(record.id, ())
                source = Source(name, file.path, record, annotations, file.categories)
                sources.setdefault(normal_name(record.file_name), source)
    return list(sources.values())


def _names(data: DataParams, source: str) -> tuple[str, ...]:
    return getattr(data, source) or ()


def _labeled(files: Files) -> list[CocoFile]:
    return [file for source in LABELED_SOURCES for file in files[source]]


def _held_out(files: Files) -> list[CocoFile]:
    return [*files["val"], *files["judge"]]


def _root_problem(root: Path) -> Problem | None:
    if root.is_dir():
        return None
    there = "is no folder" if root.exists() else "does not exist"
    expected = "the folder that holds the COCO files and, beneath it, the images"
    return Problem(PARAMS, "data.root", f"{str(root)!r} {there}", expected)


def _named_files(data: DataParams) -> Iterator[tuple[str, str, Problem | None]]:
    """Source, name and fault of every file that `data` names, as far as can be said without reading one."""
    root, named = Path(data.root), dict[Path, str]()
    for source in SOURCES:
        for name in _names(data, source):
            fault = _path_fault(root, name, data.format) or _taken(named, root / name, source)
            yield source, name, Problem(PARAMS, f"data.{source}", f"{name!r} {fault[0]}", fault[1]) if fault else None


def _path_fault(root: Path, name: str, format_: Literal["coco", "png"]) -> tuple[str, str] | None:
    path = root / name
    expected = _expected_list(root, format_)
    try:
        if link_leads_out(path, root.resolve()):
            return f"leads out of data.root, {root}: DVC would not see the file change", expected
        if path.is_dir() and format_ == "coco":
            return "is a folder", expected
        if path.is_file() and format_ == "png" and path.suffix.lower() not in TEXT_SUFFIXES:
            return "is no such list", f"{expected}; for COCO files data.format: coco"
        return None if path.exists() else (f"does not exist in {root}", expected)
    except (OSError, ValueError, RuntimeError) as error:
        return f"cannot be looked up ({lookup_fault(error)})", expected


def _expected_list(root: Path, format_: Literal["coco", "png"]) -> str:
    if format_ == "coco":
        return f"a COCO file in {root}, which holds {_some([*root.glob('*.json')]) or 'no .json file'}"
    there = [path for path in root.iterdir() if path.is_dir() or path.suffix.lower() in TEXT_SUFFIXES]
    return f"a folder or a list ({' or '.join(TEXT_SUFFIXES)}) in {root}, which holds {_some(there) or 'none'}"


def _some(paths: list[Path]) -> str:
    names = sorted(path.name for path in paths)
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more


def _taken(named: dict[Path, str], path: Path, source: str) -> tuple[str, str] | None:
    """A fault where a labelled file is named twice; `named` remembers whose file each is."""
    resolved = path.resolve()
    first = named.get(resolved)
    named.setdefault(resolved, source)
    if first not in LABELED_SOURCES:
        return None
    if first == source:
        return f"is named twice in data.{source}", "each file once"
    return f"is the file of data.{first}, too", f"lists that share no image: {_why_apart(source)}"


def _why_apart(source: str) -> str:
    """What is wrong with an image of `source` that a labelled list has, too."""
    if source == "unlabeled":
        return "one with true labels needs no pseudo label, so take it out of data.unlabeled"
    return "scores would come from training images"


def _overlap_problems(files: Files) -> Iterator[Problem]:
    """A labelled image may stand in one file only; files of the pool and of the test set may share images."""
    seen: dict[object, tuple[str, CocoFile]] = {}
    for source, coco_files in files.items():
        for file in coco_files:
            for image in file.images:
                first, first_file = seen.setdefault(normal_name(image.file_name), (source, file))
                if first_file is file or first not in LABELED_SOURCES:
                    continue
                if first == source:
                    expected = f"an image that {first_file.path} does not list already: it would be learned from twice"
                else:
                    expected = f"an image that data.{first} does not list already: {_why_apart(source)}"
                yield Problem(str(file.path), f"image {image.id}", f"found {short(image.file_name)}", expected)


def _unlabeled_problems(files: Files, data: DataParams) -> Iterator[Problem]:
    """Where background does not count, a file without annotations of a class has no pixel to learn or score."""
    for file in _labeled(files):
        left_out = {category.id for category in file.categories if category.name in {*data.drop, *data.ignore}}
        annotated = {annotation.category_id for listed in file.annotations_by_image.values() for annotation in listed}
        if file.images and not file.incomplete and annotated <= left_out:
            found = "no image has an annotation" + (" that is not dropped or ignored" if annotated else "")
            expected = "at least one of a listed image: with data.background: ignore no pixel of the file would count"
            yield Problem(str(file.path), "'annotations'", found, expected)
