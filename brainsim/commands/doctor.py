"""Turn this machine into a list of checks: can it run brainsim, with what, and is the store in good health."""

from __future__ import annotations

import importlib
import io
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from brainsim.core.errors import BrainsimError
from brainsim.core.progress import SILENT, Progress
from brainsim.core.provenance import brainsim_version
from brainsim.core.resources import (
    disk_free_bytes,
    format_bytes,
    memory_free_bytes,
    memory_limit_bytes,
    n_cores,
)

DISTRIBUTION = "brainsim-toolkit"

# Below these the demo, or one full-size transformer with its activations, is likely to fail.
LEAST_MEMORY_BYTES = 4 * 1024**3
LEAST_DISK_BYTES = 5 * 1024**3

OK, WARN, FAIL = "ok", "warn", "fail"


@dataclass(frozen=True)
class DoctorSummary:
    """What was found.

    Parameters
    ----------
    ok : bool
        Whether no check failed; warnings do not count.
    checks : tuple of dict
        name, state ("ok", "warn", "fail") and message (one sentence) of each check.
    python, platform, brainsim : str
        Versions.
    packages : dict
        Dependency -> installed version, None where it is missing.
    extras : dict
        Optional package -> installed version, None where it is missing.
    devices : tuple of dict
        name (as `--device` takes it), description, memory_bytes (None where unknown).
    n_cores : int
        Cores that this process may run on.
    memory_limit_bytes, memory_free_bytes, disk_free_bytes : int
        Memory this process may use (the container's limit where there is one), what is unused, free disk at the store.
    decoder : dict
        PyAV's version and its FFmpeg libraries.
    store : dict
        path, exists, n_complete, n_unfinished, n_damaged.
    """

    ok: bool
    checks: tuple[dict[str, str], ...]
    python: str
    platform: str
    brainsim: str
    packages: dict[str, str | None]
    extras: dict[str, str | None]
    devices: tuple[dict[str, Any], ...]
    n_cores: int
    memory_limit_bytes: int
    memory_free_bytes: int
    disk_free_bytes: int
    decoder: dict[str, str]
    store: dict[str, Any]


@dataclass(frozen=True)
class _Check:
    name: str
    state: str
    message: str


def doctor(*, store: str | Path = "store/brainsim.zarr", progress: Progress = SILENT) -> DoctorSummary:
    """Check versions, devices, memory, disk, video coding and the store's health; nothing is changed.

    Parameters
    ----------
    store : path
        The store to look at; its chunks are not read (`brainsim store verify` does that).
    progress : Progress
        Told of each check.

    Returns
    -------
    DoctorSummary
    """
    checks: list[_Check] = []
    steps: tuple[Callable[[], tuple[_Check, Any]], ...] = (
        _check_python,
        _check_packages,
        _check_extras,
        _check_devices,
        _check_cores,
        _check_memory,
        lambda: _check_disk(Path(store)),
        _check_decoder,
        _check_offline,
        lambda: _check_store(Path(store)),
    )
    found: list[Any] = []
    with progress.task("doctor", total=len(steps), unit="checks") as task:
        for step in steps:
            check, value = step()
            checks.append(check)
            found.append(value)
            task.advance()
    python, packages, extras, devices, cores, memory, disk, decoder, _, health = found
    return DoctorSummary(
        ok=all(check.state != FAIL for check in checks),
        checks=tuple({"name": c.name, "state": c.state, "message": c.message} for c in checks),
        python=python,
        platform=platform.platform(terse=True),
        brainsim=brainsim_version(),
        packages=packages,
        extras=extras,
        devices=devices,
        n_cores=cores,
        memory_limit_bytes=memory[0],
        memory_free_bytes=memory[1],
        disk_free_bytes=disk,
        decoder=decoder,
        store=health,
    )


def _check_python() -> tuple[_Check, str]:
    version = platform.python_version()
    state = OK if sys.version_info >= (3, 11) else FAIL
    return _Check("python", state, f"{version} on {platform.platform(terse=True)}; 3.11 or later is needed."), version


def _check_packages() -> tuple[_Check, dict[str, str | None]]:
    wanted = _requirements(extra=None)
    versions = {name: _version(name) for name in wanted}
    missing = [name for name, version in versions.items() if version is None]
    old = [
        f"{name} {version} ({wanted[name]} is needed)"
        for name, version in versions.items()
        if version is not None and not _satisfies(version, wanted[name])
    ]
    if missing or old:
        faults = [f"{name} is missing" for name in missing] + old
        return _Check("packages", FAIL, f"{'; '.join(faults)}: pip install {DISTRIBUTION} mends it."), versions
    shown = [name for name in ("torch", "timm", "transformers", "zarr") if name in versions]
    main = ", ".join(f"{name} {versions[name]}" for name in shown)
    return _Check("packages", OK, f"brainsim {brainsim_version()}; all {len(versions)} there ({main}, …)."), versions


def _check_extras() -> tuple[_Check, dict[str, str | None]]:
    wanted = {name: extra for extra in ("slurm", "cuda", "bids") for name in _requirements(extra=extra)}
    versions = {name: _version(name) for name in wanted}
    missing = [f"{name} (extra {wanted[name]})" for name, version in versions.items() if version is None]
    told = f"not installed, and not needed by default: {', '.join(missing)}." if missing else "all installed."
    return _Check("extras", OK, told), versions


