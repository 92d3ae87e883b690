"""Turn the folders of a store into the nodes that lie in them."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from brainsim.core.errors import InvalidValueError, StoreDamageError, StoreError
from brainsim.store.files import METADATA
from brainsim.store.records import NodeRecord


@dataclass(frozen=True)
class Found:
    """A node, or the error that reading its metadata gave.

    Parameters
    ----------
    path : str
        Path of the node.
    record : NodeRecord or None
        The node, where it could be read.
    error : StoreError or None
        Why it could not.
    """

    path: str
    record: NodeRecord | None = None
    error: StoreError | None = None

    @property
    def node(self) -> NodeRecord:
        """The record; raises the error where there is none."""
        if self.record is None:
            raise self.error or StoreDamageError(f"node {self.path!r} cannot be read.", hint="brainsim store verify")
        return self.record


def scan(root: Path, prefix: str, load: Callable[[str], NodeRecord | None]) -> Iterator[Found]:
    """Yield every node whose path begins with the names of `prefix`; folders are walked in sorted order.

    Parameters
    ----------
    root : Path
        The store's folder.
    prefix : str
        Names joined by slashes; each may hold the wildcards * and ?.
    load : callable
        Reads a node's record; None for a plain group.
    """
    names = [name for name in prefix.split("/") if name]
    if any(name.startswith(".") for name in names) or prefix.startswith("/"):
        raise InvalidValueError(f"prefix is {prefix!r}; it must be names of a node path, as 'bold/planted'.")
    yield from _walk(str(root), "", names, load)


def _walk(root: str, path: str, names: list[str], load: Callable[[str], NodeRecord | None]) -> Iterator[Found]:
    pattern = names[0] if names else None
    try:
        children = sorted(e.name for e in os.scandir(f"{root}/{path}") if e.name[0] != "." and e.is_dir())
    except FileNotFoundError:  # removed while we walk
        return
    for name in children:
        if pattern is not None and not fnmatch.fnmatchcase(name, pattern):
            continue
        child = f"{path}/{name}" if path else name
        try:
            record = load(child)
        except StoreError as error:
            yield Found(child, error=error)
            continue
        if record is None:
            if not _is_group(f"{root}/{child}"):
                yield from _orphan(root, child)
                continue
            yield from _walk(root, child, names[1:], load)
        elif len(names) <= 1:
            yield Found(child, record)


def _is_group(folder: str) -> bool:
    return os.path.exists(f"{folder}/{METADATA}")


def _orphan(root: str, path: str) -> Iterator[Found]:
    """Yield a folder without zarr.json that holds something; an empty one is what a writer killed early leaves."""
    try:
        empty = not os.listdir(f"{root}/{path}")
    except FileNotFoundError:
        return
    if not empty:
        error = StoreDamageError(
            f"the zarr.json of {path!r} is missing, and there are files below it.", hint="brainsim store verify"
        )
        yield Found(path, error=error)
