"""Combining layers makes nothing out of nothing: null models are called significant as often as they should be."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.stats import binom

from brainsim.commands.rsa_options import RsaSettings
from brainsim.commands.rsa_rdms import GroupRdms
from brainsim.commands.rsa_scores import score_group
from brainsim.datasets.cleaning import make_drifts
from brainsim.features.hrf import hrf_matrix
from brainsim.rsa.blocks import make_blocks, remove_lag_means
from brainsim.rsa.rdm import square_rdm
from brainsim.stats.significance import score_rows

N_SUBJECTS, N_RUNS, N_TRS, N_LAYERS = 6, 8, 90, 6
N_DATA_SETS = 200

# What all runs of all data sets have in common is made once.
RESPONSE = hrf_matrix(N_TRS, 2.0)
DRIFTS = make_drifts(N_TRS, tr_s=2.0, high_pass_s=128.0)
(BLOCK,) = make_blocks(["run"], [N_TRS], [2.0], min_lag_s=8.0, trim_s=8.0)


def slow(rng: np.random.Generator, width: int, rho: float) -> np.ndarray:
    """Return series as BOLD would show them: correlated in time, then convolved."""
    x = lfilter([1.0], [1, -rho], rng.standard_normal((N_TRS + 200, width)), axis=0)[200:]
    y: np.ndarray = RESPONSE @ (x - x.mean(axis=0))
    return y / y.std()


def cleaned(x: np.ndarray) -> np.ndarray:
    """Return series as ingest leaves them: about their mean, without what is slower than 128 s."""
    y: np.ndarray = x - x.mean(axis=0)
    without: np.ndarray = y - DRIFTS @ (DRIFTS.T @ y)
    return without


def pairs_of(patterns: list[np.ndarray], *, keep: bool) -> np.ndarray:
    squares = [
        square_rdm(X @ X.T, X.sum(axis=1), X.shape[1], distance="correlation", name="x")
        for X in (pattern[BLOCK.rows] for pattern in patterns)
    ]
    rdms = np.stack([square[BLOCK.i, BLOCK.j] for square in squares])
    return rdms if keep else remove_lag_means(rdms, BLOCK.lag)


def null_rdms(
    seed: int, *, rho: float = 0.5, keep: bool = False, clean_brain: bool = True, clean_model: bool = False
) -> GroupRdms:
    """Return RDMs of a model of unrelated layers, and of brains that share a movie's geometry."""
    rng = np.random.default_rng([seed, int(100 * rho)])
    A, Y = [], []
    for _ in range(N_RUNS):
        movie = slow(rng, 15, rho)
        layers = [slow(rng, 20, rho) for _ in range(N_LAYERS)]
        brains = [movie + 0.7 * slow(rng, 15, 0.4) for _ in range(N_SUBJECTS)]
        A.append(pairs_of([cleaned(x) for x in layers] if clean_model else layers, keep=keep))
        Y.append(pairs_of([cleaned(x) for x in brains] if clean_brain else brains, keep=keep))
    targets = [(f"sub-{i}", "ventral") for i in range(N_SUBJECTS)]
    return GroupRdms((BLOCK,) * N_RUNS, A, Y, targets, {}, {})


def model_scores(rdms: GroupRdms, combine: str = "nnls") -> np.ndarray:
    """Return the model's scores by the defaults of the command, (n_subjects, n_runs)."""
    settings = RsaSettings(combine=combine, method="none")
    return score_group(rdms, settings, models={"model": range(N_LAYERS)}, subsets=[]).model[0]


@pytest.mark.slow
@pytest.mark.timeout(3600)  # 40 s each by itself
@pytest.mark.parametrize("rho", [0.5, 0.8, 0.95])
def test_null_models_are_significant_in_no_more_than_five_percent_of_200_data_sets(rho: float) -> None:
    found: dict[str, list[np.ndarray]] = {"nnls": [], "ridge": []}
    for seed in range(N_DATA_SETS):
        rdms = null_rdms(seed, rho=rho)
        for combine, scores in found.items():
            scores.append(model_scores(rdms, combine))
    most = binom.ppf(0.975, N_DATA_SETS, 0.05)
    for combine, scores in found.items():
        p = np.array([score_rows(one[None], cross_validated=[True])[0]["p"] for one in scores])
        told = f"{combine}, {rho}: {(p <= 0.05).sum()} of {len(p)}; mean {np.mean(scores):.4f}"
        sys.stdout.write(told + "\n")  # the figure of docs/rsa.md
        assert (p <= 0.05).sum() <= most, told
        assert abs(np.mean(scores)) < 0.01, told


def test_a_null_model_scores_about_zero_only_without_what_depends_on_lag_alone() -> None:
    without, with_lag = (
        np.mean([model_scores(null_rdms(seed, rho=0.8, keep=keep, clean_brain=False)) for seed in range(5)])
        for keep in (False, True)
    )
    assert abs(without) < 0.02
    assert with_lag > 0.05


def test_what_is_filtered_alike_is_alike_where_it_lies_in_a_run() -> None:
    """Why features are not high-pass filtered as BOLD was, and why BOLD that was not filtered is told."""
    scores = {
        (brain, model): np.mean(
            [model_scores(null_rdms(seed, rho=0.95, clean_brain=brain, clean_model=model)) for seed in range(5)]
        )
        for brain, model in ((True, False), (True, True), (False, False))
    }
    assert abs(scores[True, False]) < 0.02
    assert scores[True, True] > 0.15
    assert scores[False, False] > 0.03


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
