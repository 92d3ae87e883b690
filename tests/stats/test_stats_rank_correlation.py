"""Rank correlations: those of scipy, exact chances over few models, intervals over subjects."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr

from brainsim.core.errors import InvalidValueError
from brainsim.stats.rank_correlation import bootstrap_over_subjects, permutation_p, rank_correlation


def reference(x: np.ndarray, y: np.ndarray, method: str) -> float:
    return float((kendalltau if method == "kendall" else spearmanr)(x, y)[0])


@pytest.mark.parametrize("method", ["kendall", "spearman"])
def test_it_is_that_of_scipy_with_ties(method: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(5, size=9).astype(float)
    Y = rng.integers(4, size=(20, 9)).astype(float)
    found = rank_correlation(x, Y, method=method)
    np.testing.assert_allclose(found, [reference(x, y, method) for y in Y])


def test_there_is_none_where_a_side_is_constant_or_unknown() -> None:
    x = np.arange(4.0)
    assert np.isnan(rank_correlation(x, np.ones(4)))
    assert np.isnan(rank_correlation(x, np.array([1, 2, np.nan, 4])))
    with pytest.raises(InvalidValueError, match="shapes"):
        rank_correlation(x, np.ones(3))


@pytest.mark.parametrize("method", ["kendall", "spearman"])
def test_every_order_of_few_models_is_counted(method: str) -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=5), rng.normal(size=5)
    slow = [abs(reference(x, np.array(order), method)) for order in permutations(y)]
    expected = np.mean(np.array(slow) >= abs(reference(x, y, method)) - 1e-12)
    assert permutation_p(x, y, method=method) == pytest.approx(expected)


def test_few_models_cannot_reach_a_small_p() -> None:
    assert permutation_p(np.arange(4.0), np.arange(4.0)) == pytest.approx(2 / 24)
    assert np.isnan(permutation_p(np.arange(2.0), np.arange(2.0)))


def test_the_level_is_held_over_many_models() -> None:
    rng = np.random.default_rng(2)
    p = [permutation_p(rng.normal(size=12), rng.normal(size=12)) for _ in range(60)]
    assert np.mean(np.array(p) <= 0.1) < 0.25
    x = np.arange(12.0)
    assert permutation_p(x, x) == pytest.approx(1 / 10_001)


def test_the_interval_over_subjects_narrows_where_they_agree() -> None:
    rng = np.random.default_rng(3)
    accuracy, truth = np.arange(6.0), np.arange(6.0)
    sure = bootstrap_over_subjects(accuracy, truth + 0.1 * rng.normal(size=(10, 6)))
    unsure = bootstrap_over_subjects(accuracy, truth + 8 * rng.normal(size=(10, 6)))
    assert sure == (1.0, 1.0)
    assert unsure[1] - unsure[0] > 0.3
    assert np.isnan(bootstrap_over_subjects(accuracy, truth[None])).all()


def test_the_interval_is_that_of_a_loop() -> None:
    from brainsim.core.seeds import named_rng
    from brainsim.stats.rank_correlation import N_DRAWS

    scores = np.random.default_rng(4).normal(size=(5, 4))
    x = np.array([3.0, 1, 2, 4])
    draws = named_rng(0, "bootstrap over subjects", 5).integers(5, size=(N_DRAWS, 5))[:300]
    slow = [reference(x, scores[draw].mean(axis=0), "kendall") for draw in draws]
    np.testing.assert_allclose(rank_correlation(x, scores[draws].mean(axis=1)), slow)
