"""Turn p values into false discovery rates."""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.stats import false_discovery_control

from brainsim.core.checks import check_choice
from brainsim.core.errors import InvalidValueError

METHODS = ("bh", "by")


def false_discovery_rates(p: np.ndarray, *, method: Literal["bh", "by"] = "bh") -> np.ndarray:
    """Return the q value of each test of a row: the least rate of false discoveries at which it counts as one.

    Parameters
    ----------
    p : ndarray, (..., n_tests)
        p values; tests that are NaN were not made.
    method : {"bh", "by"}
        Benjamini and Hochberg, for independent or positively dependent tests, or Benjamini and Yekutieli, for any.

    Returns
    -------
    ndarray of float64, (..., n_tests)
        NaN where p is.

    References
    ----------
    Benjamini and Hochberg 1995, J. R. Stat. Soc. B 57; Benjamini and Yekutieli 2001, Ann. Stat. 29.
    """
    check_choice("the method", method, METHODS)
    p = np.asarray(p, np.float64)
    if ((p < 0) | (p > 1)).any():
        raise InvalidValueError(f"p values reach from {np.nanmin(p):g} to {np.nanmax(p):g}; they must be 0 to 1.")
    q = np.full(p.shape, np.nan)
    for row in np.ndindex(p.shape[:-1]):
        made = np.isfinite(p[row])
        if made.any():
            q[row][made] = false_discovery_control(p[row][made], method=method)
    return q
