"""Turn a node's path into a lock that one process holds and that no process outlives.

A lock is a file under `<store>/.locks/` on which its holder has an exclusive `flock`. The system drops it when the holder
dies, however it dies. The file goes when the lock is released, so a store at rest has no `.locks` folder. Half-written files
of the holder lie beside its lock, under a name made from it, so whoever takes the lock next, or opens the store, can
sweep them.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import socket
from pathlib import Path
from types import TracebackType
from typing import Self

from brainsim.core.errors import StoreError, StoreLockedError

LOCKS = ".locks"


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
        self.node = node
        self.folder = root / LOCKS
        name = hashlib.sha256(node.encode()).hexdigest()[:32]
        self.path = str(self.folder / f"{name}.lock")
        self.partial = str(self.folder / f"{name}.partial")  # a file on its way to its name
        self.trash = str(self.folder / f"{name}.trash")  # a folder on its way out
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
        while True:
            self.folder.mkdir(exist_ok=True)
            try:
                fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            except FileNotFoundError:  # the last holder of another lock took the folder away
                continue
            if not _lock(fd, self.node):
                holder = os.read(fd, 200).decode(errors="replace").strip() or "another process"
                os.close(fd)
                raise StoreLockedError(
                    f"node {self.node!r} is being written by {holder}; a node has one writer at a time.",
                    hint="wait until it is done, or end that process: its lock goes with it",
                )
            if _is_file(fd, self.path):
                break
            os.close(fd)  # the last holder removed this file between our opening and locking it
        os.ftruncate(fd, 0)
        os.write(fd, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        self._fd = fd
        self._sweep()
        return self

    def release(self) -> None:
        """Give the lock back and remove its files; nothing happens the second time."""
        if self._fd is None:
            return
        fd, self._fd = self._fd, None
        try:
            self._sweep()
            Path(self.path).unlink(missing_ok=True)
        finally:
            fcntl.flock(fd, fcntl.LOCK_UN)
            os.close(fd)
        with contextlib.suppress(OSError):  # other locks are held
            self.folder.rmdir()

    def _sweep(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.partial)
        if os.path.isdir(self.trash):
            shutil.rmtree(self.trash, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.acquire()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.release()


def _lock(fd: int, node: str) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        os.close(fd)
        raise StoreError(
            f"node {node!r} cannot be locked ({error.strerror}); the store must lie on a file system with flock.",
            hint="put the store on a local disk, or mount the file system with locks (Lustre: -o flock)",
        ) from error
    return True


def _is_file(fd: int, path: str) -> bool:
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return False
    here = os.fstat(fd)
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def sweep_dead_locks(root: Path) -> None:
    """Remove what killed writers left under `.locks`; what a live one holds stays."""
    folder = root / LOCKS
    try:
        names = [entry.name for entry in os.scandir(folder)]
    except FileNotFoundError:
        return
    for stem in {name.split(".")[0] for name in names}:
        _sweep_one(folder, stem)
    with contextlib.suppress(OSError):
        folder.rmdir()


def _sweep_one(folder: Path, stem: str) -> None:
    lock = folder / f"{stem}.lock"
    try:
        fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EACCES, errno.EROFS):  # gone meanwhile, or another user's
            return
        raise
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_file(fd, str(lock)):
            (folder / f"{stem}.partial").unlink(missing_ok=True)
            shutil.rmtree(folder / f"{stem}.trash", ignore_errors=True)
            lock.unlink(missing_ok=True)
    except OSError:  # held by a live writer, or no locks here: leave it
        return
    finally:
        os.close(fd)
