"""Which modules a script is made of, and one digest of them: what a result's code was. And that of any other file."""

import ast
import hashlib
from collections.abc import Iterable
from pathlib import Path

# What can change without changing any output: params holds no defaults, so what it decides stands in params.yaml;
# submission/fit and training/check only refuse; the others show and tell what happens (tests/test_tracking.py holds
# weights and files equal with and without them).
EXEMPT = (
    "params",
    "progress",
    "data/prepare/summary",
    "submission/fit",
    "training/check",
    "training/display",
    "training/tracking",
)


def code_deps(script: Path, source: Path = Path("src")) -> list[str]:
    """The script and every segpipe module it imports, directly or through others, as sorted paths.

    EXEMPT modules are left out, with what only they import. Packages' own `__init__.py` hold no code (a test says so).
    """
    found: set[Path] = set()
    queue = [script]
    while queue:
        path = queue.pop()
        if path in found or _is_exempt(path.relative_to(source / "segpipe") if path != script else path):
            continue
        found.add(path)
        queue += [module for name in _imports(path) if (module := _module_file(name, source)) is not None]
    listed = {path.as_posix() for path in found if path.name != "__init__.py"}
    return [script.as_posix(), *sorted(listed - {script.as_posix()})]


def _is_exempt(module: Path) -> bool:
    names = module.with_suffix("").as_posix()
    return any(f"{names}/".startswith(f"{exempt}/") for exempt in EXEMPT)


def _imports(path: Path) -> set[str]:
    """Dotted names of segpipe modules that a file imports anywhere, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in names if name.split(".")[0] == "segpipe"}


def _module_file(name: str, source: Path) -> Path | None:
    path = source.joinpath(*name.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def code_digest(files: Iterable[str | Path], root: Path = Path()) -> str:
    """Of the files' names, relative to `root`, and contents: 12 hexadecimal digits, whatever their order."""
    digest = hashlib.sha256()
    for path in sorted(map(Path, files)):
        name = path.relative_to(root).as_posix()
        digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes in hexadecimal digits; read in pieces, as weights may be large."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
