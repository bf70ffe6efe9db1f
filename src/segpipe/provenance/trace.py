"""From a file to the stage that wrote it, and from there to commit, code, parameters, data and models.

A file is known by its content, so that a copy anywhere is found: in dvc.lock as it is now, and in every commit's.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from segpipe.provenance.content import cache_folder, listing_of, md5_of
from segpipe.provenance.history import Commit, History
from segpipe.provenance.locks import Chain, Entry, Lock, LockedStage, chain_of, read_lock
from segpipe.wire import CODE

LOCKS = ("dvc.lock", "claims/dvc.lock")
MODELS = "data/models/"


@dataclass(frozen=True)
class Place:
    """Where a lock has the content: an output of a stage, itself or the file `inside` it."""

    lock: str
    stage: str
    out: Entry
    inside: str | None


@dataclass(frozen=True)
class CodeCheck:
    """The code that ran, held against a commit: paths that this commit has otherwise, or not at all."""

    files: int
    differing: tuple[str, ...]


@dataclass
class Provenance:
    """What is on record of a file; `place` is None where nothing is. `notes` says what could not be looked at."""

    path: Path
    md5: str
    size: int
    place: Place | None = None
    others: list[Place] = field(default_factory=list)  # the same content as another output
    read_by: list[str] = field(default_factory=list)  # stages that read it as raw data or code
    in_tree: bool = False  # whether dvc.lock of the working tree has it
    in_head: bool = False
    commits: list[Commit] = field(default_factory=list)  # whose change of the lock holds it, newest first
    chain: Chain | None = None
    code: CodeCheck | None = None
    modified: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def models(self) -> list[Entry]:
        """The models among what it rests on, and itself if it is one."""
        outs = [out for stage in (self.chain.stages if self.chain else ()) for out in stage.outs]
        return [out for out in outs if out.path.startswith(MODELS)]

    @property
    def data(self) -> list[tuple[Entry, str | None]]:
        """Raw data, and what stages that read none made of nothing: (entry, stage or None)."""
        if self.chain is None:
            return []
        drawn = [(out, stage.name) for stage in self.chain.stages if not _reads_data(stage) for out in stage.outs]
        return [*((entry, None) for entry in self.chain.raw), *drawn]


@dataclass(frozen=True)
class _Version:
    """One text of a lock, and who has it: the working tree, HEAD, and the commits that changed it to this."""

    name: str
    text: str
    commits: tuple[Commit, ...]
    in_tree: bool
    in_head: bool


def trace(path: Path, root: Path = Path()) -> Provenance:
    """What dvc.lock and git of the project at `root` say of the file or folder `path`.

    Raises FileNotFoundError where it is not there, or the project has no dvc.lock.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: not found; expected a file or folder whose origin is asked for")
    if not any((root / name).is_file() for name in _locks(root)):
        raise FileNotFoundError(f"{root / LOCKS[0]}: not found; run the command in the project's top folder")
    history = History(root)
    found = Provenance(path, md5_of(path), _size(path), modified=history.modified())
    if not history.known:
        found.notes.append("this is no git repository: only dvc.lock as it is now was looked at")
    elif history.is_cut():
        found.notes.append(
            "the clone is shallow: older commits were not looked at; `git fetch --unshallow` brings them"
        )
    versions = list(_versions(root, history))
    lock = _search(found, versions, _Folders(root, path, found.md5))
    if lock is None or found.place is None:
        return found
    found.chain = chain_of(lock, found.place.stage)
    if found.commits:
        found.code = _check_code(history, found.commits[-1], found.chain)
    return found


class _Folders:
    """The folders of the locks that hold a file with this content, by DVC's listings and by the tree itself."""

    def __init__(self, root: Path, path: Path, md5: str) -> None:
        self._cache, self._root, self._path, self._md5 = cache_folder(root), root, path, md5
        self._within = path.resolve().is_relative_to(root.resolve())
        self._listed: dict[str, dict[str, str] | None] = {}
        self._inside: dict[str, str | None] = {}
        self.unlisted: set[str] = set()

    def may_hold(self, version: "_Version") -> bool:
        """Whether the lock is worth reading, which takes far longer than looking for a hash in it."""
        if f"md5: {self._md5}\n" in version.text:
            return True
        for folder in set(re.findall(r"md5: ([0-9a-f]{32}\.dir)$", version.text, re.MULTILINE)):
            listed = self._listing(folder)
            if (listed is None and self._within) or (listed is not None and self._md5 in listed):
                return True
            if listed is None:
                self.unlisted.add(folder)
        return False

    def inside(self, out: Entry) -> str | None:
        """The name of the file within the folder `out`, or None; `unlisted` collects folders nobody can look into."""
        listed = self._listing(out.md5)
        if listed is not None:
            return listed.get(self._md5)
        if out.md5 not in self._inside:
            self._inside[out.md5] = self._in_tree(out)
        if self._inside[out.md5] is None:
            self.unlisted.add(out.md5)
        return self._inside[out.md5]

    def _listing(self, folder: str) -> dict[str, str] | None:
        if folder not in self._listed:
            self._listed[folder] = listing_of(self._cache, folder)
        return self._listed[folder]

    def _in_tree(self, out: Entry) -> str | None:
        """Where the file lies in that very folder, and the folder still is what the lock says."""
        folder, path = (self._root / out.path).resolve(), self._path.resolve()
        if path == folder or not path.is_relative_to(folder) or md5_of(folder) != out.md5:
            return None
        return path.relative_to(folder).as_posix()


