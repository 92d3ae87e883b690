"""Turn one number per subject into a mean and an interval over subjects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from brainsim.core.checks import check_choice
from brainsim.core.errors import InvalidValueError
from brainsim.core.seeds import named_rng

METHODS = ("auto", "t", "bootstrap")

# With fewer subjects a percentile bootstrap is too narrow: it cannot see variance that its few values do not show
# (at n = 5 a nominal 95 % interval covers about 83 %). Student's t covers what it says for values that are near normal.
MIN_BOOTSTRAP_SUBJECTS = 20

N_BOOTSTRAP = 10_000


@dataclass(frozen=True)
class Interval:
    """A mean with its interval.

    Parameters
    ----------
    mean, low, high : float
        Bounds are NaN with fewer than two subjects.
    n : int
        Subjects that have a value.
    method : str
        "t" or "bootstrap".
    level : float
        Nominal coverage.
    """

    mean: float
    low: float
    high: float
    n: int
    method: str
    level: float


def mean_interval(values: np.ndarray, *, level: float = 0.95, method: str = "auto", seed: int = 0) -> Interval:
    """Return the mean over subjects and its interval, subjects as random effects.

    Parameters
    ----------
    values : ndarray, (n_subjects,)
        One number per subject; NaN where a subject has none (it is left out and not counted).
    level : float
        Coverage, between 0 and 1.
    method : {"auto", "t", "bootstrap"}
        Student's t with n - 1 degrees of freedom, or the percentile bootstrap; auto takes t below 20 subjects.
    seed : int
        Seed of the bootstrap.

    Returns
    -------
    Interval
    """
    check_choice("the interval's method", method, METHODS)
    if not 0 < level < 1:
        raise InvalidValueError(f"the interval's level is {level:g}; it must lie between 0 and 1.")
    known = np.asarray(values, np.float64)
    known = known[~np.isnan(known)]
    n = len(known)
    if method == "auto":
        method = "t" if n < MIN_BOOTSTRAP_SUBJECTS else "bootstrap"
    if n < 2:
        return Interval(float(known.mean()) if n else np.nan, np.nan, np.nan, n, method, level)
    mean = float(known.mean())
    if method == "t":
        from scipy.stats import t

        half = float(t.ppf((1 + level) / 2, n - 1)) * float(known.std(ddof=1)) / np.sqrt(n)
        return Interval(mean, mean - half, mean + half, n, method, level)
    draws = named_rng(seed, "bootstrap over subjects").integers(n, size=(N_BOOTSTRAP, n))
    low, high = np.quantile(known[draws].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high), n, method, level)


def interval_row(values: np.ndarray) -> dict[str, Any]:
    """Return the mean over subjects and its 95 % t interval as a row of a result node (null where there is none).

    Parameters
    ----------
    values : ndarray, (n_subjects,)
        NaN where a subject has none.
    """
    return _row(mean_interval(values, method="t"), values)


def crossed_interval(values: np.ndarray, *, level: float = 0.95, cross_validated: bool = False) -> Interval:
    """Return the mean over subjects and runs and its interval, both as random effects.

    All subjects see the same runs of the same movie, so that what is peculiar to a run is shared by all of them: an
    interval over subjects alone is too narrow for any statement beyond that movie. With mean squares of subjects, runs
    and the rest, ``var(mean) = (MS_subjects + MS_runs - MS_rest) / (n_subjects n_runs)``, and Satterthwaite's degrees
    of freedom (Clark 1973, J. Verbal Learning Verbal Behav. 12; Westfall, Nichols and Yarkoni 2017).

    Parameters
    ----------
    values : ndarray, (n_subjects, n_runs)
        NaN where a subject has none; such subjects are left out.
    level : float
        Coverage, between 0 and 1.
    cross_validated : bool
        Each run's score is that of a model that was fitted on the other runs (`crossed_spread`).

    Returns
    -------
    Interval
        n counts subjects. Falls back to `mean_interval` over subjects with one run.
    """
    known = np.asarray(values, np.float64)
    known = known[~np.isnan(known).any(axis=1)]
    n_subjects, n_runs = known.shape
    if n_subjects < 2 or n_runs < 2:
        return mean_interval(known.mean(axis=1) if n_runs else np.zeros(0), level=level, method="t")
    from scipy.stats import t

    mean, error, freedom = crossed_spread(known, cross_validated=cross_validated)
    half = float(t.ppf((1 + level) / 2, freedom)) * error
    return Interval(mean, mean - half, mean + half, n_subjects, "crossed", level)


def crossed_spread(values: np.ndarray, *, cross_validated: bool = False) -> tuple[float, float, float]:
    """Return the mean over subjects and runs, its standard error and degrees of freedom; see `crossed_interval`.

    Scores of models that were fitted on all other runs are not independent: every two of n runs share what one learned
    from the other, and where there is nothing to learn they correlate by about 1 / n. What runs spread by then
    shows too little of the variance of their mean, by the factor (2 n - 1) / (n - 1). Where subjects share what is
    peculiar to a run, 9 to 12 % of null models of several layers were called significant at 5 % without it, 2 to 6 %
    with it. Parts of partitions do without: each target has weights of its own, and in 240 simulated cohorts of 8
    subjects and 6 runs, who shared what no model has, 91 to 99 % of intervals at 95 % held the mean over movies and
    subjects (a part that is shared had the least); with the factor 96 to 100 % did, at 1.3 times the width.

    Parameters
    ----------
    values : ndarray, (n_subjects, n_runs)
        Subjects with a NaN are left out. With one subject runs are all there is, with one run subjects.
    cross_validated : bool
        Whether a run's score is that of a model that was fitted on the other runs.

    Returns
    -------
    (float, float, float)
        The error is NaN where there are not two values.

    References
    ----------
    Nadeau and Bengio 2003, Machine Learning 52.
    """
    known = np.asarray(values, np.float64)
    known = known[~np.isnan(known).any(axis=1)]
    if not known.size:
        return float("nan"), float("nan"), 1.0
    n_subjects, n_runs = known.shape
    mean = float(known.mean())
    if n_subjects < 2 or n_runs < 2:
        n = known.size
        wider = _shared_training(n_runs) if cross_validated and n_runs > 1 else 1.0
        return mean, float(known.std(ddof=1) * np.sqrt(wider / n)) if n > 1 else float("nan"), max(n - 1.0, 1.0)
    by_subject, by_run = known.mean(axis=1) - mean, known.mean(axis=0) - mean
    rest = known - mean - by_subject[:, None] - by_run[None, :]
    dof = np.array([n_subjects - 1, n_runs - 1, (n_subjects - 1) * (n_runs - 1)], dtype=float)
    squares = [n_runs * np.square(by_subject).sum(), n_subjects * np.square(by_run).sum(), np.square(rest).sum()]
    # Means of subjects hold what their runs share; what runs spread by within them does not.
    wider = _shared_training(n_runs) if cross_validated else 1.0
    ms = np.array(squares) / dof * [1.0, wider, wider]
    # An estimate of variance below the larger of its two parts is chance: it is not taken.
    total = max(ms[0] + ms[1] - ms[2], ms[0], ms[1])
    if total == 0:
        return mean, 0.0, 1.0
    freedom = total**2 / float((ms**2 / dof).sum())
    return mean, float(np.sqrt(total / known.size)), max(freedom, 1.0)


def _shared_training(n_runs: int) -> float:
    """Return the variance of a mean over runs, in units of what independent runs of that spread would give it."""
    return (2 * n_runs - 1) / (n_runs - 1)


def crossed_row(values: np.ndarray, *, cross_validated: bool = False) -> dict[str, Any]:
    """Return the mean over subjects and runs and its 95 % interval as a row of a result node.

    Parameters
    ----------
    values : ndarray, (n_subjects, n_runs)
    cross_validated : bool
        See `crossed_spread`.
    """
    return _row(crossed_interval(values, cross_validated=cross_validated), np.asarray(values).mean(axis=1))


def _row(interval: Interval, subjects: np.ndarray) -> dict[str, Any]:
    return {
        "mean": _number(interval.mean),
        "low": _number(interval.low),
        "high": _number(interval.high),
        "n_subjects": interval.n,
        "subjects": [_number(float(value)) for value in subjects],
    }


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
