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
    from segpipe.show.schedule_page import check_name, write_page

    if out is not None:
        check_name(out)
    planned = plan_schedule(load_params(), member, round_)
    typer.echo(to_text(planned))
    if out is not None:
        write_page(planned, out)
        typer.echo(f"{out}: written")
