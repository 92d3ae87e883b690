"""Turn values and files into digests, and the running software into a record."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

# What a record of software names: packages whose version can change a number.
NUMERIC_PACKAGES = (
    "numpy", "scipy", "torch", "torchvision", "timm", "transformers", "himalaya", "zarr", "av", "nibabel", "nilearn",
)  # fmt: skip


def canonical_json(value: Any) -> str:
    """Return one text per value: sorted keys, no spaces, floats as Python writes them."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(value: Any) -> str:
    """Return the SHA-256 (64 hex digits) of a JSON-able value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def digest_file(path: Path) -> str:
    """Return the SHA-256 (64 hex digits) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def brainsim_version() -> str:
    """Return the version of the installed distribution, or "0+unknown" in a bare source tree."""
    try:
        return metadata.version("brainsim-toolkit")
    except metadata.PackageNotFoundError:
        return "0+unknown"


def package_versions(packages: tuple[str, ...] = NUMERIC_PACKAGES) -> dict[str, str]:
    """Return the installed version of each package that is installed; none of them is imported."""
    versions = {}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def software_record() -> Mapping[str, str]:
    """Return what made a result: brainsim, Python, platform and numeric packages."""
    return {
        "brainsim": brainsim_version(),
        "python": sys.version.split()[0],
        "platform": platform.platform(terse=True),
        **package_versions(),
    }


def now_utc() -> str:
    """Return the time now, as ISO 8601 in UTC with seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
