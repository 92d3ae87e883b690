"""Turn raw time series into clean ones: drifts and confounds out in one regression, targets masked, scale set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import linalg

from brainsim.core.checks import check_choice, check_count, check_number
from brainsim.core.errors import InvalidValueError

STANDARDIZE = ("zscore", "psc", "none")
# Targets that are cleaned at once: their float64 copy stays in the cache's reach for runs of some hundred TRs.
N_AT_ONCE = 2048
# Regressors whose part outside the others is smaller than this (of unit length) repeat the others: nilearn's bound.
SAME_DIRECTION = float(np.finfo(np.float64).eps) * 100
# A target has nothing left but rounding where its residual (root mean square) is smaller than this part of its change
# over time, or than twice the step of a float32 at its mean: raw values are float32.
NOTHING_LEFT = 1e-5
ROUNDING = 2 * float(np.finfo(np.float32).eps)
# Percent of a mean that is this small beside the change over time would be millions of percent.
NO_MEAN = 1e-4

MASK_REASONS: Mapping[str, str] = {
    "nan": "NaN or infinite in some volume",
    "constant": "does not change over time",
    "explained": "wholly explained by drifts and confounds",
    "zero-mean": "mean of zero, so percent change means nothing",
}


@dataclass(frozen=True)
class CleaningOptions:
    """How runs are cleaned.

    Parameters
    ----------
    confounds : tuple of str
        Strategy word or column names; see `brainsim.datasets.confounds`.
    high_pass_s : float or None
        Longest period that is kept, seconds; None for no high-pass.
    drop_volumes : int
        Volumes left out at the beginning of each run.
    standardize : {"zscore", "psc", "none"}
        Per run: z-scores (standard deviation over n, not n - 1), percent of the mean, or centred only.
    """

    confounds: tuple[str, ...] = ("none",)
    high_pass_s: float | None = 128.0
    drop_volumes: int = 0
    standardize: str = "zscore"

    def __post_init__(self) -> None:
        check_choice("standardize", self.standardize, STANDARDIZE, hint="--standardize zscore")
        check_count("drop_volumes", self.drop_volumes, at_least=0, hint="--drop-volumes 0")
        if self.high_pass_s is not None:
            check_number("high_pass_s", self.high_pass_s, above=0, unit="s", hint="--high-pass-s 128, or none")

    def describe(self) -> dict[str, str | float | int | None]:
        """Return the options as a JSON-able record."""
        return {
            "confounds": ",".join(self.confounds),
            "high_pass_s": self.high_pass_s,
            "drop_volumes": self.drop_volumes,
            "standardize": self.standardize,
        }


@dataclass(frozen=True)
class Cleaned:
    """What cleaning made of a run.

    Parameters
    ----------
    bold : ndarray of float32, (n_trs, n_targets)
        NaN in the columns that are not valid.
    valid : ndarray of bool, (n_targets,)
        Targets that have values.
    masked : mapping of str to ndarray of bool, (n_targets,)
        Reason -> targets masked for it; a target is in one of them at most.
    variance_removed : ndarray of float64, (n_targets,)
        Part of each target's variance that the regression took away; NaN where not valid.
    """

    bold: np.ndarray
    valid: np.ndarray
    masked: Mapping[str, np.ndarray]
    variance_removed: np.ndarray


def make_drifts(n_trs: int, *, tr_s: float, high_pass_s: float | None) -> np.ndarray:
    """Return discrete cosines with periods of `high_pass_s` seconds and longer, without the constant.

    Parameters
    ----------
    n_trs : int
        Number of volumes.
    tr_s, high_pass_s : float
        Seconds; no high-pass gives no column.

    Returns
    -------
    ndarray of float64, (n_trs, n_drifts)
        Of unit length; the type II cosine basis of SPM and nilearn: cos(pi k (t + 1/2) / n_trs),
        k = 1 ... floor(2 n_trs tr_s / high_pass_s).
    """
    order = 0 if high_pass_s is None else min(n_trs - 1, int(np.floor(2 * n_trs * tr_s / high_pass_s)))
    k = np.arange(1, order + 1)
    t = np.arange(n_trs)[:, None] + 0.5
    drifts: np.ndarray = np.sqrt(2.0 / n_trs) * np.cos(np.pi / n_trs * t * k)
    return drifts


def make_basis(confounds: np.ndarray, drifts: np.ndarray, *, where: str) -> np.ndarray:
    """Return an orthonormal basis of the regressors, each centred: what is regressed out beside the mean.

    Parameters
    ----------
    confounds : ndarray, (n_trs, n_confounds)
    drifts : ndarray, (n_trs, n_drifts)
    where : str
        The run, for the error.

    Returns
    -------
    ndarray of float64, (n_trs, rank)

    Raises
    ------
    InvalidValueError
        Where the regressors leave nothing.
    """
    n_trs = len(drifts)
    X: np.ndarray = np.concatenate([confounds.astype(np.float64), drifts], axis=1)  # (n_trs, n_regressors)
    X = X - X.mean(axis=0)
    length = np.linalg.norm(X, axis=0)
    X = X[:, length > 0] / length[length > 0]
    if X.shape[1]:
        Q, R, _ = linalg.qr(X, mode="economic", pivoting=True)
        X = Q[:, np.abs(np.diag(R)) > SAME_DIRECTION]
    if X.shape[1] + 2 > n_trs:
        raise InvalidValueError(
            f"{where} has {n_trs} volumes, and {confounds.shape[1]} confounds with {drifts.shape[1]} drift cosines "
            "leave none of their variance.",
            hint="fewer --confounds, or a longer --high-pass-s",
        )
    return X


def clean_signals(raw: np.ndarray, basis: np.ndarray, *, standardize: str = "zscore") -> Cleaned:
    """Regress the basis and the mean out of every target, mask what has no signal, and set the scale.

    Equals ``nilearn.signal.clean(..., filter="cosine", detrend=False)`` on targets without NaN, but for this: where a
    confound correlates above 0.9 with a cosine, nilearn leaves all cosines out; here both stay, and what they share
    counts once.

    Parameters
    ----------
    raw : ndarray of float32, (n_trs, n_targets)
        Volumes that are kept.
    basis : ndarray of float64, (n_trs, rank)
        As `make_basis` gives it.
    standardize : str
        See `CleaningOptions`.

    Returns
    -------
    Cleaned
        Sums are in float64.
    """
    n_trs, n_targets = raw.shape
    bold = np.full((n_trs, n_targets), np.nan, np.float32)
    removed = np.full(n_targets, np.nan)
    masked = {reason: np.zeros(n_targets, bool) for reason in MASK_REASONS}
    for first in range(0, n_targets, N_AT_ONCE):
        block = slice(first, first + N_AT_ONCE)
        part = raw[:, block]
        masked["nan"][block] = ~np.isfinite(part).all(axis=0)
        masked["constant"][block] = ~masked["nan"][block] & (part == part[:1]).all(axis=0)
        usable = np.flatnonzero(~masked["nan"][block] & ~masked["constant"][block])
        Y = part[:, usable].astype(np.float64)  # (n_trs, n_usable)
        mean = Y.mean(axis=0)
        Y -= mean
        before = np.einsum("tv,tv->v", Y, Y)
        Y -= basis @ (basis.T @ Y)
        after = np.einsum("tv,tv->v", Y, Y)
        explained = (after <= NOTHING_LEFT**2 * before) | (after / n_trs <= (ROUNDING * mean) ** 2)
        zero_mean = ~explained & (np.abs(mean) < np.sqrt(before / n_trs) * NO_MEAN) & (standardize == "psc")
        masked["explained"][first + usable[explained]] = True
        masked["zero-mean"][first + usable[zero_mean]] = True
        keep = ~explained & ~zero_mean
        if standardize == "zscore":
            Y[:, keep] /= np.sqrt(after[keep] / n_trs)
        elif standardize == "psc":
            Y[:, keep] *= 100.0 / mean[keep]
        bold[:, first + usable[keep]] = Y[:, keep]
        removed[first + usable[keep]] = 1 - after[keep] / before[keep]
    valid = np.isfinite(removed)
    return Cleaned(bold, valid, masked, removed)
