"""Turn layer RDMs and brain RDMs into the few numbers that least squares needs of them, exactly.

A block of pairs (a run's, say) has the layers' RDMs A (n_layers, n_pairs) and the brains' Y (n_targets, n_pairs). The
triangular factor of ``[A' Y']``, centred over pairs, holds all that any fit with an intercept of any target on any
layers needs, so that thousands of small fits never touch the pairs again. A factor loses no digits; products would.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Pairs that are factored at once: 160 columns of them are 80 MiB in float64.
CHUNK_PAIRS = 65536


@dataclass(frozen=True)
class Moments:
    """One block of pairs, or several, as least squares sees it.

    Parameters
    ----------
    R : ndarray of float64, (k, n_layers)
        ``R'R`` are the products of the centred layer RDMs.
    Z : ndarray of float64, (k, n_targets)
        ``R'Z`` are their products with the centred targets.
    power : ndarray of float64, (n_targets,)
        Sum of squares of each centred target.
    n_pairs : int
        Pairs.
    """

    R: np.ndarray
    Z: np.ndarray
    power: np.ndarray
    n_pairs: int

    @property
    def n_targets(self) -> int:
        """Number of targets."""
        return len(self.power)

    def standardised(self) -> Moments:
        """Return the moments of RDMs that are z-scored over their pairs; constant ones stay 0."""
        layer = np.sqrt(np.square(self.R).sum(axis=0) / self.n_pairs)
        target = np.sqrt(self.power / self.n_pairs)
        layer, target = np.where(layer > 0, layer, 1.0), np.where(target > 0, target, 1.0)
        return Moments(self.R / layer, self.Z / target, self.power / target**2, self.n_pairs)

    def residual(self, prediction: np.ndarray) -> Moments:
        """Return the moments of the targets less a prediction from the layers.

        Parameters
        ----------
        prediction : ndarray, (k, n_targets)
            ``R @ weights``: the centred prediction, as the factor sees it.
        """
        power = self.power - 2 * (self.Z * prediction).sum(axis=0) + np.square(prediction).sum(axis=0)
        return Moments(self.R, self.Z - prediction, power.clip(min=0), self.n_pairs)

    def pearson(self, prediction: np.ndarray) -> np.ndarray:
        """Return the correlation of a prediction with each target over pairs, (n_targets,); NaN of a constant one."""
        norm = np.sqrt(np.square(prediction).sum(axis=0) * self.power)
        with np.errstate(invalid="ignore", divide="ignore"):
            r: np.ndarray = np.where(norm > 0, (prediction * self.Z).sum(axis=0) / norm, np.nan)
        return r

    def r2(self, prediction: np.ndarray) -> np.ndarray:
        """Return the share of each target's variance over pairs that a prediction explains, (n_targets,)."""
        with np.errstate(invalid="ignore", divide="ignore"):
            r2: np.ndarray = 1 - self.residual(prediction).power / np.where(self.power > 0, self.power, np.nan)
        return r2


def pair_moments(A: np.ndarray, Y: np.ndarray) -> Moments:
    """Return the moments of one block of pairs.

    Parameters
    ----------
    A : ndarray, (n_layers, n_pairs)
        RDMs of layers.
    Y : ndarray, (n_targets, n_pairs)
        RDMs to be predicted.
    """
    n_layers, n_pairs = A.shape
    means = np.concatenate([A.mean(axis=1, dtype=np.float64), Y.mean(axis=1, dtype=np.float64)])
    factor = np.zeros((0, len(means)))
    for start in range(0, n_pairs, CHUNK_PAIRS):
        pairs = slice(start, start + CHUNK_PAIRS)
        block = np.concatenate([A[:, pairs], Y[:, pairs]]).T.astype(np.float64) - means
        factor = _triangle(np.concatenate([factor, block]))
    power = np.square(factor[:, n_layers:]).sum(axis=0)
    return Moments(factor[:n_layers, :n_layers], factor[:n_layers, n_layers:], power, n_pairs)


def pool(moments: Sequence[Moments]) -> Moments:
    """Return the moments of several blocks together, each centred by itself."""
    n_layers = moments[0].R.shape[1]
    factor = _triangle(np.concatenate([np.concatenate([m.R, m.Z], axis=1) for m in moments]))
    power = np.sum([m.power for m in moments], axis=0)
    return Moments(factor[:n_layers, :n_layers], factor[:n_layers, n_layers:], power, sum(m.n_pairs for m in moments))


def pool_others(moments: Sequence[Moments]) -> list[Moments]:
    """Return, for each block, the moments of all other blocks, summed afresh: nothing of the block is left in them."""
    return [pool([m for other, m in enumerate(moments) if other != held]) for held in range(len(moments))]


def _triangle(block: np.ndarray) -> np.ndarray:
    factor: np.ndarray = np.asarray(np.linalg.qr(block, mode="r"))
    return factor
