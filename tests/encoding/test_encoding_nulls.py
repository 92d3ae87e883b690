"""Null data sets: scored as if every model were fitted anew, shifted so that runs keep what they are."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
from encoding_data import ALPHAS, UNEVEN, make_kernels, make_targets
from himalaya.scoring import correlation_score
from sklearn.kernel_ridge import KernelRidge

from brainsim.core.errors import InvalidValueError
from brainsim.core.runs import folds_by_block, folds_by_run
from brainsim.encoding.best import SupportBest
from brainsim.encoding.candidates import draw_pool
from brainsim.encoding.competition import best_of_subsets, best_with_group
from brainsim.encoding.folds import index_folds
from brainsim.encoding.nulls import ChosenModels, Predictors, draw_shifts, predict_chosen, score_nulls
from brainsim.encoding.search import SearchOptions, search_supports
from brainsim.encoding.split import split_scores

N_TARGETS = 12
AS_IT_IS = np.arange(UNEVEN.n_rows)[None, :]


def make_problem(kind: str = "runs") -> tuple[Predictors, SupportBest, SupportBest, np.ndarray]:
    """Return the models of two families, the best with the second, the best without it, and the BOLD."""
    Ks = make_kernels(2, UNEVEN)
    Y = make_targets(Ks, UNEVEN, N_TARGETS)
    folds = folds_by_run(UNEVEN) if kind == "runs" else folds_by_block(UNEVEN, n_blocks=5, gap=3)
    index = index_folds(folds, UNEVEN.n_rows)
    pool = draw_pool([0, 1], n_candidates=6)
    bests, _ = search_supports(Ks, Y, pool=pool, alphas=ALPHAS, folds=index)
    ((_, without),) = best_of_subsets(bests, [1])
    models = ChosenModels(Ks, pool.gammas, ALPHAS, index)
    return Predictors(models), best_with_group(bests, 1, within=3), without, Y


def refit(predictors: Predictors, best: SupportBest, Y: np.ndarray) -> np.ndarray:
    """Return the cross-validated prediction of the chosen models, each fitted on its own."""
    models = predictors.models
    predicted, rows = np.zeros(Y.shape), np.arange(len(Y))
    for fold, (test, excluded) in enumerate(zip(models.folds.test, models.folds.excluded, strict=True)):
        train, held = np.delete(rows, slice(*excluded)), rows[slice(*test)]
        for target in range(Y.shape[1]):
            gamma = models.gammas[int(best.candidate[fold, target])]
            K = sum(g * np.asarray(k, float) for g, k in zip(gamma, models.Ks, strict=True))
            ridge = KernelRidge(alpha=models.alphas[int(best.alpha[fold, target])], kernel="precomputed")
            ridge.fit(K[np.ix_(train, train)], Y[train, target])
            predicted[held, target] = ridge.predict(K[np.ix_(held, train)])
    return predicted


def correlate(predictors: Predictors, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    folds = predictors.models.folds.test
    scores: np.ndarray = np.mean([correlation_score(a[slice(*test)], b[slice(*test)]) for test in folds], axis=0)
    return scores


@pytest.mark.parametrize("kind", ["runs", "blocks with gap"])
def test_null_scores_equal_those_of_refitted_models(kind: str) -> None:
    predictors, full, reduced, Y = make_problem(kind)
    rows = draw_shifts(UNEVEN, n_nulls=2, min_shift=4)
    null = score_nulls(predictors, full, Y, rows)
    fixed = predict_chosen(predictors, reduced, Y)
    partly = score_nulls(predictors, full, Y - fixed, rows, fixed=fixed)
    np.testing.assert_allclose(fixed, refit(predictors, reduced, Y), atol=1e-3)
    for index, take in enumerate(rows):
        np.testing.assert_allclose(
            null[index], correlate(predictors, Y[take], refit(predictors, full, Y[take])), atol=1e-3
        )
        mixed = fixed + (Y - fixed)[take]
        np.testing.assert_allclose(
            partly[index], correlate(predictors, mixed, refit(predictors, full, mixed)), atol=1e-3
        )


def test_without_a_shift_nulls_are_the_observed_scores() -> None:
    predictors, full, _, Y = make_problem()
    np.testing.assert_allclose(score_nulls(predictors, full, Y, AS_IT_IS)[0], full.r.mean(dim=0), atol=1e-4)


def test_runs_are_shifted_on_their_own_by_no_less_than_asked() -> None:
    rows = draw_shifts(UNEVEN, n_nulls=500, min_shift=5)
    for part in UNEVEN.slices:
        n = part.stop - part.start
        assert (np.sort(rows[:, part], axis=1) == np.arange(part.start, part.stop)).all()
        shifts = (np.arange(n) - (rows[:, part] - part.start)) % n
        assert (shifts == shifts[:, :1]).all()
        assert sorted(set(shifts[:, 0])) == list(range(5, n - 5 + 1))
    np.testing.assert_array_equal(rows, draw_shifts(UNEVEN, n_nulls=500, min_shift=5))
    assert (rows != draw_shifts(UNEVEN, n_nulls=500, min_shift=5, seed=1)).any()


def test_workers_and_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    predictors, full, _, Y = make_problem()
    rows = draw_shifts(UNEVEN, n_nulls=7, min_shift=4)
    once = score_nulls(predictors, full, Y, rows)
    parallel = Predictors(replace(predictors.models, n_workers=3))
    np.testing.assert_array_equal(score_nulls(parallel, full, Y, rows), once)
    monkeypatch.setattr("brainsim.encoding.nulls.BLOCK_BYTES", 1)
    np.testing.assert_allclose(score_nulls(predictors, full, Y, rows), once, atol=1e-4)


def test_targets_without_a_model_stay_nan() -> None:
    predictors, full, _, Y = make_problem()
    full.candidate[:, 3] = -1
    null = score_nulls(predictors, full, Y, draw_shifts(UNEVEN, n_nulls=2, min_shift=4))
    assert np.isnan(null[:, 3]).all()
    assert np.isfinite(np.delete(null, 3, axis=1)).all()


def test_shifts_that_a_run_is_too_short_for_are_refused() -> None:
    with pytest.raises(InvalidValueError, match="shortest run has 25 TRs"):
        draw_shifts(UNEVEN, n_nulls=5, min_shift=13)


def test_the_short_cut_gives_the_p_values_of_nulls_that_search_again() -> None:
    """The same shifts, with hyperparameters kept and with the whole nested search for every null data set."""
    predictors, _, _, Y = make_problem()
    models = predictors.models
    half = N_TARGETS // 2
    Y = Y.copy()
    Y[:, :half] = Y[draw_shifts(UNEVEN, n_nulls=1, min_shift=9, seed=9)[0], :half]  # null targets beside real ones
    pool = draw_pool([0, 0], n_candidates=6)
    models = replace(models, gammas=pool.gammas)
    bests, _ = search_supports(models.Ks, Y, pool=pool, alphas=ALPHAS, folds=models.folds)
    observed = bests[1].r.mean(dim=0).numpy()
    rows = draw_shifts(UNEVEN, n_nulls=60, min_shift=4, seed=3)
    kept = score_nulls(Predictors(models), bests[1], Y, rows)
    # All null data sets are searched as further targets.
    many = np.concatenate([Y[take] for take in rows], axis=1)
    again = search_supports(models.Ks, many, pool=pool, alphas=ALPHAS, folds=models.folds)[0][1]
    searched = again.r.mean(dim=0).numpy().reshape(len(rows), N_TARGETS)
    p_kept, p_searched = ((1 + (null >= observed).sum(axis=0)) / (1 + len(rows)) for null in (kept, searched))
    assert (p_kept[half:] <= 0.05).sum() >= 3
    assert float(np.abs(p_kept - p_searched).max()) < 0.1
    assert np.corrcoef(p_kept, p_searched)[0, 1] > 0.98
    # The same spread: a permutation test with either says the same of any score.
    assert 0.8 < float(kept.std() / searched.std()) < 1.25


class _Kernels(list[np.ndarray]):
    """Kernels that can be watched."""


def test_kernels_go_when_a_task_is_done() -> None:
    """A search, a split and nulls leave no circle behind, which would hold a task's kernels through the next."""
    Ks = _Kernels(make_kernels(2, UNEVEN))
    alive = weakref.ref(Ks)
    Y = make_targets(Ks, UNEVEN, N_TARGETS)
    index = index_folds(folds_by_run(UNEVEN), UNEVEN.n_rows)
    pool = draw_pool([0, 1], n_candidates=6)
    gc.collect()
    gc.disable()
    try:
        bests, _ = search_supports(Ks, Y, pool=pool, alphas=ALPHAS, folds=index, options=SearchOptions(n_workers=2))
        best = best_with_group(bests, 1, within=3)
        split_scores(Ks, Y, gammas=pool.gammas, alphas=ALPHAS, best=best, folds=index, n_workers=2)
        predictors = Predictors(ChosenModels(Ks, pool.gammas, ALPHAS, index, n_workers=2))
        score_nulls(predictors, best, Y, draw_shifts(UNEVEN, n_nulls=3, min_shift=4))
        del Ks, predictors
        assert alive() is None
    finally:
        gc.enable()
