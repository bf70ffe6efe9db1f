"""From COCO files to the prepared data set: checked, rasterised once, resized once, packed.

The image table holds labelled images first (training, validation, judge), then test, then pool; a file that two
unlabelled lists share is stored once. Nothing is held in memory but the parsed annotations and a few images.
"""

from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from segpipe.data.fold_table import FoldRow, num_folds, write_fold_rows
from segpipe.data.near_copies import FILE as NEAR_COPIES
from segpipe.data.near_copies import mixed_pictures, write_near_copies
from segpipe.data.prepare.census import Census
from segpipe.data.prepare.check import data_check, known_classes
from segpipe.data.prepare.duplicates import near_duplicates
from segpipe.data.prepare.fold_check import check_folds
from segpipe.data.prepare.folds import Labeled, draw_folds, join_groups, torn_pairs
from segpipe.data.prepare.pack import PackedImage, Packing, image_codec, look_at_image, pack_image
from segpipe.data.prepare.sound import sound_images
from segpipe.data.prepare.summary import closing_lines
from segpipe.data.prepare.warn import warn_of_classes, warn_of_image, warn_of_near_duplicates
from segpipe.data.prepared import ImageEntry
from segpipe.data.source.entries import normal_name
from segpipe.data.source.images import ImageFault
from segpipe.data.source.lists import (
    LABELED_SOURCES,
    PARAMS,
    Files,
    Source,
    check_lists,
    classes_of,
    leave_out_incomplete,
    list_sources,
    read_lists,
)
from segpipe.data.source.problems import Findings
from segpipe.data.split import group_names
from segpipe.data.store import PackedWriter
from segpipe.labels import IGNORE_INDEX, ClassTable
from segpipe.params import DataParams, SplitParams
from segpipe.progress import say
from segpipe.stage import write_json


@dataclass
class Packed:
    """What was packed, in order: entries of the image table, where each came from; and what is in it."""

    census: Census
    entries: list[ImageEntry] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    class_pixels: list[np.ndarray] = field(default_factory=list)  # of each labelled image, (num_classes,)
    fingerprints: list[bytes] = field(default_factory=list)


# problems, in sentences, that others see in the names of the test images and the classes (None where these are faulty)
Objection = Callable[[list[str], ClassTable | None], list[str]]


def prepare(
    data: DataParams,
    split: SplitParams,
    out: Path,
    *,
    processes: int | None = None,
    objection: Objection | None = None,
) -> None:
    """Write the prepared data set to the folder `out`; nothing stays there when it stops.

    Images are prepared by so many processes, or by as many as are worth it on this machine's cores; the files have the
    same bytes for any number.

    Raises ValueError with every problem found in params.yaml, the annotation files and the images. With
    `on_problem: skip` broken images, and labelled ones with a broken annotation, are left out and listed in
    `data_check.json`; broken test images, files of other categories and images in two lists are refused all the same.
    So is what `objection`, if given, has to say.
    """
    files, findings = read_lists(data)
    check_lists(files, findings, data)
    if objection is not None:
        test = dict.fromkeys(image.file_name for file in files["test"] for image in file.images)
        findings.blocking += objection(list(test), known_classes(files, data))
    given = check_folds(files, findings, data, split)
    if findings.stop(data.on_problem):
        # the images are opened all the same, so that those which are broken stand in the same message
        sources, look = list_sources(files), partial(look_at_image, root=Path(data.root))
        for _ in sound_images(sources, look, findings, "check", processes):
            pass
        raise findings.error(data.root, data.on_problem)
    files = leave_out_incomplete(files, findings)
    classes = classes_of(files, data)
    with ExitStack() as stack:  # an error within it removes what was packed
        packed = _pack(list_sources(files), classes, data, findings, out, stack, processes)
        alike = near_duplicates(packed.fingerprints)
        entries, folds = _grouped(packed, alike, data, split, given, findings)
    sets = _sets(packed.sources, files, data)
    write_json(out / "classes.json", classes.to_json())
    write_fold_rows(out / "folds.csv", folds)
    names, hashes = [entry.file_name for entry in entries], [entry.content_hash for entry in entries]
    copies = mixed_pictures(join_groups(names, hashes, alike), len(folds))
    write_near_copies(out / NEAR_COPIES, names, copies)
    table = {"image_size": data.image_size, "resize": data.resize, "sets": sets}
    write_json(out / "table.json", table | {"images": [entry.to_json() for entry in entries]})
    warn_of_classes(findings.warnings, packed.census, num_folds(folds))
    found = data_check(packed.census, sets, findings)
    write_json(out / "data_check.json", found)
    say("\n".join(closing_lines(found)))


