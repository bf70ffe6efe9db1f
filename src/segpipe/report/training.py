"""The page's parts about what led to the submission: models and learning curves."""

import math

from segpipe.params import ALL
from segpipe.report.charts import Line, line_chart, line_legend
from segpipe.report.gather import ModelRun, Run
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
    if terms := _term_rows(run):
        columns = [Column("Member"), Column("Fold", "number"), Column("Round"), Column("Term of the loss")]
        columns += [Column(name, "number") for name in ("First epoch", "Last epoch", "Gradient at first", "At last")]
        said = (
            "Terms of the loss, each without its weight, and their shares of the gradient at the logits of an epoch's "
            "first update: which term leads is no matter of its weight alone."
        )
        body.append(table(said, columns, terms))
    return section("curves", "Learning curves", lead, *body)


def _term_rows(run: Run) -> list[list[object]]:
    """One row a term, of models whose loss has several."""
    rows: list[list[object]] = []
    for model in run.models:
        names = [name.removeprefix("gradient_") for name in model.history if name.startswith("gradient_")]
        for name in names if len(names) > 1 and model.epochs else ():
            values, shares = model.history[f"loss_{name}"], model.history[f"gradient_{name}"]
            numbers = [fixed(values.iloc[0]), fixed(values.iloc[-1]), percent(shares.iloc[0]), percent(shares.iloc[-1])]
            rows.append([model.member, model.fold, model.round, name, *numbers])
    return rows
