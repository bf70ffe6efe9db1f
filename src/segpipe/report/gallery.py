"""The page's parts that are pictures: judge images at both ends of the scale, test images, pseudo-labelled ones."""

import numpy as np
import pandas as pd

from segpipe.data.resize import resize_labels
from segpipe.labels import IGNORE_INDEX
from segpipe.report.charts import class_name
from segpipe.report.gather import PseudoRun, Run
from segpipe.report.markup import Markup, fixed, join, percent, section, tag
from segpipe.report.overlays import (
    MISTAKES,
    Panel,
    figure,
    fit_image,
    label_overlay,
    mistakes_overlay,
    named_shares,
    shown_size,
)
from segpipe.report.training import kept_by_file, pseudo_tables

WORST, MIDDLE, BEST, TEST, POOL = 4, 2, 3, 6, 6  # images of each kind


def judge_images(run: Run) -> Markup:
    """Truth, prediction and mistakes of the worst, the middle and the best judge images."""
    lead = (
        "Judge images with the lowest, the middle and the highest mIoU of the submission: the worst show what to work "
        "on, the middle what to expect."
    )
    ranked = run.per_image.dropna(subset="miou").sort_values("miou", kind="stable")
    body: list[Markup] = [class_legend(run), mistake_legend()]
    for title, rows in _ends_and_middle(ranked):
        if len(rows):
            figures = join(_judged(run, row.file_name, row.miou) for row in rows.itertuples())
            body += [tag("h3", title), tag("div", figures, class_="images wide")]
    return section("judge-images", "Judge images", lead, *body)


def _ends_and_middle(ranked: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Disjoint parts of a ranking that may be shorter than all of them: the ends come first."""
    number = len(ranked)
    worst = min(WORST, (number + 1) // 2)
    best = min(BEST, number - worst)
    middle = min(MIDDLE, number - worst - best)
    start = worst + (number - worst - best - middle) // 2
    return [
        ("Worst", ranked.iloc[:worst]),
        ("Middle", ranked.iloc[start : start + middle]),
        ("Best", ranked.iloc[number - best :].iloc[::-1]),
    ]


def _judged(run: Run, file_name: str, miou: float) -> Markup:
    index, classes = _index_of(run)[file_name], run.prepared.classes
    image = _image(run, index)
    target = resize_labels(run.prepared.native_target(index), run.ensemble.scored_size)
    preds = run.ensemble.label_map(run.chosen, index)
    true, predicted = named_shares(target, classes), named_shares(preds, classes)
    counted = target != IGNORE_INDEX
    wrong = percent(float((target != preds)[counted].mean()))
    panels = [
        Panel("Image", image, f"Judge image {file_name}"),
        Panel("Truth", label_overlay(image, target, classes), f"True classes of {file_name}: {true}"),
        Panel("Prediction", label_overlay(image, preds, classes), f"Predicted classes of {file_name}: {predicted}"),
        Panel("Mistakes", mistakes_overlay(image, target, preds, classes), f"Wrong pixels of {file_name}: {wrong}"),
    ]
    caption = (
        _named(file_name) + f", mIoU {fixed(miou)}, {wrong} of pixels wrong. Truth: {true}. Predicted: {predicted}."
    )
    return figure(panels, caption)


def test_images(run: Run) -> Markup:
    """Predictions that were submitted, evenly spaced over the test list."""
    lead = "A few images of the submission, evenly spaced over the test list. Their truth is not known here."
    figures = []
    for index in _spread(run.prepared.sets["test"], TEST):
        name, image = run.prepared.entries[index].file_name, _image(run, index)
        preds = run.ensemble.label_map(run.chosen, index)
        said = named_shares(preds, run.prepared.classes)
        panels = [
            Panel("Image", image, f"Test image {name}"),
            Panel("Prediction", label_overlay(image, preds, run.prepared.classes), f"Predicted classes: {said}"),
        ]
        figures.append(figure(panels, _named(name) + f". Predicted: {said}."))
    return section("test-images", "Test images", lead, class_legend(run), tag("div", join(figures), class_="images"))


def pseudo_labels(run: Run) -> Markup:
    """Quality of the pseudo labels, and a few of them."""
    lead = (
        "The baseline models' confident pixels on images without labels, from which the second round learned. "
        "“Right on tune images” is their precision where the truth is known: below 100 %, retraining learns mistakes."
    )
    body: list[Markup] = []
    for pseudo in run.pseudo:
        if len(run.pseudo) > 1:
            body.append(tag("h3", f"Fold {pseudo.fold}"))
        body.append(pseudo_tables(run, pseudo))
    first = run.pseudo[0]
    title = "Examples" if len(run.pseudo) == 1 else f"Examples of fold {first.fold}"
    body.append(tag("h3", title))
    if first.labels.indices:
        note = "From the least to the most agreed image; hatched pixels were not confident enough and are ignored."
        body += [tag("p", note, class_="note"), class_legend(run), _pool_figures(run, first)]
    else:
        body.append(tag("p", "No pixel of the pool was confident enough, so there is nothing to show."))
    return section("pseudo-labels", "Pseudo labels", lead, *body)


def _pool_figures(run: Run, pseudo: PseudoRun) -> Markup:
    position = {run.prepared.entries[index].file_name: i for i, index in enumerate(pseudo.labels.indices)}
    ordered = pseudo.agreement[pseudo.agreement["image"].isin(list(position))]
    ordered = ordered.sort_values("agreement", kind="stable")
    kept, figures = kept_by_file(run, pseudo), []
    for row in (ordered.iloc[i] for i in _spread(range(len(ordered)), POOL)):
        name, index = row["image"], pseudo.labels.indices[position[row["image"]]]
        labels, image = pseudo.labels.labels[position[name]], _image(run, index)
        said = f"{percent(kept[name])} of pixels kept: {named_shares(labels, run.prepared.classes)}"
        panels = [
            Panel("Image", image, f"Image of the pool, {name}"),
            Panel("Pseudo label", label_overlay(image, labels, run.prepared.classes), f"Pseudo label, {said}"),
        ]
        figures.append(figure(panels, _named(name) + f". Teachers agree on {percent(row['agreement'])}; {said}."))
    return tag("div", join(figures), class_="images")


def class_legend(run: Run) -> Markup:
    """Every class with its colour, and how pixels without a label look."""
    classes = run.prepared.classes
    items = [tag("li", class_name(classes, index)) for index in range(classes.num_classes)]
    return tag("ul", join(items), class_="legend", aria_label="Class colours")


def mistake_legend() -> Markup:
    """The kinds of mistakes."""
    items = []
    for color, name in MISTAKES:
        style = "background:rgb({} {} {})".format(*color)
        items.append(tag("li", tag("span", class_="swatch", style=style) + tag("span", f"Mistake: {name}")))
    items.append(tag("li", tag("span", class_="swatch hatched") + tag("span", "No label: not counted")))
    return tag("ul", join(items), class_="legend", aria_label="Colours of mistakes")


def _image(run: Run, index: int) -> np.ndarray:
    entry = run.prepared.entries[index]
    return fit_image(run.prepared.images[index], shown_size((entry.height, entry.width)))


def _index_of(run: Run) -> dict[str, int]:
    return {entry.file_name: index for index, entry in enumerate(run.prepared.entries)}


def _named(file_name: str) -> Markup:
    return tag("b", file_name)


def _spread(items: tuple[int, ...] | range, number: int) -> list[int]:
    """Up to `number` of the items, evenly spaced, both ends among them."""
    chosen = np.linspace(0, len(items) - 1, min(number, len(items))).round().astype(int)
    return [items[i] for i in chosen]
