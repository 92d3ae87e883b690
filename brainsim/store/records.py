"""Turn a node's type, key, attributes and files into its zarr.json, and back into a checked record.

A node is a Zarr group. Its attributes hold what readers want to know, and under `brainsim` what the store needs: see
docs/store-format.md. The record carries a digest of itself, so a changed byte in a zarr.json is found like one in a
chunk.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np

from brainsim.core.errors import InvalidValueError, StoreDamageError, StoreError
from brainsim.core.provenance import digest, now_utc, software_record
from brainsim.store.layout import DTYPES, ArrayLayout
from brainsim.store.node_types import NODE_TYPES

FORMAT_VERSION = 1
RECORD = "brainsim"
STORE_TYPE = "store"
# Attributes that say how a command was given; what they mean for the numbers is in the key and the arrays' shapes.
UNCOMPARED = ("command", "sketch")


@dataclass(frozen=True)
class NodeInfo:
    """What a node is, without its numbers.

    Parameters
    ----------
    path, type : str
        Where it lies, and of which type it is.
    version : int
        Version of the type's arrays and attributes.
    complete : bool
        Whether its completion mark is there.
    key, digest : dict, str
        Everything that made it, and the SHA-256 of that.
    created : str
        When it was begun, ISO 8601 in UTC.
    software : dict
        Versions of what made it.
    seed : int or None
        Seed of its random numbers.
    attributes : dict
        What readers want to know.
    arrays : dict of str to (shape, dtype)
        Its arrays; while it is unfinished, those that an interrupted writer can go on with.
    nbytes : int
        Bytes of its files on disk, chunks and array metadata; while it is unfinished, of those to go on from.
    dims : dict of str to (tuple of str or None)
        Names of the axes of each array.
    """

    path: str
    type: str
    version: int
    complete: bool
    key: dict[str, Any]
    digest: str
    created: str
    software: dict[str, str]
    seed: int | None
    attributes: dict[str, Any]
    arrays: dict[str, tuple[tuple[int, ...], str]]
    nbytes: int
    dims: dict[str, tuple[str, ...] | None] = field(default_factory=dict)


@dataclass(frozen=True)
class NodeRecord:
    """A node's info, the layout of its arrays, and the manifest: file below the node -> (n_bytes, CRC-32C)."""

    info: NodeInfo
    layouts: dict[str, ArrayLayout]
    files: dict[str, tuple[int, int]]


