"""Turn two lists of numbers into their rank correlation, with an interval over subjects and an exact p over models."""

from __future__ import annotations

from itertools import permutations

import numpy as np
from scipy.stats import rankdata

from brainsim.core.checks import check_choice
from brainsim.core.errors import InvalidValueError
from brainsim.core.seeds import named_rng

METHODS = ("kendall", "spearman")

# Up to so many models all orders are counted (40,320 of 8), and p is exact.
MAX_COUNTED = 8
N_DRAWS = 10_000


def rank_correlation(x: np.ndarray, Y: np.ndarray, *, method: str = "kendall") -> np.ndarray:
    """Return the rank correlation of `x` with every row of `Y`.

    Parameters
    ----------
    x : ndarray, (n,)
    Y : ndarray, (..., n)
    method : {"kendall", "spearman"}
        Kendall's tau-b, or Spearman's rho; both allow for ties.

    Returns
    -------
    ndarray of float64, (...)
        NaN where all numbers of a side are equal, or one is NaN.

    References
    ----------
    Kendall 1945, Biometrika 33 (tau-b); Spearman 1904, Am. J. Psychol. 15.
    """
    check_choice("the rank correlation", method, METHODS)
    x, Y = np.asarray(x, np.float64), np.asarray(Y, np.float64)
    if x.ndim != 1 or len(x) < 2 or Y.shape[-1:] != x.shape:
        raise InvalidValueError(f"shapes are {x.shape} and {Y.shape}; both must end in the same n of at least 2.")
    if method == "spearman":
        a, B = rankdata(x), rankdata(Y, axis=-1)
        a, B = a - a.mean(), B - B.mean(axis=-1, keepdims=True)
    else:
        left, right = np.triu_indices(len(x), 1)
        a, B = np.sign(x[left] - x[right]), np.sign(Y[..., left] - Y[..., right])  # (..., n_pairs)
    size = np.sqrt((a**2).sum() * (B**2).sum(axis=-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        r: np.ndarray = np.where(size > 0, (B @ a) / size, np.nan)
    return np.where(np.isnan(Y).any(axis=-1) | np.isnan(x).any(), np.nan, r)


def permutation_p(x: np.ndarray, y: np.ndarray, *, method: str = "kendall", seed: int = 0) -> float:
    """Return how often the correlation is as far from zero when the numbers of `y` are dealt out anew.

    This is about models: whether another set of so many models would show it too. With few models no p is small: four
    give 1/12 at best.

    Parameters
    ----------
    x, y : ndarray, (n,)
    method : {"kendall", "spearman"}
    seed : int
        Seed of the draws above 8 models; up to there all orders are counted.

    Returns
    -------
    float
        Two-sided; NaN where there is no correlation, or with fewer than three models.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    observed = float(rank_correlation(x, y, method=method))
    n = len(x)
    if np.isnan(observed) or n < 3:
        return float("nan")
    if n <= MAX_COUNTED:
        orders = np.array(list(permutations(range(n))))
        found = rank_correlation(x, y[orders], method=method)
        return float((np.abs(found) >= abs(observed) - 1e-12).mean())
    orders = named_rng(seed, "orders of models", n).permuted(np.tile(np.arange(n), (N_DRAWS, 1)), axis=1)
    found = rank_correlation(x, y[orders], method=method)
    return float((1 + (np.abs(found) >= abs(observed) - 1e-12).sum()) / (1 + N_DRAWS))


def bootstrap_over_subjects(
    x: np.ndarray, scores: np.ndarray, *, method: str = "kendall", level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Return the percentile interval of the correlation of `x` with mean scores when subjects are drawn anew.

    It says how sure the order of these models is, not whether other models would show it.

    Parameters
    ----------
    x : ndarray, (n_models,)
    scores : ndarray, (n_subjects, n_models)
        Subjects with NaN are left out.
    method : {"kendall", "spearman"}
    level : float
        Share of the draws inside.
    seed : int

    Returns
    -------
    low, high : float
        NaN with fewer than two subjects.
    """
    scores = np.asarray(scores, np.float64)
    known = scores[~np.isnan(scores).any(axis=1)]
    n = len(known)
    if n < 2:
        return float("nan"), float("nan")
    draws = named_rng(seed, "bootstrap over subjects", n).integers(n, size=(N_DRAWS, n))
    found = rank_correlation(x, known[draws].mean(axis=1), method=method)
    found = found[~np.isnan(found)]
    if not len(found):
        return float("nan"), float("nan")
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
