"""From COCO files to the prepared data set: checked, rasterised once, resized once, packed.

The image table holds labelled images first (training, validation, judge), then test, then pool; a file that two
unlabelled lists share is stored once. Nothing is held in memory but the parsed annotations and a few images.
"""

from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from segpipe.data.prepare.census import Census
from segpipe.data.prepare.check import data_check
from segpipe.data.prepare.pack import PackedImage, Packing, image_codec, look_at_image, pack_image
from segpipe.data.prepare.sound import sound_images
from segpipe.data.prepare.summary import closing_lines
from segpipe.data.prepare.warn import warn_of_classes, warn_of_image
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
from segpipe.data.split import Fold, draw_folds, group_names
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
        for _ in sound_images(sources, look, findings, "check", processes):
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
    warn_of_classes(findings.warnings, packed.census, split)
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
        packed.census.add(image.census)
        warn_of_image(findings.warnings, image.census)
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
