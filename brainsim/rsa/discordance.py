"""Turn two orders of the same columns into the number of pairs that they order differently.

Where a row has few levels, SciPy's tree of counts is small and quick. Otherwise counting takes a grid. Columns stand
in the order of a; z are their places in the order of b. Cut both orders into chunks: pairs in different chunks of both
are counted from how many columns lie in which two chunks. Pairs in one chunk of a, and those in one chunk of b but two
of a, are counted within each chunk, by halves: where the places of a half in the sorted whole are known, their sum
tells how often the other half comes first (the rank sum of Wilcoxon's test). All of it is sums and sorts of whole
numbers in the cache, which NumPy has vectorised; a tree of counts waits for branches, and for memory where columns are
many.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from brainsim.rsa.sorting import Sorted, count_pairs

# Below so many columns, or levels of one of the rows, SciPy's tree is quicker than the grid.
GRID_COLUMNS = 10_000
GRID_LEVELS = 256

# Pieces of this size are compared value by value: 62 calls on bytes, for what five more rounds of sorting would take.
SMALLEST = 32

# Pieces that are compared at once: a megabyte with what the comparison gives.
N_PIECES = 16384


@dataclass(frozen=True)
class Levels:
    """A row as the levels of its columns, in ascending order.

    Attributes
    ----------
    order : ndarray of intp, (n,)
        Columns, ascending by their value; tied ones in any order.
    levels : ndarray of uint32, (n,)
        Level of each column, from 0 without gaps, ties alike.
    n_levels : int
    n_tied_pairs : float
    """

    order: np.ndarray
    levels: np.ndarray
    n_levels: int
    n_tied_pairs: float

    @classmethod
    def of_sorted(cls, row: Sorted) -> Levels:
        """Return the levels of a sorted row."""
        ascending = np.arange(len(row.order), dtype=np.uint32)
        if len(row.tied):
            new = np.ones(len(ascending), bool)
            new[row.tied] = False
            new[row.tied[np.cumsum(row.sizes) - row.sizes]] = True
            ascending = np.cumsum(new, dtype=np.uint32) - np.uint32(1)
        levels = np.empty_like(ascending)
        levels[row.order] = ascending
        return cls(row.order, levels, int(ascending[-1]) + 1, row.n_tied_pairs())


class DiscordantPairs:
    """Counts discordant pairs of rows of n columns, in arrays that all counts share: one per thread.

    Parameters
    ----------
    n : int
        Number of columns, at least 2.
    """

    def __init__(self, n: int) -> None:
        self.n = n
        self.tree = _tree_of_counts()
        self.n_bits = max((n - 1).bit_length() + 1, 12) // 2
        self.size = 1 << self.n_bits
        self.n_chunks = -(-n // self.size)
        shape = (self.n_chunks, self.size)
        self.z, self.w = np.empty((2, n), np.uint32)
        self.first = np.empty(shape, np.uint32 if self.n_chunks * self.size**2 <= 1 << 32 else np.uint64)
        self.second = np.empty(shape, np.uint32)
        self.cells = np.empty(shape, np.intp)
        self.inside = np.empty((2 * self.n_chunks, self.size), np.uint16 if self.size <= 256 else np.uint32)

    def count(self, a: Levels, b: Levels) -> tuple[float, float]:
        """Return how many pairs of columns a and b order differently, and how many are tied in both."""
        tied = a.n_tied_pairs and b.n_tied_pairs
        if self.tree is not None and (self.n < GRID_COLUMNS or min(a.n_levels, b.n_levels) < GRID_LEVELS):
            if b.n_levels > a.n_levels:
                a, b = b, a  # the fewer levels, the smaller the tree
            both = _tied_pairs(np.sort(_joined(a.levels, b.levels))) if tied else 0.0
            return self.tree(a.levels[a.order].astype(np.intp), b.levels[a.order].astype(np.intp) + 1), both
        if not (a.n_tied_pairs or b.n_tied_pairs):
            # "clip" writes to the array that is given, where others would first make one.
            np.take(b.levels, a.order, out=self.z, mode="clip")
            np.take(a.levels, b.order, out=self.w, mode="clip")
            return float(self.count_inversions(self.z, self.w)), 0.0
        # Ties in one row stand in the order of the other, and ties in both in one order, so that none is discordant.
        keys = _joined(a.levels, b.levels)
        keys.sort()
        both = _tied_pairs(keys) if tied else 0.0
        steps = np.arange(self.n, dtype=np.uint32)
        keys <<= np.uint64(32)
        keys |= steps
        keys.sort()
        self.w[:] = keys & np.uint64(0xFFFFFFFF)
        self.z[self.w] = steps
        return float(self.count_inversions(self.z, self.w)), both

    def count_inversions(self, z: np.ndarray, w: np.ndarray) -> int:
        """Return the number of pairs in which two orders of n columns differ.

        Parameters
        ----------
        z : ndarray of uint32, (n,)
            Places in the order of b, in the order of a: each of 0 … n - 1 once.
        w : ndarray of uint32, (n,)
            Places in the order of a, in the order of b: the inverse of z.
        """
        for keys, places in ((self.first, z), (self.second, w)):
            keys.ravel()[: self.n] = places
            keys.ravel()[self.n :] = np.arange(self.n, keys.size)  # what fills the last chunk is in order
        self.cells[:] = self.first
        self.cells >>= self.n_bits
        across = _count_across(self.cells)
        self.first <<= self.n_bits
        self.second &= ~np.uint32(self.size - 1)
        for keys, inside in ((self.first, self.inside[: self.n_chunks]), (self.second, self.inside[self.n_chunks :])):
            keys |= np.arange(self.size, dtype=keys.dtype)
            keys.sort(axis=1)
            keys &= keys.dtype.type(self.size - 1)
            inside[:] = keys
        return across + _count_inside(self.inside)


def _joined(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Return two levels as one number, uint64."""
    keys = high.astype(np.uint64)
    keys <<= np.uint64(32)
    keys |= low
    return keys


