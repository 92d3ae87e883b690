"""Turn rows of dissimilarities into ranks, and ranks into concordance; each row is sorted once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def rank_rows(X: np.ndarray) -> np.ndarray:
    """Return the ranks within each row from 1, ties at their mean rank, float64 (n_rows, n_columns).

    Equals ``scipy.stats.rankdata(X, axis=1)``. Sorting need not be stable, because tied places share their ranks, and
    the sort that is not is vectorised in NumPy: a third of the time. A row with a NaN is NaN.
    """
    ranks = np.empty(X.shape, np.float64)
    steps = np.arange(1.0, X.shape[1] + 1)
    for row, out in zip(X, ranks, strict=True):
        order = np.argsort(row)
        bounds = _bounds(row[order])
        out[order] = steps if bounds is None else np.repeat((bounds[:-1] + bounds[1:] + 1) / 2, np.diff(bounds))
        if np.isnan(row).any():
            out[:] = np.nan
    return ranks


def tau_a(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Return Kendall's tau-a between the rows of A (n_a, n) and of B (n_b, n), float64 (n_a, n_b).

    Concordant less discordant pairs over all pairs. What takes time is sorting, and each row is sorted once; per
    comparison one pass over a tree of counts finds the discordant pairs. NaN where a row is constant.
    """
    n = A.shape[1]
    n_pairs = n * (n - 1) / 2
    count = _discordant_counter()
    sorted_a, sorted_b = [_Places(row) for row in A], [_Places(row) for row in B]
    table = np.full((len(A), len(B)), np.nan)
    for i, a in enumerate(sorted_a):
        ascending = a.ranks[a.order]
        for j, b in enumerate(sorted_b):
            if a.tied == n_pairs or b.tied == n_pairs:
                continue
            both = _tied(a.ranks * (n + 1) + b.ranks) if a.tied and b.tied else 0.0
            discordant = count(ascending, b.ranks[a.order])
            table[i, j] = (n_pairs - a.tied - b.tied + both - 2 * discordant) / n_pairs
    return table


class _Places:
    """A row's order, its ranks without gaps (whole numbers from 1, ties alike), and its number of tied pairs."""

    def __init__(self, row: np.ndarray) -> None:
        self.order = np.argsort(row)
        ascending = row[self.order]
        self.ranks = np.empty(len(row), np.intp)
        steps = np.concatenate([[1], ascending[1:] != ascending[:-1]])
        self.ranks[self.order] = np.cumsum(steps, dtype=np.intp)
        bounds = _bounds(ascending)
        self.tied = 0.0 if bounds is None else _pairs(np.diff(bounds))


def _bounds(ascending: np.ndarray) -> np.ndarray | None:
    """Return where each group of ties begins, and the end; None without ties."""
    new = ascending[1:] != ascending[:-1]
    return None if new.all() else np.flatnonzero(np.concatenate([[True], new, [True]]))


def _tied(labels: np.ndarray) -> float:
    return _pairs(np.unique(labels, return_counts=True)[1])


def _pairs(sizes: np.ndarray) -> float:
    counts = sizes.astype(np.float64)
    return float((counts * (counts - 1) / 2).sum())


def _discordant_counter() -> Callable[[np.ndarray, np.ndarray], float]:
    """Return what counts discordant pairs of ranks, the first ascending.

    SciPy's own counter is compiled but not public; where a version lacks it, tau-b is taken apart, which sorts again.
    """
    try:
        from scipy.stats._stats import _kendall_dis
    except ImportError:
        return discordant_by_tau_b
    return lambda x, y: float(_kendall_dis(x, y))


def discordant_by_tau_b(x: np.ndarray, y: np.ndarray) -> float:
    """Return the number of discordant pairs of two rows of ranks that are not constant, by SciPy's public tau-b."""
    from scipy.stats import kendalltau

    n_pairs = len(x) * (len(x) - 1) / 2
    tied_x, tied_y, both = _tied(x), _tied(y), _tied(x * (len(x) + 1) + y)
    surplus = float(kendalltau(x, y).statistic) * np.sqrt((n_pairs - tied_x) * (n_pairs - tied_y))
    return float(np.round((n_pairs - tied_x - tied_y + both - surplus) / 2))
