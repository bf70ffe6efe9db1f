"""dvc.lock as records: stages with what they read and wrote, and the chain of stages behind one."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from segpipe.wire import CODE

Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the lock is thousands of lines


@dataclass(frozen=True)
class Entry:
    """A file or folder as the lock names it; the md5 of a folder ends in .dir."""

    path: str
    md5: str
    size: int
    nfiles: int | None

    def to_json(self) -> dict:
        """A plain dict."""
        return {"path": self.path, "md5": self.md5, "size": self.size, "files": self.nfiles}


@dataclass(frozen=True)
class LockedStage:
    """A stage as it last ran; `params` by file, keys as the lock has them."""

    name: str
    command: str
    deps: tuple[Entry, ...]
    params: dict[str, dict[str, Any]]
    outs: tuple[Entry, ...]


Lock = dict[str, LockedStage]


@dataclass(frozen=True)
class Chain:
    """A stage and all that it rests on, in the order of the data: `stale` says where the lock does not fit together."""

    stages: tuple[LockedStage, ...]
    raw: tuple[Entry, ...]  # read, but written by no stage, and no code
    stale: tuple[str, ...]

    def code(self) -> dict[str, str]:
        """The md5 of every file of code that ran, by path."""
        return {dep.path: dep.md5 for stage in self.stages for dep in stage.deps if dep.path.startswith(CODE)}

    def params(self) -> dict[str, dict[str, Any]]:
        """What the stages were told, by stage and key."""
        return {
            stage.name: {key: value for file in stage.params.values() for key, value in file.items()}
            for stage in self.stages
        }


def read_lock(text: str) -> Lock:
    """The stages of a dvc.lock; ValueError where it is no such file."""
    try:
        content = yaml.load(text, Loader)
        stages = content["stages"] or {}
        return {name: _stage(name, raw) for name, raw in stages.items()}
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"is no dvc.lock ({type(error).__name__}: {error})") from error


def _stage(name: str, raw: dict) -> LockedStage:
    command = raw.get("cmd", "")
    return LockedStage(
        name=name,
        command=command if isinstance(command, str) else " && ".join(command),
        deps=tuple(_entries(raw.get("deps"))),
        params=raw.get("params") or {},
        outs=tuple(_entries(raw.get("outs"))),
    )


def _entries(listed: list[dict] | None) -> Iterator[Entry]:
    for entry in listed or ():
        if "md5" in entry:  # what DVC knows by another hash is no file of this machine
            yield Entry(entry["path"], entry["md5"], entry.get("size", 0), entry.get("nfiles"))


def chain_of(lock: Lock, name: str) -> Chain:
    """The stage `name` with every stage whose outputs it rests on, those first."""
    made = {out.path: (stage, out) for stage in lock.values() for out in stage.outs}
    ordered: dict[str, LockedStage] = {}
    raw: dict[str, Entry] = {}
    stale: list[str] = []

    def visit(stage: LockedStage) -> None:
        if stage.name in ordered:
            return
        ordered[stage.name] = stage  # before its own, so that a circle in a broken lock ends
        for dep in stage.deps:
            if dep.path.startswith(CODE):
                continue
            makers = [made[path] for path in made if _overlap(path, dep.path)]
            if not makers:
                raw[dep.path] = dep
            for maker, out in makers:
                if out.path == dep.path and out.md5 != dep.md5:
                    stale.append(
                        f"{stage.name} read {dep.path} as {dep.md5}, but the lock has {out.md5} of {maker.name} since; "
                        "what it read is not on record there"
                    )
                    continue
                visit(maker)
        ordered[stage.name] = ordered.pop(stage.name)  # behind what it rests on

    visit(lock[name])
    return Chain(tuple(ordered.values()), tuple(raw.values()), tuple(dict.fromkeys(stale)))


def _overlap(one: str, other: str) -> bool:
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")
