"""Turn a planted cohort into the R2 that each subset of families has in it: without noise, and with what noise costs.

Both by leave-one-run-out kernel ridge in plain NumPy, with the best penalty known; nothing here uses the solver that is
tested with it. Without noise even what a family computes only faintly is predicted. With noise it is not, however good
the solver: an estimate from n TRs tends to the second, and to the first only as n grows. The cost of noise needs no
draws: a linear prediction of signal plus noise errs by what it errs on the signal, plus the variance it makes of noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from brainsim.core.runs import RunLayout
from brainsim.datasets.planted import residual_operator

# Ridge penalties in units of the kernels' mean diagonal; the best is taken.
TRUTH_ALPHAS = (0.003, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)


@dataclass(frozen=True)
class PlantedSubject:
    """What one subject's voxels are made of, after cleaning.

    Parameters
    ----------
    courses : ndarray of float64, (n_rows, n_signals)
        Signals.
    mix : ndarray, (n_signals, n_voxels)
        How voxels mix them.
    noise_variance : ndarray, (n_voxels,)
        Variance of the noise of each voxel before cleaning.
    noise_covariance : sequence of ndarray, (n_trs, n_trs) each
        Covariance of noise of variance 1 after cleaning, run by run; noise of different runs is independent.
    """

    courses: np.ndarray
    mix: np.ndarray
    noise_variance: np.ndarray
    noise_covariance: Sequence[np.ndarray]

    def total(self, layout: RunLayout) -> np.ndarray:
        """Return the expected mean square of each voxel, (n_voxels,)."""
        kept = sum(float(np.trace(C)) for C in self.noise_covariance) / layout.n_rows
        total: np.ndarray = np.square(self.courses @ self.mix).mean(axis=0) + kept * self.noise_variance
        return total


def noise_covariance(clean: np.ndarray, layout: RunLayout, *, ar: float) -> list[np.ndarray]:
    """Return the covariance of first-order autocorrelated noise of variance 1 after cleaning, run by run."""
    found = []
    for rows, n_trs in zip(layout.slices, layout.n_trs, strict=True):
        lag = np.abs(np.arange(n_trs)[:, None] - np.arange(n_trs)[None, :])
        C = clean[rows, rows]
        found.append(C @ ar**lag @ C.T)
    return found


def score_planted(
    design: Mapping[str, np.ndarray],
    subjects: Sequence[PlantedSubject],
    layout: RunLayout,
    subsets: Sequence[Sequence[str]],
    *,
    alphas: Sequence[float] = TRUTH_ALPHAS,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the R2 of every voxel on runs that were left out, without noise and with it.

    Parameters
    ----------
    design : mapping of str to ndarray, (n_rows, n_rows)
        Kernels, mean diagonal 1; families of a subset count alike.
    subjects : sequence of PlantedSubject
        The cohort.
    layout : RunLayout
        Rows of each run.
    subsets : sequence of sequence of str
        Smaller subsets before larger ones: a subset does as well as its best part.
    alphas : sequence of float
        Penalties to choose from.

    Returns
    -------
    noiseless : ndarray of float64, (n_subsets, n_subjects, n_voxels)
        What the best prediction of each signal explains when there is no noise, as a share of voxels with noise.
    attainable : ndarray of float64, (n_subsets, n_subjects, n_voxels)
        Expected R2 of the best prediction of each voxel from as many TRs as noisy as these.
    """
    courses = np.concatenate([subject.courses for subject in subjects], axis=1)
    columns = np.cumsum([0, *(subject.courses.shape[1] for subject in subjects)])
    owns = [slice(int(a), int(b)) for a, b in pairwise(columns)]
    left: dict[frozenset[str], np.ndarray] = {}
    reached: dict[frozenset[str], np.ndarray] = {}
    noiseless = []
    for subset in subsets:
        members = frozenset(subset)
        K = np.mean([design[family] for family in subset], axis=0)
        residuals, scores = [], [np.zeros((len(subjects), subjects[0].mix.shape[1]))]
        for alpha in alphas:
            A = residual_operator(K, layout, alpha=alpha)
            E = A @ courses
            residuals.append(E)
            scores.append(_expected_r2(A, [E[:, own] for own in owns], subjects, layout))
        parts = [part for part in left if part < members]
        left[members] = _best_of_signals([*residuals, *(left[part] for part in parts)], courses)
        reached[members] = np.max([*scores, *(reached[part] for part in parts)], axis=0)
        noiseless.append([_explained(left[members][:, own], s, layout) for own, s in zip(owns, subjects, strict=True)])
    return np.array(noiseless), np.array([reached[frozenset(subset)] for subset in subsets])


def _best_of_signals(options: Sequence[np.ndarray], courses: np.ndarray) -> np.ndarray:
    """Return the residuals of the best option for each signal; no prediction is an option too."""
    every = [*options, courses]
    loss = np.stack([np.square(E).sum(axis=0) for E in every])  # (n_options, n_signals)
    return np.stack([every[w][:, column] for column, w in enumerate(loss.argmin(axis=0))], axis=1)


def _explained(E: np.ndarray, subject: PlantedSubject, layout: RunLayout) -> np.ndarray:
    signal = np.square(subject.courses @ subject.mix).mean(axis=0)
    explained: np.ndarray = (signal - np.square(E @ subject.mix).mean(axis=0)) / subject.total(layout)
    return explained


def _expected_r2(
    A: np.ndarray, residuals: Sequence[np.ndarray], subjects: Sequence[PlantedSubject], layout: RunLayout
) -> np.ndarray:
    """Return 1 - E|A (signal + noise)|² / E|signal + noise|², (n_subjects, n_voxels)."""
    blocks = [A[:, rows].T @ A[:, rows] for rows in layout.slices]
    found = []
    for E, subject in zip(residuals, subjects, strict=True):
        made = sum(float(np.sum(B * C)) for B, C in zip(blocks, subject.noise_covariance, strict=True)) / layout.n_rows
        lost = np.square(E @ subject.mix).mean(axis=0) + made * subject.noise_variance
        found.append(1 - lost / subject.total(layout))
    return np.stack(found)
