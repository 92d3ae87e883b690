"""Turn a store into lists that a person or a program reads: its nodes, one node in full, its damage."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brainsim.commands.store_export import store_export as store_export
from brainsim.commands.store_fetch import store_fetch as store_fetch
from brainsim.commands.store_import import store_import as store_import
from brainsim.core.progress import SILENT, Progress

DEFAULT_STORE = "store/brainsim.zarr"


@dataclass(frozen=True)
class StoreListing:
    """What `brainsim store ls` shows.

    Parameters
    ----------
    store, prefix : str
        The store's folder, and the path whose nodes are listed.
    n_nodes, n_unfinished, n_damaged : int
        Complete nodes, those without completion mark, those whose metadata cannot be read.
    nbytes : int
        Bytes on disk of the complete ones.
    nodes : tuple of dict
        path, type, state ("complete", "unfinished", "damaged"), nbytes, created and arrays ({name: [shape, dtype]}).
    """

    store: str
    prefix: str
    n_nodes: int
    n_unfinished: int
    n_damaged: int
    nbytes: int
    nodes: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class StoreNode:
    """What `brainsim store show` shows: one complete node without its numbers.

    Parameters
    ----------
    store, node, type : str
        The store's folder, the node's path and type.
    version : int
        Version of the type.
    digest, created : str
        SHA-256 of the key; when it was made.
    seed : int or None
        Seed of its random numbers.
    nbytes : int
        Bytes on disk.
    arrays : dict
        {name: {"shape": [...], "dtype": ...}}.
    key, attributes, software : dict
        What made it, what it says of itself, versions.
    """

    store: str
    node: str
    type: str
    version: int
    digest: str
    created: str
    seed: int | None
    nbytes: int
    arrays: dict[str, dict[str, Any]]
    key: dict[str, Any]
    attributes: dict[str, Any]
    software: dict[str, str]


@dataclass(frozen=True)
class StoreVerification:
    """What `brainsim store verify` finds.

    Parameters
    ----------
    store : str
        The store's folder.
    ok : bool
        Whether there is no damage; unfinished nodes are none.
    n_nodes, nbytes : int
        Complete nodes, and the bytes on disk that were read.
    damages : tuple of dict
        node, chunk (a file below the node, or None for its own zarr.json), what (a sentence).
    unfinished : tuple of str
        Paths of nodes without completion mark: the command that makes them rewrites them.
    repairs : tuple of dict
        With `repair`, per damaged node: node, done ("rewritten", "unfinished", "deleted", "left" or "locked"), n_kept
        (chunks), n_damaged (files), and rerun (the command that makes what is missing).
    seconds : float
        Time taken.
    """

    store: str
    ok: bool
    n_nodes: int
    nbytes: int
    damages: tuple[dict[str, Any], ...]
    unfinished: tuple[str, ...]
    repairs: tuple[dict[str, Any], ...]
    seconds: float


def store_ls(store: str | Path = DEFAULT_STORE, prefix: str = "") -> StoreListing:
    """List the nodes of a store, also unfinished and damaged ones.

    Parameters
    ----------
    store : str or Path
        The store's folder, or a URL that fsspec opens.
    prefix : str
        Names of a node path, each with the wildcards * and ? ("activations/*/layer4*"); all nodes by default.

    Raises
    ------
    StoreError
        Where no store is.
    """
    from brainsim.store.remote import open_store

    opened = open_store(store)
    nodes: list[dict[str, Any]] = []
    for found in opened.scan(prefix):
        if found.record is None:
            nodes.append(_row(found.path, "", "damaged", 0, "", {}))
            continue
        info = found.record.info
        arrays = {name: [list(shape), dtype] for name, (shape, dtype) in info.arrays.items()}
        state = "complete" if info.complete else "unfinished"
        nodes.append(_row(info.path, info.type, state, info.nbytes, info.created, arrays))
    nodes.sort(key=lambda node: node["path"])
    states = [node["state"] for node in nodes]
    return StoreListing(
        store=str(opened.path),
        prefix=prefix,
        n_nodes=states.count("complete"),
        n_unfinished=states.count("unfinished"),
        n_damaged=states.count("damaged"),
        nbytes=sum(node["nbytes"] for node in nodes),
        nodes=tuple(nodes),
    )


def store_show(store: str | Path, node: str) -> StoreNode:
    """Show one complete node: what it is, what made it, what it holds.

    Parameters
    ----------
    store : str or Path
        The store's folder.
    node : str
        Path of the node, as `brainsim store ls` prints it.

    Raises
    ------
    UnknownNameError
        Where no such node is; near misses are named.
    IncompleteNodeError
        Where it is unfinished.
    """
    from brainsim.store.remote import open_store

    opened = open_store(store)
    info = opened.info(node.strip("/"))
    return StoreNode(
        store=str(opened.path),
        node=info.path,
        type=info.type,
        version=info.version,
        digest=info.digest,
        created=info.created,
        seed=info.seed,
        nbytes=info.nbytes,
        arrays={name: {"shape": list(shape), "dtype": dtype} for name, (shape, dtype) in info.arrays.items()},
        key=info.key,
        attributes=info.attributes,
        software=info.software,
    )


def store_verify(
    store: str | Path = DEFAULT_STORE, *, prefix: str = "", repair: bool = False, progress: Progress = SILENT
) -> StoreVerification:
    """Read every byte of every complete node and report what is not as it was written.

    With --repair, damaged activations become unfinished nodes that keep their whole chunks: the `extract` that made
    them goes on from the first that is missing. Damaged kernels go, and are made again when they are needed. Of other
    nodes it is told which command makes them again. Nothing that is whole is lost.

    Parameters
    ----------
    store : str or Path
        The store's folder.
    prefix : str
        As for `store_ls`; all nodes by default.
    repair : bool
        Make what is damaged missing, so that it can be made again.
    progress : Progress
        Told the bytes read.
    """
    from brainsim.store import Store
    from brainsim.store.remote import open_store

    began = time.perf_counter()
    opened = open_store(store)
    damages = opened.verify(progress, prefix=prefix)
    repairs: list[dict[str, Any]] = []
    if repair and damages:
        from brainsim.commands.store_repair import repair_nodes

        opened = Store(store, "a")
        repairs = repair_nodes(opened, list(dict.fromkeys(damage.node for damage in damages)))
    records = [found.record for found in opened.scan(prefix) if found.record is not None]
    complete = [record.info for record in records if record.info.complete]
    return StoreVerification(
        store=str(opened.path),
        ok=not damages,
        n_nodes=len(complete),
        nbytes=sum(info.nbytes for info in complete),
        damages=tuple({"node": d.node, "chunk": d.chunk, "what": d.what} for d in damages),
        unfinished=tuple(sorted(record.info.path for record in records if not record.info.complete)),
        repairs=tuple(repairs),
        seconds=time.perf_counter() - began,
    )


def _row(path: str, type: str, state: str, nbytes: int, created: str, arrays: dict[str, list[Any]]) -> dict[str, Any]:
    return {"path": path, "type": type, "state": state, "nbytes": nbytes, "created": created, "arrays": arrays}
