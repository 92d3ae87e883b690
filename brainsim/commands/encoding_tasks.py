"""Turn one task, the handles of some targets of some subjects, into their scores in a work node of the store.

Tasks are what workers run: small, independent, and named by what makes their numbers. A task that a killed worker left
behind is run again; one whose work node is complete is not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from brainsim.commands.encoding_options import EncodingOptions, resolve_device
from brainsim.commands.encoding_plan import make_folds
from brainsim.commands.encoding_targets import TaskPart, read_part, regions_of
from brainsim.core.progress import Progress, task_progress
from brainsim.core.resources import map_large_blocks, memory_free_bytes, n_cores, return_freed_memory
from brainsim.core.runs import Fold, RunLayout

if TYPE_CHECKING:
    from brainsim.encoding.best import SearchLog
    from brainsim.store import Store

# What computes each kind of task; another analysis is one more file and one more line.
COMPUTE = {
    "fit": "brainsim.commands.fit_numbers:compute_fit",
    "partition": "brainsim.commands.partition_numbers:compute_partition",
}


@dataclass(frozen=True)
class EncodingTask:
    """What one worker needs to know: names and numbers, no arrays.

    Parameters
    ----------
    label : str
        What messages call it.
    kind : str
        A name of `COMPUTE`.
    store : str
        Path of the store.
    work : str
        Node that the task writes.
    results : tuple of str
        Nodes that will be put together from it.
    key : str
        Digest of everything that makes its numbers.
    parts : tuple of TaskPart
        Targets, side by side.
    layout : RunLayout
        Rows of each run, without those left out.
    tr_s : float
        Time between rows.
    kernels, layer_kernels : tuple of str
        Nodes of the bands' kernels, and of single layers to score alone.
    band_groups : tuple of int
        Family of each band.
    options : EncodingOptions
        How to search.
    analysis : dict
        Options of this kind of task.
    budget_s : float, optional
        Time after which the search stops.
    left_out : tuple of int
        Rows of kernels and BOLD that take no part: scrubbed TRs.
    """

    label: str
    kind: str
    store: str
    work: str
    results: tuple[str, ...]
    key: str
    parts: tuple[TaskPart, ...]
    layout: RunLayout
    tr_s: float
    kernels: tuple[str, ...]
    layer_kernels: tuple[str, ...]
    band_groups: tuple[int, ...]
    options: EncodingOptions
    analysis: dict[str, Any] = field(default_factory=dict)
    budget_s: float | None = None
    left_out: tuple[int, ...] = ()

    @property
    def kept_rows(self) -> np.ndarray | None:
        """Rows of kernels and BOLD that take part, int64 (layout.n_rows,); None for all."""
        if not self.left_out:
            return None
        return np.delete(np.arange(self.layout.n_rows + len(self.left_out)), self.left_out)


@dataclass(frozen=True)
class Receipt:
    """What a task did.

    Parameters
    ----------
    work : str
        The node with its scores.
    n_fitted, n_targets : int
        Targets with scores, and all.
    seconds : float
        Wall time; 0 where the node was there already.
    """

    work: str
    n_fitted: int
    n_targets: int
    seconds: float


@dataclass(frozen=True)
class TaskInputs:
    """What the numbers of a task are made from.

    Parameters
    ----------
    task : EncodingTask
        Options and names.
    Ks, layer_Ks : sequence of ndarray, (n_rows, n_rows) each
        Kernels of the bands, and of single layers; read when they are asked for.
    Y : ndarray of float32, (n_rows, n_fitted)
        BOLD of the targets that are fitted; no NaN.
    folds : tuple of Fold
        Outer folds.
    regions : ndarray of float32, (n_regions, n_fitted)
        1 where a target lies in a region: the ROIs and then the streams of each part in turn.
    n_workers : int
        Candidates that may be scored at once.
    device : str
        torch device.
    progress : Progress
        Where progress is told.
    """

    task: EncodingTask
    Ks: Sequence[np.ndarray]
    layer_Ks: Sequence[np.ndarray]
    Y: np.ndarray
    folds: tuple[Fold, ...]
    regions: np.ndarray
    n_workers: int
    device: str
    progress: Progress


@dataclass
class TaskNumbers:
    """What a task computed.

    Parameters
    ----------
    values : dict of str to ndarray, (..., n_fitted)
        Scores per target.
    at_edge : ndarray, (n_fitted,)
        Share of folds whose alpha sits at an edge of the grid.
    log : SearchLog
        What happened in the search.
    is_scored : ndarray of bool, (n_fitted,)
        Which targets have a score: not those for which every factorisation failed.
    sums : dict of str to ndarray, (..., n_regions)
        Sums over the targets of each region, of quantities that are too many to keep per target.
    notes : dict
        What else must be told of the result.
    """

    values: dict[str, np.ndarray]
    at_edge: np.ndarray
    log: SearchLog
    is_scored: np.ndarray
    sums: dict[str, np.ndarray] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)


def run_task(task: EncodingTask) -> Receipt:
    """Compute one task, unless its work node is complete.

    Parameters
    ----------
    task : EncodingTask
        From `commands/encoding_run.py`.
    """
    from brainsim.store import Store

    started = time.monotonic()
    map_large_blocks()
    store = Store(task.store, mode="a")
    n_targets = sum(part.n_targets for part in task.parts)
    key = {"task": task.key}
    if store.has(task.work, key=key):
        return Receipt(task.work, int(store.info(task.work).attributes["n_fitted"]), n_targets, 0.0)
    folds = make_folds(task.options, task.layout)
    inputs, reasons = load_inputs(store, task, folds)
    module, _, name = COMPUTE[task.kind].partition(":")
    compute = cast(Callable[[TaskInputs], TaskNumbers], getattr(import_module(module), name))
    numbers = compute(inputs)
    is_fitted = reasons == 0
    is_scored = numbers.is_scored[: int(is_fitted.sum())]
    reasons[np.flatnonzero(is_fitted)[~is_scored]] = 4
    values = {**numbers.values, "at_edge": numbers.at_edge.astype(np.float32)}
    # Only of targets that were fitted, where there are any: a range may be all of a brain for the sake of one ROI.
    columns = slice(0, max(int(is_fitted.sum()), 1))
    arrays = {name: array[..., columns] for name, array in values.items()}
    arrays |= {f"sum_{name}": array for name, array in numbers.sums.items()}
    arrays |= {"reason": reasons, "region_count": sum_regions(numbers.is_scored, inputs.regions)}
    n_fitted = int((reasons == 0).sum())
    store.write(
        task.work,
        type="work",
        key=key,
        arrays=arrays,
        attributes={
            "n_fitted": n_fitted,
            "results": list(task.results),
            "parts": [[part.subject, part.start, part.stop] for part in task.parts],
            "values": list(values),
            "sums": list(numbers.sums),
            "log": describe_log(numbers.log),
            "notes": numbers.notes,
        },
        overwrite=True,
    )
    return_freed_memory()
    return Receipt(task.work, n_fitted, n_targets, round(time.monotonic() - started, 3))


def sum_regions(values: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Return the sum of values over the targets of each region, float64 (..., n_regions); no value counts as none.

    Parameters
    ----------
    values : ndarray, (..., n_targets)
        Scores.
    regions : ndarray, (n_regions, n_targets)
        1 where a target lies in a region.
    """
    sums: np.ndarray = np.nan_to_num(values.astype(np.float64)) @ regions.T.astype(np.float64)
    return sums


