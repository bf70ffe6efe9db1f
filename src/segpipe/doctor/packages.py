"""Installed packages against the ranges that the project asks for, and whether torch and torchvision are a pair.

Reads package descriptions and imports nothing: torch may be what is broken. `probe_torch` imports it in a process of
its own.
"""

import json
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from importlib.metadata import metadata, requires
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from segpipe.doctor.finding import Finding

# https://github.com/advisories/GHSA-w37p-236h-pfx3
COMPROMISED = {name: ("2.6.2", "2.6.3") for name in ("lightning", "pytorch-lightning", "lightning-fabric")}
OPENCV = ("opencv-python", "opencv-contrib-python", "opencv-python-headless", "opencv-contrib-python-headless")
PAIR_ADVICE = (
    "install both in one command from one index: "
    "`pip install --force-reinstall torch torchvision --index-url https://download.pytorch.org/whl/cpu` "
    "(or, for a GPU, the same without --index-url)"
)


def requirements(root: Path = Path()) -> tuple[SpecifierSet, list[Requirement]]:
    """What segpipe asks for, Python first: from the tree's own pyproject.toml, or else from the installed package.

    The tree's file comes first because the description of an editable install is as old as its installation.
    """
    file = root / "pyproject.toml"
    if file.is_file() and (root / "src/segpipe").is_dir():
        project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
        python, listed = project["requires-python"], project["dependencies"]
    else:
        python, listed = metadata("segpipe")["Requires-Python"], requires("segpipe") or []
    parsed = [Requirement(text) for text in listed]
    needed = [requirement for requirement in parsed if not requirement.marker or requirement.marker.evaluate()]
    return SpecifierSet(python), needed


def package_findings(asked: Sequence[Requirement], found: dict[str, str | None]) -> list[Finding]:
    """One finding for each package that is missing or outside its range, and one for those that fit."""
    findings, fitting = [], []
    for requirement in sorted(asked, key=lambda requirement: requirement.name.lower()):
        name, release = requirement.name, found[requirement.name]
        wanted = f"{name}{requirement.specifier}"
        if release is None:
            advice = f"pip install '{wanted}' (or `make setup`, which installs all)"
            findings.append(Finding(name, "bad", "not installed", advice))
        elif not requirement.specifier.contains(release, prereleases=True):
            findings.append(Finding(name, "bad", f"{release}, asked for {wanted}", f"pip install '{wanted}'"))
        else:
            fitting.append(f"{name} {release}")
    if fitting:
        findings.append(Finding("packages", "ok", f"{len(fitting)} in range: {', '.join(fitting)}"))
    return findings


def release_findings(found: dict[str, str | None]) -> list[Finding]:
    """Releases to be rid of at once, and packages that overwrite one another's files."""
    findings = []
    for name, releases in COMPROMISED.items():
        release = found.get(name)
        if release is not None and Version(release).public in releases:
            advice = "remove it, treat secrets of this machine as known to others, and install 2.6.4 or newer"
            findings.append(Finding(name, "bad", f"{release} is a compromised release", advice))
    twice = [name for name in OPENCV if found.get(name)]
    if len(twice) > 1:
        advice = "keep one: `pip uninstall " + " ".join(OPENCV) + "`, then `make setup`"
        findings.append(Finding("opencv", "warn", f"{' and '.join(twice)} share the folder cv2", advice))
    return findings


def pair_problem(torch: str, torchvision: str, wants: Sequence[str]) -> str | None:
    """Why torch and torchvision are no pair, or None; `wants` is what torchvision's description requires.

    torchvision states the torch it was built for (older releases exactly, 0.29 from a lower bound). A build tag such
    as `+cpu` names the index of a package; of two packages from one index both have the same tag, or neither has one.
    """
    for requirement in map(Requirement, wants):
        if canonicalize_name(requirement.name) == "torch" and not requirement.specifier.contains(
            torch, prereleases=True
        ):
            return f"torchvision {torchvision} was built for torch{requirement.specifier}, found torch {torch}"
    tags = [Version(release).local for release in (torch, torchvision)]
    if tags[0] != tags[1]:
        named = [f"+{tag}" if tag else "none" for tag in tags]
        return f"torch {torch} and torchvision {torchvision} come from two indexes (build tags {' and '.join(named)})"
    return None


PROBE = """
import json, sys
found = {}
try:
    import torch
    found["torch"] = torch.__version__
    found["gpus"] = [
        {"name": torch.cuda.get_device_properties(i).name, "memory": torch.cuda.get_device_properties(i).total_memory}
        for i in range(torch.cuda.device_count())
    ] if torch.cuda.is_available() else []
    found["cuda_build"] = torch.version.cuda
    import torchvision
    found["torchvision"] = torchvision.__version__
except BaseException as error:
    found["error"] = (" ".join(f"{type(error).__name__}: {error}".split()))[:300]
print("\\n" + json.dumps(found))
"""


def probe_torch(timeout_seconds: float = 180) -> dict[str, Any]:
    """Import torch, then torchvision, in a process of its own.

    Gives their versions, the GPUs and the CUDA that torch was built for; `error` where an import fails.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-c", PROBE], capture_output=True, text=True, timeout=timeout_seconds, check=False
        )
        return json.loads(done.stdout.strip().splitlines()[-1])
    except subprocess.TimeoutExpired:
        return {"error": f"no answer within {timeout_seconds:.0f} seconds"}
    except (IndexError, ValueError):
        return {"error": f"the process ended with code {done.returncode}"}


def torch_findings(probe: dict[str, Any], torch: str | None, torchvision: str | None) -> list[Finding]:
    """Whether torch and torchvision import, and whether they are a pair; silent about one that is not installed."""
    if torch is None or torchvision is None:
        return []  # reported as missing already
    mismatch, error = pair_problem(torch, torchvision, requires("torchvision") or ()), probe.get("error")
    if error is None and mismatch is None:
        loaded = f"torch {probe['torch']} and torchvision {probe['torchvision']} import and are a pair"
        return [Finding("torch", "ok", loaded)]
    if error is None:
        return [Finding("torch", "warn", f"{mismatch}; they import, but were not made for one another", PAIR_ADVICE)]
    culprit = "torchvision" if "torch" in probe else "torch"
    if mismatch or "torchvision::" in error:
        reason = mismatch or f"torch {torch} and torchvision {torchvision} do not fit one another"
        return [Finding("torch", "bad", f"{reason}; importing {culprit} fails: {error}", PAIR_ADVICE)]
    advice = f"run `python -c 'import {culprit}'` to see all of it; `make setup` in a new .venv mends most cases"
    return [Finding("torch", "bad", f"importing {culprit} fails: {error}", advice)]
