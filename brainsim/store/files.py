"""Turn bytes into files that are whole or not there, and node paths into folders that lie inside the store."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from brainsim.core.checks import check_node_name
from brainsim.core.errors import BrainsimError, InvalidValueError, StoreError
from brainsim.core.resources import disk_free_bytes, format_bytes

METADATA = "zarr.json"
# File systems allow 255 bytes a name; the rest is room for suffixes.
MAX_NAME_BYTES = 200


def check_node_path(node: str) -> str:
    """Return `node` if it can be a node's path: names joined by "/", none of which leads out of the store."""
    if not isinstance(node, str) or not node or node.startswith("/") or node.endswith("/") or "//" in node:
        raise InvalidValueError(f"node path is {node!r}; it must be names joined by single slashes, as 'bold/a/b/c'.")
    for name in node.split("/"):
        check_node_name(name, what=f"a name in node path {node!r}")
        if name == METADATA or len(name.encode()) > MAX_NAME_BYTES:
            raise InvalidValueError(
                f"node path {node!r} has the name {name!r}; it must not be {METADATA!r} nor exceed "
                f"{MAX_NAME_BYTES} bytes."
            )
    return node


@contextlib.contextmanager
def named_os_errors(root: Path, what: str) -> Iterator[None]:
    """Turn an OSError of the system into a StoreError that says what could not be done."""
    try:
        yield
    except BrainsimError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise no_space(root, what) from error
        raise StoreError(f"{what} failed in the store at {root}: {error.strerror or error}.") from error


def no_space(root: Path, what: str, needed: int | None = None) -> StoreError:
    """Return the error for a full disk."""
    need = "" if needed is None else f", {format_bytes(needed)} needed"
    return StoreError(
        f"no space for {what} in the store at {root}: {format_bytes(disk_free_bytes(root))} free{need}.",
        hint="free some space, or give --store a folder on a larger disk; what is complete stays, the rest is rewritten",
    )


def put(path: str, partial: str, *parts: bytes | np.ndarray) -> int:
    """Write a file under `partial` and rename it, so that `path` is never half a file; return its size in bytes."""
    size = 0
    with open(partial, "wb", buffering=0) as file:  # noqa: PTH123 - a Path costs as much as the write of a small chunk
        for part in parts:
            rest = memoryview(part)
            size += rest.nbytes
            while rest.nbytes:  # a raw write may be short
                rest = rest[file.write(rest) :]
    os.replace(partial, path)  # noqa: PTH105 - see above
    return size


def clear_folder(folder: str) -> None:
    """Remove everything in `folder` but its zarr.json."""
    for entry in os.scandir(folder):
        if entry.name == METADATA:
            continue
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)  # noqa: PTH108 - an os.scandir path


def holds_files(path: Path, ignored: str) -> bool:
    """Return whether a folder holds anything but `ignored`."""
    return any(entry.name != ignored for entry in os.scandir(path))
