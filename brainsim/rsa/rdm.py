"""Turn inner products or responses into representational dissimilarity matrices (RDMs), as vectors of pairs.

A vector of pairs is the upper triangle of an RDM, row by row: the order of SciPy's `pdist`.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from brainsim.core.checks import check_choice
from brainsim.core.errors import InvalidValueError, NumericalError

# Dissimilarities that follow from inner products alone, and what they are in words.
DISTANCES = {
    "correlation": "1 - Pearson's r over features",
    "cosine": "1 - cosine",
    "euclidean": "Euclidean distance",
    "sqeuclidean": "squared Euclidean distance per feature",
}

# A row whose spread is below this share of its size is constant: what is left is rounding.
FLAT_SHARE = 1e-7


def square_rdm(
    gram: np.ndarray, row_sums: np.ndarray, n_features: int, *, distance: str, name: str, rows: str = "TRs"
) -> np.ndarray:
    """Return the dissimilarities of rows from their inner products alone.

    Pearson's r over features is the cosine of rows whose mean over features is removed: with row sums s and p features
    the inner products of centred rows are ``K - s s' / p``. Squared Euclidean distances are ``k_ii + k_jj - 2 k_ij``.

    Parameters
    ----------
    gram : ndarray, (n_rows, n_rows)
        Inner products of the rows.
    row_sums : ndarray, (n_rows,)
        Sum of each row over its features.
    n_features : int
        Number of features; at least 2 for correlation.
    distance : {"correlation", "cosine", "euclidean", "sqeuclidean"}
        See `DISTANCES`; sqeuclidean is divided by the number of features.
    name : str
        What the rows are features of, for the error.
    rows : str
        What the rows are, for the error.

    Returns
    -------
    ndarray of float64, (n_rows, n_rows)
        Symmetric, zero on the diagonal.

    Raises
    ------
    NumericalError
        Where a row has no direction: constant over features (correlation), or zero (cosine).
    """
    check_choice("--distance", distance, tuple(DISTANCES))
    K = gram.astype(np.float64)
    power = K.diagonal().clip(min=0).copy()
    if distance in ("euclidean", "sqeuclidean"):
        D = (power[:, None] + power[None, :] - 2 * K).clip(min=0)
        np.fill_diagonal(D, 0)
        D = np.sqrt(D) if distance == "euclidean" else D / n_features
        return np.asarray(D)
    if distance == "correlation":
        if n_features < 2:
            raise InvalidValueError(f"{name} has {n_features} feature(s); 1 - Pearson needs at least 2.")
        K -= np.outer(row_sums, row_sums) / n_features
    norm = np.sqrt(K.diagonal().clip(min=0))
    flat = norm <= FLAT_SHARE * np.sqrt(power)
    if flat.any():
        what = "have the same value in all features" if distance == "correlation" else "are zero in all features"
        told = "1 - Pearson" if distance == "correlation" else "the cosine"
        raise NumericalError(
            f"{int(flat.sum())} of {len(flat)} {rows} of {name} {what}; {told} is not defined for them."
        )
    K /= norm[:, None]
    K /= norm[None, :]
    D = 1 - K
    np.fill_diagonal(D, 0)
    return D


def correlation_rdm_from_gram(gram: np.ndarray, row_sums: np.ndarray, n_features: int, *, name: str) -> np.ndarray:
    """Return 1 - Pearson between rows, from their inner products, float64 (n_pairs,); see `square_rdm`."""
    return upper(square_rdm(gram, row_sums, n_features, distance="correlation", name=name))


def correlation_rdm(X: np.ndarray, *, name: str) -> np.ndarray:
    """Return 1 - Pearson between the rows of X (n_rows, n_features), float64 (n_pairs,)."""
    return pattern_rdm(X, distance="correlation", name=name)


def pattern_rdm(X: np.ndarray, *, distance: str, name: str, rows: str = "TRs") -> np.ndarray:
    """Return the dissimilarities between the rows of X (n_rows, n_features), float64 (n_pairs,)."""
    X = X.astype(np.float64)
    return upper(square_rdm(X @ X.T, X.sum(axis=1), X.shape[1], distance=distance, name=name, rows=rows))


def gram_of_blocks(
    blocks: Iterable[np.ndarray], n_rows: int, *, weights: np.ndarray | None = None, device: str = "cpu"
) -> tuple[np.ndarray, np.ndarray]:
    """Return the inner products and the sums of rows whose features come in blocks.

    Parameters
    ----------
    blocks : iterable of ndarray, (n_inputs, n_columns)
        Features; float32 blocks are multiplied in float32 and summed in float64, float64 ones are float64 throughout.
    n_rows : int
        Rows of the result.
    weights : ndarray, (n_rows, n_inputs), optional
        What is applied to the inputs on both sides: ``W X X' W'``. It is applied to the features, because there are
        fewer rows than inputs.
    device : str
        Where products are computed.

    Returns
    -------
    gram : ndarray of float64, (n_rows, n_rows)
    row_sums : ndarray of float64, (n_rows,)
    """
    gram = np.zeros((n_rows, n_rows))
    sums = np.zeros(n_rows)
    for block in blocks:
        product, sum_of_rows = _products(block, weights) if device == "cpu" else _products_on(device, block, weights)
        gram += product
        sums += sum_of_rows
    return gram, sums


def _products(X: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return inner products and sums of rows; NumPy sees that the product is symmetric, and computes half of it."""
    if weights is not None:
        X = weights.astype(X.dtype) @ X
    return X @ X.T, X.sum(axis=1, dtype=np.float64)


