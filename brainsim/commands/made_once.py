"""Turn a computation into a node of the store: made once, whoever asks for it first, and waited for by all others."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from brainsim.core.errors import StoreLockedError
from brainsim.core.progress import task_progress

if TYPE_CHECKING:
    import numpy as np

    from brainsim.store import ArraySpec, NodeWriter, Store

# How long another process may be at one node, s: kernels of the widest layers of long films take an hour on two cores.
WAIT_S = 4 * 3600.0

# How long to sleep before looking again, s.
POLL_S = 0.5


def make_once(
    store: Store,
    path: str,
    *,
    type: str,
    key: Mapping[str, Any],
    arrays: Mapping[str, ArraySpec],
    attributes: Mapping[str, Any],
    compute: Callable[[], Mapping[str, np.ndarray]],
    what: str,
) -> float:
    """Compute a node's arrays and write them, unless it is there or another process is at it, which is waited for.

    The node is locked while it is computed, so that of several commands that start together one makes it. Where that
    one dies, its lock goes with it and another takes over.

    Parameters
    ----------
    path, type, key, arrays, attributes
        As `Store.writer` takes them.
    compute : callable
        Gives every array.
    what : str
        What a person calls it: the kernel of pixels/grid.

    Returns
    -------
    float
        Seconds that another process was waited for.

    Raises
    ------
    StoreLockedError
        Where the other process was still at it after `WAIT_S`.
    """
    started, waited_s = time.monotonic(), 0.0
    while not store.has(path, key=key):
        with ExitStack() as stack:
            writer = store.writer(path, type=type, key=key, arrays=arrays, attributes=attributes)
            try:
                stack.enter_context(writer)
            except StoreLockedError as error:
                if not waited_s:
                    task_progress().note(f"the {what} is being made by another process; waiting for it.")
                waited_s = time.monotonic() - started
                if waited_s > WAIT_S:
                    raise StoreLockedError(
                        f"the {what} was waited for {waited_s / 3600:.1f} h: {error.message}",
                        hint="end that process if it hangs, then run this again",
                    ) from error
                time.sleep(POLL_S)
                continue
            _fill(writer, compute)
    return waited_s


def _fill(writer: NodeWriter, compute: Callable[[], Mapping[str, np.ndarray]]) -> None:
    """Write what is computed; where that fails, nothing is left of the node."""
    if writer.is_complete:  # made while the lock was taken
        return
    try:
        for name, values in compute().items():
            writer.append(name, values)
        writer.complete()
    except BaseException:
        writer.discard()
        raise
