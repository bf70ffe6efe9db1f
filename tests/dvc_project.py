"""A tiny project of its own for tests that run DVC itself."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("claims", ".dvc", ".dvcignore", ".gitignore", "dvc.yaml", "params.yaml", "recipes", "src", "stages")


def command(folder: Path, *words: str, check: bool = True, **variables: str) -> subprocess.CompletedProcess:
    """Run a command in `folder` with this Python's own tools first on the path; stdout holds stderr too."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "OMP_NUM_THREADS": "1", "DVC_NO_ANALYTICS": "1"} | variables
    done = subprocess.run(
        words, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=240
    )
    assert not check or done.returncode == 0, done.stdout
    return done


def make_tiny_project(folder: Path) -> None:
    """A git and DVC repository at `folder` with the recipe `tiny`, nothing run or committed yet."""
    folder.mkdir(parents=True)
    skipped = shutil.ignore_patterns("__pycache__", "cache", "tmp")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=skipped)
        else:
            shutil.copy(source, folder / name)
    command(folder, "git", "init", "-q")
    command(folder, "git", "config", "user.email", "test@example.org")
    command(folder, "git", "config", "user.name", "Test")
    command(folder, sys.executable, "-m", "segpipe.cli", "recipe", "tiny", PYTHONPATH="src")


def stages_run(output: str) -> list[str]:
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]
