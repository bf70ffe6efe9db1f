"""`segpipe ...`: what is not a stage."""

import json
import sys
from collections.abc import Iterable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

from segpipe.params import load_params, stop_on
from segpipe.provenance.commands import app as provenance
from segpipe.show.commands import app as show
from segpipe.submission.commands import app as submission

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)
app.add_typer(show, name="show")
app.add_typer(submission)
app.add_typer(provenance)


@app.callback()
def main() -> None:
    """Tools beside the pipeline; the pipeline itself is `dvc repro`."""


@app.command()
def wire() -> None:
    """Rewrite the lists in dvc.yaml that follow from params.yaml and from what the stages import."""
    from segpipe.wire import left_behind
    from segpipe.wire import wire as rewrite

    params = load_params()
    changed = rewrite(params)
    typer.echo(f"dvc.yaml: rewrote {', '.join(changed)}" if changed else "dvc.yaml: already fits params.yaml")
    if names := left_behind(params):
        files = " ".join(f"metrics/*/{name}.json plots/*/{name}" for name in names)
        typer.echo(f"metrics and plots of {', '.join(names)} stay until you `rm -r {files}`, and commit that")


@app.command()
def recipe(
    name: Annotated[str | None, typer.Argument(help="its name; none lists what there is, a line each")] = None,
) -> None:
    """Lay a ready parameter set of recipes/ over params.yaml, show each change, and wire dvc.yaml."""
    from segpipe.recipe import apply_recipe, describe_recipe, list_recipes

    if name is None:
        names = list_recipes()
        width = max(map(len, names), default=0)
        typer.echo("\n".join(f"{each:<{width}}  {describe_recipe(each)[0]}" for each in names))
        typer.echo(
            "`segpipe recipe NAME` changes what recipes/NAME.yaml names in params.yaml and leaves the rest: "
            "`segpipe recipe sample` before it resets that"
        )
        return
    changes = apply_recipe(name)
    typer.echo(" ".join(describe_recipe(name)))
    typer.echo("\n".join(changes) or f"params.yaml: already as recipes/{name}.yaml says")
    wire()


@app.command()
def check(
    folder: Annotated[Path | None, typer.Argument(metavar="DIR", help="a data set; none checks params.yaml")] = None,
    train: Annotated[
        list[str] | None, typer.Option(help="a list in DIR, in place of data.train; may be given twice")
    ] = None,
    val: Annotated[list[str] | None, typer.Option(help="likewise")] = None,
    judge: Annotated[list[str] | None, typer.Option(help="likewise")] = None,
    unlabeled: Annotated[list[str] | None, typer.Option(help="likewise")] = None,
    test: Annotated[
        list[str] | None, typer.Option(help="likewise; lists that no option names are left out then")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object instead of text")] = False,
) -> None:
    """Check params.yaml, or the data set in DIR as `prepare` would: every problem at once. Writes nothing."""
    named = {"train": train, "val": val, "judge": judge, "unlabeled": unlabeled, "test": test}
    given = {source: names for source, names in named.items() if names}
    if folder is not None:
        _check_data(folder, given, as_json)
    if given or as_json:
        raise ValueError("check: the options are about a data set; name its folder: `segpipe check DIR`")
    from segpipe.doctor.parameters import files_of, parameter_problems
    from segpipe.models.atrous import warnings_of_members

    params = load_params()  # first and fast; what follows asks the libraries, which takes seconds
    problems = parameter_problems(params)
    stop_on(files_of(problems), problems)
    for warning in warnings_of_members(params):
        typer.echo(f"warning: {warning}")
    folds = ", ".join(map(str, params.split.train_folds))
    typer.echo(f"params.yaml: valid; members {', '.join(params.member_names)}, folds {folds}")


def _check_data(folder: Path, named: dict[str, list[str]], as_json: bool) -> None:
    """Print what is found in the folder, and exit: code 1 where something would stop `prepare`."""
    from segpipe.data.prepare.check import check_data, other_folder
    from segpipe.data.prepare.summary import to_text

    params = load_params()
    data, split = other_folder(params.data, params.split, str(folder), named)
    with redirect_stdout(sys.stderr):  # progress must not stand before the JSON
        checked = check_data(data, split)
    typer.echo(json.dumps(checked.to_json(), indent=2, ensure_ascii=False) if as_json else to_text(checked))
    raise typer.Exit(1 if checked.errors else 0)


@app.command()
def claims(
    folder: Annotated[Path, typer.Argument(help="claims, or a folder in it for data of your own")] = Path("claims"),
) -> None:
    """Check FOLDER/claims.yaml, wire FOLDER/dvc.yaml to it, and say what is there and what is still to run."""
    from segpipe.claims.folder import find_claims
    from segpipe.claims.load import load_plan
    from segpipe.claims.run import check_arms
    from segpipe.claims.status import claims_status
    from segpipe.claims.wiring import wire_claims

    plan = load_plan(find_claims(folder))
    check_arms(plan)
    typer.echo(f"{plan.folder.pipeline}: {'rewritten to fit' if wire_claims(plan) else 'already fits'} claims.yaml")
    typer.echo(claims_status(plan))


@app.command()
def score(
    candidate: Annotated[str | None, typer.Argument(help="its name; none is the one that is submitted")] = None,
    against: Annotated[str | None, typer.Option(help="another candidate, for paired differences")] = None,
    labels: Annotated[Path | None, typer.Option(help="instead of a candidate: a folder of PNG label maps")] = None,
    truth: Annotated[
        Path | None, typer.Option(help="the labelled list (COCO file, or as data.format says) to hold --labels against")
    ] = None,
    root: Annotated[Path | None, typer.Option(help="folder of the images in --truth; none is data.root")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="the same as JSON")] = False,
) -> None:
    """Score a candidate on judge images by every definition that a leaderboard may use, with intervals."""
    from segpipe.score.candidate import score_candidate
    from segpipe.score.labels import score_labels
    from segpipe.score.sheet import to_json, to_text

    with redirect_stdout(sys.stderr):  # progress must not stand in the table, or before the JSON
        if labels is None and truth is None and root is None:
            sheet = score_candidate(load_params(), candidate, against)
        elif labels is None or truth is None or candidate is not None or against is not None:
            raise ValueError("score: give a candidate, or --labels FOLDER with --truth FILE (and --root FOLDER)")
        else:
            sheet = score_labels(load_params(), labels, truth, root)
    typer.echo(json.dumps(to_json(sheet), indent=2, ensure_ascii=False) if as_json else to_text(sheet))


