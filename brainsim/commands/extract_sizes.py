"""Turn jobs into the bytes that they will write, and see whether disk and memory hold them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from brainsim.commands.extract_jobs import Job
from brainsim.commands.extract_options import ExtractOptions
from brainsim.core.errors import StoreError
from brainsim.core.resources import disk_free_bytes, format_bytes, memory_free_bytes
from brainsim.store import Store
from brainsim.store.layout import disk_dtype_of

# Share of the free memory that unwritten chunks may take; the rest is for models and batches.
BUFFER_SHARE = 0.4
# What a store writer holds at most: one chunk.
CHUNK_BYTES, CHUNK_ROWS = 32 * 2**20, 300


def describe_jobs(jobs: Sequence[Job], options: ExtractOptions) -> list[dict[str, Any]]:
    """Return one row per node of the jobs: what it holds, how large it is, and whether it is there.

    Shapes come from the networks without weights; nothing is computed or fetched.
    """
    from brainsim.models import TapInfo, tap_infos
    from brainsim.models.pooling import count_features

    taps: dict[str, dict[str, TapInfo]] = {}
    rows = []
    for job in jobs:
        name = job.row.name
        if name not in taps:
            taps[name] = {t.name: t for t in tap_infos(job.row, protocol=options.protocol, tap=options.tap)}
        for layer in job.layers:
            n_features = count_features(options.pool, taps[name][layer], sketch=job.sketch)
            rows.append(
                {
                    "node": job.node(layer),
                    "model": name,
                    "layer": layer,
                    "stimulus": job.stimulus.name,
                    "n_clips": job.plan.n_clips,
                    "n_features": n_features,
                    "bytes": job.plan.n_clips * n_features * disk_dtype_of(options.dtype).itemsize,
                    "state": "write" if layer in job.missing else "reuse",
                }
            )
    return rows


def check_room(rows: Sequence[dict[str, Any]], store: Store | None, path: Path) -> None:
    """Raise StoreError where the disk cannot hold what `describe_jobs` says will be written.

    What an interrupted run left is there already, and is gone on from or replaced.

    Parameters
    ----------
    rows : sequence of dict
        From `describe_jobs`.
    store : Store, optional
        None where it is still to be made.
    path : Path
        Where it lies, or will.
    """
    to_write = [row for row in rows if row["state"] == "write"]
    needed = sum(row["bytes"] for row in to_write)
    nodes = [] if store is None else [found for row in to_write for found in store.scan(row["node"])]
    there = [found.record.info for found in nodes if found.record is not None]
    left = sum(info.nbytes for info in there if not info.complete)
    needed, free = max(needed - left, 0), disk_free_bytes(path)
    if needed > free:
        raise StoreError(
            f"{format_bytes(needed)} of activations do not fit into the {format_bytes(free)} free at {path}.",
            hint="--layers, --pool mean, --sketch-error 0.1, --dtype float16 or a larger --step-s make less; --dry-run "
            "says how much",
        )


def group_jobs(jobs: Sequence[Job], rows: Sequence[dict[str, Any]]) -> list[list[Job]]:
    """Return the jobs of one stimulus in groups whose unwritten chunks fit into memory; nearly always one group."""
    budget, held = BUFFER_SHARE * memory_free_bytes(), 0.0
    sizes = {row["node"]: row["bytes"] / max(row["n_clips"], 1) for row in rows}
    groups: list[list[Job]] = []
    for job in jobs:
        per_clip = [sizes[job.node(layer)] for layer in job.missing]
        need = sum(max(min(CHUNK_BYTES, size * min(CHUNK_ROWS, job.plan.n_clips)), size) for size in per_clip)
        if not groups or held + need > budget:
            groups.append([])
            held = 0.0
        groups[-1].append(job)
        held += need
    return groups
