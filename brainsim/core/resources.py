"""Turn the machine into numbers that can be trusted: memory that this process may use, cores, free disk."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

# How a worker is told its share of a machine that it has not for itself.
CORES_VARIABLE = "BRAINSIM_N_CORES"
MEMORY_VARIABLE = "BRAINSIM_MEMORY_BYTES"

_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_CGROUP_USES = (Path("/sys/fs/cgroup/memory.current"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"))


def _read_number(paths: tuple[Path, ...]) -> int | None:
    for path in paths:
        try:
            return int(path.read_text().strip())
        except (OSError, ValueError):
            continue
    return None


def _told_number(name: str) -> int | None:
    told = os.environ.get(name, "")
    return int(told) if told.isdecimal() and int(told) > 0 else None


def _own_memory() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):  # not on macOS
        return 0


def _physical_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def memory_limit_bytes() -> int:
    """Return the memory this process may use: its share as a worker, the container's limit, or the machine's."""
    limits = (_physical_memory(), _read_number(_CGROUP_LIMITS), _told_number(MEMORY_VARIABLE))
    return min(limit for limit in limits if limit is not None)


def memory_free_bytes() -> int:
    """Return how much of the limit is unused now (the container's account where there is one)."""
    share = _told_number(MEMORY_VARIABLE)
    free = _shared_free_bytes()
    return free if share is None else min(free, max(share - _own_memory(), 0))


def _shared_free_bytes() -> int:
    limit, used = memory_limit_bytes(), _read_number(_CGROUP_USES)
    if used is not None and limit < _physical_memory():
        return max(limit - used, 0)
    try:
        fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        return min(int(fields["MemAvailable"].split()[0]) * 1024, limit)
    except (OSError, KeyError, ValueError):
        return limit


def n_cores() -> int:
    """Return how many cores this process may run on: its share as a worker, or what the system allows it."""
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        allowed = os.cpu_count() or 1
    return min(allowed, _told_number(CORES_VARIABLE) or allowed)


def disk_free_bytes(path: Path) -> int:
    """Return the free space of the disk that holds `path` or its nearest existing parent."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def format_bytes(n: float) -> str:
    """Return bytes in the largest binary unit that keeps the number at 1 or above: "1.5 GiB"."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(n) < 1024:
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1024
    return f"{n:.1f} TiB"
