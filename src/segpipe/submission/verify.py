"""What was written, read back and held against the label maps."""

from pathlib import Path

from segpipe.submission.layout import FILES, Format, Layout
from segpipe.submission.read import open_submission
from segpipe.submission.write import Written, checksum


def verify_submission(folder: Path, layout: Layout, written: list[Written]) -> None:
    """Read every format in `folder` and hold each image against the sum of its label map.

    Raises ValueError with every problem: ids missing, extra, doubled or out of order, what is no label map of its size
    and classes, and one that is not what was written.
    """
    problems = [problem for format_ in layout.formats for problem in _problems(folder, format_, layout, written)]
    if problems:
        raise ValueError("\n  ".join([f"{folder}: the submission is wrong:", *problems]))


def _problems(folder: Path, format_: Format, layout: Layout, written: list[Written]) -> list[str]:
    sizes = {image.file_name: image.size for image in written}
    with open_submission(folder / FILES[format_], format_, layout, sizes) as file:
        problems = [*file.faults, *([file.order_fault] if file.order_fault else [])]
        for image in written:
            label_map, faults = file.label_map(image.file_name)
            problems += faults
            if label_map is not None and checksum(label_map) != image.sums[format_]:
                problems.append(f"{image.file_name}: is not the label map that was to be written")
    return [f"{FILES[format_]}: {problem}" for problem in problems]