def _products_on(device: str, block: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    import torch

    X = torch.as_tensor(block, device=device)
    if weights is not None:
        X = torch.as_tensor(weights, device=device).to(X.dtype) @ X
    return (X @ X.T).cpu().numpy(), X.sum(dim=1, dtype=torch.float64).cpu().numpy()


def upper(square: np.ndarray) -> np.ndarray:
    """Return the upper triangle of a square matrix, row by row, without the diagonal."""
    pairs: np.ndarray = square[~np.tri(len(square), dtype=bool)]
    return pairs


def distant_pairs(n_rows: int, *, min_lag: int) -> np.ndarray:
    """Return which pairs of rows lie at least `min_lag` rows apart, bool (n_pairs,)."""
    first, second = np.triu_indices(n_rows, k=1)
    return np.asarray(second - first >= min_lag)


def from_square(square: np.ndarray, *, name: str) -> np.ndarray:
    """Return the pairs of a square RDM after checking that it is one, float64 (n_pairs,).

    Raises
    ------
    InvalidValueError
        Not square, not symmetric, not finite, or not zero on the diagonal.
    """
    if square.ndim != 2 or square.shape[0] != square.shape[1]:
        raise InvalidValueError(f"{name} has the shape {square.shape}; an RDM is square.")
    D = square.astype(np.float64)
    if not np.isfinite(D).all():
        raise InvalidValueError(f"{name} holds {int((~np.isfinite(D)).sum())} values that are not finite.")
    size = max(float(np.abs(D).max()), 1e-300)
    # Files of others are float32, or rounded: a thousandth of the largest value is no asymmetry.
    if np.abs(D - D.T).max() > 1e-3 * size:
        raise InvalidValueError(f"{name} is not symmetric; an RDM is.")
    if np.abs(D.diagonal()).max() > 1e-3 * size:
        raise InvalidValueError(
            f"{name} has up to {np.abs(D.diagonal()).max():g} on its diagonal; dissimilarities are 0 there.",
            hint="similarities must be turned into dissimilarities, 1 - r",
        )
    return upper(D)


def to_square(pairs: np.ndarray) -> np.ndarray:
    """Return square RDMs of vectors of pairs, (..., n_pairs) to (..., n_rows, n_rows)."""
    n_rows = n_rows_of(pairs.shape[-1])
    out = np.zeros((*pairs.shape[:-1], n_rows, n_rows), pairs.dtype)
    i, j = np.triu_indices(n_rows, k=1)
    out[..., i, j] = out[..., j, i] = pairs
    return out


def n_rows_of(n_pairs: int) -> int:
    """Return how many rows have so many pairs.

    Raises
    ------
    InvalidValueError
        A number of pairs that no number of rows has.
    """
    n_rows = int((1 + np.sqrt(1 + 8 * n_pairs)) // 2)
    if n_rows * (n_rows - 1) // 2 != n_pairs or n_rows < 2:
        raise InvalidValueError(f"{n_pairs} pairs; n rows have n (n - 1) / 2 pairs: 1, 3, 6, 10, ….")
    return n_rows
