"""Turn the inputs of one task into the scores of every subset of families, and all that follows from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from brainsim.commands.encoding_nulls import add_nulls
from brainsim.commands.encoding_search import edge_shares, search_pool, split_bands
from brainsim.commands.encoding_tasks import TaskInputs, TaskNumbers, sum_regions
from brainsim.core.errors import InvalidValueError

if TYPE_CHECKING:
    from brainsim.encoding.best import SupportBest
    from brainsim.encoding.candidates import CandidatePool
    from brainsim.variance.lattice import SubsetPlan


def compute_partition(inputs: TaskInputs) -> TaskNumbers:
    """Score one pool, let its mixtures compete in every planned subset, and take the parts."""
    task = inputs.task
    plan = partition_plan(task.band_groups, task.analysis["subsets"])
    price = task.analysis["entry_z"] ** 2 / len(inputs.Y)
    found = search_pool(
        inputs,
        partition_pool(inputs, plan),
        band_groups=task.band_groups,
        masks=plan.masks,
        price=price,
        label="partition",
    )
    scores = np.empty((len(plan.masks), inputs.Y.shape[1]), np.float32)
    correlations = np.empty_like(scores)
    sums = np.empty((len(plan.masks), len(inputs.folds), len(inputs.regions)))
    joint: SupportBest | None = None
    for row, (_, joint) in enumerate(found.best_of_subsets(plan.masks, price=price)):
        by_fold = joint.r2.cpu().numpy()  # (n_folds, n_fitted)
        scores[row] = by_fold.mean(axis=0)
        correlations[row] = joint.r.mean(dim=0).cpu().numpy()
        sums[row] = sum_regions(by_fold, inputs.regions)
    if joint is None:
        raise InvalidValueError("no subset of families to score.")
    groups = np.asarray(task.band_groups)
    split = split_bands(inputs, found.gammas, joint)  # of the last subset: all families
    product = np.stack([split.r2[groups == g].sum(axis=0) for g in range(plan.n_families)])
    numbers = TaskNumbers(
        values={"subset_r2": scores, "subset_r": correlations, **_parts_of(scores, plan), "product": product},
        at_edge=edge_shares(joint, len(task.options.grid)),
        log=found.log,
        is_scored=np.asarray(np.isfinite(scores).all(axis=0)),
        sums={"subset_r2": sums, "product": sum_regions(product, inputs.regions)},
        notes=found.notes,
    )
    add_nulls(found, inputs, numbers, joint=joint, families=plan, price=price)
    return numbers


def partition_plan(band_groups: tuple[int, ...], subsets: str) -> SubsetPlan:
    """Return which subsets of the families are scored."""
    from brainsim.variance.lattice import subset_plan

    return subset_plan(max(band_groups) + 1, subsets)


def partition_pool(inputs: TaskInputs, plan: SubsetPlan) -> CandidatePool:
    """Draw the mixtures of a task."""
    from brainsim.encoding.candidates import draw_pool

    options = inputs.task.options
    return draw_pool(
        inputs.task.band_groups,
        n_candidates=options.n_candidates,
        concentration=options.concentration,
        seed=options.seed,
        subsets=None if plan.is_complete else plan.masks,
    )


def _parts_of(scores: np.ndarray, plan: SubsetPlan) -> dict[str, np.ndarray]:
    """Return everything that follows from the scores of the planned subsets, per target."""
    from brainsim.variance.lattice import commonality_parts, shapley_values, unique_parts

    values: dict[str, np.ndarray] = {}
    if plan.has_unique:
        values["unique"] = unique_parts(scores, plan)
        values["parts"] = commonality_parts(scores, plan)
    if plan.is_complete:
        values["shapley"] = shapley_values(scores, plan)
    return {name: value.astype(np.float32) for name, value in values.items()}
