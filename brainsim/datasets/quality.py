"""Turn a run's raw and clean values into the few figures that tell a good run from a bad one."""

from __future__ import annotations

import numpy as np

from brainsim.datasets.cleaning import Cleaned

# Raw BOLD has means many times its fluctuation; below 1 the values were centred before they came here.
LEAST_TSNR = 1.0
# fsl_motion_outliers' rule for spikes: the third quartile and 1.5 interquartile ranges.
OUTLIER_RANGES = 1.5
_N_AT_ONCE = 4096


def measure_quality(
    raw: np.ndarray, cleaned: Cleaned, *, displacement_mm: np.ndarray | None = None
) -> dict[str, float | int | None]:
    """Measure one run.

    Parameters
    ----------
    raw : ndarray of float32, (n_trs, n_targets)
        Before cleaning, dropped volumes left out.
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
    tsnr = np.full(raw.shape[1], np.nan)
    change = np.zeros(max(len(raw) - 1, 0))
    for first in range(0, raw.shape[1], _N_AT_ONCE):
        columns = first + np.flatnonzero(valid[first : first + _N_AT_ONCE])
        part = raw[:, columns].astype(np.float64)
        tsnr[columns] = np.abs(part.mean(axis=0)) / part.std(axis=0)
        step = np.diff(part, axis=0)
        change += np.einsum("tv,tv->t", step, step)
    median = float(np.median(tsnr[valid])) if valid.any() else 0.0
    return {
        "tsnr_median": median if median >= LEAST_TSNR else None,
        "n_constant": int(cleaned.masked["constant"].sum()),
        "n_nan": int(cleaned.masked["nan"].sum()),
        "n_explained": int(cleaned.masked["explained"].sum()),
        "variance_removed_median": float(np.median(cleaned.variance_removed[valid])) if valid.any() else None,
        "fd_mean": _mean_displacement(displacement_mm),
        "n_outlier_trs": _count_outliers(np.sqrt(change / max(int(valid.sum()), 1))),
    }


def _mean_displacement(displacement_mm: np.ndarray | None) -> float | None:
    if displacement_mm is None or not np.isfinite(displacement_mm).any():
        return None
    return float(np.mean(displacement_mm[np.isfinite(displacement_mm)]))


def _count_outliers(change: np.ndarray) -> int:
    if len(change) == 0:
        return 0
    low, high = np.percentile(change, [25, 75])
    return int((change > high + OUTLIER_RANGES * (high - low)).sum())
