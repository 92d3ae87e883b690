"""Turn stored runs of subjects who saw the same into how well the others predict each: a ceiling without repeats."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from brainsim.commands.ingest_nodes import SubjectJob
    from brainsim.store import Store

# Fewer subjects have no mean of others worth the name.
LEAST_SUBJECTS = 3
# Targets of all subjects that are in memory at once.
TARGETS_AT_ONCE = 4096


def write_between(store: Store, dataset: str, jobs: Sequence[SubjectJob], *, overwrite: bool) -> str | None:
    """Write `ceilings/{dataset}/between-subjects`, if at least three subjects have the same targets and saw the same.

    Parameters
    ----------
    store : Store
    dataset : str
    jobs : sequence of SubjectJob
        Subjects whose nodes are complete.
    overwrite : bool
        Make it anew, also where other subjects made it.

    Returns
    -------
    str or None
        Why nothing was written.
    """
    from brainsim.datasets.ceilings import leave_one_out_correlations
    from brainsim.datasets.runs import same_grid

    def saw(job: SubjectJob) -> list[tuple[Any, ...]]:
        return [(p.source.run, p.showing.stimulus, p.start_s, p.n_trs, p.tr_s) for p in job.plans]

    if len(jobs) < LEAST_SUBJECTS:
        return f"{len(jobs)} subjects: correlation between subjects needs {LEAST_SUBJECTS}."
    first = jobs[0]
    places = store.read(first.targets_node, "ijk")
    for job in jobs[1:]:
        if not same_grid(first.plans[0].grid, job.plans[0].grid):
            return f"{first.subject} and {job.subject} lie in different spaces: no correlation between subjects."
        if saw(job) != saw(first) or not np.array_equal(store.read(job.targets_node, "ijk"), places):
            return f"{first.subject} and {job.subject} differ in runs or targets: no correlation between subjects."

    def blocks(columns: slice) -> Iterator[np.ndarray]:
        for run in range(len(first.plans)):
            yield np.stack([store.read(job.run_nodes[run], "values", columns=columns) for job in jobs])

    key = {"data": [store.info(node).digest for job in jobs for node in job.run_nodes]}
    path = f"ceilings/{dataset}/between-subjects"
    if store.has(path, key=key) and not overwrite:
        return None
    starts = range(0, len(places), TARGETS_AT_ONCE)
    r = np.concatenate(
        [leave_one_out_correlations(blocks(slice(s, min(s + TARGETS_AT_ONCE, len(places))))) for s in starts], axis=1
    )
    store.write(
        path,
        type="ceilings",
        key=key,
        arrays={"between_subjects_r": r},
        attributes={
            "subjects": [job.subject for job in jobs],
            "ceilings": {"between_subjects_r": "r of single viewings: mean of the other subjects with each one"},
            "sources": [job.targets_node for job in jobs],
        },
        overwrite=True,
    )
    return None
