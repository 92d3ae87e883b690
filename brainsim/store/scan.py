"""Turn the folders of a store into the nodes that lie in them."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from brainsim.core.errors import InvalidValueError, StoreDamageError, StoreError
from brainsim.store.records import NodeRecord


@dataclass(frozen=True)
class Place:
    """What a folder of the store is.

    Parameters
    ----------
    kind : {"node", "group", "nothing"}
        A node, a plain Zarr group (or array), or a folder without zarr.json (or none).
    record : NodeRecord or None
        The record of a node.
    """

    kind: Literal["node", "group", "nothing"]
    record: NodeRecord | None = None


@dataclass(frozen=True)
class Found:
    """A node, or the error that reading its metadata gave.

    Parameters
    ----------
    path : str
        Path of the node.
    record : NodeRecord or None
        The node, where it could be read.
    error : StoreError or None
        Why it could not.
    """

    path: str
    record: NodeRecord | None = None
    error: StoreError | None = None


def scan(names_in: Callable[[str], list[str]], prefix: str, load: Callable[[str], Place]) -> Iterator[Found]:
    """Yield every node whose path begins with the names of `prefix`; folders are walked in sorted order.

    Parameters
    ----------
    names_in : callable
        Lists the names in a folder of the store, sorted; "" is the store itself.
    prefix : str
        Names joined by slashes; each may hold the wildcards * and ?.
    load : callable
        Says what a path of the store is.
    """
    names = [name for name in prefix.split("/") if name]
    if any(name.startswith(".") for name in names) or prefix.startswith("/"):
        raise InvalidValueError(f"prefix is {prefix!r}; it must be names of a node path, as 'bold/planted'.")
    yield from _walk(names_in, "", names, load)


def _walk(
    names_in: Callable[[str], list[str]], path: str, names: list[str], load: Callable[[str], Place]
) -> Iterator[Found]:
    pattern = names[0] if names else "*"
    for name in names_in(path):
        if name.startswith(".") or name == "zarr.json" or not fnmatch.fnmatchcase(name, pattern):
            continue
        child = f"{path}/{name}" if path else name
        try:
            place = load(child)
        except StoreError as error:
            yield Found(child, error=error)
            continue
        if place.record is not None:
            if len(names) <= 1:
                yield Found(child, place.record)
        elif place.kind == "group":
            yield from _walk(names_in, child, names[1:], load)
        else:
            yield from _orphan(names_in, child, load)


def _orphan(names_in: Callable[[str], list[str]], path: str, load: Callable[[str], Place]) -> Iterator[Found]:
    """Yield a folder that holds something but no zarr.json; an empty one is what a writer killed early leaves."""
    if names_in(path) and load(path).kind == "nothing":
        error = StoreDamageError(
            f"the zarr.json of {path!r} is missing, and there are files below it.", hint="brainsim store verify"
        )
        yield Found(path, error=error)
