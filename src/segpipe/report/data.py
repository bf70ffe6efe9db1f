"""The page's part about the data: lists, folds, classes, sizes, examples, what is odd and what was left out."""

import math

from segpipe.params import ALL
from segpipe.report.charts import Axis, class_name, range_row
from segpipe.report.examples import examples
from segpipe.report.gather import Run
from segpipe.report.markup import MISSING, Column, Markup, count, join, percent, section, table, tag, thousands
from segpipe.report.object_sizes import object_sizes

LEFT_OUT_SHOWN, PLACES_SHOWN = 50, 3  # lines; places of one kind of warning
LISTS = {"train": "Training", "val": "Validation", "judge": "Judge, a list of its own"}


def data(run: Run) -> Markup:
    """What was read and checked."""
    census, classes = run.data_check["census"], run.prepared.classes
    lead = "What the pipeline read and checked before training. Tune images choose, judge images score and decide."
    return section(
        "data",
        "Data",
        lead,
        tag("div", _lists(run) + _folds(run), class_="pair"),
        _classes(run),
        object_sizes(classes, census["object_sizes"]),
        _image_sizes(census["image_sizes"]),
        tag("h3", "Examples of each class"),
        tag(
            "p", "Cut out of training images, the class outlined; drawn by lot among those that show it.", class_="note"
        ),
        examples(run),
        tag("h3", "Warnings"),
        _warnings(run.data_check["warnings"]),
        tag("h3", "Left out"),
        _left_out(run.data_check["left_out"]),
    )


def _lists(run: Run) -> Markup:
    sets, images = run.data_check["census"]["sets"], run.data_check["images"]
    rows = [
        (title, thousands(sets[name]["images"]), thousands(sets[name]["without_annotation"]))
        for name, title in LISTS.items()
        if sets[name]["images"]
    ]
    rows += [
        ("Test", thousands(images["test"]), MISSING),
        ("Pool to pseudo-label", thousands(images["unlabeled"]), MISSING),
    ]
    columns = [Column("List"), Column("Images", "number"), Column("Without annotation", "number")]
    return table("Images of each list.", columns, rows)


def _folds(run: Run) -> Markup:
    columns = [Column("Fold"), Column("Train", "number"), Column("Tune", "number"), Column("Judge", "number")]
    used = run.params.split.train_folds
    rows = [
        [name, len(fold.train), len(fold.tune), len(fold.judge), "yes" if name in used else "no"]
        for name, fold in run.prepared.folds.items()
        if name != ALL or name in used
    ]
    return table("Images of each fold.", [*columns, Column("Used")], rows)


def _classes(run: Run) -> Markup:
    """Shares, objects and images of each class, and what counts nowhere."""
    shares, sets = run.data_check["class_pixel_shares"], run.data_check["census"]["sets"]
    there = [name for name in LISTS if sets[name]["images"]]
    axis, nothing = Axis(0.0, Axis.around([0.0, *shares.values()]).high), math.nan
    rows = []
    for index, (name, share) in enumerate(shares.items()):
        parts = [sets[listed]["classes"][name] for listed in there]
        objects = sum(part["objects"] for part in parts)
        bar = range_row(name, share, nothing, nothing, axis, bar=True)
        row = [
            class_name(run.prepared.classes, index),
            bar,
            percent(share, 2),
            thousands(objects) if objects else MISSING,
        ]
        rows.append(row + [thousands(part["images"]) for part in parts])
    columns = [Column("Class"), Column(axis.title, "chart"), Column("Pixels", "number"), Column("Objects", "number")]
    columns += [Column(f"Images, {LISTS[name].split(',')[0].lower()}", "number") for name in there]
    caption = (
        "Each class in the labelled images: its share of the labelled pixels, annotated objects, images that show it."
    )
    ignored = "Every pixel of the labelled images carries a label."
    if run.data_check["ignored_pixel_share"]:
        share = percent(run.data_check["ignored_pixel_share"])
        ignored = f"{share} of the pixels of labelled images carry no label and count nowhere."
    return table(caption, columns, rows) + tag("p", ignored, class_="note")


def _image_sizes(sizes: dict) -> Markup:
    if sizes["distinct"] == 1:
        said = f"All images have {_size(*sizes['smallest'])} pixels, height × width."
        return tag("p", said, class_="note")
    rows = [(_size(row["height"], row["width"]), thousands(row["images"])) for row in sizes["most_frequent"]]
    ends = f"{_size(*sizes['smallest'])} to {_size(*sizes['largest'])}" if rows else "no image"
    caption = f"Sizes of images in pixels, height × width: {count(sizes['distinct'], 'size')}, {ends}."
    caption += f" The {len(rows)} most frequent:" if len(rows) < sizes["distinct"] else ""
    return table(caption, [Column("Size"), Column("Images", "number")], rows)


def _size(height: int, width: int) -> str:
    return f"{height}\u00a0×\u00a0{width}"


def _warnings(warnings: list[dict]) -> Markup:
    if not warnings:
        return tag("p", "Nothing odd was found.")
    lead = "Nothing of this stopped the pipeline; each may be right as it is, or a mistake in the annotation files."
    items = [
        tag("li", tag("b", thousands(entry["count"])) + f" {entry['says']}. " + _places(entry)) for entry in warnings
    ]
    return tag("p", lead) + tag("ul", join(items), class_="found")


def _places(entry: dict) -> Markup:
    shown = join((tag("code", place) for place in entry["places"][:PLACES_SHOWN]), "; ")
    rest = entry["count"] - min(entry["count"], PLACES_SHOWN)
    return tag("span", Markup("Such as ") + shown + (f"; and {thousands(rest)} more" if rest else ""), class_="note")


def _left_out(problems: list[str]) -> Markup:
    if not problems:
        return tag("p", "Nothing was left out: every image opened and every annotation could be used.")
    items = [tag("li", tag("code", problem)) for problem in problems[:LEFT_OUT_SHOWN]]
    if len(problems) > LEFT_OUT_SHOWN:
        items.append(tag("li", f"and {len(problems) - LEFT_OUT_SHOWN} more, in data_check.json of the prepared data"))
    said = f"{count(len(problems), 'problem')} led to images or annotations being left out."
    return tag("p", said) + tag("ul", join(items), class_="found")