def _pack(
    sources: list[Source],
    classes: ClassTable,
    data: DataParams,
    findings: Findings,
    out: Path,
    stack: ExitStack,
    processes: int | None,
) -> Packed:
    """Rasterise, resize and write every image that opens, with its target if it is labelled."""
    fill = 0 if data.background == "class" else IGNORE_INDEX
    codec = image_codec(data, [(source.record.height, source.record.width) for source in sources])
    packing = Packing(Path(data.root), data.image_size, data.resize, codec, classes, data.overlap, fill)
    work: Callable[[Source], PackedImage | ImageFault] = partial(pack_image, how=packing)
    images = stack.enter_context(PackedWriter(out / "images", codec))
    targets = stack.enter_context(PackedWriter(out / "targets", "runs"))
    native_targets = stack.enter_context(PackedWriter(out / "native_targets", "runs"))
    sound = stack.enter_context(closing(sound_images(sources, work, findings, "prepare", processes)))
    packed = Packed(Census(classes))
    for source, image in sound:
        record, name = source.record, source.record.file_name
        images.add_encoded(image.image)
        if image.labels is not None:
            targets.add_encoded(image.labels.target)
            native_targets.add_encoded(image.labels.native_target)
            pixels = [image.census.pixels.get(index, 0) for index in range(classes.num_classes)]
            packed.class_pixels.append(np.array(pixels))
        packed.census.add(image.census)
        warn_of_image(findings.warnings, image.census)
        packed.fingerprints.append(image.fingerprint)
        packed.entries.append(ImageEntry(name, record.id, record.height, record.width, name, image.content_hash))
        packed.sources.append(source)
    if findings.stop(data.on_problem):
        raise findings.error(data.root, data.on_problem)
    return packed


def _grouped(
    packed: Packed,
    alike: list[tuple[int, int]],
    data: DataParams,
    split: SplitParams,
    given: dict[str, FoldRow] | None,
    findings: Findings,
) -> tuple[list[ImageEntry], list[FoldRow]]:
    """The entries with their groups, and what folds do with the labelled ones; `alike` are pairs of near copies.

    Raises ValueError where too few groups are left for the folds.
    """
    scenes = group_names([entry.file_name for entry in packed.entries], split.group_by)
    labeled = sum(source.name in LABELED_SOURCES for source in packed.sources)  # they come first
    # an image of the pool that looks like two labelled ones does not make these alike
    pairs = [pair for pair in alike if max(pair) < labeled] if split.near_duplicates else []
    groups = join_groups(scenes, [entry.content_hash for entry in packed.entries], pairs)
    names, lists = [e.file_name for e in packed.entries[:labeled]], [s.name for s in packed.sources[:labeled]]
    images = Labeled(names, lists, scenes[:labeled], groups[:labeled], np.array(packed.class_pixels))
    try:
        folds = draw_folds(images, split, given, own_judge=bool(data.judge))
    except ValueError as error:
        joined = f" {len(pairs)} pairs of near copies are kept together by split.near_duplicates." if pairs else ""
        findings.blocking.append(f"{PARAMS}: {error}{joined}")
        raise findings.error(data.root, data.on_problem) from error
    warn_of_near_duplicates(findings.warnings, packed.sources, alike, torn_pairs(alike, folds))
    return [replace(entry, group=group) for entry, group in zip(packed.entries, groups, strict=True)], folds


def _sets(kept: list[Source], files: Files, data: DataParams) -> dict[str, list[int]]:
    index = {normal_name(source.record.file_name): i for i, source in enumerate(kept)}

    def listed(name: str) -> list[int]:
        # once, where several files list an unlabelled image
        names = dict.fromkeys(normal_name(image.file_name) for file in files[name] for image in file.images)
        return [index[file_name] for file_name in names if file_name in index]

    sets = {"labeled": listed("train") + listed("val"), "judge": listed("judge"), "test": listed("test")}
    # only a pool that params.yaml leaves empty means the test images; one that lists none, or broken ones, is empty
    sets["unlabeled"] = sets["test"] if data.unlabeled is None else listed("unlabeled")
    return sets
