"""Turn the chunk files of a complete node into arrays, refusing every byte that is not the one that was written."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from brainsim.core.errors import InvalidValueError, StoreDamageError
from brainsim.store.files import METADATA, Stamp, file_size, file_stamp, read_parts, read_pieces, read_ranges
from brainsim.store.layout import (
    CHECKSUM_BYTES,
    ArrayLayout,
    checksum,
    checksum_of,
    encode_checksum,
    from_bytes,
    place_numbers,
    read_dtype_of,
)
from brainsim.store.records import NodeRecord

Rows = slice | np.ndarray | list[int]

# Bytes of a chunk file that are checked at a time: they stay in the cache.
PIECE_BYTES = 2**20


def read_array(
    root: Path,
    record: NodeRecord,
    array: str,
    rows: Rows,
    columns: Rows,
    checked: dict[str, Stamp],
    *,
    fetch: Callable[[str], np.ndarray] | None = None,
) -> np.ndarray:
    """Read rows and columns of one array; only the chunks that hold the rows are touched.

    Parameters
    ----------
    root : Path
        The store's folder.
    record : NodeRecord
        The node's record, complete.
    array : str
        Name of the array.
    rows, columns : slice or array of int
        What to read of the first and the second axis.
    checked : dict of str to Stamp
        Chunk files that were read and checked before, with what they were then; those read now are added. Blocks of
        columns come from such a file without reading the rest of it again.
    fetch : callable, optional
        Returns the checked bytes of a file of the node, uint8, where it lies elsewhere than on disk.

    Returns
    -------
    ndarray, (n_rows, ...)
        A new array in the machine's byte order; float32 where bfloat16 is stored.

    Raises
    ------
    StoreDamageError
        Where a chunk is missing, of another size, or fails its checksum.
    InvalidValueError
        Where rows or columns lie outside.
    """
    layout = record.layouts[array]
    at = f"{record.info.path}/{array}"
    wanted = _positions(rows, layout.shape[0], f"rows of {at!r}")
    whole = isinstance(columns, slice) and columns == slice(None)
    if not whole and len(layout.shape) < 2:
        raise InvalidValueError(f"{at!r} has one axis; columns cannot be chosen.")
    rest = layout.shape[1:]
    taken: Any = slice(None)
    if not whole:
        positions = _positions(columns, layout.shape[1], f"columns of {at!r}")
        rest, taken = (len(positions), *layout.shape[2:]), _as_index(positions)
    out = np.empty((len(wanted), *rest), read_dtype_of(layout.dtype))
    if not out.size:
        return out
    chunk_of = wanted // layout.chunk_shape[0]
    for index in map(int, np.unique(chunk_of)):
        here = _as_index(np.flatnonzero(chunk_of == index))
        local = wanted[here] - index * layout.chunk_shape[0]
        path = f"{root}/{at}/{layout.chunk_key(index)}"
        file = f"{array}/{layout.chunk_key(index)}"
        if isinstance(taken, slice) and not whole and fetch is None:
            if path not in checked and (found := _check_by_pieces(path, record.files.get(file))):
                checked[path] = found
            if path in checked and _read_columns(path, layout, local, taken, checked[path], out, here):
                continue
        is_direct = whole and fetch is None and out.dtype == layout.disk_dtype and isinstance(here, slice)
        if is_direct and _read_rows(path, layout, _as_index(local), record.files.get(file), out[here]):
            continue
        stamp = file_stamp(path) if fetch is None else None
        data = read_checked(root, record, file) if fetch is None else fetch(file)
        chunk = from_bytes(data[:-CHECKSUM_BYTES], layout)
        chosen = chunk[_as_index(local)]
        place_numbers(out, here, chosen[:, taken] if len(layout.shape) > 1 else chosen, layout)
        if stamp is not None and not whole:
            checked[path] = stamp
    return out


def _read_rows(path: str, layout: ArrayLayout, rows: Any, listed: tuple[int, int] | None, out: np.ndarray) -> bool:
    """Read a range of rows of a chunk to where they are wanted, without a copy; False where that went wrong.

    The rest of the chunk is read too: its checksum is that of all of it. What is wrong is for the slow way to tell.
    """
    if listed is None or not isinstance(rows, slice):
        return False
    size, crc = listed
    row_nbytes = (layout.chunk_nbytes - CHECKSUM_BYTES) // layout.chunk_shape[0]
    before = np.empty(rows.start * row_nbytes, np.uint8)
    after = np.empty((layout.chunk_shape[0] - rows.stop) * row_nbytes, np.uint8)
    parts = [before, out.reshape(-1).view(np.uint8), after]
    stored = np.empty(CHECKSUM_BYTES, np.uint8)
    if not read_parts(path, [*parts, stored], size) or stored.tobytes() != encode_checksum(crc):
        return False
    return checksum_of(parts) == crc


def _check_by_pieces(path: str, listed: tuple[int, int] | None) -> Stamp | None:
    """Check a chunk file without having it in memory; return its stamp, or None where anything is wrong with it.

    What is wrong is for the slow way to tell.
    """
    stamp = file_stamp(path)  # from before it is read: a file that changes then has another one
    if listed is None or stamp is None:
        return None
    size, crc = listed
    left, found, end = size - CHECKSUM_BYTES, 0, b""
    for piece in read_pieces(path, PIECE_BYTES):
        found = checksum_of([piece[:left]], crc=found)
        end += piece[left:].tobytes()
        left = max(left - len(piece), 0)
    return stamp if found == crc and end == encode_checksum(crc) else None


def _read_columns(
    path: str, layout: ArrayLayout, rows: np.ndarray, columns: slice, stamp: Stamp, out: np.ndarray, at: Any
) -> bool:
    """Read a range of columns of a chunk that was checked before into ``out[at]``; False where it is another file."""
    inner = math.prod(layout.chunk_shape[2:]) * layout.disk_dtype.itemsize
    row_nbytes = layout.chunk_shape[1] * inner
    n_columns = columns.stop - columns.start
    is_direct = isinstance(at, slice) and out.dtype == layout.disk_dtype
    block = out[at] if is_direct else np.empty((len(rows), *out.shape[1:]), layout.disk_dtype)
    starts = [int(row) * row_nbytes + columns.start * inner for row in rows]
    into = block.reshape(-1).view(np.uint8).data
    if not read_ranges(path, starts, n_columns * inner, stamp, into):
        return False
    if not is_direct:
        place_numbers(out, at, block, layout)
    return True


def read_checked(root: Path, record: NodeRecord, file: str) -> np.ndarray:
    """Read a file that the manifest names, uint8 (n_bytes,), or raise StoreDamageError."""
    node = record.info.path
    if file not in record.files:
        raise damage(root, node, file, "is not in the node's manifest")
    try:
        data = np.fromfile(f"{root}/{node}/{file}", np.uint8)
    except FileNotFoundError:
        raise damage(root, node, file, "is missing") from None
    except OSError as error:
        raise damage(root, node, file, f"cannot be read ({error.strerror or error})") from error
    check_bytes(root, record, file, data)
    return data


def check_bytes(root: Path, record: NodeRecord, file: str, data: np.ndarray) -> None:
    """Raise StoreDamageError unless `data`, uint8, are the file's bytes: size and both copies of the checksum."""
    size, crc = record.files[file]
    if len(data) != size:
        raise damage(root, record.info.path, file, f"has {len(data)} bytes instead of {size}")
    n_body = size - CHECKSUM_BYTES if is_chunk(file) else size
    if checksum(data[:n_body]) != crc or data[n_body:].tobytes() not in (b"", encode_checksum(crc)):
        raise damage(root, record.info.path, file, "fails its checksum")


