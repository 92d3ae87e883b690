"""Turn bytes into files that are whole or not there, and node paths into folders that lie inside the store."""
# pathlib doubles the cost of a small file, and a store writes thousands:
# ruff: noqa: PTH102, PTH103, PTH104, PTH105, PTH108, PTH110, PTH112, PTH116, PTH123, PTH208

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from brainsim.core.checks import check_node_name
from brainsim.core.errors import BrainsimError, InvalidValueError, StoreError
from brainsim.core.resources import disk_free_bytes, format_bytes

METADATA = "zarr.json"
# File systems allow 255 bytes a name; the rest is room for suffixes.
MAX_NAME_BYTES = 200
Stamp = tuple[int, int, int, int]


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
        hint="free some space, or give --store a folder on a larger disk; what is complete stays",
    )


def put(path: str, partial: str, *parts: bytes | memoryview) -> int:
    """Write a file under `partial` and rename it, so that `path` is never half a file; return its size in bytes."""
    size = 0
    with open(partial, "wb", buffering=0) as file:
        for part in parts:
            rest = memoryview(part)
            size += rest.nbytes
            while rest.nbytes:  # a raw write may be short
                rest = rest[file.write(rest) :]
    os.replace(partial, path)
    return size


def exists(path: str) -> bool:
    """Return whether anything is at `path`."""
    return os.path.exists(path)


def file_size(path: str) -> int | None:
    """Return the size of a file in bytes, None where there is none."""
    try:
        return os.stat(path).st_size
    except (FileNotFoundError, NotADirectoryError):
        return None


def file_stamp(path: str) -> Stamp | None:
    """Return what changes whenever a file is replaced or written to; None where there is none."""
    try:
        return _stamp(os.stat(path))
    except (FileNotFoundError, NotADirectoryError):
        return None


def read_parts(path: str, parts: Sequence[np.ndarray], size: int) -> bool:
    """Read a whole file into bytes that lie in several places; return False unless it is there and of that size."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.fstat(fd).st_size == size and os.preadv(fd, [part.data for part in parts if len(part)], 0) == size
    except OSError:
        return False
    finally:
        os.close(fd)


def read_pieces(path: str, n_bytes: int) -> Iterator[np.ndarray]:
    """Yield a file's bytes, uint8, at most `n_bytes` at a time in one buffer; ends early where it cannot be read.

    New memory for a whole file can cost more than reading it.
    """
    buffer = np.empty(n_bytes, np.uint8)
    try:
        with open(path, "rb", buffering=0) as file:
            while n_read := file.readinto(buffer.data):
                yield buffer[:n_read]
    except OSError:
        return


def read_ranges(path: str, starts: list[int], n_bytes: int, stamp: Stamp, into: memoryview) -> bool:
    """Read `n_bytes` from each start, one after the other; return False where the file's stamp is not `stamp`."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        if _stamp(os.fstat(fd)) != stamp:
            return False
        for index, start in enumerate(starts):
            if os.preadv(fd, [into[index * n_bytes : (index + 1) * n_bytes]], start) != n_bytes:
                return False
        return True
    finally:
        os.close(fd)


def _stamp(stat: os.stat_result) -> Stamp:
    return stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size


def make_folder(path: str) -> None:
    """Make a folder, and those above it, where it is not there yet."""
    try:
        os.mkdir(path)
    except FileExistsError:
        return
    except FileNotFoundError:
        os.makedirs(path, exist_ok=True)


def move(path: str, to: str) -> None:
    """Rename a file or folder."""
    os.rename(path, to)


def remove(path: str) -> None:
    """Remove a file or a folder with all that is in it, where it is there."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except OSError:
        if not os.path.isdir(path):
            raise
        shutil.rmtree(path)


def clear_folder(folder: str) -> None:
    """Remove everything in `folder` but its zarr.json."""
    for entry in list(os.scandir(folder)):
        if entry.name != METADATA:
            remove(entry.path)


def folder_names(folder: str) -> list[str]:
    """Return the names in a folder, sorted; none where the folder is not there (another process may remove it)."""
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []


def files_below(folder: str) -> set[str]:
    """Return every file below a folder as a relative path."""
    found = set()
    for base, _, names in os.walk(folder):
        inner = os.path.relpath(base, folder)
        found |= {name if inner == "." else f"{inner}/{name}" for name in names}
    return found


def read_with_stamp(path: str, known: Stamp | None = None) -> tuple[Stamp, bytes | None] | None:
    """Return a small file's stamp and bytes; no bytes where the stamp is `known`, None where there is no file.

    The stamp changes whenever the file is replaced: it stands for the bytes.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        stat = os.fstat(fd)
        stamp = _stamp(stat)
        if stamp == known:
            return stamp, None
        data = b""
        while part := os.read(fd, max(stat.st_size - len(data), 0) + 1):
            data += part
        return stamp, data
    finally:
        os.close(fd)
