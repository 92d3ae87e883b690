"""Turn two sets of RDMs into a table of their similarities. A comparison is an entry of COMPARISONS."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from brainsim.rsa.rdm import n_rows_of

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


def whitened_cosine(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Return the cosine of RDMs in units of the covariance of their entries, (n_a, n_b).

    Distances that share a condition vary together. With equal noise of all conditions their covariance is
    ``V = 2 I + M' M``, with M (n_rows, n_pairs) 1 where a pair has a row, and Woodbury's identity gives
    ``2 x' V⁻¹ y = x'y - (r_x' r_y - 2 s_x s_y / n) / n`` with r the row sums of an RDM and s the sum of its pairs:
    no matrix of pairs by pairs. It needs all pairs of the rows.

    Raises
    ------
    InvalidValueError
        Where pairs are left out.

    References
    ----------
    Diedrichsen et al. 2021, Neurons, Behavior, Data analysis, and Theory 5(3).
    """
    A, B = A.astype(np.float64), B.astype(np.float64)
    n_rows = n_rows_of(A.shape[1])
    i, j = np.triu_indices(n_rows, k=1)
    rows_a, rows_b = (_row_sums(X, i, j, n_rows) for X in (A, B))
    products = A @ B.T - (rows_a @ rows_b.T - 2 * np.outer(A.sum(axis=1), B.sum(axis=1)) / n_rows) / n_rows
    own = [
        np.square(X).sum(axis=1) - (np.square(r).sum(axis=1) - 2 * X.sum(axis=1) ** 2 / n_rows) / n_rows
        for X, r in ((A, rows_a), (B, rows_b))
    ]
    norm = np.sqrt(np.outer(*(np.clip(o, 0, None) for o in own)))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(norm > 0, products / norm, np.nan)


def _row_sums(X: np.ndarray, i: np.ndarray, j: np.ndarray, n_rows: int) -> np.ndarray:
    sums = [np.bincount(i, weights=x, minlength=n_rows) + np.bincount(j, weights=x, minlength=n_rows) for x in X]
    return np.array(sums)


def linear_cka(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Return linear centred kernel alignment of the geometries that RDMs describe, (n_a, n_b).

    ``-J D J / 2`` is the kernel whose squared Euclidean distances are D, features centred over rows. Its alignment with
    another is the published linear CKA where D holds squared Euclidean distances (``--distance sqeuclidean``), and is
    the whitened cosine of the RDMs: the two are one number (Diedrichsen et al. 2021).

    References
    ----------
    Kornblith et al. 2019, ICML.
    """
    return whitened_cosine(A, B)


COMPARISONS: dict[str, Comparison] = {
    "spearman": spearman,
    "pearson": pearson,
    "kendall": kendall,
    "cosine": cosine,
    "whitened-cosine": whitened_cosine,
    "cka": linear_cka,
}

# Those that know which rows a pair belongs to, and so need all pairs.
NEED_ALL_PAIRS = ("whitened-cosine", "cka")


def compare_each(name: str, A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Return the similarity of each row of A with the same row of B, float64 (n,)."""
    from scipy.stats import rankdata

    if name in ("spearman", "pearson", "cosine"):
        A, B = (rankdata(X, axis=1) if name == "spearman" else X.astype(np.float64) for X in (A, B))
        if name != "cosine":
            A, B = (X - X.mean(axis=1, keepdims=True) for X in (A, B))
        norm = np.linalg.norm(A, axis=1) * np.linalg.norm(B, axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            similar: np.ndarray = np.where(norm > 0, np.einsum("ij,ij->i", A, B) / norm, np.nan)
        return similar
    return np.array([COMPARISONS[name](a[None], b[None])[0, 0] for a, b in zip(A, B, strict=True)])


def noise_ceiling(
    rdms: np.ndarray, comparison: Comparison, *, raw: bool = False, squared: bool = False
) -> tuple[float, float]:
    """Return the lower and upper noise ceiling of a set of subjects.

    Lower: each subject against the mean of the others; upper: against the mean of all (Nili et al. 2014). RDMs are
    averaged as the comparison sees them (ranks, z-scores, or vectors of one length), so that no subject weighs more and
    no RDM is more like all subjects than the upper ceiling (for kendall and those of whitened RDMs nearly so).

    Parameters
    ----------
    rdms : ndarray, (n_subjects, n_pairs)
    comparison : callable
        An entry of COMPARISONS.
    raw : bool
        Average RDMs as they are.
    squared : bool
        Square each subject's similarity before averaging.

    Returns
    -------
    (float, float)
        Means over subjects; NaN with fewer than two.
    """
    from scipy.stats import rankdata

    if len(rdms) < 2:
        return float("nan"), float("nan")
    z = rdms.astype(np.float64)
    if not raw:
        if comparison in (spearman, kendall):
            z = rankdata(z, axis=1)
        if comparison in (spearman, kendall, pearson):
            z = z - z.mean(axis=1, keepdims=True)
        z /= np.linalg.norm(z, axis=1, keepdims=True)
    everyone = z.sum(axis=0)
    lower = np.array([comparison(rdm[None], (everyone - own)[None])[0, 0] for rdm, own in zip(rdms, z, strict=True)])
    upper = comparison(rdms, everyone[None])[:, 0]
    if squared:
        lower, upper = lower**2, upper**2
    return float(lower.mean()), float(upper.mean())
