"""Turn the p values of several tests into corrected ones, by the method that was declared before."""

from __future__ import annotations

import numpy as np

from brainsim.core.checks import check_choice
from brainsim.core.errors import InvalidValueError

CORRECTIONS = ("holm", "bh", "by")


def holm_adjusted(p: np.ndarray) -> np.ndarray:
    """Return p values after Holm's step-down correction: the chance of any false discovery among all tests.

    Parameters
    ----------
    p : ndarray, (n_tests,)
        Tests that are NaN were not made and do not count.

    Returns
    -------
    ndarray of float64, (n_tests,)
        At most 1; NaN where p is.

    References
    ----------
    Holm 1979, Scand. J. Stat. 6.
    """
    p = np.asarray(p, np.float64)
    if p.ndim != 1:
        raise InvalidValueError(f"p values have {p.ndim} axes; they must have one.")
    if ((p < 0) | (p > 1)).any():
        raise InvalidValueError(f"p values reach from {np.nanmin(p):g} to {np.nanmax(p):g}; they must be 0 to 1.")
    adjusted = np.full(p.shape, np.nan)
    made = np.flatnonzero(np.isfinite(p))
    order = made[np.argsort(p[made], kind="stable")]
    left = np.arange(len(order), 0, -1)  # tests that are not rejected yet
    adjusted[order] = np.maximum.accumulate(np.minimum(p[order] * left, 1.0)) if len(order) else []
    return adjusted


def correct(p: np.ndarray, *, method: str) -> np.ndarray:
    """Return corrected p values of a row of tests.

    Parameters
    ----------
    p : ndarray, (n_tests,)
        NaN where a test was not made.
    method : {"holm", "bh", "by"}
        Holm's, which bounds the chance of any false discovery; Benjamini and Hochberg's, or Benjamini and
        Yekutieli's, which bound the expected share of false ones among the discoveries.
    """
    from brainsim.stats.fdr import false_discovery_rates

    check_choice("the correction", method, CORRECTIONS)
    if method == "holm":
        return holm_adjusted(p)
    return false_discovery_rates(p, method="bh" if method == "bh" else "by")
