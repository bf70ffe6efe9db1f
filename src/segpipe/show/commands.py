"""The commands of `segpipe show`; each loads what it needs when it is called."""

from pathlib import Path
from typing import Annotated

import typer

from segpipe.params import load_params

app = typer.Typer(help="Show what params.yaml will do, before anything runs.", no_args_is_help=True)


@app.callback()
def main() -> None:
    """Show what params.yaml will do, before anything runs."""


@app.command()
def schedule(
    member: Annotated[str | None, typer.Option(help="its name; none is the first of member_names")] = None,
    round_: Annotated[str, typer.Option("--round", help="which training: baseline or retrain")] = "baseline",
    out: Annotated[
        Path | None, typer.Option(help="also write a page with the curve: a name that ends in .html")
    ] = None,
) -> None:
    """The learning rate that a member will train with, update by update."""
    from segpipe.show.schedule import plan_schedule, to_text
    from segpipe.show.schedule_page import write_page

    if out is not None:
        _check_name(out, ".html")
    planned = plan_schedule(load_params(), member, round_)
    typer.echo(to_text(planned))
    if out is not None:
        write_page(planned, out)
        typer.echo(f"{out}: written")


@app.command()
def augment(
    member: Annotated[str | None, typer.Option(help="its name; none is the first of member_names")] = None,
    round_: Annotated[
        str, typer.Option("--round", help="baseline: labelled images; retrain: pseudo-labelled ones")
    ] = "baseline",
    images: Annotated[int, typer.Option(min=1, help="how many, a row each")] = 4,
    epochs: Annotated[int, typer.Option(min=1, help="how many, a column each")] = 4,
    out: Annotated[Path, typer.Option(help="the sheet to write: a name that ends in .png")] = Path("augment.png"),
) -> None:
    """Training images and their labels as a member will see them: pasted on, augmented, drawn anew each epoch."""
    _check_name(out, ".png")
    from segpipe.show.augment import plan_sheet, write_sheet

    sheet = plan_sheet(load_params(), member, round_, images=images, epochs=epochs)
    write_sheet(sheet, out)
    typer.echo(f"{sheet.said}\n{out}: written")


def _check_name(out: Path, suffix: str) -> None:
    if out.suffix != suffix or out.is_dir():
        raise ValueError(f"--out: found {str(out)!r}; expected a file name that ends in {suffix}")
