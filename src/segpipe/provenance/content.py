"""Hashes of files and folders as DVC has them, and DVC's own listings of folders, where its cache holds them."""

import configparser
import hashlib
import json
from pathlib import Path


def md5_of(path: Path) -> str:
    """What dvc.lock would call the file or folder."""
    return _folder_md5(path) if path.is_dir() else _file_md5(path)


def _file_md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _folder_md5(folder: Path) -> str:
    """As DVC 3 lists a folder: the files' md5 and names, by name, as JSON."""
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    listed = [{"md5": _file_md5(paths[name]), "relpath": name} for name in sorted(paths)]
    return hashlib.md5(json.dumps(listed, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"


def cache_folder(root: Path) -> Path:
    """Where DVC keeps files here: `cache.dir` of its configuration, or .dvc/cache."""
    found = root / ".dvc" / "cache"
    for name in ("config", "config.local"):
        config = configparser.ConfigParser(interpolation=None, strict=False)
        try:
            config.read(root / ".dvc" / name, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            continue
        if config.has_option("cache", "dir"):
            found = root / ".dvc" / config.get("cache", "dir")
    return found


def listing_of(cache: Path, md5: str) -> dict[str, str] | None:
    """Names by md5 of the files in a folder, from DVC's listing; None where the cache does not hold it."""
    path = cache / "files" / "md5" / md5[:2] / md5[2:]
    try:
        return {entry["md5"]: entry["relpath"] for entry in json.loads(path.read_text(encoding="utf-8"))}
    except (OSError, ValueError, KeyError, TypeError):
        return None
