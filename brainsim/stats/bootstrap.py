"""Turn scores of runs into intervals, by drawing runs anew."""

from __future__ import annotations

from itertools import combinations_with_replacement
from math import factorial

import numpy as np

from brainsim.core.checks import check_number
from brainsim.core.errors import InvalidValueError
from brainsim.core.seeds import named_rng

# Up to so many runs all draws are counted (1,716 different ones of 7) instead of some drawn by chance.
MAX_COUNTED = 7


def bootstrap_runs(
    scores: np.ndarray, *, level: float = 0.95, n_draws: int = 10_000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return the percentile interval of the mean over runs when runs are drawn with replacement.

    With few runs the interval is too short (8 runs cover about 90 % instead of 95 %): runs are what there is least of.

    Parameters
    ----------
    scores : ndarray, (..., n_runs)
        Score of each run; at least 3 runs.
    level : float
        Share of the draws inside.
    n_draws : int
        Draws; up to 7 runs all possible ones are counted instead.
    seed : int
        Seed of the draws, the same for all rows.

    Returns
    -------
    low, high : ndarray of float64, (...)
        NaN where a score is.

    References
    ----------
    Efron 1979, Ann. Stat. 7.
    """
    check_number("the level", level, above=0, at_most=1)
    scores = np.asarray(scores, np.float64)
    n_runs = scores.shape[-1]
    if n_runs < 3:
        raise InvalidValueError(f"{n_runs} run(s); a bootstrap over runs needs at least 3.")
    weights, chances = _all_draws(n_runs) if n_runs <= MAX_COUNTED else _some_draws(n_runs, n_draws, seed)
    flat = scores.reshape(-1, n_runs)
    low, high = np.full(len(flat), np.nan), np.full(len(flat), np.nan)
    for row, values in enumerate(flat):
        if np.isfinite(values).all():
            means = weights @ values
            order = np.argsort(means, kind="stable")
            # The least mean that at least so many draws do not exceed.
            below = np.cumsum(chances[order])
            tail = (1 - level) / 2
            at = np.searchsorted(below, [tail, 1 - tail]).clip(max=len(means) - 1)
            low[row], high[row] = means[order[at]]
    return low.reshape(scores.shape[:-1]), high.reshape(scores.shape[:-1])


def _all_draws(n_runs: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of each run in every different draw, and how likely the draw is."""
    weights, chances = [], []
    for draw in combinations_with_replacement(range(n_runs), n_runs):
        counts = np.bincount(draw, minlength=n_runs)
        ways = factorial(n_runs) / np.prod([float(factorial(c)) for c in counts])
        weights.append(counts / n_runs)
        chances.append(ways / n_runs**n_runs)
    return np.array(weights), np.array(chances)


def _some_draws(n_runs: int, n_draws: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    draws = named_rng(seed, "bootstrap", str(n_runs)).integers(n_runs, size=(n_draws, n_runs))
    weights = np.stack([(draws == run).mean(axis=1) for run in range(n_runs)], axis=1)
    return weights, np.full(n_draws, 1 / n_draws)
