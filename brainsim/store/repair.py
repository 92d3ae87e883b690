"""Turn damaged nodes into unfinished ones, or into nothing, so that their command makes just what is missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from brainsim.core.errors import StoreDamageError
from brainsim.store.files import METADATA, exists, move, put, remove
from brainsim.store.layout import checksum
from brainsim.store.locks import NodeLock
from brainsim.store.reading import is_chunk
from brainsim.store.records import NodeRecord, group_document, node_document, unfinished_record
from brainsim.store.scan import Place
from brainsim.store.verify import verify_node

# What is gone on from chunk by chunk, and what whoever needs it makes again by itself.
RESUMED, REMADE = ("activations",), ("kernel", "gram", "work")
REMADE_FOLDERS = ("activations", "kernels", "grams", "work")

Done = Literal["rewritten", "unfinished", "deleted", "left"]


@dataclass(frozen=True)
class Repair:
    """What was done about a damaged node.

    Parameters
    ----------
    node : str
        Its path.
    done : {"rewritten", "unfinished", "deleted", "left"}
        Only metadata was damaged that can be told from elsewhere, and is there again; the node is unfinished, with its
        whole chunks; it is gone, and made again when needed; or nothing, because only its own command can make it.
    record : NodeRecord or None
        What the node was, where that could be read.
    n_kept, n_damaged : int
        Chunks that a later writer goes on from (of a node that stays as it is: that are whole), and damaged files.
    """

    node: str
    done: Done
    record: NodeRecord | None
    n_kept: int
    n_damaged: int


def repair_node(root: Path, node: str, load: Callable[[str], Place]) -> Repair | None:
    """Repair one node under its lock; None where it is found whole, or no longer there.

    Parameters
    ----------
    root : Path
        The store's folder.
    node : str
        A node, or a folder that lost its zarr.json.
    load : callable
        Says what a path of the store is.

    Raises
    ------
    StoreLockedError
        Where a writer is at it.
    """
    with NodeLock(root, node) as lock:
        try:
            record = load(node).record
        except StoreDamageError:
            record = None
        if record is None:
            return _repair_lost(root, node, lock)
        if not record.info.complete:
            return None
        damaged = {damage.chunk for damage in verify_node(root, record) if damage.chunk in record.files}
        lost = {file for file in damaged if file is not None}
        if not lost:
            return None
        n_kept = sum(is_chunk(file) for file in record.files) - sum(map(is_chunk, lost))
        lost -= _rewrite_metadata(root, record, lost, lock)
        if not lost:
            return Repair(node, "rewritten", record, n_kept, len(damaged))
        if record.info.type in RESUMED:
            whole = {file: record.files[file] for file in _usable_chunks(record, lost)}
            put(
                f"{root}/{node}/{METADATA}",
                lock.partial,
                node_document(unfinished_record(record, record.layouts, whole)),
            )
            for file in set(record.files) - set(whole):  # after the mark has gone
                remove(f"{root}/{node}/{file}")
            return Repair(node, "unfinished", record, len(whole), len(damaged))
        if record.info.type in REMADE:
            move(f"{root}/{node}", lock.trash)
            return Repair(node, "deleted", record, 0, len(damaged))
        return Repair(node, "left", record, n_kept, len(damaged))


def _usable_chunks(record: NodeRecord, lost: set[str]) -> list[str]:
    """Return the chunks that a later writer goes on from: of each array the full ones before the first that is lost.

    Rows of what follows are computed again, and take the place of what was there. Features from elsewhere are taken in
    from the beginning.
    """
    if record.info.key.get("imported"):
        return []
    usable = []
    for array, layout in record.layouts.items():
        for index in range(layout.shape[0] // layout.chunk_shape[0]):
            file = f"{array}/{layout.chunk_key(index)}"
            if file in lost or file not in record.files:
                break
            usable.append(file)
    return usable


def _repair_lost(root: Path, node: str, lock: NodeLock) -> Repair | None:
    """Remove a node whose record is gone, where it can be made again: without a manifest no chunk can be trusted."""
    if not exists(f"{root}/{node}"):
        return None
    if _holds_nodes(root, node):  # a plain group, and those are all alike
        put(f"{root}/{node}/{METADATA}", lock.partial, group_document({}))
        return Repair(node, "rewritten", None, 0, 1)
    if node.split("/")[0] in REMADE_FOLDERS:
        move(f"{root}/{node}", lock.trash)
        return Repair(node, "deleted", None, 0, 1)
    return Repair(node, "left", None, 0, 1)


def _holds_nodes(root: Path, node: str) -> bool:
    """Return whether groups lie below: an array's folder holds chunks, whose names are "c" and numbers."""
    return any(
        b'"node_type":"group"' in found.read_bytes()
        for found in (root / node).rglob(METADATA)
        if found.parent != root / node
    )


def _rewrite_metadata(root: Path, record: NodeRecord, lost: set[str], lock: NodeLock) -> set[str]:
    """Write array metadata again, which the record holds in full; return the files that are whole again."""
    whole = set()
    for file in lost:
        array = file.split("/")[0]
        if is_chunk(file) or array not in record.layouts:
            continue
        document = record.layouts[array].metadata()
        if (len(document), checksum(document)) == record.files[file]:
            put(f"{root}/{record.info.path}/{file}", lock.partial, document)
            whole.add(file)
    return whole
