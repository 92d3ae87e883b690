"""Null data sets: scored as if every model were fitted anew, shifted so that runs keep what they are."""

from __future__ import annotations

import numpy as np
import pytest
from encoding_data import ALPHAS, UNEVEN, make_kernels, make_targets
from himalaya.scoring import r2_score
from sklearn.kernel_ridge import KernelRidge

from brainsim.core.errors import InvalidValueError
from brainsim.core.runs import folds_by_block, folds_by_run
from brainsim.encoding.best import SupportBest
from brainsim.encoding.candidates import draw_pool
from brainsim.encoding.folds import FoldIndex, index_folds
from brainsim.encoding.nulls import ChosenModels, draw_shifts, predict_chosen, score_nulls
from brainsim.encoding.search import search_supports

N_TARGETS = 12


def make_problem(kind: str = "runs") -> tuple[ChosenModels, SupportBest, np.ndarray, FoldIndex]:
    Ks = make_kernels(2, UNEVEN)
    Y = make_targets(Ks, UNEVEN, N_TARGETS)
    folds = folds_by_run(UNEVEN) if kind == "runs" else folds_by_block(UNEVEN, n_blocks=5, gap=3)
    index = index_folds(folds, UNEVEN.n_rows)
    pool = draw_pool([0, 0], n_candidates=6)
    bests, _ = search_supports(Ks, Y, pool=pool, alphas=ALPHAS, folds=index)
    return ChosenModels(Ks, pool.gammas, ALPHAS, index), bests[1], Y, index


def refit(models: ChosenModels, best: SupportBest, Y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return test R2 (mean over folds) and prediction of the chosen models, each fitted on its own."""
    scores, predicted = np.zeros(Y.shape[1]), np.zeros(Y.shape)
    rows = np.arange(len(Y))
    for fold, (test, excluded) in enumerate(zip(models.folds.test, models.folds.excluded, strict=True)):
        train = np.delete(rows, slice(*excluded))
        held = rows[slice(*test)]
        for target in range(Y.shape[1]):
            gamma = models.gammas[int(best.candidate[fold, target])]
            K = sum(g * np.asarray(k, float) for g, k in zip(gamma, models.Ks, strict=True))
            ridge = KernelRidge(alpha=models.alphas[int(best.alpha[fold, target])], kernel="precomputed")
            fitted = ridge.fit(K[np.ix_(train, train)], Y[train, target]).predict(K[np.ix_(held, train)])
            predicted[held, target] = fitted
            scores[target] += r2_score(Y[held, target][:, None], fitted[:, None])[0] / models.folds.n_folds
    return scores, predicted


@pytest.mark.parametrize("kind", ["runs", "blocks with gap"])
def test_null_scores_equal_those_of_refitted_models(kind: str) -> None:
    models, best, Y, _ = make_problem(kind)
    rows = draw_shifts(UNEVEN, n_nulls=3, min_shift=4)
    null = score_nulls(models, best, Y, rows)
    fixed = predict_chosen(models, best, Y)
    partly = score_nulls(models, best, Y - fixed, rows, fixed=fixed)
    np.testing.assert_allclose(fixed, refit(models, best, Y)[1], atol=1e-3)
    for index, take in enumerate(rows):
        np.testing.assert_allclose(null[index], refit(models, best, Y[take])[0], atol=1e-4)
        np.testing.assert_allclose(partly[index], refit(models, best, fixed + (Y - fixed)[take])[0], atol=1e-4)


def test_without_a_shift_nulls_are_the_observed_scores() -> None:
    models, best, Y, _ = make_problem()
    unshifted = np.arange(UNEVEN.n_rows)[None, :]
    np.testing.assert_allclose(score_nulls(models, best, Y, unshifted)[0], best.r2.mean(dim=0), atol=1e-5)


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
    models, best, Y, _ = make_problem()
    rows = draw_shifts(UNEVEN, n_nulls=7, min_shift=4)
    once = score_nulls(models, best, Y, rows)
    parallel = ChosenModels(models.Ks, models.gammas, models.alphas, models.folds, n_workers=3)
    np.testing.assert_array_equal(score_nulls(parallel, best, Y, rows), once)
    monkeypatch.setattr("brainsim.encoding.nulls.BLOCK_BYTES", 1)
    np.testing.assert_allclose(score_nulls(models, best, Y, rows), once, atol=1e-6)


def test_targets_without_a_model_stay_nan() -> None:
    models, best, Y, _ = make_problem()
    best.candidate[:, 3] = -1
    null = score_nulls(models, best, Y, draw_shifts(UNEVEN, n_nulls=2, min_shift=4))
    assert np.isnan(null[:, 3]).all()
    assert np.isfinite(np.delete(null, 3, axis=1)).all()


def test_shifts_that_a_run_is_too_short_for_are_refused() -> None:
    with pytest.raises(InvalidValueError, match="shortest run has 25 TRs"):
        draw_shifts(UNEVEN, n_nulls=5, min_shift=13)


def test_the_short_cut_gives_the_p_values_of_nulls_that_search_again() -> None:
    """The same shifts, with hyperparameters kept and with the whole nested search for every null data set."""
    models, best, Y, index = make_problem()
    rng = np.random.default_rng(4)
    half = N_TARGETS // 2
    Y = Y.copy()
    Y[:, :half] = Y[draw_shifts(UNEVEN, n_nulls=1, min_shift=9, seed=9)[0], :half]  # null targets beside real ones
    pool = draw_pool([0, 0], n_candidates=6)
    bests, _ = search_supports(models.Ks, Y, pool=pool, alphas=ALPHAS, folds=index)
    observed = bests[1].r2.mean(dim=0).numpy()
    rows = draw_shifts(UNEVEN, n_nulls=60, min_shift=4, seed=int(rng.integers(100)))
    kept = score_nulls(models, bests[1], Y, rows)
    # All null data sets are searched as further targets.
    again = search_supports(
        models.Ks, np.concatenate([Y[take] for take in rows], axis=1), pool=pool, alphas=ALPHAS, folds=index
    )[0][1]
    searched = again.r2.mean(dim=0).numpy().reshape(len(rows), N_TARGETS)
    p_kept = (1 + (kept >= observed).sum(axis=0)) / (1 + len(rows))
    p_searched = (1 + (searched >= observed).sum(axis=0)) / (1 + len(rows))
    # Targets that one finds, the other finds; null targets differ by what a chosen alpha makes of noise.
    np.testing.assert_array_equal(p_kept <= 0.05, p_searched <= 0.05)
    assert np.corrcoef(p_kept, p_searched)[0, 1] > 0.9
    assert (p_kept[half:] <= 0.05).any()
