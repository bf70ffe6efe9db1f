"""From COCO files to the prepared data set: checked, rasterised once, resized once, packed.

The image table holds labelled images first (training, validation, judge), then test, then pool; a file that two
unlabelled lists share is stored once. Nothing is held in memory but the parsed annotations and one image.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from segpipe.data.prepare.census import Census
from segpipe.data.prepare.check import data_check, note_fault
from segpipe.data.prepare.image_census import image_census
from segpipe.data.prepare.summary import closing_lines
from segpipe.data.prepare.warn import Copies, warn_of_classes, warn_of_image
from segpipe.data.prepared import ImageEntry
from segpipe.data.resize import resize_image, resize_labels
from segpipe.data.source.images import ImageFault, open_image
from segpipe.data.source.lists import (
    LABELED_SOURCES,
    PARAMS,
    Files,
    Source,
    check_lists,
    leave_out_incomplete,
    list_sources,
    read_lists,
)
from segpipe.data.source.problems import Findings
from segpipe.data.source.rasterize import rasterize
from segpipe.data.split import Fold, draw_folds, group_names
from segpipe.data.store import PackedWriter
from segpipe.labels import IGNORE_INDEX, ClassTable, build_class_table
from segpipe.params import DataParams, SplitParams
from segpipe.progress import say, track
from segpipe.stage import write_json


@dataclass
class Packed:
    """What was packed, in order: entries of the image table, where each came from; and what is in it."""

    census: Census
    entries: list[ImageEntry] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)


def prepare(data: DataParams, split: SplitParams, out: Path) -> None:
    """Write the prepared data set to the folder `out`; nothing stays there when it stops.

    Raises ValueError with every problem found in params.yaml, the annotation files and the images. With
    `on_problem: skip` broken images, and labelled ones with a broken annotation, are left out and listed in
    `data_check.json`; broken test images, files of other categories and images in two lists are refused all the same.
    """
    files, findings = read_lists(data)
    check_lists(files, findings, data, split)
    if findings.stop(data.on_problem):
        # the images are opened all the same, so that those which are broken stand in the same message
        for _ in _opened(list_sources(files), data, findings, "check"):
            pass
        raise findings.error(data.root, data.on_problem)
    files = leave_out_incomplete(files, findings)
    classes = build_class_table(files["train"][0].categories, background=data.background, order=data.classes)
    with ExitStack() as stack:  # an error within it removes what was packed
        packed = _pack(list_sources(files), classes, data, findings, out, stack)
        entries, folds = _grouped(packed, data, split, findings)
    sets = _sets(packed.sources, files, data)
    write_json(out / "classes.json", classes.to_json())
    write_json(out / "folds.json", {"folds": [fold.to_json() for fold in folds]})
    table = {"image_size": data.image_size, "sets": sets, "images": [entry.to_json() for entry in entries]}
    write_json(out / "table.json", table)
    warn_of_classes(findings.warnings, packed.census, split)
    found = data_check(packed.census, sets, findings)
    write_json(out / "data_check.json", found)
    say("\n".join(closing_lines(found)))


def _opened(
    sources: list[Source], data: DataParams, findings: Findings, label: str
) -> Iterator[tuple[Source, np.ndarray, str]]:
    """Each sound image, (H, W, 3) uint8, with its content hash; broken ones and copies across lists are findings."""
    copies = Copies()
    for source in track(sources, label, "images"):
        try:
            image, content_hash = open_image(Path(data.root), source.record)
        except ImageFault as fault:
            note_fault(findings, source, fault)
            continue
        copies.look(source, content_hash, findings)
        yield source, image, content_hash


def _pack(
    sources: list[Source], classes: ClassTable, data: DataParams, findings: Findings, out: Path, stack: ExitStack
) -> Packed:
    """Rasterise, resize and write every image that opens, with its target if it is labelled."""
    packed, class_index = Packed(Census(classes)), classes.class_index
    fill = 0 if data.background == "class" else IGNORE_INDEX
    images = stack.enter_context(PackedWriter(out / "images"))
    targets = stack.enter_context(PackedWriter(out / "targets"))
    native_targets = stack.enter_context(PackedWriter(out / "native_targets", codec="zlib"))
    for source, image, content_hash in _opened(sources, data, findings, "prepare"):
        record, target = source.record, None
        images.add(resize_image(image, data.image_size))
        if source.name in LABELED_SOURCES:
            size = (record.height, record.width)
            target = rasterize(source.annotations, class_index, *size, overlap=data.overlap, fill=fill)
            targets.add(resize_labels(target, data.image_size))
            native_targets.add(target)
        image_counts = image_census(source, target, class_index, data.image_size)
        packed.census.add(image_counts)
        warn_of_image(findings.warnings, image_counts)
        name = record.file_name
        packed.entries.append(ImageEntry(name, record.id, record.height, record.width, name, content_hash))
        packed.sources.append(source)
    if findings.stop(data.on_problem):
        raise findings.error(data.root, data.on_problem)
    return packed


def _grouped(
    packed: Packed, data: DataParams, split: SplitParams, findings: Findings
) -> tuple[list[ImageEntry], list[Fold]]:
    """The entries with their scenes, and the folds; byte-identical images share the first one's scene.

    Otherwise folds could separate them. Raises ValueError where too few scenes are left for the folds.
    """
    groups = group_names([entry.file_name for entry in packed.entries], split.group_by)
    first: dict[str, str] = {}
    groups = [first.setdefault(entry.content_hash, group) for entry, group in zip(packed.entries, groups, strict=True)]
    indices = {name: [i for i, source in enumerate(packed.sources) if source.name == name] for name in LABELED_SOURCES}
    try:
        folds = draw_folds(indices, groups, split, own_judge=data.judge is not None)
    except ValueError as error:
        findings.blocking.append(f"{PARAMS}: {error}")
        raise findings.error(data.root, data.on_problem) from error
    return [replace(entry, group=group) for entry, group in zip(packed.entries, groups, strict=True)], folds


def _sets(kept: list[Source], files: Files, data: DataParams) -> dict[str, list[int]]:
    index = {source.record.file_name: i for i, source in enumerate(kept)}

    def listed(name: str) -> list[int]:
        names = (image.file_name for file in files[name] for image in file.images)
        return [index[file_name] for file_name in names if file_name in index]

    sets = {"labeled": listed("train") + listed("val"), "judge": listed("judge"), "test": listed("test")}
    # only a pool that params.yaml leaves empty means the test images; one that lists none, or broken ones, is empty
    sets["unlabeled"] = sets["test"] if data.unlabeled is None else list(dict.fromkeys(listed("unlabeled")))
    return sets
