"""All subsets of families against one full fit of the same pool."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from benchmarks.problems import Problem, make_problem
from brainsim.core.runs import folds_by_run
from brainsim.encoding.candidates import CandidatePool, default_pool_size, draw_pool
from brainsim.encoding.competition import best_of_subsets
from brainsim.encoding.folds import index_folds
from brainsim.encoding.search import SearchOptions, search_supports
from brainsim.encoding.split import split_scores
from brainsim.variance.lattice import commonality_parts, shapley_values, subset_plan, unique_parts

ALPHAS = tuple(np.logspace(-2, 5, 15))


def run(*, quick: bool, device: str) -> dict[str, Any]:
    """Measure 31 subsets of 5 families and 511 of 9."""
    if quick:
        return {**_one(make_problem(n_runs=4, n_trs=20, n_targets=30, n_bands=3), device, "7 of 3")}
    five = make_problem(n_runs=8, n_trs=100, n_targets=2000, n_bands=5)
    nine = make_problem(n_runs=8, n_trs=40, n_targets=1000, n_bands=9)
    return {**_one(five, device, "31 of 5"), **_one(nine, device, "511 of 9")}


def _one(problem: Problem, device: str, name: str) -> dict[str, Any]:
    n_bands = len(problem.Ks)
    plan = subset_plan(n_bands, "all")
    pool = draw_pool(range(n_bands), n_candidates=default_pool_size(n_bands, n_bands, plan.masks))
    single = CandidatePool(pool.gammas, np.ones_like(pool.supports), 1)
    fit_s, lattice_s = [], []
    for _ in range(2):  # the two sides in turn; the better of each counts
        fit_s.append(_search(problem, single, device, None))
        lattice_s.append(_search(problem, pool, device, plan.masks))
    prefix = f"{name}: "
    return {
        prefix + "rows": problem.layout.n_rows,
        prefix + "targets": problem.Y.shape[1],
        prefix + "candidates": pool.n_candidates,
        prefix + "fit_s": min(fit_s),
        prefix + "lattice_s": min(lattice_s),
        prefix + "ratio": min(lattice_s) / min(fit_s),
    }


def _search(problem: Problem, pool: CandidatePool, device: str, masks: tuple[int, ...] | None) -> float:
    """Return the seconds of a fit of a pool, or of the whole partition with it."""
    started = time.monotonic()
    index = index_folds(folds_by_run(problem.layout), problem.layout.n_rows)
    options = SearchOptions(n_workers=2 if device == "cpu" else 1)
    bests, _ = search_supports(
        problem.Ks, problem.Y, pool=pool, alphas=ALPHAS, folds=index, device=device, options=options
    )
    scores, best = [], bests.get(1)
    if masks is not None:
        for _, best in best_of_subsets(bests, masks, price=4 / problem.layout.n_rows):
            scores.append(best.r2.mean(dim=0).cpu().numpy())
        table = np.stack(scores)
        unique_parts(table), commonality_parts(table), shapley_values(table)
    if best is None:
        raise RuntimeError("nothing was searched")
    split_scores(
        problem.Ks,
        problem.Y,
        gammas=pool.gammas,
        alphas=ALPHAS,
        best=best,
        folds=index,
        device=device,
        n_workers=options.n_workers,
    )
    return time.monotonic() - started
