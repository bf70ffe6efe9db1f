"""What is odd about a data set but stops nothing: the kinds of warnings, and those that only many images show."""

from collections.abc import Sequence

from segpipe.data.prepare.census import Census
from segpipe.data.prepare.image_census import ImageCensus
from segpipe.data.source.entries import normal_name
from segpipe.data.source.lists import LABELED_SOURCES, Source
from segpipe.data.source.problems import Findings, Problem, Warnings

KINDS = {  # in the order in which they are told
    "empty_class": "classes without a pixel in a list: they cannot be learned, or not be scored",
    "few_images": "classes in fewer training images than there are folds: some folds hold none of them out",
    "near_duplicate": "images that look alike and stand in different lists: scores may be too kind",
    "torn": "images that look alike in different folds or halves of one list: scores may be too kind",
    "copy": "images that are byte-identical copies of another",
    "no_annotation": "labelled images without annotation: nothing but background is learned from them",
    "hidden": "annotations of which no pixel shows, because others lie on top",
    "no_pixel": "annotations that cover no pixel",
    "vanishing": "objects smaller than one pixel at data.image_size",
    "outside": "annotations that reach more than a pixel beyond their image, where they are cut off",
    "small_image": "images of less than half of data.image_size, which are enlarged",
    "aspect": "images whose width over height is more than twice, or less than half, that of data.image_size",
}


def warn_of_image(warnings: Warnings, image: ImageCensus) -> None:
    """What `image_census` saw."""
    for kind, place in image.warnings:
        warnings.add(kind, place)


def warn_of_classes(warnings: Warnings, census: Census, num_folds: int | None) -> None:
    """Classes that a list of labelled images never shows, or that are too rare for the folds."""
    for index, categories in enumerate(census.classes.categories):
        if not categories:
            continue  # the background; whether there is any says nothing
        name = census.classes.names[index]
        empty = [
            source
            for source in LABELED_SOURCES
            if census.sets[source].images and not census.sets[source].images_with[index]
        ]
        if empty:
            warnings.add("empty_class", f"{name} (data.{', data.'.join(empty)})")
        images = int(census.sets["train"].images_with[index])
        if num_folds is not None and 0 < images < num_folds:
            warnings.add("few_images", f"{name} ({images} of {num_folds})")


def warn_of_near_duplicates(
    warnings: Warnings,
    sources: Sequence[Source],
    pairs: Sequence[tuple[int, int]],
    torn: Sequence[tuple[int, int]] = (),
) -> None:
    """Pairs of positions in `sources` that look alike: in different lists, or `torn` apart by the folds of one."""
    for first, second in torn:
        if sources[first].name == sources[second].name:
            warnings.add("torn", f"{sources[first].record.file_name}, {sources[second].record.file_name}")
    for first, second in pairs:
        one, other = sources[first], sources[second]
        if one.name != other.name:
            place = f"{one.record.file_name} (data.{one.name}), {other.record.file_name} (data.{other.name})"
            warnings.add("near_duplicate", place)


class Copies:
    """Finds images whose files are equal byte by byte, one after another in the order of the image table."""

    def __init__(self) -> None:
        self._first: dict[str, Source] = {}

    def look(self, source: Source, content_hash: str, findings: Findings) -> None:
        """Add to `findings` where an image was there before: an error across labelled lists, else a warning."""
        original = self._first.setdefault(content_hash, source)
        name, original_name = source.record.file_name, original.record.file_name
        if normal_name(name) == normal_name(original_name):
            return  # the first itself; one file in two lists was told before any image was opened
        if original.name != source.name and original.name in LABELED_SOURCES:
            found = f"{name} is a byte-identical copy of {original_name} in data.{original.name}"
            where = f"image {source.record.id}"
            findings.blocking.append(Problem(str(source.file), where, found, "images of its own in each list"))
        else:
            findings.warnings.add("copy", f"{source.file.name}: {name} of {original_name}")


def warnings_to_json(warnings: Warnings) -> list[dict]:
    """One entry a kind that was met: its name, what it means, how many there are, the first places."""
    return [
        {"kind": kind, "says": says, "count": warnings.counts[kind], "places": warnings.places[kind]}
        for kind, says in KINDS.items()
        if kind in warnings.counts
    ]
