"""From COCO files to the prepared data set: checked, rasterised once, resized once, packed.

The image table holds labelled images first (training, validation, judge), then test, then pool; a file that two
unlabelled lists share is stored once. Nothing is held in memory but the parsed annotations and one image.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from segpipe.data.fold_table import FoldRow, write_fold_rows
from segpipe.data.prepare.duplicates import fingerprint, near_duplicates
from segpipe.data.prepare.fold_check import check_folds
from segpipe.data.prepare.folds import Labeled, draw_folds, join_groups
from segpipe.data.prepared import ImageEntry
from segpipe.data.resize import resize_image, resize_labels
from segpipe.data.source.entries import normal_name
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
from segpipe.data.source.problems import Findings, Problem
from segpipe.data.source.rasterize import rasterize
from segpipe.data.split import group_names
from segpipe.data.store import PackedWriter
from segpipe.labels import IGNORE_INDEX, ClassTable, build_class_table
from segpipe.params import DataParams, SplitParams
from segpipe.progress import track
from segpipe.stage import write_json


@dataclass
class Packed:
    """What was packed, in order: entries of the image table, where each came from, pixels of each class."""

    entries: list[ImageEntry] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    class_pixels: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    class_counts: list[np.ndarray] = field(default_factory=list)  # pixels of each class in each labelled image
    fingerprints: list[bytes] = field(default_factory=list)


def prepare(data: DataParams, split: SplitParams, out: Path) -> None:
    """Write the prepared data set to the folder `out`; nothing stays there when it stops.

    Raises ValueError with every problem found in params.yaml, the annotation files and the images. With
    `on_problem: skip` broken images, and labelled ones with a broken annotation, are left out and listed in
    `data_check.json`; broken test images, files of other categories and images in two lists are refused all the same.
    """
    files, findings = read_lists(data)
    check_lists(files, findings, data)
    given = check_folds(files, findings, data, split)
    if findings.stop(data.on_problem):
        # the images are opened all the same, so that those which are broken stand in the same message
        for _ in _opened(list_sources(files), data, findings, "check"):
            pass
        raise findings.error(data.root, data.on_problem)
    files = leave_out_incomplete(files, findings)
    classes = build_class_table(files["train"][0].categories, background=data.background, order=data.classes)
    with ExitStack() as stack:  # an error within it removes what was packed
        packed = _pack(list_sources(files), classes, data, findings, out, stack)
        entries, folds = _grouped(packed, data, split, given, findings)
    sets = _sets(packed.sources, files, data)
    write_json(out / "classes.json", classes.to_json())
    write_fold_rows(out / "folds.csv", folds)
    table = {"image_size": data.image_size, "sets": sets, "images": [entry.to_json() for entry in entries]}
    write_json(out / "table.json", table)
    write_json(out / "data_check.json", _data_check(classes, packed.class_pixels, sets, findings))


def _opened(
    sources: list[Source], data: DataParams, findings: Findings, label: str
) -> Iterator[tuple[Source, np.ndarray, str]]:
    """Each sound image, (H, W, 3) uint8, with its content hash; broken ones and copies across lists are findings."""
    first: dict[str, Source] = {}
    for source in track(sources, label, "images"):
        file, where, name = str(source.file), f"image {source.record.id}", source.record.file_name
        try:
            image, content_hash = open_image(Path(data.root), source.record)
        except ImageFault as fault:
            problem = Problem(file, where, fault.found, fault.expected)
            # a submission without one of its images would be refused: a test image cannot be left out
            (findings.blocking if source.name == "test" else findings.broken).append(problem)
            continue
        original = first.setdefault(content_hash, source)
        same_file = normal_name(name) == normal_name(original.record.file_name)  # told before any image was opened
        if original.name != source.name and original.name in LABELED_SOURCES and not same_file:
            found = f"{name} is a byte-identical copy of {original.record.file_name} in data.{original.name}"
            findings.blocking.append(Problem(file, where, found, "images of its own in each list"))
        yield source, image, content_hash


def _pack(
    sources: list[Source], classes: ClassTable, data: DataParams, findings: Findings, out: Path, stack: ExitStack
) -> Packed:
    """Rasterise, resize and write every image that opens, with its target if it is labelled."""
    packed, class_index = Packed(), classes.class_index
    fill = 0 if data.background == "class" else IGNORE_INDEX
    images = stack.enter_context(PackedWriter(out / "images"))
    targets = stack.enter_context(PackedWriter(out / "targets"))
    native_targets = stack.enter_context(PackedWriter(out / "native_targets", codec="zlib"))
    for source, image, content_hash in _opened(sources, data, findings, "prepare"):
        record = source.record
        images.add(resize_image(image, data.image_size))
        if source.name in LABELED_SOURCES:
            size = (record.height, record.width)
            target = rasterize(source.annotations, class_index, *size, overlap=data.overlap, fill=fill)
            targets.add(resize_labels(target, data.image_size))
            native_targets.add(target)
            counts = np.bincount(target.ravel(), minlength=256)
            packed.class_pixels += counts
            packed.class_counts.append(counts[: classes.num_classes])
        packed.fingerprints.append(fingerprint(image))
        name = record.file_name
        packed.entries.append(ImageEntry(name, record.id, record.height, record.width, name, content_hash))
        packed.sources.append(source)
    if findings.stop(data.on_problem):
        raise findings.error(data.root, data.on_problem)
    return packed


def _grouped(
    packed: Packed, data: DataParams, split: SplitParams, given: dict[str, FoldRow] | None, findings: Findings
) -> tuple[list[ImageEntry], list[FoldRow]]:
    """The entries with their groups, and what folds do with the labelled ones.

    Raises ValueError where too few groups are left for the folds.
    """
    scenes = group_names([entry.file_name for entry in packed.entries], split.group_by)
    labeled = sum(source.name in LABELED_SOURCES for source in packed.sources)  # they come first
    # an image of the pool that looks like two labelled ones does not make these alike
    pairs = near_duplicates(packed.fingerprints[:labeled]) if split.near_duplicates else []
    groups = join_groups(scenes, [entry.content_hash for entry in packed.entries], pairs)
    names, lists = [e.file_name for e in packed.entries[:labeled]], [s.name for s in packed.sources[:labeled]]
    images = Labeled(names, lists, scenes[:labeled], groups[:labeled], np.array(packed.class_counts))
    try:
        folds = draw_folds(images, split, given, own_judge=data.judge is not None)
    except ValueError as error:
        joined = f" {len(pairs)} pairs of near copies are kept together by split.near_duplicates." if pairs else ""
        findings.blocking.append(f"{PARAMS}: {error}{joined}")
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


def _data_check(classes: ClassTable, class_pixels: np.ndarray, sets: dict, findings: Findings) -> dict:
    labeled = max(int(class_pixels[: classes.num_classes].sum()), 1)
    return {
        "images": {name: len(indices) for name, indices in sets.items()},
        "class_pixel_shares": {name: int(class_pixels[i]) / labeled for i, name in enumerate(classes.names)},
        "ignored_pixel_share": int(class_pixels[IGNORE_INDEX]) / max(int(class_pixels.sum()), 1),
        "left_out": [str(problem) for problem in findings.broken],
    }
