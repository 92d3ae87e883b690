"""The search over mixtures and alphas: what it chooses is what the whole grid chooses, and never saw the test run."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from encoding_data import ALPHAS, UNEVEN, make_kernels, make_targets

from brainsim.core.runs import RunLayout, folds_by_group, folds_by_run
from brainsim.encoding import folds as folds_module
from brainsim.encoding.candidates import CandidatePool, draw_pool
from brainsim.encoding.competition import best_of_subsets
from brainsim.encoding.folds import batch_targets, factorise, index_folds, project, score_outer
from brainsim.encoding.himalaya_solver import search_with_himalaya
from brainsim.encoding.search import SearchOptions, search_supports
from brainsim.variance.lattice import subset_masks

FIELDS = ("inner", "r2", "r", "candidate", "alpha")


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
        for name in FIELDS:
            np.testing.assert_array_equal(getattr(best, name), getattr(four[support], name))


def test_tiles_of_targets_change_no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    Ks = make_kernels(3, UNEVEN)
    Y = make_targets(Ks[:2], UNEVEN, 50)
    pool = draw_pool([0, 0, 0], n_candidates=8)
    index = index_folds(folds_by_run(UNEVEN), UNEVEN.n_rows)
    (whole, _) = search_supports(Ks, Y, pool=pool, alphas=ALPHAS, folds=index)
    monkeypatch.setattr("brainsim.encoding.scan.TILE_BYTES", 4 * UNEVEN.n_rows * 7)
    (tiled, _) = search_supports(Ks, Y, pool=pool, alphas=ALPHAS, folds=index)
    np.testing.assert_allclose(tiled[1].r2, whole[1].r2, atol=1e-5)
    assert float((tiled[1].candidate == whole[1].candidate).float().mean()) > 0.99  # all but ties


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


def test_single_level_chooses_by_the_mean_test_score_of_all_folds() -> None:
    Ks = make_kernels(2, UNEVEN)
    Y = make_targets(Ks, UNEVEN, 30)
    index = index_folds(folds_by_group(UNEVEN, n_folds=2), UNEVEN.n_rows, nested=False)
    pool = draw_pool([0, 0], n_candidates=4)
    bests, _ = search_supports(Ks, Y, pool=pool, alphas=ALPHAS, folds=index, options=SearchOptions(exhaustive=True))
    batch = batch_targets(Y, index)
    scores = []
    for gamma in pool.gammas:
        K = torch.from_numpy(gamma[0] * Ks[0] + gamma[1] * Ks[1])
        for alpha in ALPHAS:
            factor = factorise(K, alpha, index)
            scores.append(score_outer(project(factor, batch.Y), factor, batch, index).r2.mean(dim=0).numpy())
    found = bests[1]
    np.testing.assert_allclose(found.r2.mean(dim=0), np.max(scores, axis=0), atol=1e-5)
    assert bool((found.alpha[0] == found.alpha[1]).all())
    assert bool((found.candidate[0] == found.candidate[1]).all())


def test_candidate_competes_only_in_the_folds_that_it_is_allowed() -> None:
    Ks = make_kernels(2, UNEVEN)
    Y = make_targets(Ks, UNEVEN, 30)
    index = index_folds(folds_by_run(UNEVEN), UNEVEN.n_rows)
    gammas = np.array([[0.99, 0.01], [0.5, 0.5]], np.float32)
    allowed = np.array([[True] * 4, [True, False, True, False]])
    pool = CandidatePool(gammas, np.array([1, 1]), 1, allowed)
    bests, _ = search_supports(Ks, Y, pool=pool, alphas=ALPHAS, folds=index)
    chosen = bests[1].candidate.numpy()
    assert not chosen[[1, 3]].any()
    assert chosen[[0, 2]].mean() > 0.5


def test_time_that_runs_out_leaves_the_best_so_far_of_every_support() -> None:
    Ks = make_kernels(3, UNEVEN)
    Y = make_targets(Ks, UNEVEN, 10)
    index = index_folds(folds_by_run(UNEVEN), UNEVEN.n_rows)
    pool = draw_pool([0, 1, 2], n_candidates=400)
    began = time.monotonic()
    bests, log = search_supports(
        Ks, Y, pool=pool, alphas=ALPHAS, folds=index, options=SearchOptions(time_budget_s=1e-9, n_least=7)
    )
    assert time.monotonic() - began < 5
    assert log.is_stopped
    assert log.n_candidates_done == 7
    assert log.n_candidates == 400
    assert sorted(bests) == list(range(1, 8))
    assert all(bool(torch.isfinite(best.r2).all()) for best in bests.values())


def test_what_float32_cannot_factorise_is_done_in_float64_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound that sends small penalties to float64 is lifted: then Cholesky's own failure must."""
    rng = np.random.default_rng(0)
    features = [rng.integers(-3, 4, (UNEVEN.n_rows, 30)).astype(np.float32) for _ in range(2)]
    Ks = [X @ X.T for X in features]  # exact in float32, and singular
    Y = make_targets(make_kernels(1, UNEVEN), UNEVEN, 10)
    alphas = (1e-6, 1e-5)
    index = index_folds(folds_by_run(UNEVEN), UNEVEN.n_rows)
    pool = draw_pool([0, 0], n_candidates=3)
    options = SearchOptions(exhaustive=True)
    exact, _ = search_supports(Ks, Y, pool=pool, alphas=alphas, folds=index, options=options)
    monkeypatch.setattr(folds_module, "MAX_LOSS", 1e9)
    bests, log = search_supports(Ks, Y, pool=pool, alphas=alphas, folds=index, options=options)
    assert log.n_float64 > 0
    assert not log.failed
    np.testing.assert_allclose(bests[1].r2, exact[1].r2, atol=1e-3)


def test_candidate_that_cannot_be_factorised_takes_no_part_and_is_told() -> None:
    good, bad = make_kernels(2, UNEVEN)
    Y = make_targets([good], UNEVEN, 10)
    index = index_folds(folds_by_run(UNEVEN), UNEVEN.n_rows)
    pool = CandidatePool(np.eye(2, dtype=np.float32), np.array([1, 1]), 1)
    bests, log = search_supports([good, -1e4 * bad], Y, pool=pool, alphas=ALPHAS, folds=index)
    assert {candidate for candidate, _ in log.failed} == {1}
    assert not bests[1].candidate.any()
    alone, log = search_supports([-1e4 * bad], Y, pool=draw_pool([0], n_candidates=1), alphas=ALPHAS, folds=index)
    assert bool(torch.isnan(alone[1].r2).all())
    assert bool((alone[1].candidate == -1).all())
    assert len(log.failed) == len(ALPHAS)
