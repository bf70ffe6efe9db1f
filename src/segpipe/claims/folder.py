"""Folders of claims: `claims`, which every clone can run, and folders in it for data that not everyone has."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

FIRST = Path("claims")


@dataclass(frozen=True)
class ClaimsFolder:
    """Where the parts of one folder of claims lie, relative to the project's top folder.

    Its prepared data and its page carry its name, so that no two folders share an output, which DVC would refuse.
    """

    path: Path

    @property
    def is_first(self) -> bool:
        """Whether it is `claims` itself."""
        return self.path == FIRST

    @property
    def claims(self) -> Path:
        """What is claimed."""
        return self.path / "claims.yaml"

    @property
    def base(self) -> Path:
        """What arms override: a base.yaml of its own where there is one, else that of `claims`."""
        own = self.path / "base.yaml"
        return own if own.is_file() else FIRST / "base.yaml"

    @property
    def pipeline(self) -> Path:
        """What DVC runs."""
        return self.path / "dvc.yaml"

    @property
    def runs(self) -> Path:
        """The folder of results."""
        return self.path / "runs"

    def result(self, key: str) -> str:
        """Where the result of a run lies."""
        return f"{self.runs.as_posix()}/{key}.json"

    @property
    def verdicts(self) -> Path:
        """What the results have shown."""
        return self.path / "verdicts.json"

    @property
    def page(self) -> Path:
        """The same for people."""
        return Path("docs") / f"{self._name}.md"

    def prepared(self, dataset: str) -> str:
        """Where a data set lies prepared. Names of data sets hold no dash: those of `claims` are never in the way."""
        return f"data/{self._name}/{dataset}"

    @property
    def top(self) -> str:
        """The way from the folder up to the project's top folder."""
        return "/".join([".."] * len(self.path.parts))

    @property
    def command(self) -> str:
        """What wires it."""
        return "segpipe claims" if self.is_first else f"segpipe claims {self.path.as_posix()}"

    @property
    def option(self) -> str:
        """What its stages add to their command: nothing for `claims`, whose long runs another command would repeat."""
        return "" if self.is_first else f"--claims {self.path.as_posix()} "

    @property
    def _name(self) -> str:
        return "claims" if self.is_first else f"claims-{self.path.name}"


def find_claims(given: Path) -> Path:
    """The folder that a user names, relative to the project's top folder.

    Raises ValueError where it is neither `claims` nor a folder in it, or a folder in it without claims.yaml.
    """
    path = Path(os.path.relpath(given))
    if path == FIRST:
        return path
    if path.parent != FIRST or not re.fullmatch(r"[A-Za-z0-9_-]+", path.name):
        raise ValueError(
            f"{given}: is no folder of claims; expected {FIRST}, or a folder in it such as {FIRST}/mine, its name "
            "of letters, digits, _ and -"
        )
    file = ClaimsFolder(path).claims
    if not file.is_file():
        there = ", ".join(folder.as_posix() for folder in claims_folders())
        todo = f"write it, or name a folder that has one: {there}"
        raise ValueError(f"{file}: not found; {todo if there else 'run the command in the top folder of the project'}")
    return path


def claims_folders() -> list[Path]:
    """Every folder of claims in the project, the first one first."""
    files = [FIRST / "claims.yaml", *sorted(FIRST.glob("*/claims.yaml"))]
    return [file.parent for file in files if file.is_file()]
