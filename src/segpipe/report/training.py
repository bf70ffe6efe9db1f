"""The page's parts about what led to the submission: models, learning curves, quality of the pseudo labels."""

import math

import pandas as pd

from segpipe.params import ALL
from segpipe.report.charts import Line, class_name, line_chart, line_legend
from segpipe.report.gather import ModelRun, PseudoRun, Run
from segpipe.report.markup import (
    MISSING,
    Column,
    Markup,
    fixed,
    join,
    percent,
    section,
    table,
    tag,
    thousands,
)


def models(run: Run) -> Markup:
    """One row a model."""
    columns = [Column("Member"), Column("Fold", "number"), Column("Round"), Column("Architecture"), Column("Encoder")]
    columns += [Column("Tune mIoU", "number"), Column("Chosen epoch", "number"), Column("Epochs", "number")]
    leads = []
    if run.judged is not None:
        leads.append(
            "Each model's best score on tune images, which chose its epoch: good for watching training, too kind for a "
            "claim. The scores of the same models on judge images stand above."
        )
    if ALL in run.params.split.train_folds:
        leads.append("Models of fold all hold no image out: none is scored, and the last epoch is taken.")
    rows = [_model_row(run, model) for model in run.models]
    return section("models", "Models", " ".join(leads), table("Models on tune images.", columns, rows))


def _model_row(run: Run, model: ModelRun) -> list[object]:
    architecture = run.params.member(model.member).model
    made = [architecture.arch, architecture.encoder, fixed(model.tune_miou)]
    if model.epochs == 0:  # retraining without a pseudo label
        epoch = "baseline kept"
    else:
        epoch = f"{model.chosen_epoch:.0f}" if math.isfinite(model.chosen_epoch) else MISSING
        epoch += ", averaged weights" if model.is_averaged else ""
    return [model.member, model.fold, model.round, *made, epoch, model.epochs]


def learning_curves(run: Run) -> Markup:
    """Tune mIoU, training loss and learning rate over epochs, a row of charts for each fold."""
    lead = (
        "How training went, epoch by epoch; the mark is the epoch that was kept, the one of highest mIoU on tune "
        "images (of fold all the last). The loss of retraining includes its pseudo-labelled images, so rounds compare "
        "by mIoU only."
    )
    curves = (("mIoU on tune images", "tune_miou"), ("Training loss", "train_loss"), ("Learning rate", "lr"))
    body = []
    for fold in run.params.split.train_folds:
        drawn = [curve for curve in curves if fold != ALL or curve[1] != "tune_miou"]
        those = [model for model in run.models if model.fold == fold]
        names = [f"{model.member}, {model.round}" for model in those]
        charts = []
        for title, column in drawn:
            lines = [
                Line(name, model.history["epoch"], model.history[column], model.chosen_epoch)
                for name, model in zip(names, those, strict=True)
            ]
            charts.append(line_chart(title, lines, f"curve-{fold}-{column}"))
        if len(run.params.split.train_folds) > 1:
            body.append(tag("h3", f"Fold {fold}"))
        body += [line_legend(names), tag("div", join(charts), class_="charts")]
    return section("curves", "Learning curves", lead, *body)


_QUALITY = ("Pixels kept", "Of all kept", "Kept of predicted", "Mean confidence", "Right on tune images")


def pseudo_tables(run: Run, pseudo: PseudoRun) -> Markup:
    """Per class: how much was kept and how right it is; per image: where the teachers agreed."""
    columns = [Column("Class"), *(Column(title, "number") for title in _QUALITY)]
    rows = [
        [
            class_name(run.prepared.classes, index),
            thousands(int(row.pixels_kept)),
            percent(row.share_of_kept),
            percent(row.kept_of_predicted),
            fixed(row.mean_confidence),
            percent(row.tune_precision),
        ]
        for index, row in enumerate(pseudo.quality.itertuples())
    ]
    caption = f"Pseudo labels of fold {pseudo.fold} by class: {percent(pseudo.kept)} of the pool's pixels were kept."
    return table(caption, columns, rows) + _agreement(run, pseudo)


def ranked_pool(run: Run, pseudo: PseudoRun) -> pd.DataFrame:
    """The rows of `pseudo.agreement`, least agreed first; by the pixels kept where there is one teacher."""
    kept = [pseudo.share_kept(run.index_of[name]) for name in pseudo.agreement["image"]]
    by = "kept" if run.one_teacher else "agreement"
    return pseudo.agreement.assign(kept=kept).sort_values(by, kind="stable")


def _agreement(run: Run, pseudo: PseudoRun, number: int = 4) -> Markup:
    rows = [
        [row.image, percent(row.agreement), percent(pseudo.share_kept(run.index_of[row.image]))]
        for row in ranked_pool(run, pseudo).itertuples()
    ]
    columns = [Column("Image"), Column("Teachers agree", "number"), Column("Pixels kept", "number")]
    if run.one_teacher:
        columns, rows = [columns[0], columns[2]], [[image, kept] for image, _, kept in rows]
    by = "kept" if run.one_teacher else "agreed"
    least = table(f"Least {by} images of the pool, fold {pseudo.fold}.", columns, rows[:number])
    most = table(f"Most {by} images of the pool, fold {pseudo.fold}.", columns, rows[::-1][:number])
    return tag("div", least + most, class_="pair")
