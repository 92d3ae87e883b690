"""Turn the geometry of model families into a cohort of BOLD whose unique and shared variance is known.

Every family gets signals of its own: directions among the strongest components of its HRF-convolved features that no
mixture of the other families predicts. Voxels mix these signals, signals that all families share, and noise. What
subsets of families explain of them is computed in `planted_scores.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from brainsim.core.runs import RunLayout
from brainsim.core.seeds import named_rng

# Signals are sought among this many strongest components of a family: those that a fit of noisy data can find.
N_COMPONENTS = 8

# A signal that its own family predicts badly is worth less than one that others predict a little.
OWN_PENALTY = 3.0

# Head motion drifts back: correlation of its successive TRs.
MOTION_AR = 0.9

# Penalty at which candidate signals are compared: small, since they have no noise.
CHOICE_ALPHA = 0.03


@dataclass(frozen=True)
class PlantedSignals:
    """Time courses that voxels are made of.

    Parameters
    ----------
    names : tuple of str
        For each signal the family it belongs to, or "shared".
    courses : ndarray of float64, (n_rows, n_signals)
        Mean 0 within runs, variance 1.
    """

    names: tuple[str, ...]
    courses: np.ndarray

    def columns(self, name: str) -> np.ndarray:
        """Return the numbers of a family's signals."""
        return np.flatnonzero(np.asarray(self.names) == name)


def centre_runs(X: np.ndarray, layout: RunLayout) -> np.ndarray:
    """Remove every run's mean."""
    return np.concatenate([X[rows] - X[rows].mean(axis=0) for rows in layout.slices])


def residual_operator(K: np.ndarray, layout: RunLayout, *, alpha: float) -> np.ndarray:
    """Return the matrix that maps targets to what leave-one-run-out kernel ridge does not predict of each run."""
    from scipy.linalg import solve

    G = _inverse(K.astype(np.float64) + alpha * np.eye(len(K)))
    return np.concatenate([solve(G[rows, rows], G[rows], assume_a="pos") for rows in layout.slices])


def _inverse(A: np.ndarray) -> np.ndarray:
    """Return the inverse of a symmetric positive definite matrix from its Cholesky factor: half the work of an LU."""
    from scipy.linalg import lapack

    factor, failed = lapack.dpotrf(A, lower=1)
    if failed:
        raise np.linalg.LinAlgError("a planted kernel plus its penalty is not positive definite")
    lower = np.tril(lapack.dpotri(factor, lower=1)[0])
    inverse: np.ndarray = lower + np.tril(lower, -1).T
    return inverse


def _strongest(K: np.ndarray, layout: RunLayout, n: int) -> np.ndarray:
    """Return the strongest components of a kernel, (n_rows, n), orthonormal, centred within runs."""
    _, vectors = np.linalg.eigh(K)
    components: np.ndarray = np.linalg.qr(centre_runs(vectors[:, ::-1][:, :n], layout))[0]
    return components


def choose_signals(
    convolved: Mapping[str, np.ndarray], design: Mapping[str, np.ndarray], layout: RunLayout, *, n_signals: int = 2
) -> PlantedSignals:
    """Choose signals that one family alone predicts, and signals that all share.

    Parameters
    ----------
    convolved : mapping of str to ndarray, (n_rows, n_rows)
        Kernel of each family's HRF-convolved features, centred within runs: where signals are taken from.
    design : mapping of str to ndarray, (n_rows, n_rows)
        Kernel of each family's delayed features, mean diagonal 1: what an analysis predicts with.
    layout : RunLayout
        Rows of each run.
    n_signals : int
        Signals per family, and shared ones.
    """
    names: list[str] = []
    courses: list[np.ndarray] = []
    for family, K in convolved.items():
        U = _strongest(K, layout, N_COMPONENTS)
        others = np.mean([design[other] for other in design if other != family], axis=0)
        unexplained = residual_operator(others, layout, alpha=CHOICE_ALPHA) @ U
        missed = residual_operator(design[family], layout, alpha=CHOICE_ALPHA) @ U
        # The direction v that maximises what the others miss of U v, less what its own family misses.
        gain = unexplained.T @ unexplained - OWN_PENALTY * (missed.T @ missed)
        _, directions = np.linalg.eigh((gain + gain.T) / 2)
        names += [family] * n_signals
        courses.append(U @ directions[:, ::-1][:, :n_signals])
    names += ["shared"] * n_signals
    courses.append(_strongest(np.mean([K / np.trace(K) for K in convolved.values()], axis=0), layout, n_signals))
    stacked = np.concatenate(courses, axis=1)
    return PlantedSignals(tuple(names), stacked / stacked.std(axis=0))


