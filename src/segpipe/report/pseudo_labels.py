"""The page's part about pseudo labels: how good they are likely to be by class and by image, and some of them."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from segpipe.drawing import label_overlay
from segpipe.labels import IGNORE_INDEX
from segpipe.metrics.bootstrap import MIN_GROUPS
from segpipe.pseudo.labels import LESS_RELIABLE
from segpipe.pseudo.thresholds import FEW_SCENES
from segpipe.report.charts import Line, class_name, line_chart, line_legend
from segpipe.report.figures import Panel, figure, named_shares
from segpipe.report.gallery import class_legend, hatched, shown_image
from segpipe.report.gather import PseudoRun, Run
from segpipe.report.markup import Column, Markup, count, fixed, join, percent, section, table, tag, thousands

ENDS, ROWS = 3, 4  # pictures and rows of the least and of the most reliable images
LEFT_OUT = 20  # copies of held-out images that are named
_CLASSES = (
    ("Pixels kept", "pixels_kept", thousands),
    ("Of all kept", "share_of_kept", percent),
    ("Of labelled", "share_of_labeled", percent),
    ("Kept of predicted", "kept_of_predicted", percent),
    ("From confidence", "threshold", fixed),
    ("Expected right", "expected_precision", percent),
    ("Right on tune images", "tune_precision", percent),
    ("At least", "tune_precision_low", percent),
    ("Found on tune images", "tune_recall", percent),
    ("Tune scenes", "tune_scenes", thousands),
)
_LEARNED = {
    "hard": "hard labels, the class of each kept pixel",
    "soft": "soft labels, the teachers' probabilities of each kept pixel",
}
_LEAD = (
    "The baseline models' confident pixels on images without labels, from which the second round learned. Their truth "
    "is not known: “expected right” carries over what tune images say of pixels of the same class and confidence. What "
    "is not right, retraining learns as mistakes."
)
_NOTHING_KEPT = (
    "No pixel of the images without labels was kept, so there was nothing to learn from, and retraining kept the "
    "baseline models."
)
_SIGNS = (
    ("Teachers agree", "member_agreement"),
    ("Checkpoints agree", "checkpoint_agreement"),
    ("Mean confidence", "mean_confidence"),
    ("Plausible classes", "plausibility"),
)


def pseudo_labels(run: Run) -> Markup:
    """Expected quality by class, reliability by image, and the least and the most reliable ones in pictures."""
    if not run.prepared.pool():
        nothing = (
            "There are no unlabelled images, so there are no pseudo labels, and retraining kept the baseline models."
        )
        return section("pseudo-labels", "Pseudo labels", nothing)
    lead = _LEAD if any(pseudo.labels.indices for pseudo in run.pseudo) else _NOTHING_KEPT
    body: list[Markup] = []
    for pseudo in run.pseudo:
        if len(run.pseudo) > 1:
            body.append(tag("h3", f"Fold {pseudo.fold}"))
        body += [_said(run, pseudo), _class_table(run, pseudo), _calibration(pseudo), _image_tables(run, pseudo)]
    first = run.pseudo[0]
    title = "Examples" if len(run.pseudo) == 1 else f"Examples of fold {first.fold}"
    body.append(tag("h3", title))
    if first.labels.indices:
        note = "The least and the most reliable images; hatched pixels have no pseudo label and are ignored."
        body += [tag("p", note, class_="note"), class_legend(run, hatched("Ignored")), *_figures(run, first)]
    else:
        body.append(tag("p", "No pixel of the pool was confident enough, so there is nothing to show."))
    return section("pseudo-labels", "Pseudo labels", lead, *body)


def _said(run: Run, pseudo: PseudoRun) -> Markup:
    """The whole set in a few sentences."""
    said = [f"{percent(pseudo.kept)} of the pool's pixels were kept."]
    if len(run.params.teachers) < len(run.params.member_names):
        said.insert(0, f"Of the members only {', '.join(run.params.teachers)} labelled the pool (teach.members).")
    values = pseudo.summary
    if not pseudo.labels.indices:
        said.append("Retraining kept the baseline models.")
    else:
        shift = percent(values["class_shift"])
        said.append(f"{percent(values['expected_precision'])} of them are expected to be right.")
        said.append(f"Their shares of classes differ from those of labelled images by {shift} of pixels.")
    if np.isfinite(values["calibration_error"]):
        error = percent(values["calibration_error"])
        said.append(f"On tune images confidence and precision are {error} apart on average.")
    less = int((pseudo.images["left_out"] == LESS_RELIABLE).sum())
    if less:
        said.append(f"pseudo_label.keep left out {count(less, 'less reliable image')}.")
    thin = pseudo.quality["why"].str.contains(FEW_SCENES, regex=False).sum()
    if thin:
        said.append(f"Fewer than {MIN_GROUPS} tune scenes show {thin} of the classes: their thresholds are guesses.")
    return tag("p", " ".join([*said, *_learned(run, pseudo)]))


def _learned(run: Run, pseudo: PseudoRun) -> Iterator[str]:
    """Which students learned from labels of which kind; none of those that stayed what their baseline was."""
    models = (model for model in run.models if model.round == "retrain" and model.fold == pseudo.fold and model.epochs)
    students = {model.member: run.params.member(model.member).retrain.labels for model in models}
    for kind, labels in _LEARNED.items():
        if names := [name for name, own in students.items() if own == kind]:
            yield f"Students ({', '.join(names)}) learned from {labels}."


def _class_table(run: Run, pseudo: PseudoRun) -> Markup:
    columns = [Column("Class"), *(Column(title, "number") for title, _, _ in _CLASSES), Column("Threshold")]
    rows = []
    for index, values in enumerate(pseudo.quality.to_dict("records")):
        cells = [_cell(values[name], shown) for _, name, shown in _CLASSES]
        rows.append([class_name(run.prepared.classes, index), *cells, values["why"]])
    caption = f"Pseudo labels of fold {pseudo.fold} by class, “at least” with pseudo_label.certainty over new scenes."
    return table(caption, columns, rows)


def _cell(value: float, shown: object) -> str:
    return thousands(int(value)) if shown is thousands else shown(value)


def _calibration(pseudo: PseudoRun) -> Markup:
    if not len(pseudo.calibration):
        note = "Without tune images nothing is known of how confidence and precision go together."
        return tag("p", note, class_="note")
    confidence, precision = 100 * pseudo.calibration["confidence"], 100 * pseudo.calibration["precision"]
    lines = [
        Line("Right pixels of tune images", confidence, precision, float("nan")),
        Line("As many as the confidence says", confidence, confidence, float("nan")),
    ]
    chart = line_chart("Right pixels in %", lines, f"calibration-{pseudo.fold}", across="confidence in %")
    return line_legend([line.name for line in lines]) + tag("div", chart, class_="charts")


def _image_tables(run: Run, pseudo: PseudoRun) -> Markup:
    """The ends of the ranking, then the images that were left out as copies of held-out ones."""
    signs = [(title, name) for title, name in _SIGNS if _tells(run, pseudo.images, name)]
    columns = [Column("Image"), Column("Reliability", "number"), *(Column(title, "number") for title, _ in signs)]
    columns.append(Column("Pixels kept", "number"))
    ranked = pseudo.images.dropna(subset="reliability")
    shown = [
        [row["image"], fixed(row["reliability"]), *(percent(row[name]) for _, name in signs), percent(row["kept"])]
        for row in ranked.to_dict("records")
    ]
    least = table(f"Least reliable images of the pool, fold {pseudo.fold}.", columns, shown[::-1][:ROWS])
    most = table(f"Most reliable images of the pool, fold {pseudo.fold}.", columns, shown[:ROWS])
    return least + most + _copies(pseudo)


def _tells(run: Run, images: pd.DataFrame, name: str) -> bool:
    """One teacher agrees with itself, and checkpoints may not have been compared."""
    return images[name].notna().any() and not (name == "member_agreement" and run.one_teacher)


def _copies(pseudo: PseudoRun) -> Markup:
    copies = pseudo.images[~pseudo.images["left_out"].isin(["", LESS_RELIABLE])]
    if copies.empty:
        return Markup("")
    rows = [[row["image"], row["left_out"]] for row in copies.head(LEFT_OUT).to_dict("records")]
    caption = f"{count(len(copies), 'image')} of the pool left out, for a student may not see what its fold holds out."
    return table(caption, [Column("Image"), Column("Why")], rows)


def _figures(run: Run, pseudo: PseudoRun) -> Iterator[Markup]:
    """The ends of the ranking; where it is short no image stands in both."""
    position = {index: i for i, index in enumerate(pseudo.labels.indices)}
    ranked = pseudo.images.dropna(subset="reliability").to_dict("records")
    most = ranked[: min(ENDS, (len(ranked) + 1) // 2)]
    least = ranked[len(most) :][::-1][:ENDS]
    for title, rows in (("Least reliable", least), ("Most reliable", most)):
        if rows:
            figures = join(_pool_figure(run, pseudo, row, position.get(run.index_of[row["image"]])) for row in rows)
            yield tag("h4", title)
            yield tag("div", figures, class_="images")


def _pool_figure(run: Run, pseudo: PseudoRun, row: dict, position: int | None) -> Markup:
    """An image and its label; all of it is ignored where it has none."""
    name, image = row["image"], shown_image(run, run.index_of[row["image"]])
    if position is None:
        labels = np.full(image.shape[:2], IGNORE_INDEX, np.uint8)
        said = f"nothing kept{', ' + row['left_out'] if row['left_out'] else ''}"
    else:
        labels = pseudo.labels.labels[position]
        said = f"{percent(row['kept'])} of pixels kept: {named_shares(labels, run.prepared.classes)}"
    panels = [
        Panel("Image", image, f"Image of the pool, {name}"),
        Panel("Pseudo label", label_overlay(image, labels, run.prepared.classes), f"Pseudo label, {said}"),
    ]
    return figure(panels, tag("b", name) + f". Reliability {fixed(row['reliability'])}; {said}.")
