"""What git has on record, by commands that only read."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Commit:
    """A commit: its hash, its time as ISO 8601 and in seconds since 1970, and the first line of its message."""

    hash: str
    time: str  # in the committer's own time zone: what `seconds` orders, this does not
    seconds: int
    subject: str

    def to_json(self) -> dict:
        """A plain dict."""
        return {"hash": self.hash, "time": self.time, "subject": self.subject}


class History:
    """The git repository whose tree `root` is a part of; `known` is False where there is none, or no git."""

    def __init__(self, root: Path) -> None:
        self.root = root
        try:
            self.prefix = self._ask("rev-parse", "--show-prefix").strip()
            self.known = True
        except (OSError, subprocess.CalledProcessError):
            self.prefix, self.known = "", False

    def head(self) -> str | None:
        """The hash of the commit that is checked out; None where there is none yet."""
        try:
            return self._ask("rev-parse", "--verify", "--quiet", "HEAD").strip() if self.known else None
        except subprocess.CalledProcessError:
            return None

    def is_cut(self) -> bool:
        """Whether older commits are not here, as in a shallow clone."""
        return self.known and self._ask("rev-parse", "--is-shallow-repository").strip() == "true"

    def modified(self) -> list[str]:
        """Tracked files of the working tree that differ from HEAD."""
        listed = self._ask("status", "--porcelain", "--untracked-files=no", "-z") if self.known else ""
        return [entry[3:] for entry in listed.split("\0") if entry[2:3] == " "]

    def commits_changing(self, path: str) -> list[Commit]:
        """All commits of all branches and experiments that changed `path`, newest first."""
        if self.head() is None:
            return []
        listed = self._ask("log", "--all", "--format=%H%x00%cI%x00%ct%x00%s", "--", path)
        commits = []
        for line in listed.split("\n")[:-1]:  # not splitlines: a subject may hold what that takes for an end
            hash_, time, seconds, subject = line.split("\0", 3)
            commits.append(Commit(hash_, time, int(seconds), subject))
        return commits

    def contents(self, commit_paths: Sequence[tuple[str, str]]) -> Iterator[bytes | None]:
        """The file of each (commit, path), one after another; None where the commit has no such file."""
        if not commit_paths:
            return
        command = ["git", "cat-file", "--batch"]
        with subprocess.Popen(
            command, cwd=self.root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=_environment()
        ) as process:
            assert process.stdin is not None and process.stdout is not None
            for commit, path in commit_paths:
                process.stdin.write(f"{commit}:{self.prefix}{path}\n".encode())
                process.stdin.flush()  # one at a time: neither side waits for the other
                head = process.stdout.readline().split()
                if len(head) != 3 or head[1] != b"blob":
                    yield None
                    continue
                yield process.stdout.read(int(head[2]))
                process.stdout.read(1)  # the end of the line
            process.stdin.close()

    def _ask(self, *arguments: str) -> str:
        run = subprocess.run(
            ["git", *arguments], cwd=self.root, capture_output=True, check=True, env=_environment(), timeout=120
        )
        return run.stdout.decode("utf-8", "replace")


def _environment() -> dict[str, str]:
    return os.environ | {"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}  # a look must not lock the index
