"""Turn an array of a complete node into a zarr.Array whose every chunk is checked before it is decoded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore

from brainsim.core.errors import InvalidValueError
from brainsim.store.bfloat16 import BFLOAT16, widen_bfloat16
from brainsim.store.layout import CHECKSUM_BYTES, ArrayLayout, as_bytes, checksum, encode_checksum, from_bytes
from brainsim.store.reading import check_bytes, damage, is_chunk
from brainsim.store.records import NodeRecord


class CheckedStore(LocalStore):
    """A node's folder, read-only, where a file of the manifest that is missing or changed is an error.

    Zarr reads a missing chunk as the fill value; a complete node has none that may be missing. zarr-python knows no
    bfloat16: such an array is shown as the float32 numbers that it holds.
    """

    def __init__(self, root: Path, record: NodeRecord) -> None:
        super().__init__(root / record.info.path, read_only=True)
        self._store_root = root
        self._record = record

    def with_read_only(self, read_only: bool = False) -> CheckedStore:
        """Return this store: it is always read-only."""
        return self

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return the bytes of a file, checked where the whole file is asked for."""
        return self._check(key, await super().get(key, prototype, byte_range), byte_range)

    def get_sync(
        self, key: str, *, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return the bytes of a file as `get` does; zarr's coming synchronous path calls this."""
        return self._check(key, super().get_sync(key, prototype=prototype, byte_range=byte_range), byte_range)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Return the bytes of several files as `get` does."""
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    def _check(self, key: str, found: Buffer | None, byte_range: ByteRequest | None) -> Buffer | None:
        if key not in self._record.files:
            return found
        if found is None:
            raise damage(self._store_root, self._record.info.path, key, "is missing")
        if byte_range is None:
            check_bytes(self._store_root, self._record, key, np.asarray(found.as_numpy_array()).view(np.uint8))
        layout = self._record.layouts[key.split("/")[0]]
        return found if layout.dtype != BFLOAT16 else self._widen(key, found, layout, byte_range)

    def _widen(self, key: str, found: Buffer, layout: ArrayLayout, byte_range: ByteRequest | None) -> Buffer:
        """Return what the file of a bfloat16 array would be if its numbers were stored as float32."""
        if byte_range is not None:
            raise InvalidValueError(f"a part of {key!r} is asked for; files of {BFLOAT16} arrays are read whole.")
        wide = replace(layout, dtype="float32")
        if not is_chunk(key):
            return type(found).from_bytes(wide.metadata())
        bits = from_bytes(np.asarray(found.as_numpy_array()).view(np.uint8)[:-CHECKSUM_BYTES], layout)
        data = as_bytes(widen_bfloat16(bits), wide).tobytes()
        return type(found).from_bytes(data + encode_checksum(checksum(data)))


def open_checked(root: Path, record: NodeRecord, array: str) -> zarr.Array[Any]:
    """Open one array of a complete node for reading."""
    return zarr.open_array(store=CheckedStore(root, record), path=array, mode="r", zarr_format=3)