def draw_noise(rng: np.random.Generator, layout: RunLayout, n_targets: int, *, ar: float, shared: float) -> np.ndarray:
    """Draw noise of variance 1: first-order autocorrelated, partly shared by all targets, independent between runs.

    Parameters
    ----------
    ar : float
        Correlation of successive TRs.
    shared : float
        Share of the variance that all targets have in common.
    """
    from scipy.signal import lfilter

    runs = []
    for n_trs in layout.n_trs:
        private = rng.standard_normal((n_trs, n_targets))
        common = rng.standard_normal((n_trs, 1))
        innovations = np.sqrt(1 - shared) * private + np.sqrt(shared) * common
        innovations[1:] *= np.sqrt(1 - ar**2)  # stationary from the first TR on
        runs.append(lfilter([1.0], [1.0, -ar], innovations, axis=0))
    return np.concatenate(runs)


def draw_weights(
    rng: np.random.Generator, signals: PlantedSignals, variances: Mapping[str, float], n_targets: int
) -> np.ndarray:
    """Draw how voxels mix the signals, (n_signals, n_targets).

    Parameters
    ----------
    variances : mapping of str to float
        Variance of each family's part (and of "shared") in a voxel, on average; single voxels vary by a fifth.
    """
    weights = np.zeros((len(signals.names), n_targets))
    for name, variance in variances.items():
        if variance == 0:
            continue
        columns = signals.columns(name)
        mix = rng.standard_normal((len(columns), n_targets))
        spread = np.sqrt(variance * rng.uniform(0.8, 1.2, n_targets))
        courses = signals.courses[:, columns] @ mix
        weights[columns] = mix * spread / courses.std(axis=0)
    return weights


def draw_motion(rng: np.random.Generator, n_trs: int) -> dict[str, np.ndarray]:
    """Draw head motion as fMRIPrep tells it: six parameters (mm, rad) that wander, and framewise displacement (mm)."""
    from scipy.signal import lfilter

    names = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
    steps = rng.standard_normal((n_trs, 6)) * np.array([0.05, 0.05, 0.05, 0.0008, 0.0008, 0.0008])
    wander = lfilter([1.0], [1.0, -MOTION_AR], steps, axis=0)
    moved = np.abs(np.diff(wander, axis=0))
    # Rotations count as arc length on a sphere of 50 mm (Power et al. 2012).
    displacement = np.concatenate([[np.nan], moved[:, :3].sum(axis=1) + 50 * moved[:, 3:].sum(axis=1)])
    return {**{name: wander[:, i] for i, name in enumerate(names)}, "framewise_displacement": displacement}


def cleaning_matrix(nuisances: Sequence[np.ndarray], layout: RunLayout) -> np.ndarray:
    """Return the matrix that regresses every run's nuisances and its mean out, (n_rows, n_rows).

    Parameters
    ----------
    nuisances : sequence of ndarray, (n_trs, n_nuisances) per run
        Drifts and confounds.
    """
    clean = np.zeros((layout.n_rows, layout.n_rows))
    for rows, n_trs, nuisance in zip(layout.slices, layout.n_trs, nuisances, strict=True):
        Q = np.linalg.qr(np.column_stack([np.ones(n_trs), nuisance]))[0]
        clean[rows, rows] = np.eye(n_trs) - Q @ Q.T
    return clean


def subject_rng(seed: int, subject: str, what: str) -> np.random.Generator:
    """Return the generator of one subject's noise, weights or motion."""
    return named_rng(seed, "planted", subject, what)
