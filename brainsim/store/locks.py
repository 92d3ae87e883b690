"""Turn a node's path into a lock that one process holds and that no process outlives.

A lock is a file under `<store>/.locks/` on which its holder has an exclusive `flock`. The system drops it when the
holder dies, however it dies. Half-written files of the holder lie beside its lock, under a name made from it: whoever
takes the lock next sweeps them. Lock files that nobody holds are removed together when a store that was open for
writing is let go, or when the next one is opened, so a store at rest has no `.locks` folder. Removing each at once
would make ext4 look for free inodes among just deleted ones, which cost three times the writing of a small node.
"""
# These are file descriptors, and the paths are hot (see files.py):
# ruff: noqa: PTH102, PTH106, PTH116

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from brainsim.core.errors import StoreError, StoreLockedError
from brainsim.store.files import folder_names, remove

LOCKS = ".locks"
# Whoever sweeps dead locks holds each for some 20 µs: a lock that stays taken for this long is a writer's.
TRIES = 10
TRY_AGAIN_S = 0.002


class NodeLock:
    """One writer's hold on one node; taken by `acquire`, given back by `release` or by the process's death.

    Parameters
    ----------
    root : Path
        The store's folder.
    node : str
        Path of the node in the store.
    """

    def __init__(self, root: Path, node: str) -> None:
        name = hashlib.sha256(node.encode()).hexdigest()[:32]
        self.node = node
        self.folder = f"{root}/{LOCKS}"
        self.path = f"{self.folder}/{name}.lock"
        self.partial = f"{self.folder}/{name}.partial"  # a file on its way to its name
        self.trash = f"{self.folder}/{name}.trash"  # a folder on its way out
        self.aside = f"{self.folder}/{name}.aside"  # a node that will take another's place when it is complete
        self._fd: int | None = None

    def acquire(self) -> Self:
        """Take the lock or raise StoreLockedError at once.

        Raises
        ------
        StoreLockedError
            Where another live writer, in this process or any other, holds it.
        StoreError
            Where the file system knows no locks.
        """
        tries = 0
        while self._fd is None:
            fd = _open(self.folder, self.path)
            try:
                locked = _try_lock(fd, self.node)
                if locked and _is_file(fd, self.path):
                    self._fd = fd
                elif not locked:
                    tries += 1
                    if tries == TRIES:
                        raise self._taken(fd)
                    time.sleep(TRY_AGAIN_S)
            finally:
                if self._fd is None:
                    os.close(fd)
        with contextlib.suppress(OSError):  # who holds it is a courtesy; the disk may be full
            os.ftruncate(self._fd, 0)
            os.write(self._fd, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        self._sweep()
        return self

    def release(self) -> None:
        """Give the lock back; nothing happens the second time."""
        if self._fd is None:
            return
        fd, self._fd = self._fd, None
        try:
            self._sweep()
        finally:
            fcntl.flock(fd, fcntl.LOCK_UN)  # a forked child may still have the descriptor
            os.close(fd)

    def _sweep(self) -> None:
        for left in (self.partial, self.trash, self.aside):
            remove(left)

    def _taken(self, fd: int) -> StoreLockedError:
        holder = os.read(fd, 200).decode(errors="replace").strip() or "another writer"
        what = f"node {self.node!r}" if self.node else "the store"
        return StoreLockedError(
            f"{what} is being written by {holder}; a node has one writer at a time.",
            hint="wait until it is done, or end that process: its lock goes with it",
        )

    def __enter__(self) -> Self:
        return self.acquire()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.release()


def sweep_dead_locks(root: Path) -> None:
    """Remove what finished and killed writers left under `.locks`; what a live one holds stays."""
    folder = f"{root}/{LOCKS}"
    names = folder_names(folder)
    for stem in sorted({name.split(".")[0] for name in names}):
        with contextlib.suppress(OSError):  # another user's, or gone meanwhile: leave it
            _sweep_one(f"{folder}/{stem}")
    if names:
        with contextlib.suppress(OSError):  # live locks
            os.rmdir(folder)


def _sweep_one(stem: str) -> None:
    fd = os.open(f"{stem}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_file(fd, f"{stem}.lock"):
            for kind in ("partial", "trash", "aside", "lock"):
                remove(f"{stem}.{kind}")
    finally:
        os.close(fd)


def _open(folder: str, path: str) -> int:
    while True:
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:  # no lock was held, or the last one went just now and took the folder along
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder)


def _try_lock(fd: int, node: str) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise StoreError(
            f"node {node!r} cannot be locked ({error.strerror}); the store must lie on a file system with flock.",
            hint="put the store on a local disk, or mount its file system with locks (Lustre: -o flock)",
        ) from error
    return True


def _is_file(fd: int, path: str) -> bool:
    """Return whether the open file is still the one at `path`: the last holder may have removed it."""
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return False
    here = os.fstat(fd)
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
