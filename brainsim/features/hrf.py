"""Turn a repetition time into the canonical haemodynamic response, as a matrix over the TRs of a run."""

from __future__ import annotations

import numpy as np

from brainsim.core.checks import check_count, check_number

# SPM's canonical response: gamma densities of shape 6 and 16, the second a sixth of the first; over after 32 s.
PEAK_SHAPE, UNDERSHOOT_SHAPE, RATIO, LENGTH_S = 6.0, 16.0, 6.0, 32.0


def canonical_hrf(time_s: np.ndarray) -> np.ndarray:
    """Return SPM's canonical double-gamma response at times after an event, float64, 0 before it and after 32 s.

    Source: Friston et al. 1998, as in SPM's ``spm_hrf`` with its default parameters.
    """
    from scipy.stats import gamma

    t = np.asarray(time_s, np.float64)
    response = gamma.pdf(t, PEAK_SHAPE) - gamma.pdf(t, UNDERSHOOT_SHAPE) / RATIO
    return np.where((t >= 0) & (t < LENGTH_S), response, 0.0)


def _integral(time_s: np.ndarray) -> np.ndarray:
    """Return the integral of the canonical response from 0 to each time."""
    from scipy.stats import gamma

    t = np.clip(np.asarray(time_s, np.float64), 0.0, LENGTH_S)
    integral: np.ndarray = gamma.cdf(t, PEAK_SHAPE) - gamma.cdf(t, UNDERSHOOT_SHAPE) / RATIO
    return integral


def hrf_matrix(n_trs: int, tr_s: float) -> np.ndarray:
    """Return the matrix that convolves one run's TRs with the canonical response.

    Features are taken as constant within a TR, and a volume as taken in the middle of its TR, so that an entry is the
    integral of the response over the part of a TR that lies before the volume: exact for any TR.

    Parameters
    ----------
    n_trs : int
        Rows of the run.
    tr_s : float
        Repetition time in seconds.

    Returns
    -------
    ndarray of float64, (n_trs, n_trs)
        Lower triangular: a TR sees itself and its past. Scaled so that a constant input of 1 gives 1 in the end.
    """
    check_count("n_trs", n_trs)
    check_number("TR", tr_s, above=0, unit="s")
    lag = (np.arange(n_trs)[:, None] - np.arange(n_trs)[None, :]) * tr_s
    total = float(_integral(np.array(LENGTH_S)))
    matrix: np.ndarray = (_integral(lag + tr_s / 2) - _integral(lag - tr_s / 2)) / total
    return np.tril(matrix)
