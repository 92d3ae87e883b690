"""Turn arrays into the bytes of Zarr 3 chunks and array metadata, and back.

The bytes are those that zarr-python writes for the codecs `bytes` (little endian) and `crc32c`. They are made here
because its synchronous interface costs 5 to 9 ms an array, many times what the files do, and a store holds thousands of
small arrays; tests/store compares the two.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import google_crc32c
import numpy as np

from brainsim.core.errors import InvalidValueError
from brainsim.store.bfloat16 import BFLOAT16, NAN_BITS, widen_bfloat16

# 300 rows are 5 minutes of one clip a second: rows and feature blocks both read well at this size (measured).
CHUNK_ROWS = 300
# A chunk is read whole, and every writer buffers one per array: this bounds both.
MAX_CHUNK_BYTES = 32 * 2**20
# Narrow arrays take more rows, up to this, so that 100,000 targets are one file and not 334.
MIN_CHUNK_BYTES = 2**20
DTYPES = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64",
    BFLOAT16,
)  # fmt: skip
CHECKSUM_BYTES = 4


@dataclass(frozen=True)
class ArraySpec:
    """An array that will be written block by block.

    Parameters
    ----------
    shape : tuple of int
        Rows first. `shape[0]` may be None: the number of rows is then what has been appended at completion.
    dtype : str
        One of `DTYPES`.
    dims : tuple of str, optional
        One name per axis; by default what the node's type says, else "time" and "feature" for two axes.
    """

    shape: tuple[int | None, ...]
    dtype: str = "float32"
    dims: tuple[str, ...] | None = None


@dataclass(frozen=True)
class ArrayLayout:
    """How one array lies on disk: chunks of whole rows along the first axis.

    Parameters
    ----------
    shape, chunk_shape : tuple of int
        Same length; they differ in the first axis at most.
    dtype : str
        One of `DTYPES`.
    dims : tuple of str or None
        Names of the axes.
    """

    shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    dtype: str
    dims: tuple[str, ...] | None = None

    @property
    def n_chunks(self) -> int:
        """Number of chunk files; 0 for an array without elements."""
        return math.ceil(self.shape[0] / self.chunk_shape[0]) if math.prod(self.shape) else 0

    @property
    def disk_dtype(self) -> np.dtype[Any]:
        """Little-endian data type of the bytes on disk."""
        return disk_dtype_of(self.dtype)

    @property
    def chunk_nbytes(self) -> int:
        """Size of every chunk file in bytes, checksum included."""
        return math.prod(self.chunk_shape) * self.disk_dtype.itemsize + CHECKSUM_BYTES

    def chunk_key(self, index: int) -> str:
        """Return the chunk's file below the array's folder: "c/3/0"."""
        return "/".join(["c", str(index), *["0"] * (len(self.shape) - 1)])

    def metadata(self) -> bytes:
        """Return the array's zarr.json."""
        document: dict[str, Any] = {
            "zarr_format": 3,
            "node_type": "array",
            "shape": list(self.shape),
            "data_type": self.dtype,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(self.chunk_shape)}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": fill_of(self.dtype)[0],
            "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
            "attributes": {},
            "storage_transformers": [],
        }
        if self.disk_dtype.itemsize == 1:
            document["codecs"][0] = {"name": "bytes"}
        if self.dims is not None:
            document["dimension_names"] = list(self.dims)
        return json.dumps(document, indent=1).encode()


def disk_dtype_of(dtype: str) -> np.dtype[Any]:
    """Return how NumPy calls a number's bytes on disk; those of bfloat16, which it does not know, are uint16."""
    return np.dtype("uint16" if dtype == BFLOAT16 else dtype).newbyteorder("<")


def read_dtype_of(dtype: str) -> np.dtype[Any]:
    """Return what stored numbers are read as: what they were stored as, and float32 for bfloat16."""
    return np.dtype("float32" if dtype == BFLOAT16 else dtype)


