"""Turn blocks of rows into the chunks of one node, and mark it complete when all of them are there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from brainsim.core.checks import check_node_name
from brainsim.core.errors import InvalidValueError, StoreDamageError
from brainsim.store.bfloat16 import BFLOAT16, LARGEST, overflows, round_to_bfloat16
from brainsim.store.exchange import exchange
from brainsim.store.files import METADATA, clear_folder, make_folder, move, named_os_errors, put
from brainsim.store.layout import (
    ArrayLayout,
    ArraySpec,
    as_bytes,
    check_spec,
    checksum,
    choose_chunk_rows,
    encode_checksum,
    fill_of,
    lay_out,
)
from brainsim.store.locks import NodeLock
from brainsim.store.node_types import NODE_TYPES, NodeType
from brainsim.store.reading import read_checked
from brainsim.store.records import (
    NodeInfo,
    NodeRecord,
    check_attributes,
    finish_record,
    node_document,
    unfinished_record,
)


class NodeWriter:
    """Writes one node, block by block; made by `Store.writer`, used in a `with` block.

    Leaving the block without `complete()` leaves an unfinished node, which the next writer replaces, or goes on with.

    Parameters
    ----------
    root : Path
        The store's folder.
    begin : callable
        Called with this writer and its lock, which is held: prepares the node's folder and returns the record to
        write, or returns the info of the complete node of the same key that is there already. A record that names
        files is that of an unfinished node to go on with.
    node, type : str
        The node's path and type.
    arrays : mapping of str to ArraySpec
        What will be appended.
    chunk_rows : int, optional
        Rows of a chunk in every array; by default chosen per array (`choose_chunk_rows`).
    resume : bool
        Whether to keep a manifest of the chunks that are written, for a later writer to go on from, and to go on from
        one that is there. Arrays must then say how many rows they will have.

    Attributes
    ----------
    begun_otherwise : tuple of str
        What kept it from going on from an unfinished node of the same key, known on entering; else empty.
    """

    def __init__(
        self,
        root: Path,
        begin: Callable[[NodeWriter, NodeLock], NodeRecord | NodeInfo],
        *,
        node: str,
        type: str,
        arrays: Mapping[str, ArraySpec],
        chunk_rows: int | None = None,
        resume: bool = False,
    ) -> None:
        known = NODE_TYPES[type] if type in NODE_TYPES else NodeType(type, "")
        lacking = [name for name in known.required if name not in arrays]
        if lacking:
            raise InvalidValueError(
                f"node {node!r} of type {type!r} has the arrays {', '.join(arrays) or 'none'}; it must have "
                f"{', '.join(known.required)}."
            )
        self._root = root
        self._node = node
        self._begin = begin
        self._home = self._folder = str(root / node)
        self._lock = NodeLock(root, node)
        self._record: NodeRecord | None = None
        self._attributes: dict[str, Any] = {}
        self._arrays: dict[str, _ArrayWriter] = {}
        for name, spec in arrays.items():
            check_node_name(name, what=f"an array of node {node!r}")
            check_spec(name, spec)
            if resume and spec.shape[0] is None:
                raise InvalidValueError(f"array {name!r} has an open length; only known lengths can be resumed.")
            named = ArraySpec(spec.shape, spec.dtype, spec.dims or _dims_of(name, spec, known))
            self._arrays[name] = _ArrayWriter(name, named, choose_chunk_rows(named, chunk_rows), self._folder)
        self.info: NodeInfo | None = None
        self.begun_otherwise: tuple[str, ...] = ()
        self._resume = resume
        self._was_there = False
        self._used = False

    @property
    def is_complete(self) -> bool:
        """Whether the node is complete: by `complete()`, or because one of the same key was there already.

        In the second case what is appended is ignored.
        """
        return self.info is not None

    def n_rows(self, array: str) -> int:
        """Return how many rows an array has, and so where the next block begins.

        On entering with `resume`, these are the rows that an interrupted writer left, checked; else 0.
        """
        return self._arrays[array].n_rows

    def append(self, array: str, block: np.ndarray) -> None:
        """Append rows to an array.

        Parameters
        ----------
        array : str
            One of the arrays that the writer was opened with.
        block : ndarray, (n_rows, ...)
            Any number of rows; cast to the array's dtype where that keeps the kind of number, rounded to the nearest.

        Raises
        ------
        InvalidValueError
            For another shape, more rows than announced, or values that the dtype cannot hold.
        StoreError
            Where the disk is full.
        """
        if self._was_there:
            return
        self._writing()
        if array not in self._arrays:
            raise InvalidValueError(
                f"node {self._node!r} was opened for the arrays {', '.join(self._arrays)}; there is no {array!r}."
            )
        with named_os_errors(self._root, f"writing node {self._node!r}"):
            written = len(self._arrays[array].files)
            self._arrays[array].append(np.asarray(block), self._lock.partial)
            # Of an array of one chunk there is nothing to go on from.
            if self._resume and len(self._arrays[array].files) > written and self._arrays[array].layout.n_chunks > 1:
                self._note_progress()

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Add to the node's attributes; they are written at completion."""
        self._attributes.update(check_attributes(self._node, attributes))

    def complete(self) -> NodeInfo:
        """Write what is buffered, the arrays' metadata, and last of all the completion mark.

        Raises
        ------
        InvalidValueError
            Where an array has fewer rows than announced.
        """
        if self.info is not None:
            return self.info
        record = self._writing()
        with named_os_errors(self._root, f"writing node {self._node!r}"):
            layouts: dict[str, ArrayLayout] = {}
            files: dict[str, tuple[int, int]] = {}
            for name, array in self._arrays.items():
                layouts[name] = array.finish(self._lock.partial, files)
            record.info.attributes.update(self._attributes)
            record = finish_record(record, layouts, files)
            put(f"{self._folder}/{METADATA}", self._lock.partial, node_document(record))
            if self._folder != self._home and not exchange(self._folder, self._home):
                move(self._home, self._lock.trash)
                move(self._folder, self._home)
        self.info, self._record = record.info, None
        return record.info

    def discard(self) -> None:
        """Remove what was written of the node, while nobody else can be at it."""
        if self._record is None:
            return
        self._record = None
        if self._folder != self._home:
            return  # the lock's release removes it, and the node that was there stays
        move(self._folder, self._lock.trash)  # gone at once; the lock's release removes the bytes

    def write_aside(self, document: bytes) -> None:
        """Write elsewhere until everything is there, so that the node that is there stays as long as that.

        Called while the writer is entered, under the lock; `document` is the zarr.json of the unfinished node.
        """
        self._folder = self._lock.aside
        make_folder(self._folder)
        put(f"{self._folder}/{METADATA}", self._lock.partial, document)
        for name, array in self._arrays.items():
            array.folder = f"{self._folder}/{name}"

    def _note_progress(self) -> None:
        """Write the manifest of what is there, after it is there: the next writer trusts nothing else."""
        layouts = {name: array.layout for name, array in self._arrays.items()}
        files = {file: entry for array in self._arrays.values() for file, entry in array.files.items()}
        record = unfinished_record(self._writing(), layouts, files)
        put(f"{self._folder}/{METADATA}", self._lock.partial, node_document(record))

    def _go_on(self, left: NodeRecord) -> None:
        """Take over the chunks of an unfinished node that are whole, as far as they follow one another."""
        if left.layouts == {name: array.layout for name, array in self._arrays.items()}:
            for array in self._arrays.values():
                array.take_over(self._root, left)
        else:  # this brainsim cuts chunks otherwise
            put(f"{self._folder}/{METADATA}", self._lock.partial, node_document(unfinished_record(left, {}, {})))
            clear_folder(self._folder)
        self._record = unfinished_record(left, {}, {})

    def _writing(self) -> NodeRecord:
        if self._record is None:
            raise InvalidValueError(
                f"node {self._node!r} is not open for writing; append before complete(), inside the `with` block."
            )
        return self._record

    def __enter__(self) -> Self:
        if self._used:
            raise InvalidValueError(f"the writer of node {self._node!r} was used already; open another one.")
        self._used = True
        with named_os_errors(self._root, f"writing node {self._node!r}"):
            self._lock.acquire()
            try:
                begun = self._begin(self, self._lock)
                if isinstance(begun, NodeRecord) and begun.files:
                    self._go_on(begun)
                elif isinstance(begun, NodeRecord):
                    self._record = begun
                else:
                    self.info, self._was_there = begun, True
            except BaseException:
                self._lock.release()
                raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._record = None
        self._arrays.clear()
        self._lock.release()


