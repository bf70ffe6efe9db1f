"""The page's parts about the submission: its score, the candidates it was chosen from, its classes."""

from collections.abc import Iterator

from segpipe.metrics.bootstrap import MIN_GROUPS
from segpipe.report.charts import Axis, class_name, confusion_table, range_row
from segpipe.report.gather import Run
from segpipe.report.markup import (
    MISSING,
    Column,
    Markup,
    chance,
    count,
    fixed,
    interval,
    join,
    percent,
    section,
    signed,
    table,
    tag,
)
from segpipe.report.members import drop_one, fitted, likeness


def headline(run: Run) -> Markup:
    """The submission's score, and what was chosen by which rule."""
    if run.judged is None:
        named = tag("p", Markup("Submitted: ") + tag("strong", run.chosen.name) + ", named by ensemble.rule.")
        why = tag("div", named + tag("p", run.ensemble.provenance_in_words()), class_="why")
        return tag("div", tag("div", tag("p", "Not scored", class_="range")) + why, class_="headline")
    row, selection = run.headline, run.selection
    score = tag("p", tag("span", fixed(row["miou"])) + " " + tag("small", "mIoU"), class_="score")
    within = tag("p", f"95\u00a0% interval {interval(row['low'], row['high'])}", class_="range")
    groups = count(selection["judge_groups"], "scene")
    judged = f"{count(selection['judge_images'], 'held-out judge image')} in {groups}"
    why = [tag("p", Markup("Submitted: ") + tag("strong", row["name"]) + f", scored on {judged}.")]
    why += [tag("p", sentence) for sentence in _reasons(run)]
    return tag("div", tag("div", score + within) + tag("div", join(why), class_="why"), class_="headline")


def _reasons(run: Run) -> Iterator[str]:
    row, selection = run.headline, run.selection
    if len(run.params.split.train_folds) > 1:
        yield run.ensemble.provenance_in_words()
    if "headline" in selection:
        flattery = _flattery(selection["optimism"]) if "optimism" in selection else "."
        yield f"It was {selection['headline']}{flattery}"
    else:
        yield "It was named by ensemble.rule in params.yaml, not chosen by its score on these images."
    verdict, difference = row["difference"]["verdict"], row["difference"]
    if verdict == "reference":
        yield "It is the reference itself: the first member's baseline."
    else:
        change = f"{signed(difference['difference'])} ({interval(difference['low'], difference['high'], sign=True)})"
        yield f"Against the reference {selection['reference']}: {change}, verdict: {verdict}."
    if selection["judge_groups"] < MIN_GROUPS:
        yield f"With fewer than {MIN_GROUPS} independent scenes the intervals are too narrow to rest a claim on."


def _flattery(optimism: float) -> str:
    if optimism >= 0.0005:
        return f", which flatters it by an estimated {fixed(optimism)}: expect that much less on new images like these."
    return f". Resampling finds no sign that the choice flatters it (estimate {signed(optimism)})."


def candidates(run: Run) -> Markup:
    """Every way to predict that was considered, with its score."""
    if run.judged is None:
        return _unscored(run)
    rows, reference = run.selection["candidates"], run.selection["reference"]
    at_reference = next(row["miou"] for row in rows if row["name"] == reference)
    axis = Axis.around([row[key] for row in rows for key in ("miou", "low", "high")], at_reference)
    columns = [Column("Candidate"), Column("Models"), Column(axis.title, "chart"), Column("mIoU", "number")]
    columns += [Column("95\u00a0% interval", "number"), Column("Per image", "number"), Column("Difference", "number")]
    columns += [Column("95\u00a0% interval", "number"), Column("Verdict"), Column("p (Holm)", "number")]
    chosen = next(i for i, row in enumerate(rows) if row["name"] == run.chosen.name)
    lead = (
        "Every single model, every plain mean, and what was fitted on tune images, scored on judge images, which no "
        f"model trained or was tuned on. Differences are paired, against {reference} (dashed line); their interval "
        "must lie on one side of 0 to count. Intervals come from resampling scenes, and are not corrected for "
        f"comparing {len(rows)} candidates; p is."
    )
    caption = f"Candidates on judge images; {run.chosen.name}, set off, was submitted."
    shown = table(caption, columns, (_candidate_row(row, axis) for row in rows), marked=chosen)
    note = (
        "mIoU pools the pixels of all images before dividing. “Per image” is the mean of each image's own mIoU, where "
        "a false alarm of one pixel costs an image a whole class."
    )
    parts = [shown, tag("p", note, class_="note"), *fitted(run), *drop_one(run), *likeness(run)]
    return section("candidates", "Candidates", lead, *parts)


def _unscored(run: Run) -> Markup:
    rows = run.selection["candidates"]
    chosen = next(i for i, row in enumerate(rows) if row["name"] == run.chosen.name)
    names = [[tag("span", row["name"], class_="word"), ", ".join(row["models"])] for row in rows]
    lead = "Every single model and every plain mean that could be submitted. None has a score: no image was held out."
    caption = f"Candidates; {run.chosen.name}, set off, was submitted."
    shown = table(caption, [Column("Candidate"), Column("Models")], names, marked=chosen)
    return section("candidates", "Candidates", lead, shown)


def _candidate_row(row: dict, axis: Axis) -> list[object]:
    difference = row["difference"]
    compared = difference["verdict"] != "reference"
    names = [tag("span", name, class_="word") for name in row["models"]]
    return [
        tag("span", row["name"], class_="word"),
        join(names, ", ") if row["models"] != [row["name"]] else "itself",
        range_row(row["name"], row["miou"], row["low"], row["high"], axis, bar=False),
        fixed(row["miou"]),
        interval(row["low"], row["high"]),
        fixed(row["per_image_miou"]),
        signed(difference["difference"]) if compared else MISSING,
        interval(difference["low"], difference["high"], sign=True) if compared else MISSING,
        difference["verdict"],
        chance(difference["p_holm"]) if compared else MISSING,
    ]


def classes(run: Run) -> Markup:
    """IoU of each class with its interval, then what is taken for what."""
    if run.judged is None:
        return section("classes", "Classes", "No image was held out to score the classes on.")
    axis, table_of, judged = Axis(0.0, 1.0), run.prepared.classes, run.judged
    columns = [
        Column("Class"),
        Column(axis.title, "chart"),
        Column("IoU", "number"),
        Column("95\u00a0% interval", "number"),
    ]
    columns.append(Column("Share of true pixels", "number"))
    truth = judged.confusion.sum(axis=1)
    rows = []
    for index, row in enumerate(judged.iou.itertuples()):
        drawn = range_row(table_of.names[index], row.iou, row.low, row.high, axis, bar=True)
        share = percent(truth[index] / max(truth.sum(), 1), 2)
        rows.append(
            [class_name(table_of, index), drawn, fixed(row.iou), interval(row.low, row.high), share],
        )
    lead = (
        "How well the submission finds each class on judge images: pixels right over pixels in truth or prediction. "
        "Whiskers are 95\u00a0% intervals from resampling scenes; a dash means that no judge image shows the class."
    )
    named = [class_name(table_of, index) for index in range(table_of.num_classes)]
    note = (
        "Rows are the truth and add up to 100\u00a0%, up to rounding; outlined cells are right, and a dot is none at "
        "all. The shading grows with the square root, so that small confusions show."
    )
    return section(
        "classes",
        "Classes",
        lead,
        table("IoU of the submission by class, on judge images.", columns, rows),
        tag("h3", "What is taken for what"),
        tag("p", note, class_="note"),
        confusion_table(named, judged.confusion),
    )
