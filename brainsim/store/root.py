"""Turn a path into the checked root of a store, made where nothing is; a folder of other files is never touched."""

from __future__ import annotations

import re
from pathlib import Path

from brainsim.core.errors import StoreError, StoreLockedError
from brainsim.store.files import METADATA, folder_names, named_os_errors, put
from brainsim.store.locks import LOCKS, NodeLock, sweep_dead_locks
from brainsim.store.records import RECORD, STORE_TYPE, parse_group, store_document

URL = re.compile(r"^[a-z][a-z0-9+.-]*:(//?|:)")


def is_url(place: str | Path) -> bool:
    """Return whether a place is a URL of fsspec ("https://…", "s3://…", "simplecache::…") and no path."""
    return URL.match(str(place)) is not None


def refuse_url(place: str | Path) -> None:
    """Refuse a URL where a folder is wanted, rather than make a folder of that name.

    Raises
    ------
    StoreError
    """
    if is_url(place):
        raise StoreError(
            f"{place} is a URL; this works on a store on disk.",
            hint="brainsim store fetch copies what is wanted from it; store ls, show, verify and export read URLs",
        )


def make_root(path: Path) -> None:
    """Make a store where nothing or an empty folder is, and sweep what killed writers left where one is.

    Raises
    ------
    StoreError
        Where a file or a folder with other files is.
    """
    with named_os_errors(path, "opening"):
        if path.exists() and not path.is_dir():
            raise StoreError(f"{path} is a file; a store is a folder.", hint="give --store another path")
        names = set(folder_names(str(path)))  # one look: another process may be making the store just now
        if METADATA in names:
            check_root(path)
            sweep_dead_locks(path)
        elif names <= {LOCKS}:
            path.mkdir(parents=True, exist_ok=True)
            _write_root(path)
        else:
            raise StoreError(
                f"{path} holds other files and is no store; brainsim writes into none but its own folders.",
                hint="give --store a path that does not exist yet",
            )


def _write_root(path: Path) -> None:
    try:
        with NodeLock(path, "") as lock:
            if not (path / METADATA).exists():
                put(str(path / METADATA), lock.partial, store_document())
    except StoreLockedError:
        if not (path / METADATA).exists():
            raise


def check_root(path: Path) -> None:
    """Raise StoreError unless a store of a known version is there."""
    with named_os_errors(path, "opening"):
        try:
            data = (path / METADATA).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            what = "a folder that is no store" if path.is_dir() else "no store"
            raise StoreError(
                f"there is {what} at {path}.",
                hint="brainsim extract (or brainsim demo) makes one; --store says where it lies",
            ) from None
        attributes = parse_group(data, "")
    if attributes is None or attributes[RECORD]["type"] != STORE_TYPE:
        raise StoreError(
            f"{path} is a Zarr hierarchy of another program, or a part of a store; a store's root is wanted.",
            hint="give --store the folder that brainsim made",
        )
