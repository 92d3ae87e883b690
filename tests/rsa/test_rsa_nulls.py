"""Combining layers makes nothing out of nothing: null models are called significant as often as they should be."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.stats import binom

from brainsim.features.hrf import hrf_matrix
from brainsim.rsa.blocks import PairBlock, make_blocks, remove_lag_means
from brainsim.rsa.moments import pair_moments
from brainsim.rsa.rdm import pattern_rdm, to_square
from brainsim.rsa.scores import score_sets, weigh_pooled
from brainsim.stats.significance import score_rows

N_SUBJECTS, N_RUNS, N_TRS, N_LAYERS = 6, 8, 90, 6


def slow(rng: np.random.Generator, width: int, rho: float) -> np.ndarray:
    """Return series as BOLD would show them: correlated in time, then convolved."""
    x = lfilter([1.0], [1, -rho], rng.standard_normal((N_TRS + 30, width)), axis=0)[30:]
    y: np.ndarray = hrf_matrix(N_TRS, 2.0) @ (x - x.mean(axis=0))
    return y / y.std()


def pairs_of(block: PairBlock, patterns: list[np.ndarray], *, keep: bool) -> np.ndarray:
    squares = [to_square(pattern_rdm(X[block.rows], distance="correlation", name="x")) for X in patterns]
    rdms = np.stack([square[block.i, block.j] for square in squares])
    return rdms if keep else remove_lag_means(rdms, block.lag)


def null_scores(seed: int, *, combine: str = "nnls", rho: float = 0.5, keep: bool = False) -> np.ndarray:
    """Return scores of a model of unrelated layers, (n_subjects, n_runs), in brains that share a movie's geometry."""
    rng = np.random.default_rng([seed, int(10 * rho)])
    (block,) = make_blocks(["run"], [N_TRS], [2.0], min_lag_s=8.0, trim_s=8.0)
    moments = []
    for _ in range(N_RUNS):
        movie = slow(rng, 15, rho)
        layers = [slow(rng, 20, rho) for _ in range(N_LAYERS)]
        brains = [movie + 0.7 * slow(rng, 15, 0.4) for _ in range(N_SUBJECTS)]
        A, Y = (pairs_of(block, patterns, keep=keep) for patterns in (layers, brains))
        moments.append(pair_moments(A, Y).standardised())
    return np.nan_to_num(score_sets(moments, [list(range(N_LAYERS))], weigh_pooled(combine)))[0]


@pytest.mark.slow
@pytest.mark.parametrize(("combine", "rho"), [("nnls", 0.5), ("nnls", 0.8), ("ridge", 0.5)])
def test_null_models_are_significant_in_five_percent_of_200_data_sets(combine: str, rho: float) -> None:
    scores = np.stack([null_scores(seed, combine=combine, rho=rho) for seed in range(200)])
    p = np.array([score_rows(one[None])[0]["p"] for one in scores])
    low, high = binom.ppf([0.025, 0.975], 200, 0.05)
    assert low <= (p <= 0.05).sum() <= high
    assert abs(scores.mean()) < 0.01


def test_a_null_model_scores_about_zero_only_without_what_depends_on_lag_alone() -> None:
    without, with_lag = (
        np.mean([null_scores(seed, rho=0.8, keep=keep) for seed in range(5)]) for keep in (False, True)
    )
    assert abs(without) < 0.02
    assert with_lag > 0.05


def test_lag_means_are_taken_from_pairs_of_one_run_alone() -> None:
    rng = np.random.default_rng(0)
    (block,) = make_blocks(["a", "b"], [20, 24], [2.0, 2.0], pairs="all")
    rdm = rng.random((1, block.n_pairs))
    out = remove_lag_means(rdm, block.lag)[0]
    between = block.lag < 0
    np.testing.assert_allclose(out[between], rdm[0, between], rtol=1e-6)
    timed = rdm[0, ~between]
    own = block.lag[~between]
    for lag in np.unique(own):
        assert out[~between][own == lag].mean() == pytest.approx(timed.mean(), abs=1e-5)
    assert (~between).sum() == 20 * 19 // 2 + 24 * 23 // 2


def test_blocks_between_runs_share_no_tr() -> None:
    blocks = make_blocks(list("abcde"), [20] * 5, [2.0] * 5, pairs="between-run", trim_s=4)
    assert [block.runs for block in blocks] == [(0, 1), (2, 3, 4)]
    assert [block.n_pairs for block in blocks] == [16 * 16, 3 * 16 * 16]
    assert blocks[0].rows.tolist() == [*range(2, 18), *range(22, 38)]
