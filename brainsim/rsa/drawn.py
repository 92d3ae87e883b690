"""Turn draws of stimuli with replacement into what least squares needs of RDMs, for all draws at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from brainsim.rsa.moments import Moments
from brainsim.stats.pair_sums import PairSums

# Eigenvalues below this share of the largest are layers that say the same: what they differ in is rounding.
SAME_LAYER = 1e-10


@dataclass(frozen=True)
class Spread:
    """RDMs over some pairs of one draw, as correlations.

    Parameters
    ----------
    n_pairs : float
        Pairs, each as often as it was drawn.
    layers : ndarray of float64, (n_layers, n_layers)
        Correlations of layers with one another; 0 of a constant one.
    both : ndarray of float64, (n_layers, n_subjects)
        Of layers with subjects.
    mean, spread : ndarray of float64, (n_subjects,)
        Of each subject's dissimilarities.
    """

    n_pairs: float
    layers: np.ndarray
    both: np.ndarray
    mean: np.ndarray
    spread: np.ndarray

    def moments(self) -> Moments:
        """Return the moments of standardised RDMs."""
        values, vectors = np.linalg.eigh(self.layers)
        root = np.sqrt(np.where(values > SAME_LAYER * values[-1], values, 0.0))
        inverse = np.divide(1.0, root, out=np.zeros_like(root), where=root > 0)
        n = np.sqrt(self.n_pairs)
        power = np.where(self.spread > 0, self.n_pairs, 0.0)
        return Moments(
            n * root[:, None] * vectors.T, n * inverse[:, None] * (vectors.T @ self.both), power, round(self.n_pairs)
        )

    def similarity(self, weights: np.ndarray, offset: np.ndarray | None) -> np.ndarray:
        """Return the correlation of what standardised layers predict with each subject, or their cosine.

        Parameters
        ----------
        weights : ndarray, (n_subjects, n_layers)
        offset : ndarray or None, (n_subjects,)
            Mean of a prediction; with it the cosine is returned, and the correlation without.

        Returns
        -------
        ndarray of float64, (n_subjects,)
            0 of a prediction, or a subject, that has no length.
        """
        product = np.einsum("sl,ls->s", weights, self.both) * self.spread
        power = np.einsum("sl,lk,sk->s", weights, self.layers, weights).clip(min=0)
        own = self.spread**2
        if offset is not None:
            product, power, own = product + offset * self.mean, power + offset**2, own + self.mean**2
        length = np.sqrt(power * own)
        similar: np.ndarray = np.divide(product, length, out=np.zeros_like(length), where=length > 0)
        return similar


class DrawnRdms:
    """RDMs of subjects in every draw, beside which layers are set.

    Parameters
    ----------
    subjects : ndarray, (n_subjects, n_pairs)
    sums : PairSums
    """

    def __init__(self, subjects: np.ndarray, sums: PairSums) -> None:
        self._sums = sums
        # About their mean, so that no digits are lost when that of a draw is taken away.
        self._centre = subjects.mean(axis=1, dtype=np.float64)
        self._subjects = subjects - self._centre[:, None]
        self._mean = sums.means(self._subjects)
        power = np.stack([sums.means(y[None] ** 2)[..., 0] for y in self._subjects], axis=-1) - self._mean**2
        self._spread = np.sqrt(power.clip(min=0))

    def beside(self, layers: np.ndarray) -> DrawnPairing:
        """Return layers (n_layers, n_pairs) and subjects in every draw."""
        own = layers - layers.mean(axis=1, keepdims=True, dtype=np.float64)
        mean = self._sums.means(own)
        layer = self._sums.covariances(own, own, mean, mean)
        spread = np.sqrt(np.diagonal(layer, axis1=-2, axis2=-1).clip(min=0))
        both = self._sums.covariances(own, self._subjects, mean, self._mean)
        return DrawnPairing(
            n_pairs=self._sums.n_pairs,
            layers=_scaled(layer, spread, spread),
            both=_scaled(both, spread, self._spread),
            mean=self._mean + self._centre,
            spread=self._spread,
        )


@dataclass(frozen=True)
class DrawnPairing:
    """`Spread` of every draw and part; all arrays begin with (2, n_draws, n_parts): within a part, and without it."""

    n_pairs: np.ndarray
    layers: np.ndarray
    both: np.ndarray
    mean: np.ndarray
    spread: np.ndarray

    def within(self, draw: int, part: int) -> Spread:
        """Return the pairs among the stimuli of a part."""
        return self._at(0, draw, part)

    def without(self, draw: int, part: int) -> Spread:
        """Return the pairs among all other stimuli."""
        return self._at(1, draw, part)

    def _at(self, side: int, draw: int, part: int) -> Spread:
        at = (side, draw, part)
        return Spread(float(self.n_pairs[at]), self.layers[at], self.both[at], self.mean[at], self.spread[at])


def _scaled(covariance: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return correlations; 0 where one of the two does not spread."""
    scale = first[..., :, None] * second[..., None, :]
    scaled: np.ndarray = np.divide(covariance, scale, out=np.zeros_like(covariance), where=scale > 1e-300)
    return scaled
