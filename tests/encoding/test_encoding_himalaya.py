"""Our search against himalaya's on hard problems, himalaya's backends against each other, and its gradient solver."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from encoding_data import UNEVEN, make_kernels, make_targets

from brainsim.core.runs import Fold, RunLayout, folds_by_block, folds_by_group, folds_by_run
from brainsim.encoding.candidates import draw_pool
from brainsim.encoding.folds import index_folds
from brainsim.encoding.himalaya_gradient import search_with_hyper_gradient
from brainsim.encoding.himalaya_solver import search_with_himalaya
from brainsim.encoding.search import SearchOptions, search_supports

ALPHAS = tuple(np.logspace(-1, 4, 11))
LONG = RunLayout(("one",), (150,))
SIX = RunLayout(tuple("abcdef"), (22, 25, 19, 30, 21, 24))


def _compare(
    Ks: Sequence[np.ndarray], Y: np.ndarray, folds: Sequence[Fold], alphas: Sequence[float] = ALPHAS, *, same: float
) -> None:
    """Same candidates, folds and alphas: every target within 1e-4, the same choice but for ties."""
    pool = draw_pool([0] * len(Ks), n_candidates=9)
    bests, _ = search_supports(
        Ks, Y, pool=pool, alphas=alphas, folds=index_folds(folds, len(Y)), options=SearchOptions(exhaustive=True)
    )
    ours = bests[1]
    theirs = search_with_himalaya(Ks, Y, gammas=pool.gammas, alphas=alphas, folds=folds)
    np.testing.assert_allclose(ours.inner, theirs.inner, atol=1e-4)
    equal = ((ours.candidate == theirs.candidate) & (ours.alpha == theirs.alpha)).numpy()
    assert equal.mean() >= same
    # Where choices tie, either may be taken: only equal choices promise equal test scores.
    np.testing.assert_allclose(ours.r2.numpy()[equal], theirs.r2.numpy()[equal], atol=1e-4)
    np.testing.assert_allclose(ours.r.numpy()[equal], theirs.r.numpy()[equal], atol=1e-4)


@pytest.mark.parametrize(
    ("layout", "folds"),
    [
        pytest.param(UNEVEN, folds_by_run(UNEVEN), id="runs of unequal length"),
        pytest.param(SIX, folds_by_group(SIX, n_folds=3), id="groups of runs"),
        pytest.param(LONG, folds_by_block(LONG, n_blocks=5, gap=4), id="blocks of one run with a gap"),
    ],
)
def test_every_way_of_holding_out_gives_himalayas_scores(layout: RunLayout, folds: Sequence[Fold]) -> None:
    Ks = make_kernels(3, layout)
    _compare(Ks, make_targets(Ks[:2], layout, 25), folds, same=0.98)


def test_targets_that_are_nearly_noise_get_himalayas_scores() -> None:
    Ks = make_kernels(3, UNEVEN)
    _compare(Ks, make_targets(Ks[:1], UNEVEN, 40, noise=8.0), folds_by_run(UNEVEN), same=0.95)


def test_one_target_gets_himalayas_scores() -> None:
    Ks = make_kernels(2, UNEVEN)
    _compare(Ks, make_targets(Ks, UNEVEN, 1), folds_by_run(UNEVEN), same=1.0)


def test_bands_that_are_nearly_the_same_get_himalayas_scores() -> None:
    first = make_kernels(1, UNEVEN)[0]
    other = make_kernels(1, UNEVEN, seed=1)[0]
    twin = (first + np.float32(1e-4) * other).astype(np.float32)
    # Their mixtures are so alike that which of them wins is often a tie.
    _compare([first, twin], make_targets([first], UNEVEN, 25), folds_by_run(UNEVEN), same=0.5)


def test_alphas_from_tiny_to_huge_get_himalayas_scores() -> None:
    Ks = make_kernels(2, UNEVEN)
    Y = make_targets(Ks, UNEVEN, 25, noise=0.3)
    _compare(Ks, Y, folds_by_run(UNEVEN), alphas=(1e-2, 1.0, 1e3, 1e6), same=0.98)


def test_numpy_and_torch_backends_agree() -> None:
    Ks = make_kernels(2, UNEVEN)
    Y = make_targets(Ks, UNEVEN, 20)
    # Both bands in all: NumPy warns of the logarithm of a weight of 0.
    gammas = np.array([[0.5, 0.5], [0.9, 0.1], [0.2, 0.8]], np.float32)
    found = [
        search_with_himalaya(Ks, Y, gammas=gammas, alphas=ALPHAS, folds=folds_by_run(UNEVEN), backend=backend)
        for backend in ("numpy", "torch")
    ]
    np.testing.assert_allclose(found[0].r2, found[1].r2, atol=1e-4)
    np.testing.assert_array_equal(found[0].candidate, found[1].candidate)


@pytest.fixture(scope="module")
def one_of_three() -> tuple[list[np.ndarray], np.ndarray]:
    """Three bands, of which the first alone is in the targets."""
    Ks = make_kernels(3, UNEVEN)
    return Ks, make_targets(Ks[:1], UNEVEN, 30, noise=0.5)


def test_gradient_solver_finds_the_band_that_matters(one_of_three: tuple[list[np.ndarray], np.ndarray]) -> None:
    Ks, Y = one_of_three
    found = search_with_hyper_gradient(Ks, Y, folds=folds_by_run(UNEVEN), backend="numpy", max_iter=20)
    assert float(np.median(found.weight[0])) > 0.55  # it stops before the others have vanished: a third each at first
    np.testing.assert_allclose(found.split_r2.sum(axis=0), found.r2.mean(axis=0), atol=1e-4)
    alone = search_with_himalaya(
        Ks, Y, gammas=np.array([[1, 0, 0]], np.float32), alphas=ALPHAS, folds=folds_by_run(UNEVEN)
    )
    equal = search_with_himalaya(
        Ks, Y, gammas=np.full((1, 3), 1 / 3, np.float32), alphas=ALPHAS, folds=folds_by_run(UNEVEN)
    )
    assert float(equal.r2.mean()) + 0.01 < float(found.r2.mean()) < float(alone.r2.mean()) + 0.005


def test_gradient_solver_gives_the_same_on_both_backends(one_of_three: tuple[list[np.ndarray], np.ndarray]) -> None:
    Ks, Y = one_of_three
    found = [
        search_with_hyper_gradient(Ks, Y[:, :8], folds=folds_by_run(UNEVEN), backend=backend, max_iter=5)
        for backend in ("numpy", "torch")
    ]
    np.testing.assert_allclose(found[0].r2, found[1].r2, atol=2e-3)
    np.testing.assert_allclose(found[0].weight, found[1].weight, atol=2e-2)