def plain(value: Any, where: str) -> Any:
    """Return `value` as JSON would give it back: tuples as lists, NumPy numbers as numbers.

    Raises
    ------
    InvalidValueError
        For NaN, infinities and anything else that JSON has no word for.
    """
    if isinstance(value, np.generic):
        value = value.item()
    elif isinstance(value, np.ndarray):
        value = value.tolist()
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidValueError(f"{where} is {value}; JSON has finite numbers only, use None for a missing one.")
        return value
    if isinstance(value, Mapping):
        if not all(isinstance(name, str) for name in value):
            raise InvalidValueError(f"{where} has names that are not text: {list(value)[:5]}.")
        return {name: plain(item, f"{where}[{name!r}]") for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    raise InvalidValueError(f"{where} is a {type(value).__name__}; allowed: text, numbers, lists, mappings and None.")


@cache
def _software() -> dict[str, str]:
    return dict(software_record())


def begin_record(path: str, *, type: str, key: Mapping[str, Any], attributes: Mapping[str, Any]) -> NodeRecord:
    """Return the record of a node whose writing begins now."""
    plain_key = plain(dict(key), f"key of {path!r}")
    info = NodeInfo(
        path=path,
        type=type,
        version=NODE_TYPES[type].version if type in NODE_TYPES else 1,
        complete=False,
        key=plain_key,
        digest=digest(plain_key),
        created=now_utc(),
        software=_software(),
        seed=_find_seed(plain_key, plain_key.get("options"), attributes),
        attributes=check_attributes(path, attributes),
        arrays={},
        nbytes=0,
    )
    return NodeRecord(info, {}, {})


def _find_seed(*places: object) -> int | None:
    for place in places:
        seed = place.get("seed") if isinstance(place, Mapping) else None
        if isinstance(seed, int):
            return seed
    return None


def copy_info(info: NodeInfo) -> NodeInfo:
    """Return an info that shares no mutable part with `info`."""
    return replace(
        info,
        key=plain(info.key, "key"),
        software=dict(info.software),
        attributes=plain(info.attributes, "attributes"),
        arrays=dict(info.arrays),
        dims=dict(info.dims),
    )


def check_attributes(path: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `attributes` as JSON would give them back."""
    if RECORD in attributes:
        raise InvalidValueError(f"attributes of {path!r} name {RECORD!r}, which is the store's own record; rename it.")
    found: dict[str, Any] = plain(dict(attributes), f"attributes of {path!r}")
    return found


def finish_record(record: NodeRecord, layouts: dict[str, ArrayLayout], files: dict[str, tuple[int, int]]) -> NodeRecord:
    """Return the record with its completion mark, arrays and manifest."""
    arrays = {name: (layout.shape, layout.dtype) for name, layout in layouts.items()}
    dims = {name: layout.dims for name, layout in layouts.items()}
    nbytes = sum(size for size, _ in files.values())
    return NodeRecord(replace(record.info, complete=True, arrays=arrays, nbytes=nbytes, dims=dims), layouts, files)


def unfinished_record(
    record: NodeRecord, layouts: dict[str, ArrayLayout], files: dict[str, tuple[int, int]]
) -> NodeRecord:
    """Return the record without a completion mark, and with the arrays and chunks that are there so far."""
    return NodeRecord(replace(record.info, complete=False, arrays={}, nbytes=0), layouts, files)


def can_go_on(left: NodeRecord, wanted: NodeRecord) -> bool:
    """Return whether what an interrupted writer left can be part of the node wanted: same key, same software."""
    same = left.info.type == wanted.info.type and left.info.version == wanted.info.version
    same = same and left.info.digest == wanted.info.digest and not changed_since(left, wanted)
    return same and not left.info.complete and bool(left.files)


def changed_since(left: NodeRecord, wanted: NodeRecord) -> tuple[str, ...]:
    """Return what differs where an interrupted writer left chunks under the same key that cannot be gone on from."""
    if left.info.complete or not left.files or left.info.digest != wanted.info.digest:
        return ()
    pairs: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
        (left.info.attributes, wanted.info.attributes),
        (left.info.software, wanted.info.software),
    )
    return tuple(
        f"{name} was {_short(was.get(name))}, is {_short(now.get(name))}"
        for was, now in pairs
        for name in sorted({*was, *now})
        if was.get(name) != now.get(name) and name not in UNCOMPARED
    )


def other_key(there: NodeInfo, wanted: NodeInfo) -> InvalidValueError:
    """Return the error for a complete node that another key made, naming the fields that differ."""
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


def group_document(attributes: Mapping[str, Any]) -> bytes:
    """Return the zarr.json of a group."""
    document = {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes)}
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()


def store_document() -> bytes:
    """Return the zarr.json of a new store's root."""
    record = {"type": STORE_TYPE, "version": FORMAT_VERSION, "created": now_utc(), "software": _software()}
    return group_document({RECORD: _sealed({RECORD: record})})


def node_document(record: NodeRecord) -> bytes:
    """Return the zarr.json of a node."""
    info = record.info
    fields = {
        "type": info.type,
        "version": info.version,
        "complete": info.complete,
        "key": info.key,
        "key_digest": info.digest,
        "created": info.created,
        "software": info.software,
        "seed": info.seed,
        "arrays": {
            name: {
                "shape": list(layout.shape),
                "chunk_shape": list(layout.chunk_shape),
                "dtype": layout.dtype,
                "dims": None if layout.dims is None else list(layout.dims),
            }
            for name, layout in record.layouts.items()
        },
        "files": {name: list(entry) for name, entry in record.files.items()},
    }
    attributes = {**info.attributes, RECORD: fields}
    attributes[RECORD] = _sealed(attributes)
    return group_document(attributes)


def _sealed(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {**attributes[RECORD], "record_digest": digest(attributes)}


def parse_group(data: bytes, path: str) -> dict[str, Any] | None:
    """Return the checked attributes of a node's or store's zarr.json, or None for a group or an array without record.

    Raises
    ------
    StoreDamageError
        Where the bytes are not those that were written.
    StoreError
        Where they are of a later version of the format.
    """
    try:
        document = json.loads(data)
        known = document["zarr_format"] == 3 and document["node_type"] in ("group", "array")
        attributes: dict[str, Any] = document["attributes"]
        if not known or not isinstance(attributes, dict):
            raise ValueError("not Zarr 3")
    except (ValueError, KeyError, TypeError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise _damaged(path, "cannot be read as Zarr 3 metadata") from error
    record = attributes.get(RECORD)
    if record is None:
        return None
    if not isinstance(record, dict) or not isinstance(record.get("type"), str):
        raise _damaged(path, "has a record without a type")
    check_version(path, record["type"], record.get("version"))  # a later format may digest otherwise
    if "record_digest" not in record:
        raise _damaged(path, "has no digest of itself")
    bare = {name: value for name, value in record.items() if name != "record_digest"}
    if digest({**attributes, RECORD: bare}) != record["record_digest"]:
        raise _damaged(path, "does not match its digest")
    return attributes


def parse_node(attributes: Mapping[str, Any], path: str) -> NodeRecord:
    """Return the record of a node from its checked attributes."""
    record = attributes[RECORD]
    try:
        layouts = {
            array: ArrayLayout(
                tuple(entry["shape"]),
                tuple(entry["chunk_shape"]),
                entry["dtype"],
                None if entry["dims"] is None else tuple(entry["dims"]),
            )
            for array, entry in record["arrays"].items()
        }
        files = {file: (int(size), int(crc)) for file, (size, crc) in record["files"].items()}
        info = NodeInfo(
            path=path,
            type=record["type"],
            version=record["version"],
            complete=record["complete"] is True,
            key=record["key"],
            digest=record["key_digest"],
            created=record["created"],
            software=record["software"],
            seed=record["seed"],
            attributes={name: value for name, value in attributes.items() if name != RECORD},
            arrays={array: (layout.shape, layout.dtype) for array, layout in layouts.items()},
            nbytes=sum(size for size, _ in files.values()),
            dims={array: layout.dims for array, layout in layouts.items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(path, "lacks fields of its record") from error
    for array, layout in layouts.items():
        if layout.dtype not in DTYPES:  # the record's digest fits: a later brainsim wrote it
            raise StoreError(
                f"array {array!r} of node {path!r} holds numbers of type {layout.dtype!r}; this brainsim reads "
                f"{', '.join(DTYPES)}.",
                hint="pip install --upgrade brainsim-toolkit",
            )
    return NodeRecord(info, layouts, files)


def check_version(path: str, type: str, version: object) -> None:
    """Raise StoreError where `version` is later than what this program knows of nodes of that type."""
    known = FORMAT_VERSION if type == STORE_TYPE else NODE_TYPES[type].version if type in NODE_TYPES else 1
    if not isinstance(version, int) or version < 1:
        raise _damaged(path, f"gives the format version as {version!r}")
    if version > known:
        raise StoreError(
            f"{f'node {path!r}' if path else 'the store'} has format version {version} of {type!r}; this brainsim "
            f"reads versions up to {known}.",
            hint="pip install --upgrade brainsim-toolkit",
        )


def _damaged(path: str, what: str) -> StoreDamageError:
    return StoreDamageError(
        f"the zarr.json of {f'node {path!r}' if path else 'the store'} {what}; it is damaged.",
        hint="brainsim store verify",
    )
