"""Tests keep their level: of simulated null data sets, 5 % are found at 5 %. Minutes long: run by nox -s slow.

Features and noise are autocorrelated, noise drifts and is partly common to all targets, families share a latent signal,
and BOLD is cleaned like at ingest. Every data set gets the whole nested search and its own nulls.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.stats import binom

from brainsim.core.runs import RunLayout, folds_by_run
from brainsim.datasets.cleaning import make_drifts
from brainsim.encoding.candidates import default_pool_size, draw_pool
from brainsim.encoding.competition import best_of_subsets, best_with_group
from brainsim.encoding.folds import index_folds
from brainsim.encoding.nulls import ChosenModels, Predictors, draw_shifts, predict_chosen, score_nulls
from brainsim.encoding.search import SearchOptions, search_supports

N_SETS, N_NULLS = 200, 99
N_RUNS, N_TRS, TR_S, N_FEATURES, N_TARGETS = 5, 70, 2.0, 30, 16
LAYOUT = RunLayout(tuple("abcde"), (N_TRS,) * N_RUNS)
FOLDS = index_folds(folds_by_run(LAYOUT), LAYOUT.n_rows)
ALPHAS = tuple(np.logspace(0, 4, 7))
EFFECT, NULL, OTHER = 0, 1, 2  # families; the null one shares a latent signal with the others


def smooth(rng: np.random.Generator, n: int, ar: float) -> np.ndarray:
    """Return first-order autocorrelated courses of variance 1, (n_runs, n_trs, n)."""
    steps = rng.standard_normal((N_RUNS, N_TRS + 40, n)) * np.sqrt(1 - ar**2)
    courses: np.ndarray = lfilter([1.0], [1.0, -ar], steps, axis=1)[:, 40:]
    return courses


def zscore(X: np.ndarray) -> np.ndarray:
    X = X - X.mean(axis=1, keepdims=True)
    return X / X.std(axis=1, keepdims=True)


def simulate(seed: int, *, has_effect: bool) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the kernels of three families and cleaned BOLD that follows the first and the third, or none."""
    rng = np.random.default_rng(seed)
    latent = smooth(rng, 10, 0.8)
    families, Ks = [], []
    for _ in range(3):
        shared = latent @ rng.standard_normal((10, N_FEATURES)) / np.sqrt(10)
        families.append(zscore(shared + smooth(rng, N_FEATURES, 0.7)))
        X = families[-1].reshape(LAYOUT.n_rows, -1)
        K = X @ X.T
        Ks.append((K / np.diag(K).mean()).astype(np.float32))
    noise = (
        smooth(rng, N_TARGETS, rng.uniform(0.5, 0.9)) + 0.7 * smooth(rng, N_TARGETS, 0.97) + 0.5 * smooth(rng, 1, 0.8)
    )
    Y = noise / noise.std()
    for family in (EFFECT, OTHER) if has_effect else ():
        course = families[family] @ rng.standard_normal((N_FEATURES, N_TARGETS))
        Y = Y + 0.7 * course / course.std()
    Q = np.linalg.qr(np.column_stack([np.ones(N_TRS), make_drifts(N_TRS, tr_s=TR_S, high_pass_s=128.0)]))[0]
    return Ks, zscore(Y - Q @ (Q.T @ Y)).reshape(LAYOUT.n_rows, -1).astype(np.float32)


def p_of(null: np.ndarray, observed: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the p value of the region (mean over targets), and of each target."""
    region = (1 + (null.mean(axis=1) >= observed.mean()).sum()) / (1 + len(null))
    return float(region), (1 + (null >= observed).sum(axis=0)) / (1 + len(null))


def p_values_of_set(seed: int, *, has_effect: bool) -> dict[int | str, tuple[float, np.ndarray]]:
    """Return p values of the joint model where nothing has an effect, else of the null family and of one with it."""
    Ks, Y = simulate(seed, has_effect=has_effect)
    pool = draw_pool([0, 1, 2], n_candidates=default_pool_size(3, 3, range(1, 8)))
    options = SearchOptions(n_workers=2)
    bests, _ = search_supports(Ks, Y, pool=pool, alphas=ALPHAS, folds=FOLDS, options=options)
    price = 4 / LAYOUT.n_rows
    predictors = Predictors(ChosenModels(Ks, pool.gammas, ALPHAS, FOLDS, n_workers=2))
    rows = draw_shifts(LAYOUT, n_nulls=N_NULLS, min_shift=10, seed=seed)
    if not has_effect:
        ((_, joint),) = best_of_subsets(bests, [7], price=price)
        return {"joint": p_of(score_nulls(predictors, joint, Y, rows), joint.r.mean(dim=0).numpy())}
    found: dict[int | str, tuple[float, np.ndarray]] = {}
    for family in (NULL, OTHER):
        with_it = best_with_group(bests, family, within=7, price=price)
        ((_, without),) = best_of_subsets(bests, [7 & ~(1 << family)], price=price)
        fixed = predict_chosen(predictors, without, Y)
        null = score_nulls(predictors, with_it, Y - fixed, rows, fixed=fixed)
        null -= score_nulls(predictors, without, Y - fixed, rows, fixed=fixed)
        found[family] = p_of(null, (with_it.r - without.r).mean(dim=0).numpy())
    return found


def assert_level(p: list[tuple[float, np.ndarray]]) -> None:
    low, high = binom.interval(0.95, len(p), 0.05)
    n_found = sum(region <= 0.05 for region, _ in p)
    assert low <= n_found <= high, f"{n_found} of {len(p)} null regions were found at 5 %"
    per_target = float(np.mean([targets <= 0.05 for _, targets in p]))
    # Targets of a set are not independent; their rate must be near the level all the same.
    assert 0.02 < per_target < 0.08, f"{per_target:.1%} of null targets were found at 5 %"


@pytest.mark.slow
def test_regions_that_follow_nothing_are_found_at_the_level_of_the_test() -> None:
    assert_level([p_values_of_set(seed, has_effect=False)["joint"] for seed in range(N_SETS)])


@pytest.mark.slow
def test_null_families_are_found_at_the_level_of_the_test_and_others_are_found() -> None:
    sets = [p_values_of_set(seed + 10_000, has_effect=True) for seed in range(N_SETS)]
    assert_level([found[NULL] for found in sets])
    assert np.mean([found[OTHER][0] <= 0.05 for found in sets]) > 0.95
