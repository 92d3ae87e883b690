"""Turn two sets of RDMs into a table of their similarities. A comparison is an entry of COMPARISONS."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from brainsim.rsa.ranks import rank_rows, tau_a
from brainsim.rsa.rdm import n_rows_of

Comparison = Callable[[np.ndarray, np.ndarray], np.ndarray]


# Pairs that are read at once: 20 rows of them are 1.3 MB in float64 and stay in the cache of a core.
CHUNK_PAIRS = 8192


def cosine(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Return the cosine between the rows of A (n_a, n_pairs) and of B (n_b, n_pairs), float64 (n_a, n_b).

    A row without length gives NaN.
    """
    return _cosine(A, B, np.zeros((len(A), 1)), np.zeros((len(B), 1)))


def pearson(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation between the rows of A and of B, (n_a, n_b)."""
    return _cosine(A, B, *(X.mean(axis=1, keepdims=True, dtype=np.float64) for X in (A, B)))


def _cosine(A: np.ndarray, B: np.ndarray, origin_a: np.ndarray, origin_b: np.ndarray) -> np.ndarray:
    """Return the cosine about an origin of each row, in one pass that copies no whole RDM."""
    products = np.zeros((len(A), len(B)))
    power_a, power_b = np.zeros(len(A)), np.zeros(len(B))
    for start in range(0, A.shape[1], CHUNK_PAIRS):
        pairs = slice(start, start + CHUNK_PAIRS)
        a, b = A[:, pairs] - origin_a, B[:, pairs] - origin_b  # float64: origins are
        products += a @ b.T
        power_a += np.einsum("ij,ij->i", a, a)
        power_b += np.einsum("ij,ij->i", b, b)
    norm = np.sqrt(np.outer(power_a, power_b))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(norm > 0, products / norm, np.nan)


def spearman(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Return Spearman's rank correlation between the rows of A and of B, ties at their mean rank, (n_a, n_b)."""
    return pearson(rank_rows(A), rank_rows(B))


def kendall(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Return Kendall's tau-a between the rows of A and of B, (n_a, n_b).

    Tau-a divides the surplus of concordant pairs by all pairs, so that ties count against a model (Nili et al. 2014).
    """
    return tau_a(A, B)


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
    if name in ("spearman", "pearson", "cosine"):
        A, B = (rank_rows(X) if name == "spearman" else X.astype(np.float64) for X in (A, B))
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
    if len(rdms) < 2:
        return float("nan"), float("nan")
    z = rdms.astype(np.float64)
    if not raw:
        if comparison in (spearman, kendall):
            z = rank_rows(z)
        if comparison in (spearman, kendall, pearson):
            z = z - z.mean(axis=1, keepdims=True)
        z /= np.linalg.norm(z, axis=1, keepdims=True)
    everyone = z.sum(axis=0)
    lower = np.array([comparison(rdm[None], (everyone - own)[None])[0, 0] for rdm, own in zip(rdms, z, strict=True)])
    upper = comparison(rdms, everyone[None])[:, 0]
    if squared:
        lower, upper = lower**2, upper**2
    return float(lower.mean()), float(upper.mean())
