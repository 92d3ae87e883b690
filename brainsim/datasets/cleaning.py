"""Turn raw time series into clean ones: drifts and confounds out in one regression, targets masked, scale set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy import linalg

from brainsim.core.checks import check_choice, check_count, check_number
from brainsim.core.errors import InvalidValueError

STANDARDIZE = ("zscore", "psc", "none")
# Targets that are cleaned at once: their float64 copy stays in the cache's reach for runs of some hundred TRs.
N_AT_ONCE = 512
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
    detrend : bool
        Whether a straight line is regressed out too.
    smooth_mm : float or None
        Full width at half maximum of a Gaussian that volumes are smoothed with; None for none.
    scrub : tuple of str
        Which TRs are left out of fits; see `brainsim.datasets.scrubbing`.
    """

    confounds: tuple[str, ...] = ("none",)
    high_pass_s: float | None = 128.0
    drop_volumes: int = 0
    standardize: str = "zscore"
    detrend: bool = False
    smooth_mm: float | None = None
    scrub: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_choice("standardize", self.standardize, STANDARDIZE, hint="--standardize zscore")
        check_count("drop_volumes", self.drop_volumes, at_least=0, hint="--drop-volumes 0")
        if self.high_pass_s is not None:
            check_number("high_pass_s", self.high_pass_s, above=0, unit="s", hint="--high-pass-s 128, or none")
        if self.smooth_mm is not None:
            check_number("smooth_mm", self.smooth_mm, above=0, unit="mm", hint="--smooth-mm 5, or leave it out")

    def for_betas(self) -> CleaningOptions:
        """Return the options for rows that are stimuli: no filter, no confounds.

        Raises
        ------
        InvalidValueError
            Where the user asked for something that needs time.
        """
        timed = {"confounds": self.confounds != ("none",), "detrend": self.detrend, "scrub": bool(self.scrub)}
        timed |= {"drop_volumes": self.drop_volumes > 0, "smooth_mm": self.smooth_mm is not None}
        for name, is_asked in timed.items():
            if is_asked:
                raise InvalidValueError(
                    f"{name} is {getattr(self, name)!r}, and rows of betas are stimuli, not TRs.", hint="leave it out"
                )
        return replace(self, high_pass_s=None)

    def describe(self) -> dict[str, str | float | int | None]:
        """Return the options as a JSON-able record; those that do nothing are left out."""
        further: dict[str, str | float | int | None] = {
            "detrend": self.detrend,
            "smooth_mm": self.smooth_mm,
            "scrub": ",".join(self.scrub),
        }
        return {
            "confounds": ",".join(self.confounds),
            "high_pass_s": self.high_pass_s,
            "drop_volumes": self.drop_volumes,
            "standardize": self.standardize,
            **{name: value for name, value in further.items() if value},
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
    tsnr : ndarray of float64, (n_targets,)
        Mean over standard deviation before cleaning; NaN where not valid.
    dvars : ndarray of float64, (n_trs,)
        Root mean square over valid targets of the change, before cleaning, from the TR before; NaN at first.
    """

    bold: np.ndarray
    valid: np.ndarray
    masked: Mapping[str, np.ndarray]
    variance_removed: np.ndarray
    tsnr: np.ndarray
    dvars: np.ndarray


def make_drifts(n_trs: int, *, tr_s: float, high_pass_s: float | None, detrend: bool = False) -> np.ndarray:
    """Return discrete cosines with periods of `high_pass_s` seconds and longer, without the constant.

    Parameters
    ----------
    n_trs : int
        Number of volumes.
    tr_s, high_pass_s : float
        Seconds; no high-pass gives no column.
    detrend : bool
        Whether a straight line comes first.

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
    if detrend:
        drifts = np.concatenate([np.linspace(-1, 1, n_trs)[:, None], drifts], axis=1)
    return drifts


def make_basis(confounds: np.ndarray, drifts: np.ndarray, *, where: str, kept: np.ndarray | None = None) -> np.ndarray:
    """Return an orthonormal basis of the regressors, each centred: what is regressed out beside the mean.

    Parameters
    ----------
    confounds : ndarray, (n_trs, n_confounds)
    drifts : ndarray, (n_trs, n_drifts)
    where : str
        The run, for the error.
    kept : ndarray of bool, (n_trs,), optional
        TRs that are not scrubbed: the basis has their rows only.

    Returns
    -------
    ndarray of float64, (n_trs, rank) or (n_kept, rank)

    Raises
    ------
    InvalidValueError
        Where the regressors leave nothing.
    """
    X: np.ndarray = np.concatenate([confounds.astype(np.float64), drifts], axis=1)  # (n_trs, n_regressors)
    X = X if kept is None else X[kept]
    n_trs = len(X)
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


def clean_signals(
    raw: np.ndarray,
    basis: np.ndarray,
    *,
    standardize: str = "zscore",
    kept: np.ndarray | None = None,
    out: np.ndarray | None = None,
) -> Cleaned:
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
    kept : ndarray of bool, (n_trs,), optional
        TRs that are not scrubbed: mean, regression and scale are theirs alone, and the others become 0.
    out : ndarray of float32, (n_trs, n_targets), optional
        Where the clean values go; `raw` itself saves half of the memory.

    Returns
    -------
    Cleaned
        Sums are in float64.
    """
    n_targets = raw.shape[1]
    rows = np.arange(len(raw)) if kept is None else np.flatnonzero(kept)
    bold = np.empty(raw.shape, np.float32) if out is None else out
    removed, tsnr = np.full(n_targets, np.nan), np.full(n_targets, np.nan)
    masked = {reason: np.zeros(n_targets, bool) for reason in MASK_REASONS}
    change = np.zeros(len(raw))
    for first in range(0, n_targets, N_AT_ONCE):
        block = slice(first, first + N_AT_ONCE)
        Y = raw[:, block].astype(np.float64)  # (n_trs, n_block)
        is_finite = np.isfinite(Y).all(axis=0)
        is_varying = (Y[rows] != Y[rows[:1]]).any(axis=0)
        masked["nan"][block] = ~is_finite
        masked["constant"][block] = is_finite & ~is_varying
        usable = np.flatnonzero(is_finite & is_varying)
        bold[:, block] = np.nan
        if len(usable) == 0:
            continue
        Y = Y if len(usable) == Y.shape[1] else Y[:, usable]
        step = np.diff(Y, axis=0)
        change_of = step * step  # (n_trs - 1, n_usable)
        Z = Y if kept is None else Y[rows]
        mean = Z.mean(axis=0)
        Z -= mean
        before = np.einsum("tv,tv->v", Z, Z)
        Z -= basis @ (basis.T @ Z)
        after = np.einsum("tv,tv->v", Z, Z)
        explained = (after <= NOTHING_LEFT**2 * before) | (after / len(rows) <= (ROUNDING * mean) ** 2)
        zero_mean = ~explained & (np.abs(mean) < np.sqrt(before / len(rows)) * NO_MEAN) & (standardize == "psc")
        masked["explained"][first + usable[explained]] = True
        masked["zero-mean"][first + usable[zero_mean]] = True
        fits = ~explained & ~zero_mean
        scale = _scales(standardize, mean, after / len(rows))
        scale[~fits] = np.nan
        Z *= scale
        if kept is not None:
            Y[~kept] = np.where(fits, 0.0, np.nan)
            Y[rows] = Z
        bold[:, first + usable] = Y
        valid = first + usable[fits]
        removed[valid] = 1 - after[fits] / before[fits]
        tsnr[valid] = np.abs(mean[fits]) / np.sqrt(before[fits] / len(rows))
        change[1:] += change_of @ fits
    valid = np.isfinite(removed)
    dvars = np.sqrt(change / max(int(valid.sum()), 1))
    dvars[0] = np.nan
    return Cleaned(bold, valid, masked, removed, tsnr, dvars)


def _scales(standardize: str, mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Return what each target is multiplied by; without meaning where it is masked."""
    with np.errstate(divide="ignore", invalid="ignore"):
        if standardize == "zscore":
            return np.asarray(1 / np.sqrt(variance))
        return np.asarray(100.0 / mean) if standardize == "psc" else np.ones_like(mean)
