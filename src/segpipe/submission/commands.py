"""`segpipe check-submission`; it loads what it needs when it is called."""

import json
import sys
from contextlib import redirect_stdout
from enum import StrEnum
from pathlib import Path
from typing import Annotated, cast

import typer

from segpipe.params import load_params

app = typer.Typer()


class FormatName(StrEnum):
    """The formats by name, for the command line."""

    pixels = "pixels"
    rle = "rle"
    png = "png"


@app.command("check-submission")
def check_submission(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="a CSV, a zip, or a folder of PNG label maps")],
    sample: Annotated[
        Path | None, typer.Option(help="the contest's sample submission; none is submission.sample")
    ] = None,
    previous: Annotated[Path | None, typer.Option(help="another submission, to say what changed")] = None,
    format_: Annotated[
        FormatName | None, typer.Option("--format", help="none finds it out by the file and submission.formats")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object instead of text")] = False,
) -> None:
    """Check a submission, whoever wrote it: ids, lengths, classes, shares. Exit code 1 where something is wrong."""
    from segpipe.submission.check import check_file
    from segpipe.submission.layout import Format
    from segpipe.submission.told import to_json, to_text

    chosen = cast(Format, format_.value) if format_ else None
    with redirect_stdout(sys.stderr):  # progress must not stand before the JSON
        checked = check_file(load_params(), file, sample=sample, previous=previous, format_=chosen)
    typer.echo(json.dumps(to_json(checked), indent=2, ensure_ascii=False) if as_json else to_text(checked))
    raise typer.Exit(1 if checked.problems else 0)
