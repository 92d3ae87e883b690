"""Bootstraps over runs: counted where that can be done, drawn elsewhere, NaN where a score is missing."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from brainsim.core.errors import InvalidValueError
from brainsim.stats.bootstrap import bootstrap_runs


def test_counted_draws_are_all_draws() -> None:
    scores = np.random.default_rng(0).standard_normal(4)
    means = np.array([scores[list(draw)].mean() for draw in product(range(4), repeat=4)])
    low, high = bootstrap_runs(scores, level=0.9)
    # An order statistic of all 256 equally likely draws.
    ordered = np.sort(means)
    assert abs(float(low) - ordered[int(np.ceil(0.05 * 256)) - 1]) < 1e-9
    assert abs(float(high) - ordered[int(np.ceil(0.95 * 256)) - 1]) < 1e-9


def test_drawn_and_counted_intervals_agree_with_the_normal_one() -> None:
    rng = np.random.default_rng(1)
    for n_runs in (7, 8, 40):
        scores = rng.standard_normal((200, n_runs))
        low, high = bootstrap_runs(scores)
        expected = 2 * 1.96 * scores.std(axis=1) / np.sqrt(n_runs)
        assert abs(float(np.mean((high - low) / expected)) - 1) < 0.05
        covered = ((low <= 0) & (high >= 0)).mean()
        assert covered > (0.82 if n_runs < 10 else 0.9)


def test_rows_share_their_draws_and_missing_scores_stay_missing() -> None:
    scores = np.random.default_rng(2).standard_normal((2, 3, 9))
    low, high = bootstrap_runs(scores)
    again = bootstrap_runs(scores + 5)
    np.testing.assert_allclose(again[0] - 5, low)
    np.testing.assert_allclose(again[1] - 5, high)
    assert low.shape == (2, 3)
    scores[0, 1, 4] = np.nan
    low, high = bootstrap_runs(scores)
    assert np.isnan(low[0, 1])
    assert np.isfinite(np.delete(low.ravel(), 1)).all()


def test_two_runs_are_too_few() -> None:
    with pytest.raises(InvalidValueError, match="at least 3"):
        bootstrap_runs(np.zeros((5, 2)))
