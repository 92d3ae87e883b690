"""Turn a repetition time into a canonical haemodynamic response, as a matrix over the TRs of a run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from brainsim.core.checks import check_choice, check_count, check_number

# Responses are over after 32 s.
LENGTH_S = 32.0


@dataclass(frozen=True)
class DoubleGamma:
    """A response and its undershoot: the difference of two gamma densities.

    Parameters
    ----------
    peak_shape, undershoot_shape : float
        Shapes of the densities.
    scale_s : float
        Scale of both, in seconds.
    ratio : float
        Size of the undershoot against the response.
    """

    peak_shape: float
    undershoot_shape: float
    scale_s: float
    ratio: float

    def integral(self, time_s: np.ndarray) -> np.ndarray:
        """Return the integral from 0 to each time, float64; all of it after 32 s."""
        from scipy.stats import gamma

        t = np.clip(np.asarray(time_s, np.float64), 0.0, LENGTH_S)
        peak = gamma.cdf(t, self.peak_shape, scale=self.scale_s)
        integral: np.ndarray = peak - self.ratio * gamma.cdf(t, self.undershoot_shape, scale=self.scale_s)
        return integral


# SPM's, of Friston et al. 1998 (spm_hrf with its default parameters), and Glover's (1999, NeuroImage 9) with the
# numbers of nilearn's glover_hrf: a response after 6 s and an undershoot after 12 s, of dispersion 0.9.
HRFS = {
    "spm": DoubleGamma(6.0, 16.0, 1.0, 1 / 6),
    "glover": DoubleGamma(6.0 / 0.9, 12.0 / 0.9, 0.9, 0.48),
}


def canonical_hrf(time_s: np.ndarray, *, hrf: str = "spm") -> np.ndarray:
    """Return a canonical response at times after an event, float64, 0 before it and after 32 s.

    Parameters
    ----------
    time_s : ndarray
        Seconds after the event.
    hrf : {"spm", "glover"}
        Which one.
    """
    from scipy.stats import gamma

    check_choice("--hrf", hrf, tuple(HRFS))
    one = HRFS[hrf]
    t = np.asarray(time_s, np.float64)
    peak = gamma.pdf(t, one.peak_shape, scale=one.scale_s)
    response = peak - one.ratio * gamma.pdf(t, one.undershoot_shape, scale=one.scale_s)
    return np.where((t >= 0) & (t < LENGTH_S), response, 0.0)


def hrf_matrix(n_trs: int, tr_s: float, *, hrf: str = "spm") -> np.ndarray:
    """Return the matrix that convolves one run's TRs with a canonical response.

    Features are taken as constant within a TR, and a volume as taken in the middle of its TR, so that an entry is the
    integral of the response over the part of a TR that lies before the volume: exact for any TR.

    Parameters
    ----------
    n_trs : int
        Rows of the run.
    tr_s : float
        Repetition time in seconds.
    hrf : {"spm", "glover"}
        Which response.

    Returns
    -------
    ndarray of float64, (n_trs, n_trs)
        Lower triangular: a TR sees itself and its past. Scaled so that a constant input of 1 gives 1 in the end.
    """
    check_count("n_trs", n_trs)
    check_number("TR", tr_s, above=0, unit="s")
    check_choice("--hrf", hrf, tuple(HRFS))
    integral = HRFS[hrf].integral
    steps = np.arange(n_trs)
    lag = steps * tr_s
    total = float(integral(np.array(LENGTH_S)))
    response = (integral(lag + tr_s / 2) - integral(lag - tr_s / 2)) / total  # after so many TRs
    return np.tril(response[np.abs(steps[:, None] - steps[None, :])])


# The study's response ends after 20 s.
STUDY_LENGTH_S = 20.0


def sampling_matrix(clip_s: np.ndarray, tr_s: float, n_trs: int, *, start_s: float = 0.0) -> np.ndarray:
    """Return the matrix that convolves features with the canonical response and samples them in the middle of TRs.

    The study's way: every clip is an impulse at its time, the response lasts from 0 to below 20 s, and there is nothing
    before the first clip. With clips every 0.2 s this is what convolving the series and taking the samples at
    1, 3, 5 … s (TR 2 s) gives.

    Parameters
    ----------
    clip_s : ndarray, (n_clips,)
        Time of each clip in stimulus seconds: the start of its window.
    tr_s : float
        Repetition time in seconds.
    n_trs : int
        TRs of the run.
    start_s : float
        Stimulus time at which TR 0 begins, in seconds.

    Returns
    -------
    ndarray of float64, (n_trs, n_clips)
        In the units of the study's scripts (a constant input of 1 gives 5.161 at 5 Hz); scores do not depend on them.
    """
    check_count("n_trs", n_trs)
    check_number("TR", tr_s, above=0, unit="s")
    middle_s = start_s + (np.arange(n_trs) + 0.5) * tr_s
    # Rounding moves no sample across the ends of the response.
    lag_s = np.round(middle_s[:, None] - np.asarray(clip_s, np.float64)[None, :], 6)
    inside = (lag_s >= 0) & (lag_s < STUDY_LENGTH_S)
    matrix = np.zeros(lag_s.shape)
    matrix[inside] = canonical_hrf(lag_s[inside]) / (1 - HRFS["spm"].ratio)
    return matrix


class BandedMatrix:
    """A matrix whose rows see few columns, which lie together, such as a response of 20 s in a run of minutes.

    It multiplies a few rows at a time by the columns that they see alone, so that BLAS has a fraction of the work.

    Parameters
    ----------
    matrix : ndarray of float64, (n_rows, n_columns)
        Any matrix; the nearer its entries lie to a diagonal, the more is saved.

    Attributes
    ----------
    empty_rows : ndarray of int64
        Rows that see nothing.
    """

    N_ROWS = 32

    def __init__(self, matrix: np.ndarray) -> None:
        self.shape = matrix.shape
        self.empty_rows = np.flatnonzero((matrix == 0).all(axis=1))
        self._parts = []
        for start in range(0, len(matrix), self.N_ROWS):
            rows = slice(start, min(start + self.N_ROWS, len(matrix)))
            seen = np.flatnonzero(matrix[rows].any(axis=0))
            columns = slice(int(seen[0]), int(seen[-1]) + 1) if len(seen) else slice(0, 0)
            self._parts.append((rows, columns, np.ascontiguousarray(matrix[rows, columns], np.float64)))

    def __matmul__(self, X: np.ndarray) -> np.ndarray:
        """Return the product with X (n_columns, n), float64 (n_rows, n)."""
        out = np.empty((self.shape[0], X.shape[1]))
        for rows, columns, part in self._parts:
            np.matmul(part, X[columns].astype(np.float64, copy=False), out=out[rows])
        return out
