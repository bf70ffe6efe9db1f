"""The fast half: everything that can be said of the environment without training anything."""

import json
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import segpipe
from segpipe.doctor.extent import Extent, network_size, prediction_bytes, prepared_bytes, read_extent
from segpipe.doctor.finding import Finding, gib
from segpipe.doctor.machine import Machine, free_bytes, same_disk
from segpipe.doctor.packages import (
    COMPROMISED,
    OPENCV,
    package_findings,
    release_findings,
    requirements,
    torch_findings,
)
from segpipe.libraries import installed_version
from segpipe.params import Params

TEMPORARY_ROOM = 2**28  # bytes; loader processes and pip leave small files there
BUSY = 0.5  # threads at work for each core, above which measurements are disturbed
STAGE_PYTHON = """
import importlib.util, json, sys
lacks = [name for name in ("torch", "timm", "numpy", "pydantic", "ruamel") if importlib.util.find_spec(name) is None]
print(json.dumps({"prefix": sys.prefix, "lacks": lacks}))
"""


def package_report(probe: dict[str, Any]) -> list[Finding]:
    """Python, every package that the project asks for, compromised releases, and the pair torch and torchvision."""
    release = platform.python_version()
    python_range, asked = requirements()
    fits = python_range.contains(release)
    advice = "" if fits else f"make a new environment with Python {python_range}"
    findings = [Finding("python", "ok" if fits else "bad", f"{release} at {sys.executable}", advice)]
    names = {"torch", "torchvision", *(requirement.name for requirement in asked), *COMPROMISED, *OPENCV}
    found = {name: installed_version(name) for name in names}
    findings += torch_findings(probe, found["torch"], found["torchvision"])
    return findings + release_findings(found) + package_findings(asked, found)


def tree_report() -> list[Finding]:
    """Whether commands and stages run the code and the interpreter that the user thinks they run."""
    findings = [_tree(), _stage_python()]
    for tool in ("git", "dvc"):
        path = shutil.which(tool)
        advice = "" if path else f"install {tool}, or activate the environment that holds it: `. .venv/bin/activate`"
        findings.append(Finding(tool, "ok" if path else "bad", path or "not found on PATH", advice))
    return findings


def _tree() -> Finding:
    imported, expected = Path(segpipe.__file__).resolve().parent, Path("src/segpipe").resolve()
    if not expected.is_dir():
        return Finding(
            "segpipe", "warn", f"{imported}; this folder has no src/segpipe", "run it in the project's top folder"
        )
    if imported != expected:
        advice = "stages run this tree's code all the same; for `segpipe` set PYTHONPATH=src, or install this tree"
        return Finding("segpipe", "warn", f"{imported}, not this tree's {expected}", advice)
    return Finding("segpipe", "ok", f"this tree's, {imported}")


def _stage_python() -> Finding:
    """Stage commands call plain `python`."""
    activate = "activate the project's environment: `. .venv/bin/activate` (`make repro` does)"
    path = shutil.which("python")
    if path is None:
        return Finding("stage python", "bad", "no `python` on PATH; stages call it", activate)
    done = subprocess.run([path, "-c", STAGE_PYTHON], capture_output=True, text=True, check=False)
    if done.returncode:
        return Finding("stage python", "bad", f"{path} does not run", activate)
    said = json.loads(done.stdout)
    if said["lacks"]:
        return Finding("stage python", "bad", f"{path} lacks {', '.join(said['lacks'])}", activate)
    if Path(said["prefix"]).resolve() != Path(sys.prefix).resolve():  # .venv may be a symbolic link
        return Finding("stage python", "warn", f"{path}, another environment than this one ({sys.prefix})", activate)
    return Finding("stage python", "ok", f"{path}, this environment")


