"""Turn node paths into arrays and back, in one Zarr 3 hierarchy on disk: the only door to stored numbers."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brainsim.core.errors import (
    IncompleteNodeError,
    InvalidValueError,
    StoreDamageError,
    StoreError,
    UnknownNameError,
)
from brainsim.core.progress import SILENT, Progress
from brainsim.core.provenance import digest
from brainsim.core.registry import unknown_name
from brainsim.store.files import METADATA, check_node_path, holds_files, named_os_errors, no_space, put
from brainsim.store.layout import ArraySpec
from brainsim.store.locks import LOCKS, NodeLock, sweep_dead_locks
from brainsim.store.reading import Rows, missing_file, read_array
from brainsim.store.records import (
    FORMAT_VERSION,
    RECORD,
    STORE_TYPE,
    NodeInfo,
    NodeRecord,
    begin_record,
    check_version,
    group_document,
    node_document,
    parse_group,
    parse_node,
    plain,
    store_document,
)
from brainsim.store.scan import Found, scan
from brainsim.store.verify import Damage, verify_nodes
from brainsim.store.writer import NodeWriter, prepare_folder

if TYPE_CHECKING:
    import zarr

ALL = slice(None)


class Store:
    """A folder of typed, checked nodes.

    Cheap to open and to pickle (path and mode travel), safe to read while others write. See docs/store-format.md.

    Parameters
    ----------
    path : str or Path
        The store's folder.
    mode : {"r", "a"}
        "r" reads a store that is there; "a" also writes, and makes the store where none is.

    Raises
    ------
    StoreError
        Where no store is (mode "r"), where other files are (never written into), or the format is from the future.
    """

    def __init__(self, path: str | Path, mode: str = "r") -> None:
        if mode not in ("r", "a"):
            raise InvalidValueError(f"store mode is {mode!r}; allowed: 'r' (read), 'a' (read and write).")
        self.path = Path(path).absolute()
        self.mode = mode
        self._groups: set[str] = set()
        self._records: dict[str, tuple[tuple[int, ...], NodeRecord]] = {}
        if mode == "a":
            with named_os_errors(self.path, "opening"):
                self._create()
                sweep_dead_locks(self.path)
        self._check_root()

    def __reduce__(self) -> tuple[type[Store], tuple[Path, str]]:
        return Store, (self.path, self.mode)

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r}, mode={self.mode!r})"

    # ------------------------------------------------------------------ what is there

    def has(self, node: str, *, key: Mapping[str, Any] | None = None) -> bool:
        """Return whether a complete node is there; with `key`, whether it was made by exactly that."""
        record = self._record(check_node_path(node))
        if record is None or not record.info.complete:
            return False
        return key is None or record.info.digest == digest(plain(dict(key), f"key of {node!r}"))

    def info(self, node: str) -> NodeInfo:
        """Return what a complete node is.

        Raises
        ------
        UnknownNameError
            Where no such node is; near misses are named.
        IncompleteNodeError
            Where it is unfinished.
        """
        return self._complete(node).info

    def nodes(self, prefix: str = "", *, type: str | None = None, complete: bool | None = True) -> list[NodeInfo]:
        """Return the nodes under a path, sorted by path.

        Parameters
        ----------
        prefix : str
            Whole names of a path: "bold/planted" holds "bold/planted/sub-01/run-1", not "bold/planted2/…". Each name may
            hold the wildcards * and ?: "activations/resnet18@*/layer4*".
        type : str, optional
            Only nodes of this type.
        complete : bool or None
            True for complete nodes, False for unfinished ones, None for both.

        Raises
        ------
        StoreDamageError
            Where a node under the path cannot be read: it is never left out silently.
        """
        found = []
        for item in self.scan(prefix):
            if item.error is not None:
                raise item.error
            info = item.node.info
            if (type is None or info.type == type) and (complete is None or info.complete is complete):
                found.append(info)
        return sorted(found, key=lambda info: info.path)

    def scan(self, prefix: str = "") -> Iterator[Found]:
        """Yield every node under a path, as `nodes` does, and damaged ones with their error."""
        return scan(self.path, prefix, self._load)

    # ------------------------------------------------------------------ reading

    def read(self, node: str, array: str, rows: Rows = ALL, columns: Rows = ALL) -> np.ndarray:
        """Read an array of a complete node, or some of its rows and columns.

        Parameters
        ----------
        node, array : str
            Path of the node, name of the array.
        rows, columns : slice or list of int
            Positions on the first and the second axis. Whole chunks of rows are read and checked.

        Returns
        -------
        ndarray
            A new array.

        Raises
        ------
        UnknownNameError, IncompleteNodeError
            Where there is no such node or array, or the node is unfinished.
        StoreDamageError
            Where a chunk is missing or is not what was written.
        """
        record = self._with_array(node, array)
        try:
            return read_array(self.path, record, array, rows, columns)
        except StoreDamageError:
            self._complete(node)  # being rewritten by another process is not damage
            raise

    def open_array(self, node: str, array: str) -> zarr.Array[Any]:
        """Open an array of a complete node as a Zarr array, for libraries that stream from one.

        A chunk that is missing or changed raises StoreDamageError when it is read, as in `read`.
        """
        from brainsim.store.checked_zarr import open_checked

        return open_checked(self.path, self._with_array(node, array), array)

    # ------------------------------------------------------------------ writing

    def write(
        self,
        node: str,
        *,
        type: str,
        key: Mapping[str, Any],
        arrays: Mapping[str, np.ndarray],
        attributes: Mapping[str, Any] | None = None,
        chunk_rows: int | None = None,
        overwrite: bool = False,
    ) -> NodeInfo:
        """Write a whole node; nothing happens where a complete one of the same key is.

        Parameters
        ----------
        node : str
            Path.
        type : str
            Node type; see docs/store-format.md.
        key : mapping
            Everything that made the node, JSON-able.
        arrays : mapping of str to ndarray
            Arrays of at least one axis; numbers and bool.
        attributes : mapping
            What readers want to know, JSON-able.
        chunk_rows : int, optional
            Rows of a chunk in every array.
        overwrite : bool
            Replace a complete node, also one of another key.

        Raises
        ------
        InvalidValueError
            Where a complete node of another key is there and `overwrite` is False: the differing fields are named.
        StoreLockedError
            Where another writer is at this node.
        StoreError
            Where the disk is full: the node stays unfinished.
        """
        found = {name: np.asarray(array) for name, array in arrays.items()}
        specs = {name: ArraySpec(array.shape, str(array.dtype.newbyteorder("="))) for name, array in found.items()}
        with self.writer(
            node,
            type=type,
            key=key,
            arrays=specs,
            attributes=attributes,
            chunk_rows=chunk_rows,
            overwrite=overwrite,
        ) as writer:
            if not writer.is_complete:
                for name, array in found.items():
                    writer.append(name, array)
            return writer.complete()

    def writer(
        self,
        node: str,
        *,
        type: str,
        key: Mapping[str, Any],
        arrays: Mapping[str, ArraySpec],
        attributes: Mapping[str, Any] | None = None,
        chunk_rows: int | None = None,
        overwrite: bool = False,
    ) -> NodeWriter:
        """Return a writer that takes arrays block by block; parameters and errors as in `write`.

        Its `is_complete` says on entering that a complete node of the same key is there: appending then does nothing.
        """
        self._check_writable()
        check_node_path(node)
        wanted = begin_record(node, type=type, key=key, attributes=attributes or {})
        needed = sum(math.prod(n or 0 for n in s.shape) * np.dtype(s.dtype).itemsize for s in arrays.values() if s.shape)

        def begin(lock: NodeLock) -> NodeRecord | NodeInfo:
            there = self._standing(node)
            if there is not None and there.info.complete and not overwrite:
                if there.info.digest != wanted.info.digest:
                    raise _other_key(there.info, wanted.info)
                if missing_file(self.path, there) is None:
                    return there.info
            if needed > 2**20 and needed > _free(self.path):
                raise no_space(self.path, f"node {node!r}", needed)
            prepare_folder(self.path, node, node_document(wanted), lock, group_document({}), self._groups)
            return wanted

        return NodeWriter(self.path, begin, node=node, type=type, arrays=arrays, chunk_rows=chunk_rows)

    def delete(self, node: str) -> None:
        """Remove a node, complete or not.

        Raises
        ------
        UnknownNameError
            Where no such node is.
        StoreLockedError
            Where a writer is at it.
        """
        self._check_writable()
        check_node_path(node)
        with named_os_errors(self.path, f"deleting node {node!r}"), NodeLock(self.path, node) as lock:
            try:
                there = self._standing(node) is not None
            except StoreDamageError:
                there = True
            if not there:
                raise self._unknown(node)
            os.rename(self.path / node, lock.trash)  # gone at once; the lock's release removes the bytes

    # ------------------------------------------------------------------ health

    def verify(self, progress: Progress = SILENT, *, prefix: str = "") -> list[Damage]:
        """Read every byte of every complete node and return what is not as it was written.

        Unfinished nodes are not damage: `nodes(complete=False)` lists them.
        """
        return verify_nodes(self.path, self.scan(prefix), progress)

    # ------------------------------------------------------------------ helpers

    def _create(self) -> None:
        if (self.path / METADATA).exists():
            return
        if self.path.exists():
            if not self.path.is_dir():
                raise StoreError(f"{self.path} is a file; a store is a folder.", hint="give --store another path")
            if holds_files(self.path, LOCKS):
                raise StoreError(
                    f"{self.path} holds other files and is no store; brainsim writes into none but its own folders.",
                    hint="give --store a path that does not exist yet",
                )
        self.path.mkdir(parents=True, exist_ok=True)
        with NodeLock(self.path, "") as lock:
            if not (self.path / METADATA).exists():
                put(str(self.path / METADATA), lock.partial, store_document())

    def _check_root(self) -> None:
        file = self.path / METADATA
        if not file.exists():
            what = "a folder that is no store" if self.path.is_dir() else "no store"
            raise StoreError(
                f"there is {what} at {self.path}.",
                hint="brainsim extract (or brainsim demo) makes one; --store says where it lies",
            )
        with named_os_errors(self.path, "opening"):
            attributes = parse_group(file.read_bytes(), "")
        if attributes is None or attributes[RECORD].get("type") != STORE_TYPE:
            raise StoreError(
                f"{self.path} is a Zarr hierarchy of another program, or a part of a store; a store's root is wanted.",
                hint="give --store the folder that brainsim made",
            )
        check_version(f"the store at {self.path}", attributes[RECORD].get("version"), FORMAT_VERSION)

    def _check_writable(self) -> None:
        if self.mode != "a":
            raise InvalidValueError(f"the store at {self.path} is open for reading; open it with mode='a' to write.")

    def _load(self, node: str) -> NodeRecord | None:
        """Return a node's record, None for a plain group or nothing; what is parsed is kept until the file changes."""
        file = f"{self.path}/{node}/{METADATA}"
        try:
            fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            stat = os.fstat(fd)
            stamp = (stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size)
            kept = self._records.get(node)
            if kept is not None and kept[0] == stamp:
                return kept[1]
            data = os.read(fd, stat.st_size + 1)
            while len(data) < stat.st_size and (more := os.read(fd, stat.st_size - len(data))):
                data += more
        finally:
            os.close(fd)
        attributes = parse_group(data, node)
        if attributes is None:
            return None
        record = parse_node(attributes, node)
        self._records[node] = (stamp, record)
        return record

    def _record(self, node: str) -> NodeRecord | None:
        with named_os_errors(self.path, f"reading node {node!r}"):
            return self._load(node)

    def _complete(self, node: str) -> NodeRecord:
        record = self._record(check_node_path(node))
        if record is None:
            raise self._unknown(node)
        if not record.info.complete:
            raise IncompleteNodeError(
                f"node {node!r} of the store at {self.path} is unfinished: it is never read as a result.",
                hint="rerun the command that makes it",
            )
        return record

    def _with_array(self, node: str, array: str) -> NodeRecord:
        record = self._complete(node)
        if array not in record.layouts:
            raise unknown_name(f"array of node {node!r}", array, list(record.layouts), hint=f"brainsim store show {node}")
        return record

    def _unknown(self, node: str) -> UnknownNameError:
        paths = [item.path for item in self.scan()]
        return unknown_name(f"node of the store at {self.path}:", node, paths, hint="brainsim store ls")

    def _standing(self, node: str) -> NodeRecord | None:
        """Return the node that stands at a path where one may be written; a damaged unfinished one is none."""
        parts = node.split("/")
        for depth in range(1, len(parts)):
            above = "/".join(parts[:depth])
            if above not in self._groups and self._load(above) is not None:
                raise InvalidValueError(f"node path is {node!r}; {above!r} is a node, and nodes hold no other nodes.")
        record = self._load(node)
        if record is None and os.path.exists(f"{self.path}/{node}/{METADATA}") and any(self.scan(node)):
            raise InvalidValueError(f"node path is {node!r}; there are nodes below it, so it cannot be one itself.")
        return record


def _free(path: Path) -> int:
    from brainsim.core.resources import disk_free_bytes

    return disk_free_bytes(path)


def _other_key(there: NodeInfo, wanted: NodeInfo) -> InvalidValueError:
    names = sorted(set(there.key) | set(wanted.key))
    differing = [n for n in names if there.key.get(n) != wanted.key.get(n)]
    shown = "; ".join(f"{n} was {_short(there.key.get(n))}, is {_short(wanted.key.get(n))}" for n in differing[:4])
    more = f"; and {len(differing) - 4} more" if len(differing) > 4 else ""
    return InvalidValueError(
        f"node {there.path!r} is complete and was made otherwise: {shown}{more}.",
        hint="use another name, or --overwrite to replace it",
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