def _locks(root: Path) -> list[str]:
    """LOCKS, and those of further folders of claims."""
    return [*LOCKS, *sorted(path.relative_to(root).as_posix() for path in root.glob("claims/*/dvc.lock"))]


def _versions(root: Path, history: History) -> Iterator[_Version]:
    """Every text of every lock: that of the working tree first, then those of commits, newest first, each once."""
    head = history.head()
    for name in _locks(root):
        now = (root / name).read_text(encoding="utf-8") if (root / name).is_file() else None
        commits = history.commits_changing(name)
        asked = [(commit.hash, name) for commit in commits] + ([(head, name)] if head else [])
        contents = [
            None if content is None else content.decode("utf-8", "replace") for content in history.contents(asked)
        ]
        in_head = contents.pop() if head else None
        texts: dict[str, list[Commit]] = {text: [] for text in (now, in_head) if text is not None}
        for commit, text in zip(commits, contents, strict=True):
            if text is not None:
                texts.setdefault(text, []).append(commit)
        for text, having in texts.items():
            yield _Version(name, text, tuple(having), text == now, text == in_head)


def _search(found: Provenance, versions: list[_Version], folders: _Folders) -> Lock | None:
    """Fill in where the content is on record; returns the lock of the run that first wrote it, as far as is known."""
    hits = [(version, *_places(version, found.md5, folders)) for version in versions if folders.may_hold(version)]
    found.read_by = list(dict.fromkeys(name for _, _, readers, _ in hits for name in readers))
    hits = [hit for hit in hits if hit[1]]
    if not hits:
        if folders.unlisted:
            found.notes.append(
                f"{len(folders.unlisted)} folders on record have no listing in DVC's cache, so that single files in "
                "them cannot be told; `dvc fetch` brings it where a remote has it"
            )
        return None
    places = sorted(hits[0][1], key=lambda place: not _lies_at(place, found.path))
    found.place, found.others = places[0], places[1:]
    same = [
        (version, lock)
        for version, places, _, lock in hits
        if any((place.lock, place.stage) == (found.place.lock, found.place.stage) for place in places)
    ]
    commits = [commit for version, _ in same for commit in version.commits]
    found.commits = sorted(commits, key=lambda commit: commit.seconds, reverse=True)
    found.in_tree, found.in_head = any(v.in_tree for v, _ in same), any(v.in_head for v, _ in same)
    if not commits:
        return same[0][1]
    return next(lock for version, lock in same if found.commits[-1] in version.commits)


def _places(version: _Version, md5: str, folders: _Folders) -> tuple[list[Place], list[str], Lock]:
    lock = read_lock(version.text)
    places, readers = [], []
    for stage in lock.values():
        for out in stage.outs:
            if out.md5 == md5:
                places.append(Place(version.name, stage.name, out, None))
            elif out.md5.endswith(".dir") and (inside := folders.inside(out)):
                places.append(Place(version.name, stage.name, out, inside))
        readers += [stage.name for dep in stage.deps if dep.md5 == md5]
    return places, readers, lock


def _lies_at(place: Place, path: Path) -> bool:
    inside = [place.inside] if place.inside else []
    return Path(place.out.path, *inside).as_posix() == path.as_posix()


def _check_code(history: History, commit: Commit, chain: Chain) -> CodeCheck:
    code = chain.code()
    contents = history.contents([(commit.hash, path) for path in code])
    differing = tuple(
        path
        for (path, md5), content in zip(code.items(), contents, strict=True)
        if content is None or hashlib.md5(content, usedforsecurity=False).hexdigest() != md5
    )
    return CodeCheck(len(code), differing)


def _reads_data(stage: LockedStage) -> bool:
    return any(not dep.path.startswith(CODE) for dep in stage.deps)


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)