def _tied_pairs(ascending: np.ndarray) -> float:
    """Return how many pairs of sorted numbers are equal."""
    bounds = np.flatnonzero(np.concatenate([[True], ascending[1:] != ascending[:-1], [True]]))
    return count_pairs(np.diff(bounds))


def _tree_of_counts() -> Callable[[np.ndarray, np.ndarray], float] | None:
    """Return what counts discordant pairs of two rows of levels, the first ascending, the second from 1.

    SciPy's own counter is compiled but not public; where a version lacks it, the grid counts.
    """
    try:
        from scipy.stats._stats import _kendall_dis
    except ImportError:
        return None
    return lambda x, y: float(_kendall_dis(x, y))


def _count_across(chunks: np.ndarray) -> int:
    """Return the discordant pairs in different chunks of both orders; overwrites the chunks of b, (n_chunks, size)."""
    n = len(chunks)
    chunks += np.arange(0, n * n, n)[:, None]
    grid = np.bincount(chunks.ravel(), minlength=n * n).reshape(n, n)  # (chunks of a, chunks of b)
    before = grid.sum(axis=0) - np.cumsum(grid, axis=0)
    np.cumsum(before, axis=1, out=before)  # columns later in a and at most here in b
    return int(np.einsum("ij,ij->", grid[:, 1:], before[:, :-1]))


def _count_inside(P: np.ndarray) -> int:
    """Return the inversions of the rows of P, each a permutation of its columns; overwrites P."""
    size = P.shape[1]
    n_inversions = 0
    while size > SMALLEST:
        half = size // 2
        n_bits = half.bit_length() - 1
        n_inversions += int(P[:, :half].sum(dtype=np.uint64)) - len(P) * (half * (half - 1) // 2)
        P = P.reshape(-1, half)
        if half > SMALLEST:
            P = P.astype(np.uint16 if size <= 256 else np.uint32, copy=False)
            P <<= n_bits
            P |= np.arange(half, dtype=P.dtype)
            P.sort(axis=1)  # the inverse of each half, which has as many inversions
            P &= P.dtype.type(half - 1)
        size = half
    for start in range(0, len(P), N_PIECES):
        Q = np.ascontiguousarray(P[start : start + N_PIECES].astype(np.uint8).T)
        n_inversions += sum(int(np.count_nonzero(Q[i + 1 :] < Q[i])) for i in range(size - 1))
    return n_inversions
