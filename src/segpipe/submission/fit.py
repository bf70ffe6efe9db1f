"""Whether images, classes and sample submission can become a submission at all: asked before anything slow."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from segpipe.data.source.problems import shown_id
from segpipe.labels import ClassTable
from segpipe.params import SubmissionParams
from segpipe.submission.layout import Format, Layout, ids_by_pattern, layout_of
from segpipe.submission.png import png_problems
from segpipe.submission.read import id_faults
from segpipe.submission.sample import Sample, sample_of

PATTERNS = ("{file_name}", "{name}", "{stem}")


def fit_problems(
    submission: SubmissionParams, root: Path, file_names: Sequence[str], classes: ClassTable | None
) -> list[str]:
    """Everything in the way of a submission for the images `file_names`, in sentences; none where nothing is.

    Without `classes`, where something is wrong with them, only what needs none is said.
    """
    problems = []
    try:
        sample = sample_of(submission, root)
    except ValueError as error:
        sample, problems = None, str(error).split("\n")
    if "png" in submission.formats:
        problems += png_problems(file_names)
    if classes is None:
        return problems
    try:
        layout = layout_of(submission, classes, sample)
    except ValueError as error:
        return problems + str(error).split("\n")
    for format_ in layout.formats:
        if format_ != "png":
            problems += id_problems(layout, format_, file_names)
    return problems


def id_problems(layout: Layout, format_: Format, file_names: Sequence[str]) -> Iterator[str]:
    """Ids that would not tell rows apart, and a sample submission with others than these images have."""
    own = [id_ for name in file_names for id_ in layout.ids(format_, name)]
    if doubled := [id_ for id_, count in Counter(own).items() if count > 1]:
        more = f" and {len(doubled) - 1} more" if len(doubled) > 1 else ""
        found = f"found the id {shown_id(doubled[0])}{more} for several rows"
        key = "params.yaml: submission.rle.id" if format_ == "rle" else "data.test"
        yield f"{key}: {found}; expected an id of its own for each"
    sample = layout.sample
    if sample is None or not sample.ids or not (faults := id_faults(list(sample.ids), own)):
        return
    yield f"{sample.path}: does not fit the test images by submission.formats: {format_}: {'; '.join(faults)}" + (
        _hint(layout, sample, file_names) if format_ == "rle" else f". Its ids begin with {shown_id(sample.ids[0])}"
    )


def _hint(layout: Layout, sample: Sample, file_names: Sequence[str]) -> str:
    """Which pattern would give the sample's ids, if a usual one does."""
    for pattern in PATTERNS:
        for rows, rest in (("image", ""), ("image_class", "_{class}"), ("image_class", "_{class_name}")):
            rle = layout.rle.model_copy(update={"rows": rows, "id": pattern + rest})
            ids = {id_ for name in file_names for id_ in ids_by_pattern(rle, name, layout.masks, layout.classes)}
            if ids == set(sample.ids):
                return f". It fits with submission.rle.rows: {rows} and submission.rle.id: '{pattern}{rest}'"
    return f". Its ids begin with {shown_id(sample.ids[0])}, by submission.rle they would be like {_example(layout)}"


def _example(layout: Layout) -> str:
    return layout.rle.id.replace("{", "<").replace("}", ">")
