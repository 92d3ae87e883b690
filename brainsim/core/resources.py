"""Turn the machine into numbers that can be trusted: memory that this process may use, cores, free disk."""

from __future__ import annotations

import ctypes
import os
import shutil
from pathlib import Path

# How a worker is told its share of a machine that it has not for itself.
CORES_VARIABLE = "BRAINSIM_N_CORES"
MEMORY_VARIABLE = "BRAINSIM_MEMORY_BYTES"

# glibc's number of the option that says from which size on blocks are mapped (malloc.h), and that size.
_M_MMAP_THRESHOLD = -3
_MAPPED_BYTES = 4 * 2**20

_CGROUP_ROOT = Path("/sys/fs/cgroup")
_CGROUP_MEMBERSHIP = Path("/proc/self/cgroup")

# Limit, use, and the field of the statistics that holds what the kernel drops when memory is short: in the names of
# version 2 of control groups and of version 1.
_CGROUP_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def _read_number(path: Path) -> int | None:
    try:
        return int(path.read_text().strip())
    except (OSError, ValueError):
        return None


def _read_field(path: Path, name: str) -> int:
    try:
        fields = dict(line.split(maxsplit=1) for line in path.read_text().splitlines() if " " in line)
        return int(fields.get(name, 0))
    except (OSError, ValueError):
        return 0


def _cgroup_folders() -> list[Path]:
    """Return the folders of the control groups that this process is in, from its own up to the root.

    A container sees its group as the root; a SLURM job or a service is several levels below it.
    """
    try:
        lines = _CGROUP_MEMBERSHIP.read_text().splitlines()
    except OSError:  # not on macOS
        lines = []
    folders = [_CGROUP_ROOT, _CGROUP_ROOT / "memory"]
    for _, controllers, path in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        if controllers and "memory" not in controllers.split(","):
            continue
        root = _CGROUP_ROOT / "memory" if controllers else _CGROUP_ROOT
        own = root / path.lstrip("/")
        folders += [folder for folder in (own, *own.parents) if root in folder.parents]
    return folders


def _cgroup_accounts() -> list[tuple[int, int]]:
    """Return (limit, use without droppable cache) of every control group above this process that has a limit, bytes."""
    accounts = []
    for folder in _cgroup_folders():
        for limit_name, use_name, droppable in _CGROUP_FILES:
            limit = _read_number(folder / limit_name)
            if limit is not None and limit < _physical_memory():
                used = (_read_number(folder / use_name) or 0) - _read_field(folder / "memory.stat", droppable)
                accounts.append((limit, max(used, 0)))
    return accounts


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
    limits = (_physical_memory(), _told_number(MEMORY_VARIABLE), *(limit for limit, _ in _cgroup_accounts()))
    return min(limit for limit in limits if limit is not None)


def memory_free_bytes() -> int:
    """Return how much of the limit is unused now (the container's account where there is one)."""
    frees = [limit - used for limit, used in _cgroup_accounts()]
    share = _told_number(MEMORY_VARIABLE)
    if share is not None:
        frees.append(share - _own_memory())
    try:
        fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        frees.append(int(fields["MemAvailable"].split()[0]) * 1024)
    except (OSError, KeyError, ValueError):  # not on macOS
        frees.append(memory_limit_bytes())
    return max(min(frees), 0)


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


def map_large_blocks() -> None:
    """Have the system map every block of 4 MiB or more by itself, so that a freed one goes back at once.

    Left alone, glibc raises that bound to 32 MiB: arrays of one task then leave holes that those of the next do not
    fit, and what the process holds grows from task to task. It holds for the process from here on.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(_M_MMAP_THRESHOLD, _MAPPED_BYTES)


def return_freed_memory() -> None:
    """Give memory that was freed back to the system: glibc keeps what lies between pieces that are in use."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
