"""Layers combined over drawn stimuli: equal to gathering every pair of a draw, and tests that hold their level."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.optimize import nnls
from scipy.stats import spearmanr

from brainsim.rsa.compare import COMPARISONS
from brainsim.rsa.held_out import N_FOLDS, fold_of, score_draws, score_held_out
from brainsim.rsa.rdm import pattern_rdm
from brainsim.stats.stimulus_bootstrap import draw_units

N_STIMULI = 32


@pytest.fixture
def rdms() -> tuple[np.ndarray, np.ndarray]:
    """Return RDMs of five layers and of four subjects who follow two of them, among noise."""
    rng = np.random.default_rng(5)
    layers = np.stack(
        [pattern_rdm(rng.standard_normal((N_STIMULI, 8)), distance="correlation", name="x") for _ in range(5)]
    )
    brain = 0.6 * layers[1] + 0.4 * layers[3] + 0.3 * rng.standard_normal((4, layers.shape[1])) + 2
    return layers, brain


def gathered(
    layers: np.ndarray, brain: np.ndarray, count: np.ndarray, sets: Sequence[Sequence[int]], compare: str
) -> np.ndarray:
    """Return what `score_draws` does of one draw, pair by pair: gathered, standardised, fitted and compared."""
    i, j = np.triu_indices(N_STIMULI, k=1)
    times = count[i] * count[j]
    fold = fold_of(N_STIMULI)
    scores = np.full((len(sets), len(brain), N_FOLDS), np.nan)
    for f in range(N_FOLDS):
        train = np.repeat(np.arange(len(i)), np.where((fold[i] != f) & (fold[j] != f), times, 0))
        test = np.repeat(np.arange(len(i)), np.where((fold[i] == f) & (fold[j] == f), times, 0))
        if len(np.unique(test)) < 3:
            continue
        for row, columns in enumerate(sets):
            A, B = (layers[list(columns)][:, pairs] for pairs in (train, test))
            A, B = ((X - X.mean(1, keepdims=True)) / X.std(1, keepdims=True) for X in (A, B))
            for s, y in enumerate(brain):
                own = y[train]
                weights, _ = nnls(A.T, (own - own.mean()) / own.std())
                predicted = weights @ B + own.mean() / own.std()
                scores[row, s, f] = COMPARISONS[compare](predicted[None], y[test][None])[0, 0]
    return np.nanmean(scores, axis=-1)


@pytest.mark.parametrize("compare", ["pearson", "cosine", "spearman", "kendall"])
def test_scores_of_draws_are_those_of_their_pairs_gathered_one_by_one(
    rdms: tuple[np.ndarray, np.ndarray], compare: str
) -> None:
    layers, brain = rdms
    counts, _ = draw_units(N_STIMULI, len(brain), 4, seed=1)
    sets = [[0, 1, 2], [3], [1, 3, 4]]
    found = score_draws(layers, brain, [np.asarray(s) for s in sets], counts, compare=compare, combine="nnls")
    for draw, count in enumerate(counts):
        np.testing.assert_allclose(found[draw], gathered(layers, brain, count, sets, compare), atol=1e-9)


@pytest.mark.parametrize("combine", ["nnls", "ridge"])
@pytest.mark.parametrize("compare", ["pearson", "spearman", "cosine"])
def test_every_stimulus_once_is_the_analysis_itself(
    rdms: tuple[np.ndarray, np.ndarray], combine: str, compare: str
) -> None:
    layers, brain = rdms
    sets = [np.arange(5), np.array([0, 3])]
    once = np.ones((1, N_STIMULI), np.int64)
    (found,) = score_draws(layers, brain, sets, once, compare=compare, combine=combine)
    similar, _ = score_held_out(layers, brain, sets, n_stimuli=N_STIMULI, compare=compare, combine=combine)
    np.testing.assert_allclose(found, similar.mean(axis=-1), atol=1e-8)


def test_layers_that_are_one_layer_and_constant_ones_are_no_trouble(rdms: tuple[np.ndarray, np.ndarray]) -> None:
    layers, brain = rdms
    doubled = np.concatenate([layers[[1, 3, 1]], np.ones((1, layers.shape[1]))])
    counts, _ = draw_units(N_STIMULI, len(brain), 5, seed=2)
    sets = [np.arange(4), np.arange(2), np.array([3])]
    found = score_draws(doubled, brain, sets, counts, compare="pearson", combine="nnls")
    np.testing.assert_allclose(found[:, 0], found[:, 1], atol=1e-6)
    np.testing.assert_array_equal(found[:, 2], 0)


def test_without_weights_the_cosine_is_that_of_the_mean_and_a_correlation_is_0(
    rdms: tuple[np.ndarray, np.ndarray],
) -> None:
    layers, _ = rdms
    against = layers[:1].max() - layers[:1] + 1  # the opposite of the only layer
    words = {"n_stimuli": N_STIMULI, "combine": "nnls"}
    r, _ = score_held_out(layers[:1], against, [np.array([0])], compare="spearman", **words)  # type: ignore[arg-type]
    np.testing.assert_array_equal(r, 0)
    cosine, _ = score_held_out(layers[:1], against, [np.array([0])], compare="cosine", **words)  # type: ignore[arg-type]
    fold = fold_of(N_STIMULI)
    i, j = np.triu_indices(N_STIMULI, k=1)
    held = against[0, (fold[i] == 0) & (fold[j] == 0)]
    assert cosine[0, 0, 0] == pytest.approx(held.mean() / np.sqrt(np.mean(held**2)))


@pytest.mark.slow
@pytest.mark.parametrize("n_layers", [1, 6])
def test_p_over_stimuli_and_subjects_holds_its_level(n_layers: int) -> None:
    """Models that have nothing to do with a geometry that all subjects share: 5 % of them may seem to have."""
    from brainsim.commands.rsa_condition_models import ModelRdms
    from brainsim.commands.rsa_condition_rows import score_models
    from brainsim.commands.rsa_options import RsaSettings
    from brainsim.stats.significance import crossed_p

    n_sets, n_subjects, n_stimuli = 200, 8, 60
    settings = RsaSettings(compare="pearson", combine="nnls")
    options = {"squared": False, "n_stimuli": n_stimuli, "seed": 0}
    p, flips, crossed = [], [], []
    for seed in range(n_sets):
        rng = np.random.default_rng(seed)
        draw = [pattern_rdm(rng.standard_normal((n_stimuli, 15)), distance="correlation", name="x") for _ in range(14)]
        rdms, truth = np.stack(draw[:n_layers]), draw[-1]
        brain = truth + truth.std() * rng.standard_normal((n_subjects, len(truth)))
        layers = [{"model": "net", "layer": str(k), "index": k, "family": "f"} for k in range(n_layers)]
        found = ModelRdms(layers, rdms, [], [])
        whole = COMPARISONS["pearson"](rdms, brain)
        held, _ = score_held_out(
            rdms, brain, [np.arange(n_layers)], n_stimuli=n_stimuli, compare="pearson", combine="nnls"
        )
        (row,) = score_models(found, brain, whole, held, settings, options, n_draws=200).rows
        p.append(row["p"])
        flips.append(row["p_subjects"])
        crossed.append(crossed_p(held[0], cross_validated=True))
    told = [np.mean(np.array(values) <= 0.05) for values in (p, flips, crossed)]
    assert told[0] <= 0.085, told  # 99 % of binomial samples of 200 at 5 %
    assert told[1] > 0.1, told  # subjects share what is chance in these stimuli


def test_ranks_of_draws_are_scipys(rdms: tuple[np.ndarray, np.ndarray]) -> None:
    from brainsim.stats.stimulus_bootstrap import pairs_of, similarity_draws

    layers, brain = rdms
    counts, _ = draw_units(N_STIMULI, len(brain), 2, seed=4)
    tables = similarity_draws(layers, brain, COMPARISONS["spearman"], counts)
    for table, count in zip(tables, counts, strict=True):
        pairs = pairs_of(np.repeat(np.arange(N_STIMULI), count), n_stimuli=N_STIMULI)
        assert table[2, 1] == pytest.approx(spearmanr(layers[2, pairs], brain[1, pairs])[0], abs=1e-12)