def describe_log(log: SearchLog) -> dict[str, Any]:
    """Return what happened in a search as plain numbers."""
    return {
        "n_factored": log.n_factored,
        "n_float64": log.n_float64,
        "n_candidates": log.n_candidates,
        "n_candidates_done": log.n_candidates_done,
        "failed": sorted({candidate for candidate, _ in log.failed}),
    }


def load_inputs(store: Store, task: EncodingTask, folds: tuple[Fold, ...]) -> tuple[TaskInputs, np.ndarray]:
    """Read a task's BOLD and lay out what its numbers are made from.

    Returns
    -------
    TaskInputs
        Of the targets that can be fitted.
    ndarray of uint8, (n_targets,)
        Why each of the task's targets is fitted or not: a place in `REASONS`.
    """
    from brainsim.commands.kernels import StoredKernels

    columns, reasons, regions = [], [], []
    for part in task.parts:
        Y, reason = read_part(store, part, layout=task.layout, folds=folds)
        membership = regions_of(store, part)
        columns.append(Y)
        regions.append(membership[:, reason == 0])
        reasons.append(reason)
    Y = np.concatenate(columns, axis=1)
    membership = np.zeros((sum(len(r) for r in regions), Y.shape[1]), np.float32)
    row = column = 0
    for block in regions:
        membership[row : row + block.shape[0], column : column + block.shape[1]] = block
        row, column = row + block.shape[0], column + block.shape[1]
    if Y.shape[1] == 0:
        # A task without a single target that can be fitted has arrays of the right shape too, but searches nothing.
        Y, membership = np.zeros((len(Y), 1), np.float32), np.zeros((len(membership), 1), np.float32)
        task = replace(task, options=replace(task.options, alphas=(1.0,), n_candidates=1, refine=0))
    inputs = TaskInputs(
        task=task,
        Ks=StoredKernels(store, task.kernels, rows=task.kept_rows, layout=task.layout),
        layer_Ks=StoredKernels(store, task.layer_kernels, rows=task.kept_rows, layout=task.layout),
        Y=np.ascontiguousarray(Y, dtype=np.float32),
        folds=folds,
        regions=membership,
        n_workers=_n_threads(task, *Y.shape),
        device=resolve_device(task.options.device),
        progress=task_progress(),
    )
    return inputs, np.concatenate(reasons)


def _n_threads(task: EncodingTask, n_rows: int, n_targets: int) -> int:
    """Return how many candidates are scored at once: a GPU takes one, cores as many as there is memory for."""
    if not resolve_device(task.options.device).startswith("cpu"):
        return 1
    from brainsim.encoding.scan import TILE_BYTES

    # In float64 at worst: a kernel with its inverses (also those that a climb keeps), and products with some targets.
    per_thread = 8 * 6 * n_rows**2 + 5 * min(8 * n_rows * n_targets, TILE_BYTES)
    cores = n_cores()
    if task.options.cluster == "threads" and task.options.n_workers:
        cores = min(cores, task.options.n_workers)
    return max(1, min(cores, memory_free_bytes() // 2 // per_thread))
