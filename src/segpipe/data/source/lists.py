"""The lists of images that section `data` names: read, and held against one another before any image is opened."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from segpipe.data.source.coco import read_coco
from segpipe.data.source.entries import named_file_fault, normal_name
from segpipe.data.source.problems import Findings, Problem, short
from segpipe.data.source.records import Annotation, CocoFile, ImageRecord
from segpipe.labels import build_class_table
from segpipe.params import DataParams

LABELED_SOURCES = ("train", "val", "judge")
SOURCES = (*LABELED_SOURCES, "test", "unlabeled")
PARAMS = "params.yaml"

Files = dict[str, list[CocoFile]]  # by source: train, val, judge, test, unlabeled


@dataclass(frozen=True)
class Source:
    """An image to prepare: which list and file named it, its record, its annotations (none for unlabelled lists)."""

    name: str
    file: Path
    record: ImageRecord
    annotations: tuple[Annotation, ...]


def read_lists(data: DataParams) -> tuple[Files, Findings]:
    """The sound part of every file that `data` names, and what is wrong with the files themselves.

    A list that is missing, no COCO file, or empty cannot be left out, nor can any image of the test set, since a
    submission needs its row; other broken entries can. Raises ValueError when there is no folder `data.root`.
    """
    root, findings = Path(data.root), Findings()
    if problem := _root_problem(root):
        findings.blocking.append(problem)
        raise findings.error(PARAMS, data.on_problem)
    files: Files = {source: [] for source in SOURCES}
    for source, name, fault in _named_files(data):
        if fault:
            findings.blocking.append(fault)
            continue
        file, problems = read_coco(
            root / name, root, labeled=source in LABELED_SOURCES, may_be_empty=source == "unlabeled"
        )
        for problem in problems:
            skippable = file is not None and source != "test" and problem.where != "'images'"
            (findings.broken if skippable else findings.blocking).append(problem)
        files[source] += [file] if file else []
    return files, findings


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
    if data.background == "ignore":
        findings.blocking += _unlabeled_problems(files)
    trusted = data.on_problem == "skip" or all(file.categories_sound for file in _labeled(files))
    if trusted and files["train"]:
        findings.blocking += _category_problems(files)
        findings.blocking += _class_problem(files, data)


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
    sources: dict[str, Source] = {}
    for name, coco_files in files.items():
        for file in coco_files:
            for record in file.images:
                annotations = file.annotations_by_image.get(record.id, ())
                sources.setdefault(record.file_name, Source(name, file.path, record, annotations))
    return list(sources.values())


def _names(data: DataParams, source: str) -> list[str]:
    named = getattr(data, source)
    return [] if named is None else [named] if isinstance(named, str) else list(named)


def _labeled(files: Files) -> list[CocoFile]:
    return [file for source in LABELED_SOURCES for file in files[source]]


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
            fault = _path_fault(root, name) or _taken(named, root / name, source)
            yield source, name, Problem(PARAMS, f"data.{source}", f"{name!r} {fault[0]}", fault[1]) if fault else None


def _path_fault(root: Path, name: str) -> tuple[str, str] | None:
    jsons = sorted(file.name for file in root.glob("*.json"))
    fault = named_file_fault(root, name)
    return (fault, f"a COCO file in {root}, which holds {', '.join(jsons[:5]) or 'no .json file'}") if fault else None


def _taken(named: dict[Path, str], path: Path, source: str) -> tuple[str, str] | None:
    """A fault where a labelled list and another are one file; `named` remembers whose file each is."""
    first = named.setdefault(path.resolve(), source)
    if first == source or first not in LABELED_SOURCES:
        return None
    return f"is the file of data.{first}, too", "lists that share no image: scores would come from training images"


def _overlap_problems(files: Files) -> Iterator[Problem]:
    """A labelled image may stand in one list only; the pool and the test set may share images."""
    seen: dict[object, str] = {}
    for source, coco_files in files.items():
        for file in coco_files:
            for image in file.images:
                first = seen.setdefault(normal_name(image.file_name), source)
                if first != source and first in LABELED_SOURCES:
                    expected = (
                        f"an image that data.{first} does not list already: scores would come from training images"
                    )
                    yield Problem(str(file.path), f"image {image.id}", f"found {short(image.file_name)}", expected)


def _unlabeled_problems(files: Files) -> Iterator[Problem]:
    """Where background does not count, a file without annotations has no pixel to learn or score."""
    for file in _labeled(files):
        if file.images and not file.incomplete and not any(file.annotations_by_image.values()):
            expected = "at least one of a listed image: with data.background: ignore no pixel of the file would count"
            yield Problem(str(file.path), "'annotations'", "no image has an annotation", expected)


def _category_problems(files: Files) -> Iterator[Problem]:
    """Validation and judge files must list the training file's categories, or indices would mean other things."""
    expected = {category.id: category.name for category in files["train"][0].categories}
    for file in (*files["val"], *files["judge"]):
        listed = {category.id: category.name for category in file.categories}
        missing = [f"lacks {id_} {short(name)}" for id_, name in expected.items() if id_ not in listed]
        added = [f"adds {id_} {short(name)}" for id_, name in listed.items() if id_ not in expected]
        renamed = [
            f"calls {id_} {short(listed[id_])}, not {short(name)}"
            for id_, name in expected.items()
            if listed.get(id_, name) != name
        ]
        if differences := [*missing, *added, *renamed]:
            wanted = f"the ids and names of {files['train'][0].path}"
            yield Problem(str(file.path), "'categories'", "the list " + ", ".join(differences), wanted)


def _class_problem(files: Files, data: DataParams) -> list[str]:
    try:
        build_class_table(files["train"][0].categories, background=data.background, order=data.classes)
    except ValueError as error:
        return [f"{error} The categories are those of {files['train'][0].path}."]
    return []
