"""The identity behind the solver: every residual equals that of a model that is refitted without the held-out rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from encoding_data import ALPHAS, UNEVEN, make_kernels, make_targets
from himalaya.backend import get_backend
from himalaya.scoring import correlation_score, r2_score, r2_score_split
from sklearn.kernel_ridge import KernelRidge

from brainsim.core.errors import InvalidValueError, NumericalError
from brainsim.core.runs import Fold, RunLayout, folds_by_block, folds_by_run
from brainsim.encoding import pairs
from brainsim.encoding.candidates import draw_pool
from brainsim.encoding.folds import (
    MAX_LOSS,
    batch_targets,
    factorise,
    factorise_together,
    index_folds,
    needs_float64,
    predict_fold,
    project,
    score_outer,
    training_weights,
)
from brainsim.encoding.himalaya_solver import himalaya_backend
from brainsim.encoding.pairs import score_inner
from brainsim.encoding.search import SearchOptions, search_supports
from brainsim.encoding.split import SplitScores, split_scores


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
                seen = np.setdiff1d(other.test, fold.excluded)  # rows near the tested fold validate nothing
                validation.append(r2_score(Y[seen], refit(K, Y, 2.0, train, seen)))
        np.testing.assert_allclose(inner[r], np.mean(validation, axis=0), atol=2e-5)


def test_gap_that_swallows_a_neighbouring_block_is_refused() -> None:
    one = RunLayout(("run-1",), (130,))
    with pytest.raises(InvalidValueError, match="leaves 1 rows of block-1 to validate on"):
        index_folds(folds_by_block(one, n_blocks=10, gap=12), 130)


@pytest.mark.parametrize("kind", ["runs", "blocks", "blocks with gap"])
def test_pairs_solved_together_score_as_one_by_one(kind: str) -> None:
    """What a GPU does, tried on the CPU: pairs of unequal length are padded."""
    layout, folds = folds_of(kind)
    (K,) = make_kernels(1, layout)
    Y = make_targets([K], layout, 20)
    index = index_folds(folds, layout.n_rows)
    batch = batch_targets(Y, index)
    factor = factorise(torch.from_numpy(K), 2.0, index, n_targets=20)
    C = project(factor, batch.Y).C
    one_by_one = score_inner(C, factor, batch, index)
    together = 1 - pairs.loss_together(C, factor, batch, index) / (index.n_folds - 1)
    np.testing.assert_allclose(together, one_by_one, atol=1e-5)
    # As a GPU factorises: all folds as one batch.
    batched = factorise_together(torch.from_numpy(K) + 2 * torch.eye(index.n_rows), index)
    loss = pairs.loss_together(project(batched, batch.Y).C, batched, batch, index)
    np.testing.assert_allclose(1 - loss / (index.n_folds - 1), one_by_one, atol=1e-5)
    expected, found = (score_outer(project(f, batch.Y), f, batch, index) for f in (factor, batched))
    np.testing.assert_allclose(found.r2, expected.r2, atol=1e-5)
    np.testing.assert_allclose(found.r, expected.r, atol=1e-5)


def test_only_what_is_asked_for_is_validated() -> None:
    (K,) = make_kernels(1, UNEVEN)
    Y = make_targets([K], UNEVEN, 20)
    index = index_folds(folds_by_run(UNEVEN), UNEVEN.n_rows)
    batch = batch_targets(Y, index)
    factor = factorise(torch.from_numpy(K), 2.0, index, n_targets=20)
    C = project(factor, batch.Y).C
    wanted = torch.from_numpy(np.random.default_rng(0).random((4, 20)) < 0.3)
    whole, part = score_inner(C, factor, batch, index), score_inner(C, factor, batch, index, wanted)
    np.testing.assert_allclose(part[wanted], whole[wanted], atol=1e-6)


def test_penalty_that_even_float64_loses_is_refused() -> None:
    (K,) = make_kernels(1, UNEVEN)
    index = index_folds(folds_by_run(UNEVEN), UNEVEN.n_rows)
    with pytest.raises(NumericalError, match="float64"):
        factorise(torch.from_numpy(K), 1e-12, index)


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


def test_split_in_many_blocks_gives_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Ks = make_kernels(4, UNEVEN)
    Y = make_targets(Ks[:2], UNEVEN, 40)
    index = index_folds(folds_by_run(UNEVEN), UNEVEN.n_rows)
    pool = draw_pool([0] * 4, n_candidates=12)
    bests, _ = search_supports(Ks, Y, pool=pool, alphas=ALPHAS, folds=index)

    def split(kernels: Sequence[np.ndarray], n_workers: int) -> SplitScores:
        return split_scores(
            kernels, Y, gammas=pool.gammas, alphas=ALPHAS, best=bests[1], folds=index, n_workers=n_workers
        )

    whole = split(Ks, 1)
    monkeypatch.setattr("brainsim.encoding.split.BLOCK_BYTES", 1)
    monkeypatch.setattr("brainsim.encoding.split.JOB_BYTES", 4 * UNEVEN.n_rows * 4 * 10)
    blocked, beside = split(Ks, 1), split(Ks, 3)
    for name in ("r2", "weight"):
        np.testing.assert_allclose(getattr(blocked, name), getattr(whole, name), atol=1e-6)
        np.testing.assert_array_equal(getattr(beside, name), getattr(blocked, name))
    joint = bests[1].r2.mean(dim=0)
    np.testing.assert_allclose(whole.r2.sum(axis=0), joint, atol=2e-5)


def test_himalayas_backend_is_put_back_after_an_exception() -> None:
    before = get_backend().name
    with pytest.raises(RuntimeError), himalaya_backend("torch"):
        raise RuntimeError
    assert get_backend().name == before