def _check_devices() -> tuple[_Check, tuple[dict[str, Any], ...]]:
    try:
        import torch
    except ImportError as error:
        return _Check("devices", FAIL, f"torch cannot be imported: {error}."), ()
    devices: list[dict[str, Any]] = [{"name": "cpu", "description": platform.machine(), "memory_bytes": None}]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        devices.append(
            {"name": f"cuda:{index}", "description": properties.name, "memory_bytes": properties.total_memory}
        )
    if torch.backends.mps.is_available():
        devices.append({"name": "mps", "description": "Apple GPU", "memory_bytes": None})
    told = [_tell_device(device) for device in devices]
    only = " only; full-size models will be slow" if len(devices) == 1 else ""
    return _Check("devices", OK, f"torch {torch.__version__} sees {', '.join(told)}{only}."), tuple(devices)


def _tell_device(device: dict[str, Any]) -> str:
    if device["memory_bytes"] is None:
        return str(device["name"])
    return f"{device['name']} ({device['description']}, {format_bytes(device['memory_bytes'])})"


def _check_cores() -> tuple[_Check, int]:
    cores = n_cores()
    return _Check("cores", OK, f"this process may use {cores} of {os.cpu_count()}."), cores


def _check_memory() -> tuple[_Check, tuple[int, int]]:
    limit, free = memory_limit_bytes(), memory_free_bytes()
    state = OK if limit >= LEAST_MEMORY_BYTES else WARN
    told = f"{format_bytes(free)} of {format_bytes(limit)} free"
    return _Check("memory", state, f"{told}; at least {format_bytes(LEAST_MEMORY_BYTES)} is advised."), (limit, free)


def _check_disk(store: Path) -> tuple[_Check, int]:
    free = disk_free_bytes(store)
    state = OK if free >= LEAST_DISK_BYTES else WARN
    return _Check("disk", state, f"{format_bytes(free)} free at {store}."), free


def _check_decoder() -> tuple[_Check, dict[str, str]]:
    try:
        av: Any = importlib.import_module("av")
    except ImportError as error:
        return _Check("decoder", FAIL, f"PyAV cannot be imported: {error}."), {}
    libraries = {name: ".".join(map(str, version)) for name, version in av.library_versions.items()}
    versions = {"PyAV": av.__version__, **libraries}
    try:
        n_frames = _code_and_decode(av)
    except (av.FFmpegError, OSError, ValueError) as error:
        return _Check("decoder", FAIL, f"PyAV {av.__version__} cannot write and read H.264: {error}."), versions
    state = OK if n_frames == N_CODED_FRAMES else FAIL
    told = f"PyAV {av.__version__} (libavcodec {libraries.get('libavcodec', '?')}): {n_frames} of {N_CODED_FRAMES}"
    return _Check("decoder", state, f"{told} H.264 frames came back."), versions


# Enough for B-frames, whose order on disk is not that of time.
N_CODED_FRAMES = 12


def _code_and_decode(av: Any) -> int:
    """Write a tiny H.264 file in memory, read it, and return how many frames came back."""
    import numpy as np

    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for index in range(N_CODED_FRAMES):
            picture = np.full((64, 64, 3), 20 * index, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    file.seek(0)
    with av.open(file) as container:
        return sum(1 for _ in container.decode(video=0))


def _check_offline() -> tuple[_Check, bool]:
    is_offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")
    told = "set: weights come from files on this machine only" if is_offline else "not set: weights may be downloaded"
    return _Check("HF_HUB_OFFLINE", OK, f"{told}."), is_offline


def _check_store(path: Path) -> tuple[_Check, dict[str, Any]]:
    health: dict[str, Any] = {"path": str(path), "exists": path.exists()}
    if not path.exists():
        return _Check("store", OK, f"none at {path} yet; brainsim extract or brainsim demo makes one."), health
    from brainsim.commands.store import store_ls

    try:
        listing = store_ls(path)
    except BrainsimError as error:
        return _Check("store", FAIL, error.message), health
    health |= {
        "n_complete": listing.n_nodes,
        "n_unfinished": listing.n_unfinished,
        "n_damaged": listing.n_damaged,
    }
    told = f"{listing.n_nodes} complete nodes, {listing.n_unfinished} unfinished, {listing.n_damaged} damaged in {path}"
    if listing.n_damaged:
        return _Check("store", FAIL, f"{told}: brainsim store verify names them."), health
    if listing.n_unfinished:
        return _Check("store", WARN, f"{told}: the commands that made the unfinished ones go on from there."), health
    return _Check("store", OK, f"{told}."), health


def _requirements(*, extra: str | None) -> dict[str, str]:
    """Return package -> version bounds of the distribution's dependencies, or of one extra's."""
    from packaging.requirements import Requirement

    try:
        lines = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return {}
    found = {}
    for requirement in map(Requirement, lines):
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": extra or ""})
        is_extra = "extra" in str(requirement.marker or "")
        if applies and is_extra == (extra is not None):
            found[requirement.name] = str(requirement.specifier)
    return found


def _satisfies(version: str, bounds: str) -> bool:
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(bounds).contains(version, prereleases=True)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
