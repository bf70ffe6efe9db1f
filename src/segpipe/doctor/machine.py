"""What this process may use of the machine: cores, memory, processor features, room on disks. Imports no torch.

A container is given less than the machine has, by control groups (https://docs.kernel.org/admin-guide/cgroup-v2.html);
`os.cpu_count` and /proc/meminfo do not say so.
"""

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

# what makes bfloat16 fast (matrix units, dot products), then what the CPU builds of torch are compiled for
CPU_FEATURES = ("amx_bf16", "avx512_bf16", "avx512f", "avx2", "bf16", "asimd")
UNLIMITED = 2**60  # version 1 writes a huge number where there is no limit


@dataclass(frozen=True)
class ControlGroup:
    """Limits of a process's control groups, the tightest of all levels; None where there is none."""

    cores: float | None
    memory: int | None  # bytes
    memory_used: int | None  # bytes, of the level that sets the limit


def control_group(mount: Path = Path("/sys/fs/cgroup"), listing: Path = Path("/proc/self/cgroup")) -> ControlGroup:
    """Read the limits that hold for this process, from version 1 or 2 of the interface."""
    cores: list[float] = []
    memory: list[tuple[int, int | None]] = []
    for folder in _levels(mount, listing, "cpu"):
        quota, period = _cpu_quota(folder)
        if quota is not None and quota > 0 and period:
            cores.append(quota / period)
    for folder in _levels(mount, listing, "memory"):
        limit = _number(folder / "memory.max") or _number(folder / "memory.limit_in_bytes")
        if limit is not None and limit < UNLIMITED:
            used = _number(folder / "memory.current") or _number(folder / "memory.usage_in_bytes")
            memory.append((limit, used))
    tightest = min(memory, key=lambda pair: pair[0], default=(None, None))
    return ControlGroup(min(cores, default=None), *tightest)


def _levels(mount: Path, listing: Path, controller: str) -> Iterator[Path]:
    """The group's folder and those above it: version 2 has one tree, version 1 one for each controller."""
    lines = listing.read_text(encoding="utf-8").splitlines() if listing.is_file() else []
    groups = [line.split(":", 2) for line in lines if line.count(":") >= 2]
    for number, controllers, path in groups:
        if number == "0" and not controllers:
            tree = mount
        elif controller in controllers.split(","):
            tree = mount / controller
        else:
            continue
        inner = PurePosixPath(path.lstrip("/"))
        # inside a container the path may be the host's and not exist here: the mount itself then is the group
        yield from dict.fromkeys(tree / level for level in (inner, *inner.parents))


def _cpu_quota(folder: Path) -> tuple[int | None, int | None]:
    """(quota, period) in microseconds of processor time; the quota is None or negative where there is no limit."""
    file = folder / "cpu.max"
    if file.is_file():
        quota, period = file.read_text(encoding="utf-8").split()[:2]
        return (int(quota) if quota.isdigit() else None), int(period)
    return _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")


def _number(file: Path) -> int | None:
    """The whole number in a small file; None when there is no such file, or it says `max`."""
    try:
        return int(file.read_text(encoding="utf-8").strip())
    except (OSError, ValueError):
        return None


@dataclass(frozen=True)
class Machine:
    """What this process may use; memory in bytes."""

    cores: float  # of processor time: a quota may be a fraction
    cores_present: int
    cores_limited_by: str  # "" when the process may use all of them
    memory: int
    memory_free: int
    memory_limited_by: str
    features: tuple[str, ...]
    load: float  # threads that ran or waited for a core, mean of the last minute, on the whole machine

    @property
    def threads(self) -> int:
        """How many threads can run at once."""
        return max(int(self.cores), 1)


def read_machine() -> Machine:
    """Cores by affinity and quota, memory by /proc/meminfo and control group."""
    group, present = control_group(), os.cpu_count() or 1
    cores: float = len(os.sched_getaffinity(0))
    limited_by = "the process's CPU affinity" if cores < present else ""
    if group.cores is not None and group.cores < cores:
        cores, limited_by = group.cores, "the control group's CPU quota"
    memory, free = read_meminfo(Path("/proc/meminfo").read_text(encoding="utf-8"))
    memory_limited_by = ""
    if group.memory is not None and group.memory < memory:
        memory, memory_limited_by = group.memory, "the control group"
        free = min(free, memory - (group.memory_used or 0))
    features = cpu_features(Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    load = os.getloadavg()[0]
    return Machine(cores, present, limited_by, memory, free, memory_limited_by, features, load)


def read_meminfo(text: str) -> tuple[int, int]:
    """(total, available) in bytes from the text of /proc/meminfo, which says kB and means KiB."""
    kib = {name: int(amount) for name, amount in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)}
    return kib["MemTotal"] * 1024, kib["MemAvailable"] * 1024


def cpu_features(text: str) -> tuple[str, ...]:
    """Those of CPU_FEATURES that the text of /proc/cpuinfo lists (`flags` on x86, `Features` on ARM)."""
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    words = found.group(1).split() if found else []
    return tuple(feature for feature in CPU_FEATURES if feature in words)


def free_bytes(path: Path) -> int:
    """Free bytes on the disk that holds `path`, or will hold it when it is made."""
    return shutil.disk_usage(_existing(path)).free


def same_disk(first: Path, second: Path) -> bool:
    """Whether two folders, made or not yet made, fill the same disk."""
    return _existing(first).stat().st_dev == _existing(second).stat().st_dev


def _existing(path: Path) -> Path:
    absolute = path.absolute()
    return next(folder for folder in (absolute, *absolute.parents) if folder.exists())
