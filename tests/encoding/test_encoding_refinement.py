"""Refinement: better off the pool's lattice, never worse, seeded, and blind to each fold's test run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from encoding_data import make_kernels

from brainsim.core.errors import InvalidValueError
from brainsim.core.runs import RunLayout, folds_by_run
from brainsim.encoding.best import SearchLog, SupportBest
from brainsim.encoding.candidates import CandidatePool, draw_pool
from brainsim.encoding.competition import best_of_subsets
from brainsim.encoding.folds import FoldIndex, index_folds
from brainsim.encoding.refinement import Refined, RefineOptions, refine
from brainsim.encoding.search import search_supports

LAYOUT = RunLayout(("a", "b", "c", "d", "e"), (40, 40, 44, 36, 40))
GROUPS = [0, 0, 0, 1, 1, 2]
MASKS = [1, 2, 4, 3, 5, 6, 7]
ALPHAS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
WEIGHTS = np.array([0.62, 0.0, 0.03, 0.0, 0.35, 0.0])


@pytest.fixture(scope="module")
def folds() -> FoldIndex:
    return index_folds(folds_by_run(LAYOUT), LAYOUT.n_rows)


@pytest.fixture(scope="module")
def kernels() -> list[np.ndarray]:
    return make_kernels(len(GROUPS), LAYOUT)


@pytest.fixture(scope="module")
def Y(kernels: list[np.ndarray]) -> np.ndarray:
    """Targets of one mixture that no pool holds, and 5 of noise."""
    rng = np.random.default_rng(2)
    K = sum(w * k for w, k in zip(WEIGHTS, kernels, strict=True))
    Y = np.linalg.cholesky(K + 1e-4 * np.eye(len(K))) @ rng.standard_normal((len(K), 25))
    Y = Y / Y.std(axis=0) + 0.5 * rng.standard_normal(Y.shape)
    Y = np.concatenate([Y, rng.standard_normal((len(K), 5))], axis=1)
    return standardise(Y)


def standardise(Y: np.ndarray) -> np.ndarray:
    Y = Y.copy()
    for rows in LAYOUT.slices:
        Y[rows] = (Y[rows] - Y[rows].mean(axis=0)) / Y[rows].std(axis=0)
    return Y.astype(np.float32)


@pytest.fixture(scope="module")
def pool() -> CandidatePool:
    return draw_pool(GROUPS, n_candidates=16)


def search_and_refine(
    kernels: list[np.ndarray], Y: np.ndarray, pool: CandidatePool, folds: FoldIndex, **options: Any
) -> tuple[dict[int, SupportBest], Refined]:
    bests, _ = search_supports(kernels, Y, pool=pool, alphas=ALPHAS, folds=folds)
    refined = refine(
        kernels,
        Y,
        bests,
        pool,
        band_groups=GROUPS,
        masks=MASKS,
        alphas=ALPHAS,
        folds=folds,
        refinement=RefineOptions(**{"rounds": 2, "n_parents": 4, "n_children": 4, **options}),
    )
    return bests, refined


@pytest.fixture(scope="module")
def found(
    kernels: list[np.ndarray], Y: np.ndarray, pool: CandidatePool, folds: FoldIndex
) -> tuple[dict[int, SupportBest], Refined]:
    return search_and_refine(kernels, Y, pool, folds)


def joint(bests: dict[int, SupportBest]) -> SupportBest:
    return dict(best_of_subsets(bests, [7]))[7]


def test_scores_rise_and_the_weights_come_nearer(found: tuple[dict[int, SupportBest], Refined]) -> None:
    before, (bests, pool, _, gain) = found
    assert gain.inner_after > gain.inner_before + 0.003
    assert gain.r2_after > gain.r2_before
    distance = [
        np.abs(pool.gammas[joint(b).candidate[:, :25].numpy()] - WEIGHTS).sum(-1).mean() for b in (before, bests)
    ]
    assert distance[1] < distance[0]


def test_no_subset_falls(found: tuple[dict[int, SupportBest], Refined]) -> None:
    before, refined = found
    for (_, a), (_, b) in zip(*(best_of_subsets(bests, MASKS) for bests in (before, refined.bests)), strict=True):
        assert (b.inner >= a.inner).all()


def test_candidates_keep_their_numbers_and_new_ones_have_the_bests_of_their_own(
    found: tuple[dict[int, SupportBest], Refined], pool: CandidatePool
) -> None:
    _, (bests, stacked, log, gain) = found
    np.testing.assert_array_equal(stacked.gammas[: pool.n_candidates], pool.gammas)
    assert stacked.n_candidates == pool.n_candidates + gain.n_candidates == pool.n_candidates + log.n_candidates_done
    np.testing.assert_allclose(stacked.gammas.sum(axis=1), 1, atol=1e-6)
    assert len(np.unique(stacked.gammas, axis=0)) == stacked.n_candidates
    assert stacked.allowed is not None
    for support, best in bests.items():
        chosen = best.candidate.numpy()
        assert (stacked.supports[chosen[chosen >= 0]] == support).all()
        for fold, candidates in enumerate(chosen):
            assert stacked.allowed[candidates[candidates >= 0], fold].all()
    for gamma, support in zip(stacked.gammas, stacked.supports, strict=True):
        assert {GROUPS[band] for band in np.flatnonzero(gamma)} == {g for g in range(3) if support >> g & 1}


def test_children_of_several_groups_come_with_their_shadows(
    found: tuple[dict[int, SupportBest], Refined], pool: CandidatePool
) -> None:
    stacked = found[1].pool
    there = {tuple(np.round(gamma.astype(float), 4)) for gamma in stacked.gammas}
    new, n_held = stacked.gammas[pool.n_candidates :], np.bitwise_count(stacked.supports[pool.n_candidates :])
    assert n_held.max() > 1
    for gamma in new[n_held == n_held.max()]:  # those of fewer groups may be shadows themselves
        for group in range(3):
            rest = np.where(np.array(GROUPS) == group, 0, gamma).astype(float)
            assert tuple(np.round(rest / rest.sum(), 4)) in there


def test_what_is_chosen_for_a_fold_does_not_depend_on_its_test_run(
    kernels: list[np.ndarray], Y: np.ndarray, pool: CandidatePool, folds: FoldIndex, found: tuple[Any, Refined]
) -> None:
    fold = 1
    rows = LAYOUT.slices[fold]
    other = Y.copy()
    other[rows] = np.random.default_rng(9).permutation(other[rows])
    other[rows, :15] *= -1
    _, changed = search_and_refine(kernels, other, pool, folds)
    for (_, a), (_, b) in zip(
        best_of_subsets(found[1].bests, MASKS), best_of_subsets(changed.bests, MASKS), strict=True
    ):
        np.testing.assert_allclose(a.inner[fold], b.inner[fold], atol=1e-5)
        np.testing.assert_array_equal(
            found[1].pool.gammas[a.candidate[fold].numpy()], changed.pool.gammas[b.candidate[fold].numpy()]
        )
        assert torch.equal(a.alpha[fold], b.alpha[fold])
    assert changed.pool.n_candidates != found[1].pool.n_candidates or not np.array_equal(
        changed.pool.gammas, found[1].pool.gammas
    )  # other folds did propose otherwise


def test_draws_are_seeded(
    kernels: list[np.ndarray], Y: np.ndarray, pool: CandidatePool, folds: FoldIndex, found: tuple[Any, Refined]
) -> None:
    _, again = search_and_refine(kernels, Y, pool, folds, rounds=1)
    n = again.pool.n_candidates
    np.testing.assert_array_equal(again.pool.gammas, found[1].pool.gammas[:n])
    _, other = search_and_refine(kernels, Y[:, :4], pool, folds, seed=1, rounds=1)
    assert not {tuple(g) for g in other.pool.gammas[16:]} & {tuple(g) for g in again.pool.gammas[16:]}


def test_no_rounds_change_nothing(
    kernels: list[np.ndarray], Y: np.ndarray, pool: CandidatePool, folds: FoldIndex
) -> None:
    before, (bests, same, log, gain) = search_and_refine(kernels, Y, pool, folds, rounds=0)
    assert bests == before
    assert same is pool
    assert log == SearchLog()
    assert (gain.inner_before, gain.r2_before) == (gain.inner_after, gain.r2_after)
    assert gain.rounds == gain.n_candidates == 0


def test_single_bands_have_nothing_to_refine(kernels: list[np.ndarray], Y: np.ndarray, folds: FoldIndex) -> None:
    vertices = CandidatePool(np.eye(6, dtype=np.float32), np.array([1, 1, 1, 2, 2, 4]), 3)
    _, refined = search_and_refine(kernels, Y, vertices, folds)
    assert refined.pool is vertices
    assert refined.gain.rounds == 0


def test_wrong_options_are_named(
    kernels: list[np.ndarray], Y: np.ndarray, pool: CandidatePool, folds: FoldIndex, found: tuple[Any, Refined]
) -> None:
    for options in ({"rounds": -1}, {"n_parents": 0}, {"n_children": 0}):
        with pytest.raises(InvalidValueError, match="at least"):
            search_and_refine(kernels, Y[:, :2], pool, folds, **options)
    with pytest.raises(InvalidValueError, match="5 bands have a group"):
        refine(kernels, Y, found[0], pool, band_groups=GROUPS[:5], masks=MASKS, alphas=ALPHAS, folds=folds)
