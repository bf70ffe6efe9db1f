"""The data check: all that is wrong with a data set, all that is odd, and what is in it. Writes nothing."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from segpipe.data.fold_table import num_folds
from segpipe.data.prepare.census import Census
from segpipe.data.prepare.duplicates import fingerprint, near_duplicates
from segpipe.data.prepare.fold_check import check_folds
from segpipe.data.prepare.image_census import ImageCensus, image_census
from segpipe.data.prepare.pack import SoundImage
from segpipe.data.prepare.sound import sound_images
from segpipe.data.prepare.warn import warn_of_classes, warn_of_image, warn_of_near_duplicates, warnings_to_json
from segpipe.data.resize import stored_size
from segpipe.data.source.images import ImageFault, open_image
from segpipe.data.source.lists import (
    LABELED_SOURCES,
    SOURCES,
    Files,
    Source,
    check_lists,
    classes_of,
    leave_out_incomplete,
    list_sources,
    read_lists,
)
from segpipe.data.source.png import open_label_map
from segpipe.data.source.problems import Findings, Problem
from segpipe.data.source.target import target_of
from segpipe.labels import IGNORE_INDEX, ClassTable
from segpipe.params import DataParams, SplitParams


@dataclass(frozen=True)
class Checked:
    """What was found in the data that `data` names; `census` is None where the classes are not known."""

    data: DataParams
    findings: Findings
    census: Census | None

    @property
    def errors(self) -> list[Problem | str]:
        """What would stop `prepare`; what it would leave out is not among them."""
        broken = self.findings.broken if self.data.on_problem == "stop" else []
        return [*self.findings.blocking, *broken]

    @property
    def left_out(self) -> list[Problem]:
        """What `data.on_problem: skip` leaves out."""
        return self.findings.broken if self.data.on_problem == "skip" else []

    def to_json(self) -> dict:
        """A plain dict that `json.dumps` accepts."""
        return {
            "root": self.data.root,
            "errors": [str(problem) for problem in self.errors],
            "left_out": [str(problem) for problem in self.left_out],
            "warnings": warnings_to_json(self.findings.warnings),
            "census": self.census.to_json() if self.census else None,
        }


def other_folder(
    data: DataParams, split: SplitParams, root: str, named: Mapping[str, Sequence[str]]
) -> tuple[DataParams, SplitParams]:
    """Both sections for the folder `root`; where `named` has files for any list, the lists it leaves out are empty.

    Without held-out images of their own they then come from training images, so that the folds can be checked.
    """
    changes: dict[str, object] = {"root": root}
    if any(named.values()):
        changes |= {source: _one_or_all(named.get(source, ())) for source in SOURCES}
    data = DataParams.model_validate(data.model_dump() | changes)
    folds = None if data.val else split.folds or 2
    return data, split.model_copy(update={"folds": folds})


def _one_or_all(names: Sequence[str]) -> object:
    return names[0] if len(names) == 1 else (tuple(names) or None)


def check_data(data: DataParams, split: SplitParams, *, processes: int | None = None) -> Checked:
    """Look at all that `prepare` would read, as it would; ValueError when there is no folder `data.root`.

    Images are opened by so many processes, or by as many as are worth it; what is found is the same for any number.
    """
    files, findings = read_lists(data)
    check_lists(files, findings, data)
    given = check_folds(files, findings, data, split)
    if not findings.stop(data.on_problem):
        files = leave_out_incomplete(files, findings)
    classes = known_classes(files, data)
    census = Census(classes) if classes else None
    work, opened, prints = partial(look, classes=classes, data=data), [], []
    with closing(sound_images(list_sources(files), work, findings, "check", processes)) as sound:
        for source, looked in sound:
            opened.append(source)
            prints.append(looked.fingerprint)
            warn_of_image(findings.warnings, looked.census)
            if census is not None:
                census.add(looked.census)
    warn_of_near_duplicates(findings.warnings, opened, near_duplicates(prints))
    if census is not None:
        warn_of_classes(findings.warnings, census, num_folds(given.values()) if given else split.folds)
    if data.on_problem == "skip" and findings.broken and not findings.blocking:
        later, rest = Findings(), _only(files, {source.record.file_name for source in opened})
        check_lists(rest, later, data)  # what was left out may have been too much
        check_folds(rest, later, data, split)
        findings.blocking += later.blocking
    return Checked(data, findings, census)


@dataclass(frozen=True)
class LookedAt(SoundImage):
    """What the check keeps of one image."""

    census: ImageCensus


def look(source: Source, classes: ClassTable | None, data: DataParams) -> LookedAt | ImageFault:
    """What an image has in it, or what is wrong with its file; a pure function for worker processes."""
    root, class_index, target = Path(data.root), {}, None
    try:
        file = open_image(root, source.record)
        if classes is not None:
            source = _of_known_categories(source, classes)
            class_index = classes.class_index(source.categories)
        if classes is not None and source.name in LABELED_SOURCES:
            fill = 0 if data.background == "class" else IGNORE_INDEX
            target = target_of(source, root, classes, overlap=data.overlap, fill=fill)
        elif source.record.label_map is not None:
            open_label_map(root, source.record)
    except ImageFault as fault:
        return fault
    size = stored_size(file.image.shape[:2], data.image_size, data.resize)
    return LookedAt(file.content_hash, fingerprint(file.image), image_census(source, target, class_index, size))


def _of_known_categories(source: Source, classes: ClassTable) -> Source:
    """Without categories that belong to no class: that they are listed is an error of its own."""
    names = {name for listed in (*classes.categories, classes.ignored, classes.dropped) for name in listed}
    categories = tuple(category for category in source.categories if category.name in names)
    ids = {category.id for category in categories}
    annotations = tuple(annotation for annotation in source.annotations if annotation.category_id in ids)
    return replace(source, categories=categories, annotations=annotations)


def data_check(census: Census, sets: Mapping[str, list[int]], findings: Findings) -> dict:
    """What data_check.json says of prepared data: `sets` are those of the image table."""
    pixels, names = census.total("pixels"), census.classes.names
    labeled = max(int(pixels[: len(names)].sum()), 1)
    return {
        "images": {name: len(indices) for name, indices in sets.items()},
        "class_pixel_shares": {name: int(pixels[i]) / labeled for i, name in enumerate(names)},
        "ignored_pixel_share": int(pixels[IGNORE_INDEX]) / max(int(pixels.sum()), 1),
        "census": census.to_json(),
        "warnings": warnings_to_json(findings.warnings),
        "left_out": [str(problem) for problem in findings.broken],
    }


def known_classes(files: Files, data: DataParams) -> ClassTable | None:
    """The class table; None where `check_lists` has something to say against them."""
    if not files["train"]:
        return None
    try:
        return classes_of(files, data)
    except ValueError:
        return None


def _only(files: Files, names: set[str]) -> Files:
    return {
        source: [
            replace(file, images=tuple(image for image in file.images if image.file_name in names))
            for file in coco_files
        ]
        for source, coco_files in files.items()
    }