@app.command()
def predict(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL...", help="model folders; several are averaged")],
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help="a folder, or a text file with an image a line")],
    out: Annotated[Path, typer.Option(help="folder for the label maps, a new one or that of an interrupted run")],
    overlays: Annotated[bool, typer.Option("--overlays", help="also the classes in colour over each image")] = False,
    coco: Annotated[Path | None, typer.Option(help="also all label maps as this COCO file of RLE")] = None,
    device: Annotated[str, typer.Option(help="auto (a GPU where there is one), cpu or cuda")] = "auto",
) -> None:
    """Label maps of any images, looked at as params.yaml says under `predict`. Exit code 1 where some are left out."""
    from segpipe.inference.folder import predict_folder

    outcome = predict_folder(models, images, out, load_params(), device=device, overlays=overlays, coco=coco)
    typer.echo(f"{out}: {outcome.summary()}")
    for name, fault in outcome.left_out.items():
        typer.echo(f"  left out: {fault}" if name in fault else f"  left out: {name}: {fault}", err=True)
    raise typer.Exit(1 if outcome.left_out else 0)


@app.command()
def doctor(
    measure: Annotated[bool, typer.Option(help="train every member for a few updates: about a minute")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object instead of text")] = False,
    seconds: Annotated[float, typer.Option(min=0, help="of each timed pass")] = 0.7,
    passes: Annotated[int, typer.Option(min=1, help="timed passes of each kind; the median counts")] = 3,
) -> None:
    """Will the pipeline run here, what does it need, and what slows it down? Exit code 1 where something will fail."""
    from segpipe.doctor.page import NOT_MEASURED, Progress, closing_line, member_lines, section_lines
    from segpipe.doctor.survey import examine_environment, measure_members

    progress = Progress()

    def show(lines: Iterable[str]) -> None:
        progress.clear()
        if not as_json:
            typer.echo("\n".join(lines))

    survey = examine_environment()
    for title, findings in survey.sections.items():
        show(section_lines(title, findings))
    if measure:
        for name in measure_members(survey, progress, seconds=seconds, passes=passes):
            show(member_lines(name, survey.members[name], survey.advice[name]))
        if not survey.members:
            show([NOT_MEASURED])
    show([closing_line(survey)])
    if as_json:
        typer.echo(json.dumps(survey.to_json(), indent=2, ensure_ascii=False))
    raise typer.Exit(0 if survey.sound else 1)


@app.command()
def viewer() -> None:
    """Write the page of `dvc plots show` and `dvc plots diff` that needs no network, and have DVC use it here."""
    from segpipe.viewer import write_viewer

    typer.echo(f"{write_viewer()}: written; `dvc plots diff` now works without a network")


def run() -> None:
    """The entry point: a mistake of the user's is one clear message, not a traceback."""
    try:
        app()
    except (ValueError, FileNotFoundError) as error:
        typer.echo(f"segpipe: {error}", err=True)
        raise SystemExit(2) from error


if __name__ == "__main__":
    run()
