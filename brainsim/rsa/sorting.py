"""Turn a row of dissimilarities into its ascending order and its ties: values are sorted packed with their columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# From here on values are packed with their places: below, the calls that pack cost as much as they save.
PACKED_ROW = 1000

# Values that are looked at to tell rows of few distinct values (a categorical model), which NumPy's argsort is best at.
N_SAMPLED = 256


@dataclass(frozen=True)
class Sorted:
    """A row in ascending order.

    Attributes
    ----------
    order : ndarray of intp, (n,)
        Columns, ascending by their value; tied ones in any order.
    tied : ndarray of intp
        Places in that order whose value is that of a neighbour, ascending.
    sizes : ndarray of intp
        Sizes of the groups of ties, in the order of `tied`; their sum is its length.
    """

    order: np.ndarray
    tied: np.ndarray
    sizes: np.ndarray

    def mean_ranks(self) -> np.ndarray:
        """Return the ranks from 1 in ascending order, ties at their mean rank, float64 (n,)."""
        ranks = np.arange(1.0, len(self.order) + 1)
        if len(self.tied):
            first = self.tied[np.cumsum(self.sizes) - self.sizes]
            ranks[self.tied] = np.repeat(first + (self.sizes + 1) / 2, self.sizes)
        return ranks

    def n_tied_pairs(self) -> float:
        """Return how many pairs of columns have one value."""
        return count_pairs(self.sizes)


def count_pairs(sizes: np.ndarray) -> float:
    """Return how many pairs groups of these sizes hold."""
    n = sizes.astype(np.float64)
    return float((n * (n - 1) / 2).sum())


def sort_row(row: np.ndarray) -> Sorted:
    """Return the ascending order of a row without NaN, and its ties.

    Sorting need not be stable, because tied places share what is read of them. NumPy sorts whole numbers in a third of
    the time of its argsort (a tenth for millions), so what is sorted are whole numbers in the order of the values, with
    the column in their low bits. Values that differ only in the bits that made way are few; they are sorted again.
    """
    n = len(row)
    sample = np.sort(row[:: max(n // N_SAMPLED, 1)])
    if n < PACKED_ROW or (sample[1:] == sample[:-1]).any():
        order = np.argsort(row)
        return Sorted(order, *_ties(row[order], np.arange(n)))
    order, close = _packed_order(row)
    near = row[order[close]]
    if (near[1:] < near[:-1]).any():
        # Runs of close values ascend, so that sorting all of them at once sorts within each run.
        again = np.argsort(near)
        order[close], near = order[close[again]], near[again]
    return Sorted(order, *_ties(near, close))


def _packed_order(row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the order of values but for their lowest bits, and the places whose neighbour is equal but for those."""
    n = len(row)
    n_bits = (n - 1).bit_length()
    low = (1 << n_bits) - 1
    keys = np.add(row, 0.0, dtype=np.float64).view(np.int64)  # a copy, in which -0.0 is 0.0
    if keys.min() < 0:  # larger bits of a negative number are smaller values
        keys ^= (keys >> 63) & np.iinfo(np.int64).max
    keys &= ~low
    keys |= np.arange(n)
    keys.sort()
    order = (keys & low).astype(np.intp, copy=False)
    keys >>= n_bits
    equal = keys[1:] == keys[:-1]
    if not equal.any():
        return order, np.empty(0, np.intp)
    return order, np.flatnonzero(np.append(equal, False) | np.append(False, equal))


def _ties(ascending: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which of the places hold ties, and the sizes of their groups; values ascend with the places."""
    equal = ascending[1:] == ascending[:-1]
    if not equal.any():
        return np.empty(0, np.intp), np.empty(0, np.intp)
    tied = np.append(equal, False) | np.append(False, equal)
    begins = np.flatnonzero(np.append(True, ~equal))
    sizes = np.diff(np.append(begins, len(ascending)))
    return places[tied], sizes[sizes > 1]