def _dims_of(name: str, spec: ArraySpec, type: NodeType) -> tuple[str, ...] | None:
    dims = type.dims.get(name)
    if dims is not None and len(dims) != len(spec.shape):
        raise InvalidValueError(
            f"array {name!r} of a node of type {type.name!r} has {len(spec.shape)} axes; it must have {len(dims)}: "
            f"{', '.join(dims)}."
        )
    return dims


class _ArrayWriter:
    """Cuts appended rows into whole chunks."""

    def __init__(self, name: str, spec: ArraySpec, chunk_rows: int, folder: str) -> None:
        self.name = name
        self.spec = spec
        self.folder = f"{folder}/{name}"
        self.layout = lay_out(spec, spec.shape[0] or 0, chunk_rows)
        self.n_rows = 0
        self.files: dict[str, tuple[int, int]] = {}
        self.buffer: np.ndarray | None = None  # (chunk_rows, ...), on disk's dtype

    def append(self, block: np.ndarray, partial: str) -> None:
        block = self._check(block)
        chunk_rows = self.layout.chunk_shape[0]
        at = 0
        while at < len(block):
            filled = self.n_rows % chunk_rows
            rows = block[at : at + chunk_rows - filled]
            if len(rows) == chunk_rows and self._has_elements():
                self._put(self.n_rows // chunk_rows, as_bytes(rows, self.layout), partial)
            elif self._has_elements():
                if self.buffer is None:
                    self.buffer = np.empty((chunk_rows, *self.layout.shape[1:]), self.layout.disk_dtype)
                self.buffer[filled : filled + len(rows)] = rows
                if filled + len(rows) == chunk_rows:
                    self._put(self.n_rows // chunk_rows, as_bytes(self.buffer, self.layout), partial)
            self.n_rows += len(rows)
            at += len(rows)

    def take_over(self, root: Path, left: NodeRecord) -> None:
        """Keep the whole chunks, from the first on, that an interrupted writer left; each is read and checked."""
        for index in range(self.layout.shape[0] // self.layout.chunk_shape[0] if self._has_elements() else 0):
            file = f"{self.name}/{self.layout.chunk_key(index)}"
            try:
                read_checked(root, left, file)
            except StoreDamageError:
                return
            self.files[file] = left.files[file]
            self.n_rows += self.layout.chunk_shape[0]

    def finish(self, partial: str, files: dict[str, tuple[int, int]]) -> ArrayLayout:
        announced = self.spec.shape[0]
        if announced is not None and announced != self.n_rows:
            raise InvalidValueError(f"array {self.name!r} has {self.n_rows} rows; {announced} were announced.")
        chunk_rows = self.layout.chunk_shape[0]
        if self.n_rows < chunk_rows:  # nothing is on disk yet: the one chunk need not be larger than the array
            chunk_rows = max(self.n_rows, 1)
        self.layout = lay_out(self.spec, self.n_rows, chunk_rows)
        n_waiting = self.n_rows - len(self.files) * chunk_rows
        if self.buffer is not None and n_waiting:
            last = self.buffer[:chunk_rows]
            last[n_waiting:] = fill_of(self.layout.dtype)[1]
            self._put(len(self.files), as_bytes(last, self.layout), partial)
        document = self.layout.metadata()
        make_folder(self.folder)
        size = put(f"{self.folder}/{METADATA}", partial, document)
        files[f"{self.name}/{METADATA}"] = (size, checksum(document))
        files.update(self.files)
        self.buffer = None
        return self.layout

    def _has_elements(self) -> bool:
        return 0 not in self.layout.shape[1:]

    def _check(self, block: np.ndarray) -> np.ndarray:
        wanted = self.layout.shape[1:]
        if block.ndim != len(wanted) + 1 or block.shape[1:] != wanted:
            raise InvalidValueError(
                f"a block of array {self.name!r} has shape {block.shape}; it must be (n_rows, "
                f"{', '.join(map(str, wanted))})."
            )
        announced = self.spec.shape[0]
        if announced is not None and self.n_rows + len(block) > announced:
            raise InvalidValueError(
                f"array {self.name!r} would have {self.n_rows + len(block)} rows; {announced} were announced."
            )
        dtype = self.layout.disk_dtype
        if self.layout.dtype == BFLOAT16:
            return self._round(block)
        if block.dtype == dtype:
            return block
        if not np.can_cast(block.dtype, dtype, "same_kind"):
            raise InvalidValueError(
                f"a block of array {self.name!r} is {block.dtype}; {self.layout.dtype} cannot hold that kind of number."
            )
        try:
            with np.errstate(over="raise"):
                return block.astype(dtype)
        except FloatingPointError:
            raise InvalidValueError(
                f"a block of array {self.name!r} holds {np.nanmax(np.abs(block)):g}; {self.layout.dtype} ends at "
                f"{np.finfo(dtype).max:g}."
            ) from None

    def _round(self, block: np.ndarray) -> np.ndarray:
        """Return the bits of bfloat16 numbers, uint16; numbers of ml_dtypes' type are taken as they are."""
        if block.dtype.name == BFLOAT16:
            return block.view(np.uint16)
        if block.dtype.kind not in "fiub":
            raise InvalidValueError(
                f"a block of array {self.name!r} is {block.dtype}; {BFLOAT16} cannot hold that kind of number."
            )
        bits = round_to_bfloat16(block)
        if overflows(bits, block):
            largest = np.nanmax(np.abs(block), where=np.isfinite(block), initial=0)
            raise InvalidValueError(
                f"a block of array {self.name!r} holds {largest:g}; {BFLOAT16} ends at {LARGEST:g}."
            )
        return bits

    def _put(self, index: int, data: np.ndarray, partial: str) -> None:
        key = self.layout.chunk_key(index)
        path = f"{self.folder}/{key}"
        crc = checksum(data)
        make_folder(path.rpartition("/")[0])
        size = put(path, partial, data.data, encode_checksum(crc))
        self.files[f"{self.name}/{key}"] = (size, crc)
