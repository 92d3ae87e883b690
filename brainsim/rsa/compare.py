"""Turn two sets of RDMs into a table of their similarities. A comparison is an entry of COMPARISONS."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Comparison = Callable[[np.ndarray, np.ndarray], np.ndarray]


def cosine(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Return the cosine between the rows of A (n_a, n_pairs) and of B (n_b, n_pairs), float64 (n_a, n_b).

    A row without length gives NaN.
    """
    A, B = A.astype(np.float64), B.astype(np.float64)
    norm = np.outer(np.linalg.norm(A, axis=1), np.linalg.norm(B, axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(norm > 0, (A @ B.T) / norm, np.nan)


def pearson(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation between the rows of A and of B, (n_a, n_b)."""
    return cosine(A - A.mean(axis=1, keepdims=True), B - B.mean(axis=1, keepdims=True))


def spearman(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Return Spearman's rank correlation between the rows of A and of B, ties at their mean rank, (n_a, n_b)."""
    from scipy.stats import rankdata

    return pearson(rankdata(A, axis=1), rankdata(B, axis=1))


def kendall(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Return Kendall's tau-a between the rows of A and of B, (n_a, n_b).

    Tau-a divides the surplus of concordant pairs by all pairs, so that ties count against a model (Nili et al. 2014).
    SciPy gives tau-b in O(n log n); tau-a follows from the numbers of ties.
    """
    from scipy.stats import kendalltau

    n = A.shape[1]
    n_pairs = n * (n - 1) / 2
    untied_a = [n_pairs - _tied(row) for row in A]
    untied_b = [n_pairs - _tied(row) for row in B]
    table = np.full((len(A), len(B)), np.nan)
    for i, a in enumerate(A):
        for j, b in enumerate(B):
            if untied_a[i] and untied_b[j]:
                tau_b = float(kendalltau(a, b).statistic)
                table[i, j] = tau_b * np.sqrt(untied_a[i] * untied_b[j]) / n_pairs
    return table


def _tied(row: np.ndarray) -> float:
    counts = np.unique(row, return_counts=True)[1].astype(np.float64)
    return float((counts * (counts - 1) / 2).sum())


COMPARISONS: dict[str, Comparison] = {"spearman": spearman, "pearson": pearson, "kendall": kendall, "cosine": cosine}


def noise_ceiling(rdms: np.ndarray, comparison: Comparison) -> tuple[float, float]:
    """Return the lower and upper noise ceiling of a set of subjects.

    Lower: each subject against the mean of the others; upper: against the mean of all (Nili et al. 2014). RDMs are
    standardised before they are averaged, so that no subject weighs more.

    Parameters
    ----------
    rdms : ndarray, (n_subjects, n_pairs)

    Returns
    -------
    (float, float)
        Means over subjects; NaN with fewer than two.
    """
    if len(rdms) < 2:
        return float("nan"), float("nan")
    z = rdms - rdms.mean(axis=1, keepdims=True)
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    everyone = z.sum(axis=0)
    lower = [comparison(rdm[None], (everyone - own)[None])[0, 0] for rdm, own in zip(rdms, z, strict=True)]
    upper = comparison(rdms, everyone[None])[:, 0]
    return float(np.mean(lower)), float(np.mean(upper))
