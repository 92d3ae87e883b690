"""Turn two sets of RDMs into a table of their similarities. A comparison is an entry of COMPARISONS."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

import numpy as np

from brainsim.rsa.ranks import rank_rows, tau_a
from brainsim.rsa.rdm import n_rows_of

Comparison = Callable[[np.ndarray, np.ndarray], np.ndarray]


# Pairs that are read at once: 20 rows of them are 1.3 MB in float64 and stay in the cache of a core.
CHUNK_PAIRS = 8192

# Below this share of a row's power its spread about the mean is not what a mean taken off afterwards leaves to 1e-10.
SPREAD_SHARE = 1e-4


def cosine(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Return the cosine between the rows of A (n_a, n_pairs) and of B (n_b, n_pairs), float64 (n_a, n_b).

    A row without length gives NaN.
    """
    inner = _InnerProducts(len(A), len(B))
    for a, b in _chunks(A, B, _evenly(A.shape[1])):
        inner.add(a, b)
    return _normalise(inner.products, inner.power_a, inner.power_b)


def pearson(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation between the rows of A and of B, (n_a, n_b).

    Means are taken off the sums of products, so that RDMs are read once and not copied. Only where a mean is so large
    that this would cancel digits is it taken off the RDM first.
    """
    n_pairs = A.shape[1]
    inner = _InnerProducts(len(A), len(B))
    sum_a, sum_b = np.zeros(len(A)), np.zeros(len(B))
    for a, b in _chunks(A, B, _evenly(n_pairs)):
        inner.add(a, b)
        sum_a += a.sum(axis=1)
        sum_b += b.sum(axis=1)
    power_a, power_b = inner.power_a - sum_a**2 / n_pairs, inner.power_b - sum_b**2 / n_pairs
    if (power_a < SPREAD_SHARE * inner.power_a).any() or (power_b < SPREAD_SHARE * inner.power_b).any():
        return _pearson_about(A, B, sum_a[:, None] / n_pairs, sum_b[:, None] / n_pairs)
    return _normalise(inner.products - np.outer(sum_a, sum_b / n_pairs), power_a, power_b)


def _pearson_about(A: np.ndarray, B: np.ndarray, mean_a: np.ndarray, mean_b: np.ndarray) -> np.ndarray:
    inner = _InnerProducts(len(A), len(B))
    for a, b in _chunks(A, B, _evenly(A.shape[1])):
        inner.add(a - mean_a, b - mean_b)
    return _normalise(inner.products, inner.power_a, inner.power_b)


def spearman(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Return Spearman's rank correlation between the rows of A and of B, ties at their mean rank, (n_a, n_b)."""
    centred_a = _centred_ranks(A)
    return cosine(centred_a, centred_a if B is A else _centred_ranks(B))


def _centred_ranks(X: np.ndarray) -> np.ndarray:
    ranks = rank_rows(X)
    ranks -= (X.shape[1] + 1) / 2  # their mean, with ties too
    return ranks


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
    n_rows = n_rows_of(A.shape[1])
    inner = _InnerProducts(len(A), len(B))
    rows_a, rows_b = np.zeros((len(A), n_rows)), np.zeros((len(B), n_rows))
    starts = _row_starts(n_rows)
    blocks = _blocks_of_rows(starts)
    for (first, last), (a, b) in zip(pairwise(blocks), _chunks(A, B, starts[blocks]), strict=True):
        inner.add(a, b)
        _add_row_sums(rows_a, a, starts, first, last)
        if b is not a:
            _add_row_sums(rows_b, b, starts, first, last)
    if B is A:
        rows_b = rows_a
    sum_a, sum_b = rows_a.sum(axis=1) / 2, rows_b.sum(axis=1) / 2  # each pair is in two rows
    products = inner.products - (rows_a @ rows_b.T - 2 * np.outer(sum_a, sum_b) / n_rows) / n_rows
    power_a, power_b = (
        power - (np.vecdot(rows, rows) - 2 * total**2 / n_rows) / n_rows
        for power, rows, total in ((inner.power_a, rows_a, sum_a), (inner.power_b, rows_b, sum_b))
    )
    return _normalise(products, power_a.clip(min=0), power_b.clip(min=0))


def _row_starts(n_rows: int) -> np.ndarray:
    """Return where in the vector of pairs each row of the upper triangle begins, and the end, (n_rows,)."""
    return np.concatenate([[0], np.cumsum(np.arange(n_rows - 1, 0, -1))])


def _blocks_of_rows(starts: np.ndarray) -> np.ndarray:
    """Return rows of the triangle at which blocks of about CHUNK_PAIRS pairs begin, and the end."""
    wanted = np.arange(0, starts[-1], CHUNK_PAIRS)
    return np.unique(np.append(np.searchsorted(starts, wanted), len(starts) - 1))


def _add_row_sums(sums: np.ndarray, x: np.ndarray, starts: np.ndarray, first: int, last: int) -> None:
    """Add the sums over both members of the pairs of rows first … last - 1 of the triangle, x (n, n_pairs of those)."""
    begins = starts[first : last + 1] - starts[first]
    sums[:, first:last] += np.add.reduceat(x, begins[:-1], axis=1)
    for row, (begin, end) in enumerate(pairwise(begins.tolist()), first + 1):
        sums[:, row:] += x[:, begin:end]


class _InnerProducts:
    """Sums of products of the rows of A with those of B, and of rows with themselves, over chunks of pairs."""

    def __init__(self, n_a: int, n_b: int) -> None:
        self.products, self.power_a, self.power_b = np.zeros((n_a, n_b)), np.zeros(n_a), np.zeros(n_b)

    def add(self, a: np.ndarray, b: np.ndarray) -> None:
        self.products += a @ b.T
        self.power_a += np.vecdot(a, a)
        self.power_b += np.vecdot(b, b)


def _chunks(A: np.ndarray, B: np.ndarray, bounds: Iterable[int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the pairs of A and B between two bounds in float64, one array where A is B; none is copied."""
    for start, stop in pairwise(bounds):
        a = A[:, start:stop].astype(np.float64, copy=False)
        yield a, a if B is A else B[:, start:stop].astype(np.float64, copy=False)


def _evenly(n_pairs: int) -> Iterable[int]:
    return [*range(0, n_pairs, CHUNK_PAIRS), n_pairs]


def _normalise(products: np.ndarray, power_a: np.ndarray, power_b: np.ndarray) -> np.ndarray:
    """Return products over the lengths of their rows; NaN where a row has none."""
    norm = np.sqrt(np.outer(power_a, power_b))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(norm > 0, products / norm, np.nan)


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

# Those that see where 0 is. Dissimilarities are positive, so that any two RDMs are alike in them: with the RDMs
# of 92 objects of 15 people an RDM of noise had a cosine of 0.94.
SEE_ZERO = ("cosine", "whitened-cosine", "cka")


def why_untested(name: str, *, squared: bool = False) -> str | None:
    """Return why similarities by a comparison are not tested against 0, as a sentence; None where they are."""
    if name in SEE_ZERO:
        return (
            f"Unrelated RDMs have a {name} above 0, for dissimilarities are positive: p and q against 0 would say "
            "nothing and are not given; differences between systems are tested."
        )
    if squared:
        return "Squares of similarities are above 0 by chance: p and q against 0 are not given."
    return None


# Similarities that are inner products of RDMs as they see them.
_ANGLES = ("spearman", "pearson", "cosine")


def as_seen(name: str, X: np.ndarray) -> np.ndarray:
    """Return RDMs (n, n_pairs) as a comparison sees them: ranks, about their mean, of length 1 where it is an angle.

    What is compared with many others need be sorted once; a row without length is NaN.
    """
    if name not in _ANGLES:
        return X
    seen = rank_rows(X) if name == "spearman" else X.astype(np.float64)
    if name != "cosine":
        seen -= seen.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(seen, axis=1, keepdims=True)
    seen /= np.where(norm > 0, norm, np.nan)
    return seen


def compare_each(name: str, A: np.ndarray, seen_B: np.ndarray) -> np.ndarray:
    """Return the similarity of each row of A with the same row of B, float64 (n,); B is given as `as_seen` gives it."""
    if name in _ANGLES:
        similar: np.ndarray = np.vecdot(as_seen(name, A), seen_B)
        return similar
    return np.array([COMPARISONS[name](a[None], b[None])[0, 0] for a, b in zip(A, seen_B, strict=True)])


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
    angle = next((name for name in _ANGLES if COMPARISONS[name] is comparison), None)
    alike = angle or ("spearman" if comparison is kendall else "cosine")  # tau-a sees ranks
    z = rdms.astype(np.float64) if raw else as_seen(alike, rdms)
    everyone = z.sum(axis=0)
    if angle is not None and not raw:  # each is sorted once
        lower = compare_each(angle, everyone - z, z)
        upper = z @ as_seen(angle, everyone[None])[0]
    else:
        rests = everyone - z
        lower = np.array([comparison(a[None], b[None])[0, 0] for a, b in zip(rdms, rests, strict=True)])
        upper = comparison(rdms, everyone[None])[:, 0]
    if squared:
        lower, upper = lower**2, upper**2
    return float(lower.mean()), float(upper.mean())
