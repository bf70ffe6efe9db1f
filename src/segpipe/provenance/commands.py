"""`segpipe provenance`; it loads what it needs when it is called."""

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def provenance(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="a submission, a model, any output or a copy of one")],
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object instead of text")] = False,
) -> None:
    """Commit, code, parameters, data and models behind a file, by dvc.lock and git. Exit code 1 where none is known."""
    from segpipe.provenance.told import to_json, to_text
    from segpipe.provenance.trace import trace

    found = trace(file)
    typer.echo(json.dumps(to_json(found), indent=2, ensure_ascii=False) if as_json else to_text(found))
    raise typer.Exit(0 if found.place else 1)
