"""The data check as text, for a terminal or a log."""

from collections.abc import Iterator, Sequence

from segpipe.data.prepare.check import Checked
from segpipe.data.source.lists import LABELED_SOURCES, SOURCES, missing_files
from segpipe.data.source.problems import listing

PLACES_SHOWN = 3  # of one kind of warning
NAME_WIDTH = 28  # characters of a class name
SET_NAMES = {"train": "train", "val": "val", "judge": "judge", "test": "test", "unlabeled": "pool"}


def to_text(checked: Checked) -> str:
    """All of it: a line that says how it stands, sets, classes, sizes, warnings, and last what must be mended."""
    found = checked.to_json()
    errors = len(checked.errors)
    head = f"{checked.data.root}: {_count(errors, 'error')}, {_warnings_in_words(found['warnings'])}"
    blocks = [[head]]
    if found["census"]:
        blocks += [_sets(found["census"]), class_table(found["census"]), size_lines(found["census"])]
    blocks.append(warning_lines(found["warnings"]))
    if checked.left_out:
        blocks.append(["left out (data.on_problem: skip):", *listing(checked.left_out)])
    if errors:
        blocks.append(["errors:", *listing(checked.errors), *_how_to_name(checked)])
    return printable("\n\n".join("\n".join(block) for block in blocks if block))


def _how_to_name(checked: Checked) -> list[str]:
    """What to do where a list is not there: params.yaml may be made for another folder."""
    if not missing_files(checked.data):
        return []
    options = " ".join(f"[--{source} FILE]" for source in SOURCES if source != "train")
    return [
        "The names above are those of section data of params.yaml. To name lists of this folder:",
        f"  segpipe check {checked.data.root} --train FILE {options}",
        "An option may be given more than once; lists that none names are left out.",
    ]


def closing_lines(found: dict) -> list[str]:
    """What `prepare` says when it is done: the class table, and one line for each kind of warning."""
    lines = [*class_table(found["census"]), ""]
    lines += [f"warning: {entry['says']}: {entry['count']:,}" for entry in found["warnings"]]
    if found["left_out"]:
        lines.append(f"left out: what has {_count(len(found['left_out']), 'problem')}")
    more = "data_check.json beside the prepared data and the report say more; `segpipe check DIR` says it again"
    return printable("\n".join([*lines, more])).split("\n")


def class_table(census: dict) -> list[str]:
    """One row a class: its share of the labelled pixels, objects and their median size, images of each list."""
    sets = {name: census["sets"][name] for name in LABELED_SOURCES if census["sets"][name]["images"]}
    if not sets:
        return []
    names = list(next(iter(sets.values()))["classes"])
    total = max(sum(row["pixels"] for part in sets.values() for row in part["classes"].values()), 1)
    rows = [["class", "pixels", "objects", "median size", *(f"images in {name}" for name in sets)]]
    for name in names:
        parts = [part["classes"][name] for part in sets.values()]
        objects, sizes = sum(part["objects"] for part in parts), census["object_sizes"]["classes"].get(name)
        share = _percent(sum(part["pixels"] for part in parts) / total)
        shown = [f"{objects:,}", f"{sizes['median']:,}"] if sizes else ["-", "-"]
        rows.append([_cut(name), share, *shown, *(f"{part['images']:,}" for part in parts)])
    return _aligned(rows)


def size_lines(census: dict) -> list[str]:
    """Sizes of objects and of images, a line each."""
    objects, images = census["object_sizes"]["all"], census["image_sizes"]
    lines = []
    if objects["objects"]:
        total = objects["objects"]
        lines.append(
            f"object sizes in pixels: {objects['min']:,} to {objects['max']:,}, median {objects['median']:,}, half of "
            f"them from {objects['q1']:,} to {objects['q3']:,}; {_percent(objects['small'] / total)} small (below "
            f"32 x 32), {_percent(objects['medium'] / total)} medium, {_percent(objects['large'] / total)} large (from "
            "96 x 96)"
        )
    if images["distinct"]:
        most = ", ".join(f"{row['height']} x {row['width']} ({row['images']:,})" for row in images["most_frequent"])
        (low, narrow), (high, wide) = images["smallest"], images["largest"]
        ends = f"; {low} x {narrow} to {high} x {wide}" if images["distinct"] > 1 else ""
        lines.append(f"image sizes, height x width: {images['distinct']:,} different{ends}; most frequent {most}")
    return lines


def warning_lines(warnings: Sequence[dict]) -> list[str]:
    """Each kind with its count and the first places."""
    return list(_warning_lines(warnings))


def _warning_lines(warnings: Sequence[dict]) -> Iterator[str]:
    if warnings:
        yield "warnings:"
    for entry in warnings:
        yield f"  {entry['says']}: {entry['count']:,}"
        yield from (f"    {place}" for place in entry["places"][:PLACES_SHOWN])
        if entry["count"] > PLACES_SHOWN:
            yield f"    and {entry['count'] - PLACES_SHOWN:,} more"


def _sets(census: dict) -> list[str]:
    rows = [["list", "images", "without annotation"]]
    for name, part in census["sets"].items():
        if part["images"]:
            without = f"{part['without_annotation']:,}" if name in LABELED_SOURCES else "not labelled"
            rows.append([SET_NAMES[name], f"{part['images']:,}", without])
    return _aligned(rows)


def _aligned(rows: list[list[str]]) -> list[str]:
    """The first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _cut(name: str) -> str:
    return name if len(name) <= NAME_WIDTH else name[: NAME_WIDTH - 3] + "..."


def _percent(share: float) -> str:
    """A small share that is not nothing never reads 0."""
    return "<0.01 %" if 0 < share < 5e-5 else f"{share:.2%}".replace("%", " %")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s" if number else f"no {noun}s"


def _warnings_in_words(warnings: Sequence[dict]) -> str:
    if not warnings:
        return "no warnings"
    total = sum(entry["count"] for entry in warnings)
    kinds = f" of {len(warnings)} kinds" if len(warnings) > 1 else ""
    return f"{_count(total, 'warning')}{kinds}"


def printable(text: str) -> str:
    """`text` with what a terminal could take for a command shown as a question mark."""
    return "".join(character if character.isprintable() or character == "\n" else "?" for character in text)
