"""Turn what stands where a node is to be written into the record that its writer begins, or goes on, with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from brainsim.core.resources import disk_free_bytes
from brainsim.store.files import METADATA, clear_folder, exists, make_folder, no_space, put
from brainsim.store.locks import NodeLock
from brainsim.store.reading import missing_file
from brainsim.store.records import (
    NodeInfo,
    NodeRecord,
    can_go_on,
    changed_since,
    copy_info,
    group_document,
    node_document,
    other_key,
)

if TYPE_CHECKING:
    from brainsim.store.writer import NodeWriter

# Below this, asking for the free space costs more than running out of it.
LARGE_BYTES = 2**20


def begin_node(
    root: Path,
    there: NodeRecord | None,
    wanted: NodeRecord,
    writer: NodeWriter,
    lock: NodeLock,
    *,
    overwrite: bool,
    resume: bool,
    keep_old: bool,
    n_bytes: int,
) -> NodeRecord | NodeInfo:
    """Prepare a node's folder under its lock; the other options are those of `Store.writer`.

    Parameters
    ----------
    root : Path
        The store's folder.
    there : NodeRecord, optional
        What stands at the node's path.
    wanted : NodeRecord
        Of the node that is to be written.
    writer : NodeWriter
        Is told why it cannot go on, and where to write.
    lock : NodeLock
        The node's lock, held.
    n_bytes : int
        Bytes that the node will have, as far as they are known.

    Returns
    -------
    NodeRecord or NodeInfo
        The record to write, with files where there are some to go on from; the info of a complete node of the same key.

    Raises
    ------
    InvalidValueError
        Where a complete node of another key is there and `overwrite` is False.
    StoreError
        Where there is no space.
    """
    node = wanted.info.path
    if there is not None and there.info.complete and not overwrite:
        if there.info.digest != wanted.info.digest:
            raise other_key(there.info, wanted.info)
        if missing_file(root, there) is None:
            return copy_info(there.info)
    if resume and not overwrite and there is not None:
        if can_go_on(there, wanted):
            return there
        writer.begun_otherwise = changed_since(there, wanted)
    if n_bytes > LARGE_BYTES and n_bytes > disk_free_bytes(root):
        raise no_space(root, f"node {node!r}", n_bytes)
    if keep_old and there is not None and there.info.complete:
        writer.write_aside(node_document(wanted))
    else:
        prepare_folder(root, node, node_document(wanted), lock, group_document({}))
    return wanted


def prepare_folder(root: Path, node: str, document: bytes, lock: NodeLock, group: bytes) -> None:
    """Make a node's folder, unfinished and empty, and the groups above it.

    Parameters
    ----------
    root : Path
        The store's folder.
    node : str
        The node's path.
    document, group : bytes
        The zarr.json of the unfinished node, and of a plain group.
    lock : NodeLock
        The node's lock, held.
    """
    parts = node.split("/")
    for depth in range(1, len(parts)):
        folder = f"{root}/{'/'.join(parts[:depth])}"
        if not exists(f"{folder}/{METADATA}"):
            make_folder(folder)
            put(f"{folder}/{METADATA}", lock.partial, group)
    make_folder(f"{root}/{node}")
    put(f"{root}/{node}/{METADATA}", lock.partial, document)  # first the mark goes, then what it vouched for
    clear_folder(f"{root}/{node}")
