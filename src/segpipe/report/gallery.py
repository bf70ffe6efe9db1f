"""The page's parts that are pictures: judge images at both ends of the scale, test images."""

from itertools import islice

import numpy as np
import pandas as pd

from segpipe.data.resize import resize_labels
from segpipe.drawing import (
    MISTAKES,
    background_index,
    evenly_spaced,
    fit_image,
    label_overlay,
    mistakes_overlay,
    shown_size,
)
from segpipe.labels import IGNORE_INDEX
from segpipe.report.charts import class_name
from segpipe.report.figures import Panel, figure, named_shares
from segpipe.report.gather import Run
from segpipe.report.markup import Markup, fixed, join, percent, section, tag

WORST, MIDDLE, BEST, TEST = 4, 2, 3, 6  # images of each kind


def judge_images(run: Run) -> Markup:
    """Truth, prediction and mistakes of the worst, the middle and the best judge images."""
    if run.judged is None:
        return section("judge-images", "Judge images", "No image was held out to judge on.")
    ranked = run.judged.per_image.dropna(subset="miou").sort_values("miou", kind="stable")
    body: list[Markup] = [class_legend(run, *mistake_legend(run))]
    parts = {title: rows for title, rows in _ends_and_middle(run, ranked) if len(rows)}
    for title, rows in parts.items():
        figures = join(_judged(run, row.file_name, row.miou) for row in rows.itertuples())
        body += [tag("h3", title), tag("div", figures, class_="images wide")]
    place, use = (", the middle", ", the middle what to expect") if "Middle" in parts else ("", "")
    lead = (
        f"Judge images with the lowest{place} and the highest mIoU of the submission: the worst show what to work "
        f"on{use}. Images of nothing but background do not stand among the best."
    )
    return section("judge-images", "Judge images", lead, *body)


def _ends_and_middle(run: Run, ranked: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Disjoint parts of a ranking that may be shorter than all of them: the worst come first, then the best."""
    worst = ranked.iloc[: min(WORST, (len(ranked) + 1) // 2)]
    rest = ranked.drop(worst.index)
    shown = (row for row in rest.index[::-1] if _has_object(run, rest.loc[row, "file_name"]))
    best = rest.loc[list(islice(shown, BEST))]
    rest = rest.drop(best.index)
    start = max(0, min(len(ranked) // 2 - len(worst), len(rest) - MIDDLE))
    return [("Worst", worst), ("Middle", rest.iloc[start : start + MIDDLE]), ("Best", best)]


def _has_object(run: Run, file_name: str) -> bool:
    target = run.prepared.native_target(run.index_of[file_name])
    return bool(((target != background_index(run.prepared.classes)) & (target != IGNORE_INDEX)).any())


def _judged(run: Run, file_name: str, miou: float) -> Markup:
    index, classes = run.index_of[file_name], run.prepared.classes
    image = shown_image(run, index)
    preds = run.ensemble.label_map(run.chosen, index)
    target = resize_labels(run.prepared.native_target(index), preds.shape)
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


def submitted_images(run: Run) -> Markup:
    """Predictions that were submitted, evenly spaced over the test list."""
    if not run.prepared.sets["test"]:
        return section("test-images", "Test images", "There is no test set: the submission has no rows.")
    lead = "A few images of the submission, evenly spaced over the test list. Their truth is not known here."
    figures = []
    for index in evenly_spaced(run.prepared.sets["test"], TEST):
        name, image = run.prepared.entries[index].file_name, shown_image(run, index)
        preds = run.ensemble.label_map(run.chosen, index)
        said = named_shares(preds, run.prepared.classes)
        panels = [
            Panel("Image", image, f"Test image {name}"),
            Panel("Prediction", label_overlay(image, preds, run.prepared.classes), f"Predicted classes: {said}"),
        ]
        figures.append(figure(panels, _named(name) + f". Predicted: {said}."))
    return section("test-images", "Test images", lead, class_legend(run), tag("div", join(figures), class_="images"))


def class_legend(run: Run, *extra: Markup) -> Markup:
    """How each class looks in the pictures, then what else there is to tell apart."""
    classes, items = run.prepared.classes, []
    for index, name in enumerate(classes.names):
        if index == background_index(classes):
            items.append(_key("grey", f"{name}: the image in grey"))
        else:
            items.append(tag("li", class_name(classes, index)))
    return tag("ul", join([*items, *extra]), class_="legend", aria_label="Colours of the pictures")


def mistake_legend(run: Run) -> list[Markup]:
    """The kinds of mistakes; without a background there is only one."""
    possible = MISTAKES if background_index(run.prepared.classes) is not None else MISTAKES[-1:]
    kinds = [_key("", f"Mistake: {name}", "background:rgb({} {} {})".format(*color)) for color, name in possible]
    return [*kinds, hatched("No label: not counted")]


def hatched(text: str) -> Markup:
    """How pixels without a label look."""
    return _key("hatched", text)


def _key(kind: str, text: str, style: str | None = None) -> Markup:
    return tag("li", tag("span", class_=f"swatch {kind}".strip(), style=style) + tag("span", text))


def shown_image(run: Run, index: int) -> np.ndarray:
    """Image `index` of the image table at the size of the page's pictures."""
    entry = run.prepared.entries[index]
    return fit_image(run.prepared.images[index], shown_size((entry.height, entry.width)))


def _named(file_name: str) -> Markup:
    return tag("b", file_name)
