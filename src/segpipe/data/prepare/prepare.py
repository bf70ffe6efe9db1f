"""From COCO files to the prepared data set: checked, rasterised once, resized once, packed.

The image table holds labelled images first (training, validation, judge), then test, then pool; a file that two
unlabelled lists share is stored once. Nothing is held in memory but the parsed annotations and a few images.
"""

from collections.abc import Callable, Generator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from segpipe.data.prepare.pack import PackedImage, Packing, SoundImage, image_codec, look_at_image, pack_image
from segpipe.data.prepare.workers import in_order, worthwhile_processes
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
from segpipe.data.source.problems import Findings, Problem
from segpipe.data.split import Fold, draw_folds, group_names
from segpipe.data.store import PackedWriter
from segpipe.labels import IGNORE_INDEX, ClassTable
from segpipe.params import DataParams, SplitParams
from segpipe.progress import track
from segpipe.stage import write_json

Sound = TypeVar("Sound", bound=SoundImage)


@dataclass
class Packed:
    """What was packed, in order: entries of the image table, where each came from, pixels of each class."""

    entries: list[ImageEntry] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    class_pixels: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))


def prepare(data: DataParams, split: SplitParams, out: Path, *, processes: int | None = None) -> None:
    """Write the prepared data set to the folder `out`; nothing stays there when it stops.

    Images are prepared by so many processes, or by as many as are worth it on this machine's cores; the files have the
    same bytes for any number.

    Raises ValueError with every problem found in params.yaml, the annotation files and the images. With
    `on_problem: skip` broken images, and labelled ones with a broken annotation, are left out and listed in
    `data_check.json`; broken test images, files of other categories and images in two lists are refused all the same.
    """
    files, findings = read_lists(data)
    check_lists(files, findings, data, split)
    if findings.stop(data.on_problem):
        # the images are opened all the same, so that those which are broken stand in the same message
        sources, look = list_sources(files), partial(look_at_image, root=Path(data.root))
        for _ in _sound(sources, look, findings, "check", processes):
            pass
        raise findings.error(data.root, data.on_problem)
    files = leave_out_incomplete(files, findings)
    classes = classes_of(files, data)
    with ExitStack() as stack:  # an error within it removes what was packed
        packed = _pack(list_sources(files), classes, data, findings, out, stack, processes)
        entries, folds = _grouped(packed, data, split, findings)
    sets = _sets(packed.sources, files, data)
    write_json(out / "classes.json", classes.to_json())
    write_json(out / "folds.json", {"folds": [fold.to_json() for fold in folds]})
    table = {"image_size": data.image_size, "resize": data.resize, "sets": sets}
    write_json(out / "table.json", table | {"images": [entry.to_json() for entry in entries]})
    write_json(out / "data_check.json", _data_check(classes, packed.class_pixels, sets, findings))


def _sound(
    sources: list[Source],
    work: Callable[[Source], Sound | ImageFault],
    findings: Findings,
    label: str,
    processes: int | None,
) -> Generator[tuple[Source, Sound], None, None]:
    """Each sound image in turn, with what `work` makes of it; broken ones and copies across lists are findings."""
    first: dict[str, Source] = {}
    with closing(in_order(work, sources, processes or worthwhile_processes(sources))) as results:
        for source, result in zip(track(sources, label, "images"), results, strict=True):
            if isinstance(result, ImageFault):
                problem = Problem(str(source.file), f"image {source.record.id}", result.found, result.expected)
                # a submission without one of its images would be refused: a test image cannot be left out
                (findings.blocking if source.name == "test" else findings.broken).append(problem)
                continue
            findings.blocking += _copy_problem(source, first.setdefault(result.content_hash, source))
            yield source, result


def _copy_problem(source: Source, original: Source) -> list[Problem]:
    """What is wrong with an image whose bytes were first met as `original`."""
    name, first_name = source.record.file_name, original.record.file_name
    same_file = normal_name(name) == normal_name(first_name)  # told before any image was opened
    if original.name == source.name or original.name not in LABELED_SOURCES or same_file:
        return []
    found = f"{name} is a byte-identical copy of {first_name} in data.{original.name}"
    return [Problem(str(source.file), f"image {source.record.id}", found, "images of its own in each list")]


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
    sound = stack.enter_context(closing(_sound(sources, work, findings, "prepare", processes)))
    packed = Packed()
    for source, image in sound:
        record, name = source.record, source.record.file_name
        images.add_encoded(image.image)
        if image.labels is not None:
            targets.add_encoded(image.labels.target)
            native_targets.add_encoded(image.labels.native_target)
            packed.class_pixels += image.labels.class_pixels
        packed.entries.append(ImageEntry(name, record.id, record.height, record.width, name, image.content_hash))
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
    index = {normal_name(source.record.file_name): i for i, source in enumerate(kept)}

    def listed(name: str) -> list[int]:
        # once, where several files list an unlabelled image
        names = dict.fromkeys(normal_name(image.file_name) for file in files[name] for image in file.images)
        return [index[file_name] for file_name in names if file_name in index]

    sets = {"labeled": listed("train") + listed("val"), "judge": listed("judge"), "test": listed("test")}
    # only a pool that params.yaml leaves empty means the test images; one that lists none, or broken ones, is empty
    sets["unlabeled"] = sets["test"] if data.unlabeled is None else listed("unlabeled")
    return sets


def _data_check(classes: ClassTable, class_pixels: np.ndarray, sets: dict, findings: Findings) -> dict:
    labeled = max(int(class_pixels[: classes.num_classes].sum()), 1)
    return {
        "images": {name: len(indices) for name, indices in sets.items()},
        "class_pixel_shares": {name: int(class_pixels[i]) / labeled for i, name in enumerate(classes.names)},
        "ignored_pixel_share": int(class_pixels[IGNORE_INDEX]) / max(int(class_pixels.sum()), 1),
        "left_out": [str(problem) for problem in findings.broken],
    }
