"""Ready parameter sets: plain files in recipes/ laid over params.yaml, visibly, comments kept.

A recipe holds the keys that it sets and no others, so that one about data and one about training can be combined;
`sample` holds every key but those of tracking, and so leads back to the embedded default. The comment at the top says
what a recipe is and needs.
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from segpipe.params import check_params, read_yaml

FOLDER = Path("recipes")


def list_recipes(folder: Path = FOLDER) -> list[str]:
    """Names of the recipes at hand."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def describe_recipe(name: str, folder: Path = FOLDER) -> list[str]:
    """What recipes/<name>.yaml says of itself at its top, one entry a sentence."""
    lines = (folder / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    comment = " ".join(line.lstrip("# ") for line in takewhile(lambda line: line.startswith("#"), lines))
    return re.split(r"(?<=\.) (?=[A-Z`])", comment)


def apply_recipe(name: str, params_file: Path = Path("params.yaml"), folder: Path = FOLDER) -> list[str]:
    """Lay recipes/<name>.yaml over params.yaml; return one line `key: old -> new` for each value that changed.

    Nothing is written unless the outcome is valid. Raises ValueError for an unknown recipe (naming the nearest), or
    with all keys that do not exist and values that are refused.
    """
    if name not in list_recipes(folder):
        nearest = difflib.get_close_matches(name, list_recipes(folder), n=1, cutoff=0.4)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        raise ValueError(f"recipe: found {name!r}; there are {', '.join(list_recipes(folder)) or 'none'}{hint}")
    recipe_file = folder / f"{name}.yaml"
    recipe, plain = read_yaml(recipe_file), read_yaml(params_file)
    for file, content in ((recipe_file, recipe), (params_file, plain)):
        if not isinstance(content, dict):
            raise ValueError(f"{file}: found {content!r}, expected sections such as 'data:' and 'model:'")
    round_trip = YAML()
    round_trip.width, round_trip.preserve_quotes = 4096, True
    params = round_trip.load(params_file.read_text(encoding="utf-8"))
    changes = list(_lay_over(params, recipe, ""))
    check_params(_plain(params), f"{params_file} with {recipe_file}")  # a key that does not exist is found here, too
    with params_file.open("w", encoding="utf-8") as file:
        round_trip.dump(params, file)
    return changes


def _lay_over(params: CommentedMap, recipe: Mapping[str, Any], prefix: str) -> Iterator[str]:
    """Change `params` in place, mapping by mapping; a member's overrides and other values are replaced whole."""
    for key, value in recipe.items():
        old = params.get(key)
        if isinstance(value, Mapping) and isinstance(old, CommentedMap) and prefix != "members.":
            yield from _lay_over(old, value, f"{prefix}{key}.")
        elif key not in params or old != value:
            params[key] = value
            yield f"{prefix}{key}: {_shown(old)} -> {_shown(value)}"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


def _shown(value: Any) -> str:
    return "(empty)" if value is None else str(_plain(value))