def is_chunk(file: str) -> bool:
    """Return whether a manifest entry is a chunk: its checksum is that of all bytes but the last four."""
    return not file.endswith(METADATA)


def missing_file(root: Path, record: NodeRecord) -> str | None:
    """Return the first file of the manifest that is missing or of another size; None where all are there."""
    for file, (size, _) in record.files.items():
        if file_size(f"{root}/{record.info.path}/{file}") != size:
            return file
    return None


def damage(root: Path, node: str, file: str, what: str) -> StoreDamageError:
    """Return the error for a file that is not as it was written."""
    return StoreDamageError(
        f"chunk {file!r} of node {node!r} {what}; the store at {root} is damaged there.",
        hint="brainsim store verify lists all damage; rerun what made the node with --overwrite",
    )


def _positions(chosen: Rows, n: int, what: str) -> np.ndarray:
    if isinstance(chosen, slice):
        return np.arange(n)[chosen]
    index = np.asarray(chosen)
    if index.ndim != 1 or (index.dtype.kind not in "iub" and index.size):
        raise InvalidValueError(f"{what} are {chosen!r}; allowed: a slice or a list of whole numbers.")
    try:
        positions: np.ndarray = np.arange(n)[index if index.size else index.astype(np.int64)]
    except IndexError:
        raise InvalidValueError(f"{what} go beyond the {n} there are.") from None
    return positions


def _as_index(positions: np.ndarray) -> Any:
    """Return a slice where the positions are consecutive: it copies nothing where an index array would."""
    if len(positions) and positions[-1] - positions[0] + 1 == len(positions) and (np.diff(positions) == 1).all():
        return slice(int(positions[0]), int(positions[-1]) + 1)
    return positions
