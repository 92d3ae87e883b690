"""Turn node paths into arrays and back, in one Zarr 3 hierarchy on disk: the only door to stored numbers."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brainsim.core.errors import (
    IncompleteNodeError,
    InvalidValueError,
    StoreDamageError,
    UnknownNameError,
)
from brainsim.core.progress import SILENT, Progress
from brainsim.core.provenance import digest
from brainsim.core.registry import unknown_name
from brainsim.store.beginning import begin_node
from brainsim.store.files import (
    METADATA,
    Stamp,
    check_node_path,
    folder_names,
    move,
    named_os_errors,
    read_with_stamp,
)
from brainsim.store.layout import DTYPES, ArraySpec, disk_dtype_of
from brainsim.store.locks import NodeLock, sweep_dead_locks
from brainsim.store.reading import Rows, read_array
from brainsim.store.records import (
    NodeInfo,
    NodeRecord,
    begin_record,
    copy_info,
    parse_group,
    parse_node,
    plain,
)
from brainsim.store.repair import Repair, repair_node
from brainsim.store.root import check_root, make_root, refuse_url
from brainsim.store.scan import Found, Place, scan
from brainsim.store.verify import Damage, verify_nodes
from brainsim.store.writer import NodeWriter

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
        refuse_url(path)
        self.path = Path(path).absolute()
        self.mode = mode
        self._records: dict[str, tuple[Stamp, NodeRecord]] = {}
        self._checked: dict[str, Stamp] = {}
        if mode == "a":
            make_root(self.path)
            weakref.finalize(self, sweep_dead_locks, self.path)  # also at the interpreter's end
        check_root(self.path)

    def __reduce__(self) -> tuple[type[Store], tuple[Path, str]]:
        return Store, (self.path, self.mode)

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r}, mode={self.mode!r})"

    # ------------------------------------------------------------------ what is there

    def has(self, node: str, *, key: Mapping[str, Any] | None = None) -> bool:
        """Return whether a complete node is there; with `key`, whether it was made by exactly that."""
        record = self._load(check_node_path(node)).record
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
        return copy_info(self._complete(node).info)

    def nodes(self, prefix: str = "", *, type: str | None = None, complete: bool | None = True) -> list[NodeInfo]:
        """Return the nodes under a path, sorted by path.

        Parameters
        ----------
        prefix : str
            Whole names of a path: "bold/planted" holds "bold/planted/sub-01/run-1", not "bold/planted2/…". Each name
            may hold the wildcards * and ?: "activations/resnet18@*/layer4*".
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
            if item.record is None:
                raise item.error or StoreDamageError(f"node {item.path!r} cannot be read.")
            info = item.record.info
            if (type is None or info.type == type) and (complete is None or info.complete is complete):
                found.append(copy_info(info))
        return sorted(found, key=lambda info: info.path)

    def scan(self, prefix: str = "") -> Iterator[Found]:
        """Yield every node under a path, as `nodes` does, and damaged ones with their error."""
        return scan(lambda path: folder_names(f"{self.path}/{path}"), prefix, self._load)

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
            return read_array(self.path, record, array, rows, columns, self._checked)
        except StoreDamageError:
            self._complete(node)  # being rewritten by another process is not damage
            raise

    def row_ranges(self, node: str, array: str) -> list[slice]:
        """Return the ranges of rows that lie in one chunk each: the cheapest way through an array."""
        layout = self._with_array(node, array).layouts[array]
        n_rows, size = layout.shape[0], layout.chunk_shape[0]
        return [slice(start, min(start + size, n_rows)) for start in range(0, n_rows, size)]

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
        resume: bool = False,
        keep_old: bool = False,
    ) -> NodeWriter:
        """Return a writer that takes arrays block by block; parameters and errors as in `write`.

        Its `is_complete` says on entering that a complete node of the same key is there: appending then does nothing.
        With `resume`, an interrupted writer's whole chunks are kept where key and software are the same: `n_rows` says
        where appending begins. Where they are not kept, because attributes or software are others, `begun_otherwise`
        says what differs. With `keep_old`, a complete node that is overwritten stays until the new one is complete.
        """
        self._check_writable()
        check_node_path(node)
        wanted = begin_record(node, type=type, key=key, attributes=attributes or {})
        lengths = [(math.prod(n or 0 for n in s.shape), s.dtype) for s in arrays.values()]
        n_bytes = sum(n * disk_dtype_of(dtype).itemsize for n, dtype in lengths if dtype in DTYPES)

        def begin(writer: NodeWriter, lock: NodeLock) -> NodeRecord | NodeInfo:
            there = self._standing(node, overwrite)
            how = {"overwrite": overwrite, "resume": resume, "keep_old": keep_old}
            return begin_node(self.path, there, wanted, writer, lock, n_bytes=n_bytes, **how)

        return NodeWriter(self.path, begin, node=node, type=type, arrays=arrays, chunk_rows=chunk_rows, resume=resume)

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
            if not self._is_node(node):
                raise self._unknown(node)
            move(f"{self.path}/{node}", lock.trash)  # gone at once; the lock's release removes the bytes

    # ------------------------------------------------------------------ health

    def verify(self, progress: Progress = SILENT, *, prefix: str = "") -> list[Damage]:
        """Read every byte of every complete node and return what is not as it was written.

        Unfinished nodes are not damage: `nodes(complete=False)` lists them.
        """
        return verify_nodes(self.path, self.scan(prefix), progress)

    def repair(self, node: str) -> Repair | None:
        """Make what is damaged of a node missing, under its lock; see `Repair`. None where nothing is damaged.

        Raises
        ------
        StoreLockedError
            Where a writer is at it.
        """
        self._check_writable()
        with named_os_errors(self.path, f"repairing {node!r}"):
            return repair_node(self.path, check_node_path(node), self._load)

    # ------------------------------------------------------------------ helpers

    def _check_writable(self) -> None:
        if self.mode != "a":
            raise InvalidValueError(f"the store at {self.path} is open for reading; open it with mode='a' to write.")

    def _load(self, node: str) -> Place:
        """Say what a path of the store is; records are kept until their file changes."""
        kept = self._records.get(node)
        with named_os_errors(self.path, f"reading node {node!r}"):
            found = read_with_stamp(f"{self.path}/{node}/{METADATA}", None if kept is None else kept[0])
        if found is None:
            return Place("nothing")
        stamp, data = found
        if data is None and kept is not None:
            return Place("node", kept[1])
        attributes = parse_group(data or b"", node)
        if attributes is None:
            return Place("group")
        record = parse_node(attributes, node)
        self._records[node] = (stamp, record)
        return Place("node", record)

    def _is_node(self, node: str) -> bool:
        try:
            return self._load(node).record is not None
        except StoreDamageError:
            return True

    def _complete(self, node: str) -> NodeRecord:
        record = self._load(check_node_path(node)).record
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
            what, hint = f"array of node {node!r}", f"brainsim store show {node}"
            raise unknown_name(what, array, list(record.layouts), hint=hint)
        return record

    def _unknown(self, node: str) -> UnknownNameError:
        paths = [item.path for item in self.scan()]
        return unknown_name(f"node of the store at {self.path}:", node, paths, hint="brainsim store ls")

    def _standing(self, node: str, overwrite: bool) -> NodeRecord | None:
        """Return the node that stands where one is to be written; with `overwrite`, a damaged one counts as none."""
        parts = node.split("/")
        for depth in range(1, len(parts)):
            above = "/".join(parts[:depth])
            if self._load(above).record is not None:
                raise InvalidValueError(f"node path is {node!r}; {above!r} is a node, and nodes hold no others.")
        try:
            place = self._load(node)
        except StoreDamageError:
            if not overwrite:
                raise
            return None
        if place.kind == "group" and any(self.scan(node)):
            raise InvalidValueError(f"node path is {node!r}; there are nodes below it, so it cannot be one itself.")
        return place.record
