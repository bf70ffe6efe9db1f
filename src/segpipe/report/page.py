"""The report: what a run gave, on one self-contained HTML page.

Equal inputs give equal bytes in one environment: nothing that varies between identical runs (times, paths, commit ids)
stands in it. Versions of libraries do; they are part of what decided the numbers.
"""

from pathlib import Path

from segpipe.data.split import scored_folds
from segpipe.params import ALL, Params
from segpipe.report.data import data
from segpipe.report.document import document
from segpipe.report.gallery import judge_images, submitted_images
from segpipe.report.gather import Run, gather
from segpipe.report.inputs import libraries, parameters
from segpipe.report.markup import Markup, count, fixed, join, tag
from segpipe.report.pseudo_labels import pseudo_labels
from segpipe.report.scores import candidates, classes, headline
from segpipe.report.training import learning_curves, models

CONTENTS = (
    ("candidates", "Candidates", candidates),
    ("models", "Models", models),
    ("curves", "Learning curves", learning_curves),
    ("classes", "Classes", classes),
    ("judge-images", "Judge images", judge_images),
    ("test-images", "Test images", submitted_images),
    ("pseudo-labels", "Pseudo labels", pseudo_labels),
    ("data", "Data", data),
    ("parameters", "Parameters", parameters),
    ("libraries", "Libraries", libraries),
)


def write_report(
    params: Params,
    *,
    prepared_folder: Path,
    predictions_folder: Path,
    pseudo_folder: Path,
    submission_folder: Path,
    metrics_folder: Path,
    plots_folder: Path,
    out: Path,
) -> None:
    """Write `out`/index.html from what the other stages left; raises FileNotFoundError that names what is missing."""
    run = gather(
        params,
        prepared_folder=prepared_folder,
        predictions_folder=predictions_folder,
        pseudo_folder=pseudo_folder,
        submission_folder=submission_folder,
        metrics_folder=metrics_folder,
        plots_folder=plots_folder,
    )
    out.mkdir(parents=True, exist_ok=True)
    (out / "index.html").write_text(page(run), encoding="utf-8", newline="\n")


def page(run: Run) -> str:
    """The whole document."""
    score = f"{fixed(run.headline['miou'])} mIoU" if run.judged else "not scored"
    main = tag("main", join([_summary(run), *(part(run) for _, _, part in CONTENTS)]), id="main")
    skip = tag("a", "Skip to the results", href="#main", class_="skip")
    return document(f"Segmentation report: {score}", _top(run) + main + _footer(), before=skip)


def _top(run: Run) -> Markup:
    members = count(len(run.params.member_names), "member")
    lead = (
        f"What the pipeline made of {count(len(run.prepared.sets['labeled']), 'labelled image')} and "
        f"{count(len(run.prepared.pool()), 'image')} to pseudo-label, with {members} on "
        f"{_folds(run)}: a submission for "
        f"{count(len(run.prepared.sets['test']), 'test image')} in {run.prepared.classes.num_classes} classes."
    )
    return tag("header", tag("h1", "Segmentation report") + tag("p", lead, class_="lead"))


def _folds(run: Run) -> str:
    numbered = len(scored_folds(run.params.split.train_folds))
    parts = [count(numbered, "fold")] if numbered else []
    if ALL in run.params.split.train_folds:
        parts.append("every labelled image at once")
    return " and on ".join(parts)


def _summary(run: Run) -> Markup:
    links = (tag("li", tag("a", title, href=f"#{identity}")) for identity, title, _ in CONTENTS)
    navigation = tag("nav", tag("ul", join(links)), aria_label="Contents")
    return headline(run) + navigation


def _footer() -> Markup:
    text = (
        "Written by the report stage of segpipe from the files of metrics/, plots/ and data/; the same inputs give the "
        "same page. mIoU: mean over classes of intersection over union, from 0 to 1."
    )
    return tag("footer", tag("p", text))
