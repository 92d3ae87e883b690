"""Turn a run's raw and clean values into the few figures that tell a good run from a bad one."""

from __future__ import annotations

import numpy as np

from brainsim.datasets.cleaning import Cleaned

# Raw BOLD has means many times its fluctuation; below 1 the values were centred before they came here.
LEAST_TSNR = 1.0
# fsl_motion_outliers' rule for spikes: the third quartile and 1.5 interquartile ranges.
OUTLIER_RANGES = 1.5


def measure_quality(cleaned: Cleaned, *, displacement_mm: np.ndarray | None = None) -> dict[str, float | int | None]:
    """Measure one run.

    Parameters
    ----------
    cleaned : Cleaned
        What `clean_signals` made of it.
    displacement_mm : ndarray, (n_trs,), optional
        Framewise displacement of the same volumes, millimetres; NaN where unknown.

    Returns
    -------
    dict
        tsnr_median: median over valid targets of mean / standard deviation, before cleaning (None where the values
        came centred); n_constant, n_nan, n_explained: targets masked; variance_removed_median: part of a target's
        variance that drifts and confounds took; fd_mean: mean framewise displacement in millimetres, or None;
        n_outlier_trs: TRs whose change from the one before (root mean square over targets, DVARS) lies above the
        third quartile by more than 1.5 interquartile ranges.
    """
    valid = cleaned.valid
    median = float(np.median(cleaned.tsnr[valid])) if valid.any() else 0.0
    return {
        "tsnr_median": median if median >= LEAST_TSNR else None,
        "n_constant": int(cleaned.masked["constant"].sum()),
        "n_nan": int(cleaned.masked["nan"].sum()),
        "n_explained": int(cleaned.masked["explained"].sum()),
        "variance_removed_median": float(np.median(cleaned.variance_removed[valid])) if valid.any() else None,
        "fd_mean": _mean_displacement(displacement_mm),
        "n_outlier_trs": int(find_outliers(cleaned.dvars).sum()),
    }


def _mean_displacement(displacement_mm: np.ndarray | None) -> float | None:
    if displacement_mm is None or not np.isfinite(displacement_mm).any():
        return None
    return float(np.mean(displacement_mm[np.isfinite(displacement_mm)]))


def find_outliers(dvars: np.ndarray) -> np.ndarray:
    """Return which TRs differ too much from the one before, bool (n_trs,); the first has none before it."""
    known = dvars[np.isfinite(dvars)]
    if len(known) == 0:
        return np.zeros(len(dvars), bool)
    low, high = np.percentile(known, [25, 75])
    return np.asarray(np.nan_to_num(dvars, nan=-np.inf) > high + OUTLIER_RANGES * (high - low))
