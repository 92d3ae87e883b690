"""The identity behind the solver: every residual equals that of a model that is refitted without the held-out rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from himalaya.backend import get_backend
from himalaya.scoring import correlation_score, r2_score, r2_score_split
from sklearn.kernel_ridge import KernelRidge

from brainsim.core.errors import InvalidValueError, NumericalError
from brainsim.core.runs import Fold, RunLayout, folds_by_block, folds_by_run
from brainsim.encoding.candidates import draw_pool
from brainsim.encoding.folds import (
    MAX_LOSS,
    batch_targets,
    factorise,
    index_folds,
    needs_float64,
    predict_fold,
    project,
    score_outer,
    training_weights,
)
from brainsim.encoding.himalaya_solver import himalaya_backend, search_with_himalaya
from brainsim.encoding.pairs import score_inner
from brainsim.encoding.search import SearchOptions, best_of_subsets, search_supports
from brainsim.encoding.split import split_scores
from brainsim.variance.lattice import subset_masks

UNEVEN = RunLayout(("a", "b", "c", "d"), (30, 41, 25, 36))
ALPHAS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


def make_kernels(n_bands: int, layout: RunLayout, *, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    kernels = []
    for _ in range(n_bands):
        X = rng.standard_normal((layout.n_rows, 60)) * np.arange(1, 61) ** -0.7
        for rows in layout.slices:
            X[rows] -= X[rows].mean(axis=0)
        K = X @ X.T
        kernels.append((K / np.trace(K) * len(K)).astype(np.float32))
    return kernels


def make_targets(kernels: Sequence[np.ndarray], layout: RunLayout, n: int, *, noise: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(1)
    Y = sum(np.linalg.cholesky(K + 1e-4 * np.eye(len(K))) @ rng.standard_normal((len(K), n)) for K in kernels)
    Y = Y / Y.std() + noise * rng.standard_normal(Y.shape)
    for rows in layout.slices:
        Y[rows] = (Y[rows] - Y[rows].mean(axis=0)) / Y[rows].std(axis=0)
    return Y.astype(np.float32)


def refit(K: np.ndarray, Y: np.ndarray, alpha: float, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    model = KernelRidge(alpha=alpha, kernel="precomputed").fit(K[np.ix_(train, train)], Y[train])
    predicted: np.ndarray = model.predict(K[np.ix_(test, train)])
    return predicted


def folds_of(kind: str) -> tuple[RunLayout, tuple[Fold, ...]]:
    if kind == "runs":
        return UNEVEN, folds_by_run(UNEVEN)
    one = RunLayout(("run-1",), (130,))
    # With a gap of 14 the excluded rows of neighbouring blocks overlap.
    return one, folds_by_block(one, n_blocks=5, gap=0 if kind == "blocks" else 14)


@pytest.mark.parametrize("kind", ["runs", "blocks", "blocks with gap"])
@pytest.mark.parametrize("n_targets", [3, 150])
def test_scores_equal_those_of_refitted_models(kind: str, n_targets: int) -> None:
    layout, folds = folds_of(kind)
    (K,) = make_kernels(1, layout)
    Y = make_targets([K], layout, n_targets)
    index = index_folds(folds, layout.n_rows)
    batch = batch_targets(Y, index)
    factor = factorise(torch.from_numpy(K), 2.0, index, n_targets=n_targets)
    projection = project(factor, batch.Y)
    outer = score_outer(projection, factor, batch, index)
    inner = score_inner(projection.C, factor, batch, index)
    rows = np.arange(layout.n_rows)
    for r, fold in enumerate(folds):
        predicted = refit(K, Y, 2.0, np.setdiff1d(rows, fold.excluded), fold.test)
        np.testing.assert_allclose(outer.r2[r], r2_score(Y[fold.test], predicted), atol=2e-5)
        np.testing.assert_allclose(outer.r[r], correlation_score(Y[fold.test], predicted), atol=2e-5)
        validation = []
        for s, other in enumerate(folds):
            if s != r:
                train = np.setdiff1d(rows, np.union1d(fold.excluded, other.excluded))
                validation.append(r2_score(Y[other.test], refit(K, Y, 2.0, train, other.test)))
        np.testing.assert_allclose(inner[r], np.mean(validation, axis=0), atol=2e-5)


def test_training_weights_predict_and_leave_the_test_run_out() -> None:
    (K,) = make_kernels(1, UNEVEN)
    Y = make_targets([K], UNEVEN, 4)
    index = index_folds(folds_by_run(UNEVEN), UNEVEN.n_rows)
    factor = factorise(torch.from_numpy(K), 1.0, index, n_targets=4)
    projection = project(factor, torch.from_numpy(Y))
    predictions = [predict_fold(projection, factor, fold) for fold in range(index.n_folds)]
    for fold, rows in enumerate(UNEVEN.slices):
        weights = training_weights(projection.C, factor, fold).numpy()
        assert not weights[rows].any()
        np.testing.assert_allclose(K[rows] @ weights, predictions[fold].numpy(), atol=1e-4)


def test_float32_is_taken_only_where_it_is_exact_enough() -> None:
    (K,) = make_kernels(1, UNEVEN)
    Y = make_targets([K], UNEVEN, 20)
    index = index_folds(folds_by_run(UNEVEN), UNEVEN.n_rows)
    edge = float(torch.finfo(torch.float32).eps) * UNEVEN.n_rows / MAX_LOSS
    assert needs_float64(edge * 0.99, UNEVEN.n_rows)
    assert not needs_float64(edge * 1.01, UNEVEN.n_rows)
    batch = batch_targets(Y, index)
    single = factorise(torch.from_numpy(K), edge * 1.01, index)
    double = factorise(torch.from_numpy(K).double(), edge * 1.01, index)
    a = score_outer(project(single, batch.Y), single, batch, index)
    b = score_outer(project(double, batch.Y), double, batch, index)
    assert float((a.r2 - b.r2).abs().max()) < 5e-5


@pytest.mark.parametrize("alpha", [1e3, 1e5, 1e8])
def test_correlation_is_exact_where_large_penalties_make_predictions_tiny(alpha: float) -> None:
    """As BOLD minus residual, float32 predictions at 1e8 are rounding, and correlate with the BOLD at 0.97."""
    K = make_white_kernel()
    Y = make_targets([np.eye(len(K), dtype=np.float32)], UNEVEN, 50)
    index = index_folds(folds_by_run(UNEVEN), UNEVEN.n_rows)
    batch = batch_targets(Y, index)
    factor = factorise(torch.from_numpy(K), alpha, index)
    assert factor.dtype == torch.float32
    r = score_outer(project(factor, batch.Y), factor, batch, index).r
    rows = np.arange(UNEVEN.n_rows)
    for fold, test in enumerate(UNEVEN.slices):
        predicted = refit(K.astype(float), Y.astype(float), alpha, np.delete(rows, test), rows[test])
        np.testing.assert_allclose(r[fold], correlation_score(Y[test].astype(float), predicted), atol=1e-5)


def make_white_kernel() -> np.ndarray:
    """Return a kernel of many features, whose entries off the diagonal are small."""
    X = np.random.default_rng(3).standard_normal((UNEVEN.n_rows, 20_000)).astype(np.float32)
    K = X @ X.T
    return (K / np.trace(K) * len(K)).astype(np.float32)


def test_target_that_never_varies_in_a_fold_is_left_unfitted() -> None:
    (K,) = make_kernels(1, UNEVEN)
    Y = make_targets([K], UNEVEN, 3)
    Y[UNEVEN.slices[1], 1] = 0
    index = index_folds(folds_by_run(UNEVEN), UNEVEN.n_rows)
    pool = draw_pool([0], n_candidates=1)
    bests, _ = search_supports([K], Y, pool=pool, alphas=ALPHAS, folds=index)
    split = split_scores([K], Y, gammas=pool.gammas, alphas=ALPHAS, best=bests[1], folds=index)
    np.testing.assert_array_equal(torch.isfinite(bests[1].r2.mean(dim=0)).numpy(), [True, False, True])
    np.testing.assert_array_equal(np.isfinite(split.r2[0]), [True, False, True])


def test_kernel_that_is_none_is_refused() -> None:
    index = index_folds(folds_by_run(UNEVEN), UNEVEN.n_rows)
    with pytest.raises(NumericalError, match="Cholesky"):
        factorise(-5 * torch.eye(UNEVEN.n_rows), 1.0, index)


@pytest.mark.parametrize(
    "folds",
    [
        folds_by_run(UNEVEN)[:2],
        (*folds_by_run(UNEVEN)[:3], Fold("again", np.arange(5), np.arange(5))),
        (*folds_by_run(UNEVEN)[:3], Fold("far", np.arange(500, 510), np.arange(500, 510))),
        (*folds_by_run(UNEVEN)[:3], Fold("torn", np.array([100, 105]), np.array([100, 105]))),
    ],
)
def test_impossible_folds_are_named(folds: tuple[Fold, ...]) -> None:
    with pytest.raises(InvalidValueError):
        index_folds(folds, UNEVEN.n_rows)


def test_search_equals_himalayas_on_every_target() -> None:
    layout = RunLayout(tuple("abcde"), (40,) * 5)
    Ks = make_kernels(3, layout)
    Y = make_targets(Ks[:2], layout, 30)
    folds = folds_by_run(layout)
    pool = draw_pool([0, 0, 0], n_candidates=12)
    index = index_folds(folds, layout.n_rows)
    bests, _ = search_supports(Ks, Y, pool=pool, alphas=ALPHAS, folds=index, options=SearchOptions(exhaustive=True))
    ours = bests[1]
    theirs = search_with_himalaya(Ks, Y, gammas=pool.gammas, alphas=ALPHAS, folds=folds)
    np.testing.assert_allclose(ours.r2, theirs.r2, atol=1e-4)
    np.testing.assert_allclose(ours.r, theirs.r, atol=1e-4)
    np.testing.assert_allclose(ours.inner, theirs.inner, atol=1e-4)
    same = (ours.candidate == theirs.candidate) & (ours.alpha == theirs.alpha)
    assert float(same.float().mean()) > 0.99  # all but ties


def test_climbing_in_alpha_finds_what_the_whole_grid_finds() -> None:
    Ks = make_kernels(3, UNEVEN)
    Y = make_targets(Ks[:2], UNEVEN, 400)
    pool = draw_pool([0, 1, 2], n_candidates=12)
    index = index_folds(folds_by_run(UNEVEN), UNEVEN.n_rows)
    grid = tuple(np.logspace(-2, 5, 15))
    found = [
        search_supports(Ks, Y, pool=pool, alphas=grid, folds=index, options=SearchOptions(exhaustive=exhaustive))[0]
        for exhaustive in (True, False)
    ]
    for (_, whole), (_, climbed) in zip(*(best_of_subsets(f, subset_masks(3)) for f in found), strict=True):
        same = (whole.candidate == climbed.candidate) & (whole.alpha == climbed.alpha)
        assert float(same.float().mean()) > 0.995
        lost = whole.inner - climbed.inner
        assert float(lost.min()) > -1e-5
        assert float(lost.mean()) < 1e-4
        # The few that differ are rare second peaks, often of noise: they may be better or worse on the test run.
        assert float(((whole.r2 - climbed.r2).abs() > 1e-3).float().mean()) < 0.005


def test_number_of_workers_changes_no_bit() -> None:
    Ks = make_kernels(3, UNEVEN)
    Y = make_targets(Ks, UNEVEN, 25)
    pool = draw_pool([0, 1, 2], n_candidates=20)
    index = index_folds(folds_by_run(UNEVEN), UNEVEN.n_rows)
    one, four = (
        search_supports(Ks, Y, pool=pool, alphas=ALPHAS, folds=index, options=SearchOptions(n_workers=n))[0]
        for n in (1, 4)
    )
    for support, best in one.items():
        for name in ("inner", "r2", "r", "candidate", "alpha"):
            np.testing.assert_array_equal(getattr(best, name), getattr(four[support], name))


def test_selection_score_never_falls_from_a_subset_to_a_larger_one() -> None:
    Ks = make_kernels(4, UNEVEN)
    Y = make_targets(Ks[:2], UNEVEN, 20)
    pool = draw_pool([0, 1, 2, 3], n_candidates=80)
    index = index_folds(folds_by_run(UNEVEN), UNEVEN.n_rows)
    bests, _ = search_supports(Ks, Y, pool=pool, alphas=ALPHAS, folds=index)
    by_mask = dict(best_of_subsets(bests, subset_masks(4)))
    for small, a in by_mask.items():
        for large, b in by_mask.items():
            if small & large == small:
                assert bool((b.inner >= a.inner).all())


@pytest.mark.parametrize("exhaustive", [True, False])
def test_permuting_the_test_run_changes_nothing_that_is_chosen_for_it(exhaustive: bool) -> None:
    Ks = make_kernels(3, UNEVEN)
    Y = make_targets(Ks[:2], UNEVEN, 200, noise=2.0)
    pool = draw_pool([0, 1, 2], n_candidates=12)
    index = index_folds(folds_by_run(UNEVEN), UNEVEN.n_rows)
    options = SearchOptions(exhaustive=exhaustive)
    before = dict(
        best_of_subsets(
            search_supports(Ks, Y, pool=pool, alphas=ALPHAS, folds=index, options=options)[0], subset_masks(3)
        )
    )
    for fold, rows in enumerate(UNEVEN.slices):
        shuffled = Y.copy()
        shuffled[rows] = np.random.default_rng(fold).permutation(Y[rows])
        bests, _ = search_supports(Ks, shuffled, pool=pool, alphas=ALPHAS, folds=index, options=options)
        for mask, best in best_of_subsets(bests, subset_masks(3)):
            # Ties within rounding may fall either way: what is chosen must score the same as before.
            np.testing.assert_allclose(best.inner[fold], before[mask].inner[fold], atol=1e-5)
            same = (best.candidate[fold] == before[mask].candidate[fold]) & (
                best.alpha[fold] == before[mask].alpha[fold]
            )
            assert bool(same.all())
            assert not torch.equal(best.r2[fold], before[mask].r2[fold])


def test_split_scores_sum_to_the_joint_score_and_equal_himalayas() -> None:
    Ks = make_kernels(2, UNEVEN)
    Y = make_targets(Ks, UNEVEN, 15)
    index = index_folds(folds_by_run(UNEVEN), UNEVEN.n_rows)
    pool = draw_pool([0, 0], n_candidates=1)
    bests, _ = search_supports(Ks, Y, pool=pool, alphas=(2.0,), folds=index, options=SearchOptions(exhaustive=True))
    gammas = pool.gammas
    split = split_scores(Ks, Y, gammas=gammas, alphas=(2.0,), best=bests[1], folds=index)
    np.testing.assert_allclose(split.r2.sum(axis=0), bests[1].r2.mean(dim=0), atol=1e-5)
    np.testing.assert_allclose(split.weight.sum(axis=0), 1, atol=1e-6)
    chosen = gammas[bests[1].candidate.numpy()]  # (n_folds, n_targets, n_bands)
    expected = np.zeros((2, 15))
    for fold, rows in enumerate(UNEVEN.slices):
        train = np.setdiff1d(np.arange(UNEVEN.n_rows), np.arange(UNEVEN.n_rows)[rows])
        for target in range(15):
            gamma = chosen[fold, target]
            K = gamma[0] * Ks[0] + gamma[1] * Ks[1]
            dual = np.linalg.solve(K[np.ix_(train, train)] + 2.0 * np.eye(len(train)), Y[train, target])
            parts = np.stack([g * (k[rows][:, train] @ dual) for g, k in zip(gamma, Ks, strict=True)])
            expected[:, target] += r2_score_split(Y[rows, [target]].reshape(-1, 1), parts[..., None])[:, 0] / 4
    np.testing.assert_allclose(split.r2, expected, atol=2e-4)


def test_null_model_scores_nothing_through_the_default_search() -> None:
    """Both sides autocorrelated, unrelated: what leaks in shuffled cross-validation (+0.55) is not there."""
    layout = RunLayout(tuple(f"run-{i}" for i in range(8)), (60,) * 8)
    rng = np.random.default_rng(5)

    def smooth(n: int) -> np.ndarray:
        runs = []
        for _ in range(8):
            x = rng.standard_normal((90, n))
            for t in range(1, 90):
                x[t] += 0.9 * x[t - 1]
            runs.append((x[30:] - x[30:].mean(axis=0)) / x[30:].std(axis=0))
        return np.concatenate(runs)

    Ks = []
    for _ in range(2):
        X = smooth(40)
        K = X @ X.T
        Ks.append((K / np.trace(K) * len(K)).astype(np.float32))
    Y = smooth(600).astype(np.float32)
    index = index_folds(folds_by_run(layout), layout.n_rows)
    alphas = tuple(np.logspace(-2, 5, 15))
    bests, _ = search_supports(Ks, Y, pool=draw_pool([0, 1], n_candidates=8), alphas=alphas, folds=index)
    best = dict(best_of_subsets(bests, [1, 2, 3]))
    assert abs(float(best[3].r.mean())) < 0.01
    for mask in (1, 2):  # a null family's unique part: a useless family costs a little, and never seems to help
        assert -0.04 < float((best[3].r2 - best[mask].r2).mean()) < 0.005


def test_himalayas_backend_is_put_back_after_an_exception() -> None:
    before = get_backend().name
    with pytest.raises(RuntimeError), himalaya_backend("torch"):
        raise RuntimeError
    assert get_backend().name == before
