"""A thousand null data sets against one fit of sixty candidates."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from benchmarks.problems import make_problem
from brainsim.core.runs import folds_by_run
from brainsim.encoding.candidates import draw_pool
from brainsim.encoding.folds import index_folds
from brainsim.encoding.nulls import ChosenModels, Predictors, draw_shifts, score_nulls
from brainsim.encoding.search import SearchOptions, search_supports

ALPHAS = tuple(np.logspace(-2, 5, 15))


def run(*, quick: bool, device: str) -> dict[str, Any]:
    """Measure at 8 runs x 300 TRs: a fit of 12 candidates and 50 nulls, and what 60 and 1,000 take at that pace."""
    size = {"n_runs": 4, "n_trs": 40, "n_targets": 40} if quick else {"n_runs": 8, "n_trs": 300, "n_targets": 2000}
    n_candidates, n_nulls = (3, 5) if quick else (12, 50)
    problem = make_problem(n_bands=3, **size)
    index = index_folds(folds_by_run(problem.layout), problem.layout.n_rows)
    n_workers = 2 if device == "cpu" else 1
    pool = draw_pool([0, 0, 0], n_candidates=n_candidates)
    started = time.monotonic()
    bests, _ = search_supports(
        problem.Ks,
        problem.Y,
        pool=pool,
        alphas=ALPHAS,
        folds=index,
        device=device,
        options=SearchOptions(n_workers=n_workers),
    )
    fit_s = (time.monotonic() - started) / pool.n_candidates * 60
    models = ChosenModels(problem.Ks, pool.gammas, ALPHAS, index, device, n_workers)
    seconds = []
    for n in (1, n_nulls + 1):
        rows = draw_shifts(problem.layout, n_nulls=n, min_shift=8)
        started = time.monotonic()
        score_nulls(Predictors(models), bests[1], problem.Y, rows)
        seconds.append(time.monotonic() - started)
    per_null = (seconds[1] - seconds[0]) / n_nulls
    nulls_s = seconds[0] + 999 * per_null
    return {
        "rows": problem.layout.n_rows,
        "targets": size["n_targets"],
        "fit_of_60_candidates_s": fit_s,
        "factorisations_s": seconds[0],
        "1000_nulls_s": nulls_s,
        "nulls_in_fits": nulls_s / fit_s,
    }
