"""`segpipe ...`: what is not a stage."""

from typing import Annotated

import typer

from segpipe.params import load_params

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)


@app.callback()
def main() -> None:
    """Tools beside the pipeline; the pipeline itself is `dvc repro`."""


@app.command()
def wire() -> None:
    """Rewrite the lists in dvc.yaml that follow from params.yaml and from what the stages import."""
    from segpipe.wire import wire as rewrite

    changed = rewrite(load_params())
    typer.echo(f"dvc.yaml: rewrote {', '.join(changed)}" if changed else "dvc.yaml: already fits params.yaml")


@app.command()
def recipe(name: Annotated[str | None, typer.Argument(help="its name; none lists what there is")] = None) -> None:
    """Lay a ready parameter set of recipes/ over params.yaml, show each change, and wire dvc.yaml."""
    from segpipe.recipe import apply_recipe, list_recipes

    if name is None:
        typer.echo("recipes: " + ", ".join(list_recipes()))
        return
    changes = apply_recipe(name)
    typer.echo("\n".join(changes) or f"params.yaml: already as recipes/{name}.yaml says")
    wire()


@app.command()
def check() -> None:
    """Check params.yaml: every problem at once, with the key, what was found and what is allowed."""
    params = load_params()
    typer.echo(f"params.yaml: valid; members {', '.join(params.member_names)}, folds {list(params.split.train_folds)}")


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
