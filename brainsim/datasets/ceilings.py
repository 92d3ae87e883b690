"""Turn repeats of the same stimulus into what of a target's variance could be explained at all."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

# A ratio to less variance than this is rounding.
LEAST_VARIANCE = 1e-12


class RepeatStatistics:
    """Sums over repeated runs from which explainable variance and reliability follow; one run in memory at a time.

    Parameters
    ----------
    n_targets : int
        Number of targets.

    Notes
    -----
    With the repeats of a stimulus z-scored over time, the variance of their mean is that of the signal and 1/n of that
    of the noise. Explainable variance is the signal's part of a single viewing's variance, freed of that bias: Sahani &
    Linden (2003); Hsu, Borst & Theunissen (2004); for fMRI Schoppe et al. (2016). It is the highest R2 that a model can
    reach on single viewings; on means of n repeats that is n e / (1 + (n - 1) e) (Spearman-Brown).
    """

    def __init__(self, n_targets: int) -> None:
        self._signal = np.zeros(n_targets)
        self._total = np.zeros(n_targets)
        self._products = np.zeros((3, n_targets))  # xx, yy, xy of the two halves' means

    def add(self, repeats: Iterable[np.ndarray]) -> int:
        """Add the repeats of one stimulus.

        Parameters
        ----------
        repeats : iterable of ndarray, (n_trs, n_targets)
            At least 2 of the same length; NaN where a target has no values. Each is z-scored here.

        Returns
        -------
        int
            Number of repeats.
        """
        halves: list[np.ndarray] = []
        counts = [0, 0]
        for number, run in enumerate(repeats):
            z = _zscore(run)
            if number < 2:
                halves.append(z)
            else:
                halves[number % 2] += z
            counts[number % 2] += 1
        n = sum(counts)
        if n < 2:
            raise ValueError("repeats of one viewing")
        n_trs = len(halves[0])
        mean = (halves[0] + halves[1]) / n
        var_mean = mean.var(axis=0)
        self._signal += n_trs * (var_mean - (1 - var_mean) / (n - 1))
        self._total += n_trs
        x, y = halves[0] / counts[0], halves[1] / counts[1]
        self._products += np.stack([(x * x).sum(axis=0), (y * y).sum(axis=0), (x * y).sum(axis=0)])
        return n

    @property
    def explainable(self) -> np.ndarray:
        """Explainable variance of single viewings, float32 (n_targets,); below 0 by chance where there is none."""
        return np.asarray(self._signal / np.maximum(self._total, LEAST_VARIANCE), np.float32)

    @property
    def reliability(self) -> np.ndarray:
        """Correlation of the means of odd and even repeats, float32 (n_targets,)."""
        xx, yy, xy = self._products
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(xy / np.sqrt(xx * yy), np.float32)


def ceiling_of_means(explainable: np.ndarray, n_repeats: int) -> np.ndarray:
    """Return the highest R2 on means of `n_repeats` viewings, float32; NaN where nothing is explainable."""
    e = np.where(explainable > 0, explainable, np.nan).astype(np.float64)
    return np.asarray(n_repeats * e / (1 + (n_repeats - 1) * e), np.float32)


def leave_one_out_correlations(runs: Iterable[np.ndarray]) -> np.ndarray:
    """Return how well the mean of the other subjects predicts each one.

    Parameters
    ----------
    runs : iterable of ndarray, (n_subjects, n_trs, n_targets)
        One per run; NaN where a subject has no values.

    Returns
    -------
    ndarray of float32, (n_subjects, n_targets)
        Pearson's r over the TRs of all runs, each z-scored within the run; NaN where a subject, or all others, have
        none. It is a lower bound of what a model of the stimulus can reach: what is a subject's own, the others do not
        predict.
    """
    products: np.ndarray | None = None
    for block in runs:
        z = np.stack([_zscore(subject) for subject in block])
        there = np.isfinite(z).all(axis=1)  # (n_subjects, n_targets)
        filled = np.where(there[:, None], z, 0.0)
        n_others = there.sum(axis=0) - there
        with np.errstate(invalid="ignore", divide="ignore"):
            others = _zscore_all((filled.sum(axis=0) - filled) / n_others[:, None])
        part = np.stack([(z * others).sum(axis=1), (z * z).sum(axis=1), (others * others).sum(axis=1)])
        products = part if products is None else products + part
    if products is None:
        raise ValueError("no runs")
    xy, xx, yy = products
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(xy / np.sqrt(xx * yy), np.float32)


def _zscore(run: np.ndarray) -> np.ndarray:
    return np.asarray(_zscore_all(run[None])[0])


def _zscore_all(runs: np.ndarray) -> np.ndarray:
    """Return runs (n, n_trs, n_targets) with mean 0 and deviation 1 over TRs, float64."""
    values = runs.astype(np.float64)
    values = values - values.mean(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(values / values.std(axis=1, keepdims=True))
