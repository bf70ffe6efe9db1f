"""Ready parameter sets: plain files in recipes/ laid over params.yaml, visibly, comments kept."""

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from segpipe.params import check_params

FOLDER = Path("recipes")


def list_recipes(folder: Path = FOLDER) -> list[str]:
    """Names of the recipes at hand."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def apply_recipe(name: str, params_file: Path = Path("params.yaml"), folder: Path = FOLDER) -> list[str]:
    """Lay recipes/<name>.yaml over params.yaml; return one line `key: old -> new` for each value that changed.

    Nothing is written unless the outcome is valid. Raises ValueError for an unknown recipe (naming the nearest), a
    key that params.yaml does not have, or values it refuses.
    """
    if name not in list_recipes(folder):
        nearest = difflib.get_close_matches(name, list_recipes(folder), n=1, cutoff=0.4)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        raise ValueError(f"recipe: found {name!r}; there are {', '.join(list_recipes(folder)) or 'none'}{hint}")
    round_trip = YAML()
    round_trip.width, round_trip.preserve_quotes = 4096, True
    recipe = YAML(typ="safe").load((folder / f"{name}.yaml").read_text(encoding="utf-8")) or {}
    params = round_trip.load(params_file.read_text(encoding="utf-8"))
    changes = list(_lay_over(params, recipe, ""))
    check_params(_plain(params), f"{params_file} with recipes/{name}.yaml")
    with params_file.open("w", encoding="utf-8") as file:
        round_trip.dump(params, file)
    return changes


def _lay_over(params: CommentedMap, recipe: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for key, value in recipe.items():
        if key not in params and prefix != "members.":
            raise ValueError(f"recipe: {prefix}{key} is no key of params.yaml")
        old = params.get(key)
        if isinstance(value, Mapping) and isinstance(old, CommentedMap) and not prefix.startswith("members."):
            yield from _lay_over(old, value, f"{prefix}{key}.")
        elif old != value:
            params[key] = value
            yield f"{prefix}{key}: {_shown(old)} -> {_shown(value)}"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


def _shown(value: Any) -> str:
    return "(empty)" if value is None else str(_plain(value))
