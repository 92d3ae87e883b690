"""Turn damaged nodes into missing ones, and what they were into the command that makes them again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainsim.commands.extract_again import tell_extract
from brainsim.core.errors import StoreError, StoreLockedError

if TYPE_CHECKING:
    from brainsim.store import NodeInfo, Store

# What makes nodes of which nothing but their path is known, or whose options only the user knows.
MAKERS = {
    "stimuli": "brainsim extract, with --overwrite",
    "activations": "brainsim extract",
    "bold": "brainsim ingest, with --overwrite",
    "rois": "brainsim ingest, with --overwrite",
    "kernels": "brainsim kernel, fit or partition",
    "grams": "brainsim rsa",
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
        return _tell_import(store, info) if info.key.get("imported") else tell_extract(store, info)
    if kind in NAMED and len(names) >= 2:
        return f"brainsim {NAMED[kind]} {names[0]} --dataset {names[1]}, with its options and --overwrite"
    return MAKERS.get(kind, "what made it, with --overwrite")


def _tell_import(store: Store, info: NodeInfo) -> str:
    """Return the command that imports a layer again: in full where it came from one file and times are a number."""
    source, key, clock = info.attributes["source"], info.key, info.key.get("clock", {})
    words = ["brainsim", "store", "import", source[0] if isinstance(source, list) else source]
    for name in ("model", "stimulus", "family"):
        words += [f"--{name}", str(info.attributes.get(name, ""))]
    words += [
        "--dtype",
        str(key.get("dtype")),
        "--layers",
        escape(str(key.get("array"))),
        "--names",
        str(key.get("layer")),
    ]
    if clock.get("per_stimulus"):
        words.append("--per-stimulus")
    elif "step_s" in clock:
        words += ["--step-s", repr(clock["step_s"])]
    if clock.get("start_s"):
        words += ["--start-s", repr(clock["start_s"])]
    lacking = ["the other files"] if isinstance(source, list) else []
    lacking += ["--times"] if "step_s" not in clock else []
    told = shlex.join([*words, "--store", str(Path(store.path).absolute())])
    return f"{told} (and {' and '.join(lacking)}, as before)" if lacking else told
