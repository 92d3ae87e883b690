"""Turn damaged nodes into missing ones, and what they were into the command that makes them again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from brainsim.core.errors import BrainsimError, StoreError, StoreLockedError

if TYPE_CHECKING:
    from brainsim.store import NodeInfo, Store

# Options of `extract` that stand in the key of what it made, under the same names.
EXTRACT_WORDS = ("protocol", "pool", "dtype", "step_s", "clip_window", "resize", "precision", "pad")

# What makes nodes of which nothing but their path is known, or whose options only the user knows.
MAKERS = {
    "stimuli": "brainsim extract, with --overwrite",
    "activations": "brainsim extract",
    "bold": "brainsim ingest, with --overwrite",
    "rois": "brainsim ingest, with --overwrite",
    "kernels": "brainsim kernel, fit or partition",
    "work": "the fit or partition that was interrupted",
    "truth": "brainsim simulate, with --overwrite",
}

NAMED = {"fits": "fit", "partitions": "partition", "rsa": "rsa"}


def repair_nodes(store: Store, nodes: Sequence[str]) -> list[dict[str, Any]]:
    """Repair damaged nodes one by one; one that is being written is left to its writer."""
    rows = []
    for node in nodes:
        try:
            repair = store.repair(node)
        except StoreLockedError:
            rows.append({"node": node, "done": "locked", "n_kept": 0, "n_damaged": 0, "rerun": "its writer is at it"})
            continue
        except StoreError as error:  # of a later version, or unreadable: not damaged for that
            rows.append({"node": node, "done": "left", "n_kept": 0, "n_damaged": 0, "rerun": f"nothing: {error}"})
            continue
        if repair is None:
            rows.append({"node": node, "done": "left", "n_kept": 0, "n_damaged": 0,
                         "rerun": "nothing: files that are no part of it can be removed by hand"})  # fmt: skip
            continue
        info = None if repair.record is None else repair.record.info
        again = "nothing" if repair.done == "rewritten" else tell_command(store, node, info)
        rows.append(
            {"node": node, "done": repair.done, "n_kept": repair.n_kept, "n_damaged": repair.n_damaged, "rerun": again}
        )
    return rows


def tell_command(store: Store, node: str, info: NodeInfo | None) -> str:
    """Return the command that makes a node again, as far as the node says it."""
    kind, *names = node.split("/")
    if kind == "activations" and info is not None:
        return _tell_import(info) if info.key.get("imported") else _tell_extract(store, info)
    if kind in NAMED and len(names) >= 2:
        return f"brainsim {NAMED[kind]} {names[0]} --dataset {names[1]}, with its options and --overwrite"
    return MAKERS.get(kind, "what made it, with --overwrite")


def _tell_extract(store: Store, info: NodeInfo) -> str:
    words = ["brainsim", "extract", _source(store, info), "--models", str(info.attributes["model"])]
    for name in EXTRACT_WORDS:
        value = info.key.get(name)
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            words += [f"--{name.replace('_', '-')}", f"{value:g}" if isinstance(value, float) else str(value)]
    return f"{shlex.join(words)} (and what else it was given; --layers {info.attributes['layer']} suffices)"


def _source(store: Store, info: NodeInfo) -> str:
    try:
        return str(store.info(f"stimuli/{info.attributes['stimulus']}").attributes["source"])
    except (BrainsimError, KeyError):
        return str(info.attributes["stimulus"])


def _tell_import(info: NodeInfo) -> str:
    source = info.attributes["source"]
    first = source[0] if isinstance(source, list) else source
    return f"brainsim store import {shlex.quote(first)} …, as before"
