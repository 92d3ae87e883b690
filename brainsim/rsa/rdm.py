"""Turn inner products or responses into representational dissimilarity matrices (RDMs), as vectors of pairs.

A vector of pairs is the upper triangle of an RDM, row by row: the order of SciPy's `pdist`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from brainsim.core.errors import InvalidValueError, NumericalError


def correlation_rdm_from_gram(gram: np.ndarray, row_sums: np.ndarray, n_features: int, *, name: str) -> np.ndarray:
    """Return 1 - Pearson between rows, from their inner products alone.

    Pearson's r over features is the cosine of rows whose mean over features is removed: with row sums s and p features
    the inner products of centred rows are ``K - s s' / p``.

    Parameters
    ----------
    gram : ndarray, (n_rows, n_rows)
        Inner products of the rows.
    row_sums : ndarray, (n_rows,)
        Sum of each row over its features.
    n_features : int
        Number of features; at least 2.
    name : str
        What the rows are features of, for the error.

    Returns
    -------
    ndarray of float64, (n_pairs,)

    Raises
    ------
    NumericalError
        Where a row is constant over features: it correlates with nothing.
    """
    if n_features < 2:
        raise InvalidValueError(f"{name} has {n_features} feature(s); 1 - Pearson needs at least 2.")
    centred = gram.astype(np.float64) - np.outer(row_sums, row_sums) / n_features
    norm = np.sqrt(np.clip(centred.diagonal(), 0, None))
    flat = norm <= 1e-7 * np.sqrt(np.clip(gram.diagonal(), 0, None))
    if flat.any():
        raise NumericalError(
            f"{int(flat.sum())} of {len(flat)} TRs of {name} have the same value in all features; 1 - Pearson is not "
            "defined for them."
        )
    return upper(1 - centred / np.outer(norm, norm))


def correlation_rdm(X: np.ndarray, *, name: str) -> np.ndarray:
    """Return 1 - Pearson between the rows of X (n_rows, n_features), float64 (n_pairs,)."""
    X = X.astype(np.float64)
    return correlation_rdm_from_gram(X @ X.T, X.sum(axis=1), X.shape[1], name=name)


def upper(square: np.ndarray) -> np.ndarray:
    """Return the upper triangle of a square matrix, row by row, without the diagonal."""
    pairs: np.ndarray = square[np.triu_indices(len(square), k=1)]
    return pairs


def distant_pairs(n_rows: int, *, min_lag: int, left_out: Sequence[int] = ()) -> np.ndarray:
    """Return which pairs of rows lie at least `min_lag` rows apart and hold no row left out, bool (n_pairs,)."""
    first, second = np.triu_indices(n_rows, k=1)
    is_kept = np.ones(n_rows, bool)
    is_kept[list(left_out)] = False
    return np.asarray((second - first >= min_lag) & is_kept[first] & is_kept[second])
