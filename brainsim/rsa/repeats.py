"""Turn repeated patterns into squared Mahalanobis and crossnobis distances."""

from __future__ import annotations

import numpy as np

from brainsim.core.errors import InvalidValueError
from brainsim.rsa.rdm import upper


def noise_covariance(repeats: np.ndarray, *, shrinkage: float | None = None) -> np.ndarray:
    """Return the covariance of repeats about their condition's mean, shrunk towards its diagonal.

    Parameters
    ----------
    repeats : ndarray, (n_repeats, n_conditions, n_channels)
        At least 2 repeats.
    shrinkage : float, optional
        From 0 (the sample covariance) to 1 (its diagonal); by default what minimises the expected squared error
        (Schäfer and Strimmer 2005, Stat. Appl. Genet. Mol. Biol. 4, target D).

    Returns
    -------
    ndarray of float64, (n_channels, n_channels)
        Divided by n_conditions (n_repeats - 1).
    """
    n_repeats, n_conditions, n_channels = _checked(repeats)
    E = (repeats - repeats.mean(axis=0)).astype(np.float64).reshape(-1, n_channels)
    freedom = n_conditions * (n_repeats - 1)
    S = E.T @ E / freedom
    if shrinkage is None:
        # Variance of each product, summed off the diagonal, over the sum of squared covariances.
        n = len(E)
        products = (E**2).T @ E**2 / n - (E.T @ E / n) ** 2
        off = ~np.eye(n_channels, dtype=bool)
        below = float((S[off] ** 2).sum())
        shrinkage = float(np.clip(products[off].sum() / freedom / below, 0, 1)) if below > 0 else 1.0
    shrunk: np.ndarray = (1 - shrinkage) * S + shrinkage * np.diag(S.diagonal())
    return shrunk


def noise_precision(repeats: np.ndarray, *, shrinkage: float | None = None) -> np.ndarray:
    """Return the inverse of `noise_covariance`, (n_channels, n_channels)."""
    from scipy.linalg import cho_factor, cho_solve

    S = noise_covariance(repeats, shrinkage=shrinkage)
    if (S.diagonal() <= 0).any():
        raise InvalidValueError(
            f"{int((S.diagonal() <= 0).sum())} of {len(S)} channels never differ between repeats; they have no noise."
        )
    precision: np.ndarray = cho_solve(cho_factor(S), np.eye(len(S)))
    return precision


def mahalanobis_rdm(repeats: np.ndarray, precision: np.ndarray | None = None) -> np.ndarray:
    """Return squared Mahalanobis distances of condition means, per channel, float64 (n_pairs,).

    Noise adds to every distance: it has no meaningful zero; `crossnobis_rdm` has.

    Parameters
    ----------
    repeats : ndarray, (n_repeats, n_conditions, n_channels)
    precision : ndarray, (n_channels, n_channels), optional
        The shrunk one of these repeats by default.
    """
    _checked(repeats)
    P = noise_precision(repeats) if precision is None else precision
    means = repeats.astype(np.float64).mean(axis=0)
    return _distances(means @ P @ means.T, means.shape[1])


def crossnobis_rdm(repeats: np.ndarray, precision: np.ndarray | None = None) -> np.ndarray:
    """Return cross-validated squared Mahalanobis distances per channel, float64 (n_pairs,).

    Differences of one repeat times those of the mean of the others, averaged over repeats: noise is independent between
    the two, so that the expected distance of equal patterns is 0, and single values may be negative.

    Parameters
    ----------
    repeats : ndarray, (n_repeats, n_conditions, n_channels)
    precision : ndarray, (n_channels, n_channels), optional
        The shrunk one of these repeats by default.

    References
    ----------
    Walther et al. 2016, NeuroImage 137.
    """
    n_repeats, _, n_channels = _checked(repeats)
    P = noise_precision(repeats) if precision is None else precision
    X = repeats.astype(np.float64)
    total = X.sum(axis=0)
    K = np.zeros((X.shape[1], X.shape[1]))
    for own in X:
        K += own @ P @ (total - own).T / (n_repeats - 1)
    return _distances(K / n_repeats, n_channels)


def _checked(repeats: np.ndarray) -> tuple[int, int, int]:
    n_repeats, n_conditions, n_channels = repeats.shape
    if n_repeats < 2:
        raise InvalidValueError(f"{n_repeats} repeat(s); distances in units of noise need at least 2.")
    return n_repeats, n_conditions, n_channels


def _distances(K: np.ndarray, n_channels: int) -> np.ndarray:
    power = K.diagonal()
    return upper(power[:, None] + power[None, :] - K - K.T) / n_channels
