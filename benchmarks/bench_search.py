"""Nested search against himalaya's: the same candidates, folds and alphas, seconds per candidate and equality."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from benchmarks.problems import make_problem
from brainsim.core.runs import folds_by_run
from brainsim.encoding.best import SupportBest
from brainsim.encoding.candidates import CandidatePool, draw_pool
from brainsim.encoding.folds import index_folds
from brainsim.encoding.himalaya_solver import search_with_himalaya
from brainsim.encoding.search import SearchOptions, search_supports

ALPHAS = tuple(np.logspace(-2, 5, 20))

# himalaya takes minutes per candidate at full size on two cores.
N_THEIRS = 2


def run(*, quick: bool, device: str) -> dict[str, Any]:
    """Measure at 8 runs x 300 TRs, 4,000 targets, 3 bands, 20 alphas."""
    size = {"n_runs": 4, "n_trs": 40, "n_targets": 60} if quick else {"n_runs": 8, "n_trs": 300, "n_targets": 4000}
    problem = make_problem(n_bands=3, **size)
    folds = folds_by_run(problem.layout)
    index = index_folds(folds, problem.layout.n_rows)
    pool = draw_pool([0, 0, 0], n_candidates=6 if quick else 24)
    few = CandidatePool(pool.gammas[:N_THEIRS], pool.supports[:N_THEIRS], 1)

    def ours(candidates: CandidatePool, *, exhaustive: bool) -> tuple[float, SupportBest]:
        options = SearchOptions(exhaustive=exhaustive, n_workers=1 if device != "cpu" else 2)
        started = time.monotonic()
        bests, _ = search_supports(
            problem.Ks, problem.Y, pool=candidates, alphas=ALPHAS, folds=index, device=device, options=options
        )
        _wait(device)
        return (time.monotonic() - started) / candidates.n_candidates, bests[1]

    ours(few, exhaustive=False)  # libraries load, caches fill
    whole_s, whole = ours(few, exhaustive=True)
    _, same = ours(few, exhaustive=False)
    climb_s, _ = ours(pool, exhaustive=False)
    started = time.monotonic()
    theirs = search_with_himalaya(
        problem.Ks,
        problem.Y,
        gammas=few.gammas,
        alphas=ALPHAS,
        folds=folds,
        backend="torch" if device == "cpu" else "torch_cuda",
        n_targets_batch=size["n_targets"],
    )
    _wait(device)
    theirs_s = (time.monotonic() - started) / N_THEIRS
    return {
        "rows": problem.layout.n_rows,
        "targets": size["n_targets"],
        "himalaya_s_per_candidate": theirs_s,
        "exhaustive_s_per_candidate": whole_s,
        "climbing_s_per_candidate": climb_s,
        "ratio_exhaustive": theirs_s / whole_s,
        "ratio_climbing": theirs_s / climb_s,
        **{f"exhaustive_{key}": value for key, value in _compare(whole, theirs).items()},
        **{f"climbing_{key}": value for key, value in _compare(same, theirs).items()},
    }


def _compare(ours: SupportBest, theirs: SupportBest) -> dict[str, float]:
    r2 = (ours.r2.cpu() - theirs.r2).abs()
    same = (ours.candidate.cpu() == theirs.candidate) & (ours.alpha.cpu() == theirs.alpha)
    return {
        "largest_difference_same_choice": float(r2[same].max()),
        "share_within_1e-4": float((r2 < 1e-4).float().mean()),
        "share_same_choice": float(same.float().mean()),
        "mean_difference": float((ours.r2.cpu() - theirs.r2).mean().abs()),
    }


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()
