"""Turn rows of dissimilarities into ranks, and ranks into concordance; each row is sorted once, rows side by side."""

from __future__ import annotations

import threading

import numpy as np
from scipy.stats import rankdata

from brainsim.compute.threads import map_in_order
from brainsim.core.resources import n_cores
from brainsim.rsa.discordance import DiscordantPairs, Levels
from brainsim.rsa.sorting import sort_row

# From here on rows are sorted and compared side by side: shorter ones take no longer than a thread's start.
LONG_ROW = 20_000

# Up to here all rows at once take less time than the calls for each.
SHORT_ROW = 1000


def rank_rows(X: np.ndarray) -> np.ndarray:
    """Return the ranks within each row from 1, ties at their mean rank, float64 (n_rows, n_columns).

    Equals ``scipy.stats.rankdata(X, axis=1)``. A row with a NaN is NaN.
    """
    if X.shape[1] <= SHORT_ROW:
        return np.asarray(rankdata(X, axis=1), np.float64)
    ranks = np.empty(X.shape, np.float64)

    def rank(i: int) -> None:
        out = ranks[i]  # a row of its own is indexed in half the time
        if np.isnan(X[i]).any():
            out[:] = np.nan
        else:
            row = sort_row(X[i])
            out[row.order] = row.mean_ranks()

    for _ in map_in_order(rank, range(len(X)), n_workers=n_workers_for(len(X), X.shape[1])):
        pass
    return ranks


def tau_a(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Return Kendall's tau-a between the rows of A (n_a, n) and of B (n_b, n), float64 (n_a, n_b).

    Concordant less discordant pairs over all pairs. Each row is sorted once; per comparison the pairs that two rows
    order differently are counted (`brainsim.rsa.discordance`). NaN where a row is constant or has a NaN.
    """
    n = A.shape[1]
    n_pairs = n * (n - 1) / 2
    levels_a = _levels_of(A)
    levels_b = levels_a if B is A else _levels_of(B)
    mine = threading.local()

    def compare(pair: tuple[Levels | None, Levels | None]) -> float:
        a, b = pair
        if a is None or b is None or a.n_levels < 2 or b.n_levels < 2:
            return np.nan
        if not hasattr(mine, "pairs"):
            mine.pairs = DiscordantPairs(n)
        discordant, tied_both = mine.pairs.count(a, b)
        surplus = n_pairs - a.n_tied_pairs - b.n_tied_pairs + tied_both - 2 * discordant
        return float(surplus / n_pairs)

    places = [(i, j) for i in range(len(A)) for j in range(i if B is A else 0, len(B))]
    pairs = ((levels_a[i], levels_b[j]) for i, j in places)
    table = np.empty((len(A), len(B)))
    found = map_in_order(compare, pairs, n_workers=n_workers_for(len(places), n))
    for (i, j), (_, similar) in zip(places, found, strict=True):
        table[i, j] = similar
        if B is A:
            table[j, i] = similar
    return table


def _levels_of(X: np.ndarray) -> list[Levels | None]:
    """Return the order and the levels of each row; None for one with a NaN."""

    def levels(row: np.ndarray) -> Levels | None:
        return None if np.isnan(row).any() else Levels.of_sorted(sort_row(row))

    return [found for _, found in map_in_order(levels, X, n_workers=n_workers_for(*X.shape))]


def n_workers_for(n_tasks: int, n_columns: int) -> int:
    """Return on how many threads tasks on rows of so many columns are worth their start."""
    return max(min(n_cores(), n_tasks), 1) if n_columns >= LONG_ROW else 1
