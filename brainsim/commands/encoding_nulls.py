"""Turn what a task found into p values per target and null means per region."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from brainsim.commands.encoding_search import Found
from brainsim.commands.encoding_tasks import TaskInputs, TaskNumbers, sum_regions

if TYPE_CHECKING:
    from brainsim.encoding.best import SupportBest
    from brainsim.encoding.nulls import Predictors
    from brainsim.variance.lattice import SubsetPlan


def add_nulls(
    found: Found,
    inputs: TaskInputs,
    numbers: TaskNumbers,
    *,
    joint: SupportBest | None = None,
    families: SubsetPlan | None = None,
    price: float = 0.0,
) -> None:
    """Add p values and the null means of regions to a task's numbers, where nulls are asked for.

    Parameters
    ----------
    joint : SupportBest, optional
        A partition's best of all families; the only best of a fit by default.
    families : SubsetPlan, optional
        A partition's subsets; the unique part of each family is tested where they allow it.
    price : float
        What each family costs in the competition.
    """
    if not inputs.task.options.n_nulls:
        return
    from brainsim.encoding.folds import index_folds
    from brainsim.encoding.nulls import ChosenModels, Predictors, draw_shifts, score_nulls

    options, task = inputs.task.options, inputs.task
    min_shift = options.null_shift_trs(task.tr_s)
    rows = draw_shifts(task.layout, n_nulls=options.n_nulls, min_shift=min_shift, seed=options.seed)
    models = ChosenModels(
        inputs.Ks,
        found.gammas,
        options.grid,
        index_folds(inputs.folds, len(inputs.Y), nested=False),
        inputs.device,
        inputs.n_workers,
    )
    predictors = Predictors(models)
    best = found.best_of(1) if joint is None else joint
    observed = best.r.mean(dim=0).cpu().numpy()
    null = score_nulls(predictors, best, inputs.Y, rows, progress=inputs.progress)
    numbers.values["p" if joint is None else "joint_p"] = p_values(null, observed)
    numbers.sums |= {
        "null_joint": sum_regions(null, inputs.regions),
        "tested_joint": sum_regions(observed, inputs.regions),
    }
    numbers.notes["nulls"] = {
        "n_nulls": options.n_nulls,
        "min_shift_trs": min_shift,
        "statistic": "correlation of BOLD and prediction on test runs, mean over folds; for unique parts, what the "
        "family adds to that of the others",
    }
    if families is not None and families.has_unique:
        _test_families(found, inputs, numbers, predictors, rows, families, price)


def _test_families(
    found: Found,
    inputs: TaskInputs,
    numbers: TaskNumbers,
    predictors: Predictors,
    rows: np.ndarray,
    families: SubsetPlan,
    price: float,
) -> None:
    """Test what each family adds to the others: the best mixture with it against the best without it.

    The best of all families may do without the family; then there would be nothing to test.
    """
    from brainsim.encoding.competition import best_of_subsets, best_with_group
    from brainsim.encoding.nulls import predict_chosen, score_nulls

    p, nulls, tested = [], [], []
    for family in range(families.n_families):
        with_it = best_with_group(found.bests, family, within=families.full, price=price)
        ((_, without),) = best_of_subsets(found.bests, [families.full & ~(1 << family)], price=price)
        predicted = predict_chosen(predictors, without, inputs.Y)
        left = inputs.Y - predicted
        label = f"nulls of family {family + 1} of {families.n_families}"
        null = score_nulls(predictors, with_it, left, rows, fixed=predicted, progress=inputs.progress, label=label)
        null -= score_nulls(predictors, without, left, rows, fixed=predicted, progress=inputs.progress, label=label)
        observed = (with_it.r - without.r).mean(dim=0).cpu().numpy()
        p.append(p_values(null, observed))
        nulls.append(sum_regions(null, inputs.regions))
        tested.append(sum_regions(observed, inputs.regions))
    numbers.values["unique_p"] = np.stack(p)
    numbers.sums |= {"null_unique": np.stack(nulls), "tested_unique": np.stack(tested)}


def p_values(null: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Return how often chance reaches what was observed, the observation counted in, float32 (n_targets,)."""
    p = (1 + (~(null < observed)).sum(axis=0)) / (1 + len(null))  # a null without a score speaks for chance
    return np.where(np.isfinite(observed), p, np.nan).astype(np.float32)
