"""What this machine, or the container that it is, has: processors, memory, graphics processors."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

_PROC, _CGROUPS, _DRIVERS = Path("/proc"), Path("/sys/fs/cgroup"), Path("/proc/driver/nvidia/gpus")
_UNLIMITED = 1 << 60  # what version 1 of control groups writes for "no limit" is some number above this


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What steps can ask for here."""

    cpus: float  # processors that this process may use, a quota counted in
    memory: int  # bytes, a limit of the container counted in; 0 where it cannot be told
    gpus: tuple[str, ...]  # graphics processors as CUDA_VISIBLE_DEVICES names them


def machine() -> Machine:
    """Look what there is: affinity, control groups of either version, total memory, NVIDIA devices.

    >>> machine().cpus > 0
    True
    """
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    quotas = [quota for folder in _groups("cpu") if (quota := cpu_quota(folder)) is not None]
    limits = [limit for folder in _groups("memory") if (limit := memory_limit(folder)) is not None]
    memory = min([total for total in (_total_memory(),) if total] + limits, default=0)
    return Machine(cpus=min([cores, *quotas]), memory=memory, gpus=_gpus())


def cpu_quota(folder: Path) -> float | None:
    """Return how many processors a control group may keep busy; None without a quota.

    `folder` is the group's own: version 2 keeps `cpu.max` there, version 1 `cpu.cfs_quota_us`.
    """
    parts = _read(folder / "cpu.max").split()
    if len(parts) != 2:
        parts = [_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")]
    try:
        quota, period = float(parts[0]), float(parts[1])
    except ValueError:
        return None  # "max", or no such group
    return quota / period if quota > 0 and period > 0 else None


def memory_limit(folder: Path) -> int | None:
    """Return how many bytes a control group may hold; None without a limit."""
    text = _read(folder / "memory.max") or _read(folder / "memory.limit_in_bytes")
    return int(text) if text.isdigit() and int(text) < _UNLIMITED else None


def _groups(controller: str) -> list[Path]:
    """Return the folders of this process's control group and of those above it."""
    found: list[Path] = []
    for line in _read(_PROC / "self" / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = _CGROUPS / controller if controllers else _CGROUPS
        own = Path(path.lstrip("/"))
        found += [root / part for part in (own, *own.parents)]
    return found


def _total_memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 0


def _gpus() -> tuple[str, ...]:
    """Return the devices that CUDA_VISIBLE_DEVICES lets through, else those that the NVIDIA driver shows."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return tuple(name.strip() for name in visible.split(",") if name.strip() not in ("", "-1"))
    try:
        count = len(list(_DRIVERS.iterdir()))
    except OSError:
        # Containers see the device files, though not always the driver's folder.
        count = sum(re.fullmatch(r"nvidia\d+", item.name) is not None for item in Path("/dev").glob("nvidia*"))
    return tuple(str(number) for number in range(count))


def whole(cpus: float) -> int:
    """Return how many threads a share of processors is good for: at least one.

    >>> whole(0.5), whole(2), whole(2.5)
    (1, 2, 3)
    """
    return max(1, math.ceil(cpus))


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
