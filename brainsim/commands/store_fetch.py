"""Turn nodes of a store that lies elsewhere into checked copies in one's own: features are shared once, others fit."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brainsim.core.errors import StoreError, UnknownNameError
from brainsim.core.progress import SILENT, Progress
from brainsim.core.resources import disk_free_bytes, format_bytes


@dataclass(frozen=True)
class FetchSummary:
    """What `brainsim store fetch` copied.

    Parameters
    ----------
    source, store, prefix : str
        From where, to where, and what.
    nodes : tuple of dict
        Per node: node, type, nbytes, and state: "there", "copied", or "missing" in a dry run.
    n_nodes_written, n_nodes_reused, nbytes : int
        Nodes copied now (in a dry run: to be copied), found complete, and bytes of those copied.
    dry_run : bool
        Whether nothing was written.
    seconds : float
        Wall time.
    """

    source: str
    store: str
    prefix: str
    nodes: tuple[dict[str, Any], ...]
    n_nodes_written: int
    n_nodes_reused: int
    nbytes: int
    dry_run: bool
    seconds: float


def store_fetch(
    source: str,
    prefix: str = "activations",
    *,
    store: Path | str = "store/brainsim.zarr",
    dry_run: bool = False,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> FetchSummary:
    """Copy nodes of a store that lies elsewhere, byte by byte the same and each checked.

    Parameters
    ----------
    source : str
        URL that fsspec opens and lists (https://, s3://, memory:// …), or a folder.
    prefix : str
        Names of a node path, each with the wildcards * and ? ("activations/clip*").
    store : Path
        Where to; it is made where there is none.
    dry_run : bool
        Say what would be copied, and copy nothing.
    overwrite : bool
        Replace nodes of the same path that were made otherwise.
    progress : Progress
        Told the bytes.

    Returns
    -------
    FetchSummary

    Raises
    ------
    UnknownNameError
        Where no complete node has that path.
    InvalidValueError
        Where another node of that path is in the store already.
    StoreError, StoreDamageError
        Where the source cannot be read, is damaged, or does not fit on the disk.
    """
    from brainsim.store import Store
    from brainsim.store.remote import UrlStore, fetch_node
    from brainsim.store.root import is_url

    started = time.monotonic()
    remote = UrlStore(source if is_url(source) else f"file://{Path(source).absolute()}")
    found = remote.nodes(prefix)
    if not found:
        raise UnknownNameError(
            f"no complete node of the store at {source} has the path {prefix!r}.",
            hint=f"brainsim store ls --store {source}",
        )
    where = Path(store)
    opened = None if dry_run and not where.exists() else Store(where, "r" if dry_run else "a")
    missing = [info for info in found if opened is None or overwrite or not opened.has(info.path, key=info.key)]
    names = {info.path for info in missing}
    nbytes = sum(info.nbytes for info in missing)
    if missing and not dry_run and opened is not None:
        free = disk_free_bytes(opened.path)
        if nbytes > free:
            raise StoreError(
                f"the nodes have {format_bytes(nbytes)}; {format_bytes(free)} are free at {opened.path}.",
                hint="a longer prefix, or a larger disk",
            )
        with progress.task("fetch", total=nbytes, unit="B") as bar:
            for info in missing:
                fetch_node(remote, info.path, opened, overwrite=overwrite, task=bar)
    state = "missing" if dry_run else "copied"
    return FetchSummary(
        source=source,
        store=str(store),
        prefix=prefix,
        nodes=tuple(
            {"node": i.path, "type": i.type, "nbytes": i.nbytes, "state": state if i.path in names else "there"}
            for i in found
        ),
        n_nodes_written=len(missing),
        n_nodes_reused=len(found) - len(missing),
        nbytes=nbytes,
        dry_run=dry_run,
        seconds=round(time.monotonic() - started, 3),
    )