def fill_of(dtype: str) -> tuple[Any, Any]:
    """Return the fill value of a data type, as JSON and as on disk: NaN for floats, so that it is never a result."""
    if dtype == BFLOAT16:
        return "NaN", NAN_BITS
    kind = np.dtype(dtype).kind
    if kind == "f":
        return "NaN", np.nan
    return (False, False) if kind == "b" else (0, 0)


def check_spec(name: str, spec: ArraySpec) -> None:
    """Raise InvalidValueError unless `spec` can be stored."""
    if spec.dtype not in DTYPES:
        raise InvalidValueError(f"array {name!r} has dtype {spec.dtype!r}; allowed: {', '.join(DTYPES)}.")
    if not spec.shape:
        raise InvalidValueError(f"array {name!r} has no axes; put a single number into the attributes.")
    if any(n is None or n < 0 for n in spec.shape[1:]) or (spec.shape[0] is not None and spec.shape[0] < 0):
        raise InvalidValueError(f"array {name!r} has shape {spec.shape}; only the first length may be open (None).")
    if spec.dims is not None and len(spec.dims) != len(spec.shape):
        raise InvalidValueError(f"array {name!r} has {len(spec.shape)} axes and {len(spec.dims)} names: {spec.dims}.")


def choose_chunk_rows(spec: ArraySpec, chunk_rows: int | None = None) -> int:
    """Return the rows of one chunk.

    `CHUNK_ROWS`, more where that is less than `MIN_CHUNK_BYTES`, fewer where it is more than `MAX_CHUNK_BYTES`; where
    the length is known, rows are dealt evenly so that the last chunk is not mostly fill.
    """
    row_nbytes = max(math.prod(n or 0 for n in spec.shape[1:]) * disk_dtype_of(spec.dtype).itemsize, 1)
    rows = chunk_rows or max(min(max(CHUNK_ROWS, MIN_CHUNK_BYTES // row_nbytes), MAX_CHUNK_BYTES // row_nbytes), 1)
    if spec.shape[0] is None or spec.shape[0] == 0:
        return rows
    return math.ceil(spec.shape[0] / math.ceil(spec.shape[0] / rows)) if chunk_rows is None else rows


def lay_out(spec: ArraySpec, n_rows: int, chunk_rows: int) -> ArrayLayout:
    """Return the layout of `spec` with `n_rows` rows; a chunk has at least one element in every axis."""
    rest = tuple(int(n or 0) for n in spec.shape[1:])
    return ArrayLayout((n_rows, *rest), (chunk_rows, *(max(n, 1) for n in rest)), spec.dtype, spec.dims)


def checksum(data: bytes | memoryview | np.ndarray) -> int:
    """Return the CRC-32C of contiguous bytes."""
    return int(google_crc32c.value(data))


def checksum_of(parts: Iterable[np.ndarray], *, crc: int = 0) -> int:
    """Return the CRC-32C of contiguous bytes that lie in several places; `crc` is that of what stands before them."""
    for part in parts:
        if len(part):
            crc = google_crc32c.extend(crc, part)
    return int(crc)


def encode_checksum(value: int) -> bytes:
    """Return the four bytes that end a chunk."""
    return struct.pack("<I", value)


def as_bytes(array: np.ndarray, layout: ArrayLayout) -> np.ndarray:
    """Return the bytes of a whole chunk as uint8 (n_bytes,); no copy where the array lies so already."""
    return np.ascontiguousarray(array, dtype=layout.disk_dtype).reshape(-1).view(np.uint8)


def from_bytes(data: np.ndarray, layout: ArrayLayout) -> np.ndarray:
    """Return a chunk's bytes, uint8 without checksum, as an array of `layout.chunk_shape`; no copy."""
    chunk: np.ndarray = data.view(layout.disk_dtype).reshape(layout.chunk_shape)
    return chunk


def place_numbers(out: np.ndarray, at: Any, numbers: np.ndarray, layout: ArrayLayout) -> None:
    """Put numbers as they lie on disk where they are wanted: ``out[at]``, of `read_dtype_of`."""
    if layout.dtype != BFLOAT16:
        out[at] = numbers
    elif isinstance(at, slice):
        widen_bfloat16(numbers, out=out[at])
    else:
        out[at] = widen_bfloat16(numbers)
