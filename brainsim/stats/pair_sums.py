"""Turn values of pairs of stimuli into their sums over draws of stimuli, for all draws at once.

Where stimulus i was drawn c_i times, pair (i, j) counts c_i c_j times, so that a sum over the pairs of a draw is
``c' M c / 2`` with M the square of values: one matrix product serves all draws, and no pair is gathered. Pairs of a
stimulus with itself lie on the diagonal, which is 0.
"""

from __future__ import annotations

import numpy as np


class PairSums:
    """Sums over the pairs of every draw: within each part of the stimuli, and among all stimuli without it.

    Parameters
    ----------
    counts : ndarray of float64, (n_draws, n_stimuli)
        How often each stimulus was drawn.
    part_of : ndarray of int, (n_stimuli,)
        Part of each stimulus.
    n_parts : int
    """

    def __init__(self, counts: np.ndarray, part_of: np.ndarray, *, n_parts: int) -> None:
        self._counts = counts
        self._parts = [np.flatnonzero(part_of == part) for part in range(n_parts)]
        self._indicator = (part_of[:, None] == np.arange(n_parts)).astype(np.float64)
        self._upper = np.triu_indices(counts.shape[1], k=1)
        self._square = np.zeros((counts.shape[1],) * 2)
        self.n_pairs = self(np.ones(len(self._upper[0])))

    def __call__(self, pairs: np.ndarray) -> np.ndarray:
        """Return the sums of a value per pair, (2, n_draws, n_parts): within a part, and without it."""
        i, j = self._upper
        self._square[i, j] = self._square[j, i] = pairs
        # Of every two parts; each pair within one is met twice.
        between = np.stack(
            [(self._counts[:, part] @ self._square[part] * self._counts) @ self._indicator for part in self._parts],
            axis=1,
        )
        own = np.diagonal(between, axis1=1, axis2=2)
        others = between.sum(axis=(1, 2))[:, None] - 2 * between.sum(axis=2) + own
        sums: np.ndarray = np.stack([own, others]) / 2
        return sums

    def means(self, rdms: np.ndarray) -> np.ndarray:
        """Return the mean of each RDM, (2, n_draws, n_parts, n_rdms)."""
        return np.stack([self._per_pair(rdm) for rdm in rdms], axis=-1)

    def _per_pair(self, values: np.ndarray) -> np.ndarray:
        sums = self(values)
        means: np.ndarray = np.divide(sums, self.n_pairs, out=np.zeros_like(sums), where=self.n_pairs > 0)
        return means

    def covariances(self, A: np.ndarray, B: np.ndarray, mean_a: np.ndarray, mean_b: np.ndarray) -> np.ndarray:
        """Return the covariances of the rows of A and B, (2, n_draws, n_parts, n_a, n_b)."""
        products: np.ndarray = np.empty((*self.n_pairs.shape, len(A), len(B)))
        for a, x in enumerate(A):
            for b, y in enumerate(B):
                if A is B and b < a:
                    products[..., a, b] = products[..., b, a]
                else:
                    products[..., a, b] = self._per_pair(x * y)
        products -= mean_a[..., :, None] * mean_b[..., None, :]
        return products