def machine_report(machine: Machine, probe: dict[str, Any], params: Params | None) -> list[Finding]:
    """Cores, processor features, memory and GPUs; with params, the threads they ask for against the cores."""
    limited = f" of {machine.cores_present}, by {machine.cores_limited_by}" if machine.cores_limited_by else ""
    findings = [Finding("cores", "ok", f"{machine.cores:g}{limited}")]
    if machine.load > BUSY * machine.cores_present:
        found = f"{machine.load:.1f} threads ran or waited in the last minute, on {machine.cores_present} cores"
        findings.append(Finding("load", "warn", found, "other programs are at work: what is measured here is too slow"))
    members = {name: params.member(name) for name in params.member_names} if params else {}
    for name, member in members.items():
        threads = member.train.threads
        if threads > machine.threads and not probe.get("gpus"):
            advice = f"set train.threads to {machine.threads}: threads that share a core wait for one another"
            findings.append(Finding("threads", "warn", f"{name}: {threads} threads on {machine.cores:g} cores", advice))
    fast = [feature for feature in machine.features if "bf16" in feature]
    features = ", ".join(machine.features) or "none of those looked for"
    findings.append(Finding("processor", "ok", f"{features}; {'made' if fast else 'not made'} for bf16"))
    by = f", limited by {machine.memory_limited_by}" if machine.memory_limited_by else ""
    findings.append(Finding("memory", "ok", f"{gib(machine.memory_free)} free of {gib(machine.memory)}{by}"))
    return [*findings, _gpus(probe)]


def _gpus(probe: dict[str, Any]) -> Finding:
    gpus = probe.get("gpus")
    if gpus is None:
        return Finding("GPU", "warn", "unknown: torch does not import", "mend torch first, as said above")
    if not gpus and shutil.which("nvidia-smi"):
        build = f"built for CUDA {probe['cuda_build']}" if probe.get("cuda_build") else "a CPU build"
        advice = "install torch and torchvision for CUDA in one command, and a driver that is new enough for them"
        return Finding("GPU", "warn", f"there is a driver, but torch ({build}) sees no GPU", advice)
    named = ", ".join(f"{gpu['name']} ({gib(gpu['memory'])})" for gpu in gpus)
    return Finding("GPU", "ok", f"{named}; training uses the first" if len(gpus) > 1 else named or "none")


def disk_report(params: Params) -> list[Finding]:
    """Free room where outputs, DVC's cache and temporary files go, against what these parameters will write."""
    extent = read_extent(params)
    cache, temporary = _dvc_cache(), Path(tempfile.gettempdir())
    written = prepared_bytes(params, extent) + prediction_bytes(params, extent) if extent else 0
    # DVC keeps a copy of every output; on one disk both copies fill it
    needed = 2 * written if same_disk(Path("data"), cache) else written
    findings = [
        _room("data/", Path("data"), needed),
        _room(_short(cache), cache, needed),
        _room(str(temporary), temporary, TEMPORARY_ROOM),
    ]
    if extent:
        found = f"prepared data and predictions take {gib(written)}, in data/ and again in DVC's cache"
        findings.insert(0, Finding("needed", "ok", f"{found} (counted from {extent.source})"))
    return findings + _shared_memory(params, extent)


def _room(topic: str, path: Path, needed: int) -> Finding:
    free = free_bytes(path)
    if free < needed:
        advice = "make room, or move the folder to a larger disk"
        return Finding(topic, "bad", f"{gib(free)} free, {gib(needed)} needed", advice)
    if free < 2 * needed:
        advice = "`dvc gc --workspace` drops outputs of old experiments"
        return Finding(topic, "warn", f"{gib(free)} free: little for another experiment", advice)
    return Finding(topic, "ok", f"{gib(free)} free")


def _shared_memory(params: Params, extent: Extent | None) -> list[Finding]:
    """Loader processes hand over batches in /dev/shm, two waiting for each; containers often have only 64 MiB."""
    shared = Path("/dev/shm")
    if extent is None or not shared.is_dir():
        return []
    height, width = network_size(params, extent)
    trains = [params.member(name).train for name in params.member_names]
    needed = max(2 * train.workers * train.batch_size * height * width * 4 for train in trains)
    if needed <= free_bytes(shared):
        return []
    advice = "start the container with a larger --shm-size, or lower train.workers"
    found = f"{gib(free_bytes(shared))} free; train.workers fill {gib(needed)}"
    return [Finding("/dev/shm", "bad", found, advice)]


def _dvc_cache() -> Path:
    """DVC's cache folder by its own configuration; its default where DVC does not answer."""
    default = Path(".dvc/cache")
    if shutil.which("dvc") is None:
        return default
    done = subprocess.run(["dvc", "cache", "dir"], capture_output=True, text=True, check=False)
    return Path(done.stdout.strip()) if done.returncode == 0 and done.stdout.strip() else default


def _short(path: Path) -> str:
    absolute = path.absolute()
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else str(absolute)
