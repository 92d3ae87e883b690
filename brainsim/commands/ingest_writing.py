"""Turn clean runs, targets and ceilings into nodes of the store, and nodes into what a summary tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from brainsim.datasets.alignment import RunPlan
from brainsim.datasets.runs import Run
from brainsim.datasets.structures import describe_structures
from brainsim.datasets.targets import Targets
from brainsim.store import Store

if TYPE_CHECKING:
    from brainsim.commands.ingest_nodes import SubjectJob


@dataclass(frozen=True)
class SubjectRow:
    """What the store holds of a subject; counts are of targets."""

    subject: str
    n_targets: int
    rois: dict[str, int]
    streams: dict[str, int]
    runs: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = field(default=())


def describe_subject(job: SubjectJob, store: Store) -> SubjectRow:
    """Return what the store holds of a subject, from the attributes of its nodes."""
    targets = store.info(job.targets_node).attributes
    runs: list[dict[str, Any]] = []
    notes = list(targets["notes"])
    for node in job.run_nodes:
        info = store.info(node)
        notes += info.attributes["notes"]
        a, (n_trs, n_targets) = info.attributes, info.arrays["values"][0]
        runs.append(
            {
                "subject": a["subject"],
                "run": a["run"],
                "stimulus": a["stimulus"],
                "n_trs": n_trs,
                "start_s": a["start_s"],
                "n_repeats": a["n_repeats"],
                "n_scrubbed": n_trs - int(store.read(node, "kept").sum()) if "kept" in info.arrays else 0,
                "n_targets": n_targets,
                "n_masked": sum(a["masked"].values()),
                **a["qc"],
                "masked": a["masked"],
            }
        )
    return SubjectRow(
        subject=job.subject,
        n_targets=int(targets["n_targets"]),
        rois=dict(targets["roi_counts"]),
        streams=dict(targets["stream_counts"]),
        runs=tuple(runs),
        notes=tuple(notes),
    )


def write_run(
    store: Store,
    node: str,
    key: Mapping[str, Any],
    plan: RunPlan,
    run: Run,
    job: SubjectJob,
    notes: Sequence[str],
) -> None:
    """Write one run."""
    store.write(
        node,
        type="bold",
        key=key,
        arrays={
            "values": run.bold,
            "valid": run.valid.astype(np.uint8),
            **({} if run.scrubbed is None else {"kept": (~run.scrubbed).astype(np.uint8)}),
            **run.traces,
        },
        attributes={
            "dataset": job.dataset,
            "subject": run.subject,
            "run": run.run,
            "stimulus": run.stimulus,
            "film": plan.film,
            "film_start_s": plan.showing.film_start_s,
            "tr_s": run.tr_s,
            "start_s": run.start_s,
            "volumes": [plan.first, plan.stop],
            "n_repeats": 1 + len(plan.repeats),
            "cleaning": job.origin.cleaning.describe(),
            "qc": dict(run.quality),
            "masked": dict(run.masked),
            "source": plan.source.where,
            "repeats": [repeat.source.where for repeat in plan.repeats],
            "confounds_source": None if plan.source.confounds is None else str(plan.source.confounds),
            "format": job.origin.format,
            "notes": list(notes),
        },
    )


def write_targets(
    store: Store, job: SubjectJob, targets: Targets, measured: Mapping[str, np.ndarray], ceilings: Mapping[str, Any]
) -> None:
    """Write the node of a subject's targets.

    Parameters
    ----------
    store : Store
    job : SubjectJob
    targets : Targets
    measured : mapping of str to ndarray, (n_targets,)
        Ceilings and reliabilities, by the names of their arrays.
    ceilings : mapping
        Array -> what it is a ceiling of, in words.
    """
    grid = targets.grid
    origin = job.origin
    arrays, structures = describe_structures(grid) if grid.structures else ({}, {})
    store.write(
        job.targets_node,
        type="targets",
        key=job.targets_key,
        arrays={"ijk": targets.ijk, "membership": targets.membership, **arrays, **measured},
        attributes={
            "dataset": job.dataset,
            "subject": job.subject,
            "roi_names": list(targets.roi_names),
            "streams": {stream: list(rois) for stream, rois in targets.streams.items()},
            "roi_counts": targets.count_rois(),
            "stream_counts": targets.count_streams(),
            "affine": grid.affine,
            "volume_shape": None if grid.affine is None else list(grid.shape),
            **structures,
            "space": job.plans[0].source.space,
            "n_targets": targets.n_targets,
            "ceilings": dict(ceilings),
            "select": None if origin.select is None else list(origin.select),
            "rois_source": None if origin.rois is None else str(origin.rois.path),
            "mask_source": None if origin.mask is None else str(origin.mask),
            "grouping": None if origin.grouping is None else origin.grouping.name,
            "notes": list(targets.notes),
        },
    )
