"""Turn a size and a seed into kernels and BOLD like those of a movie study, for the benchmarks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from brainsim.core.runs import RunLayout


@dataclass(frozen=True)
class Problem:
    """What is fitted.

    Parameters
    ----------
    layout : RunLayout
        Rows of each run.
    Ks : list of ndarray of float32, (n_rows, n_rows)
        Kernels, centred within runs, mean diagonal 1.
    Y : ndarray of float32, (n_rows, n_targets)
        BOLD, z-scored within runs: a third of the targets follow no band, the others one or more at mixed strengths.
    """

    layout: RunLayout
    Ks: list[np.ndarray]
    Y: np.ndarray


def make_problem(*, n_runs: int, n_trs: int, n_targets: int, n_bands: int, seed: int = 0) -> Problem:
    """Draw features that are smooth in time with a decaying spectrum, and targets that follow some of them."""
    rng = np.random.default_rng(seed)
    layout = RunLayout(tuple(f"run-{i + 1}" for i in range(n_runs)), (n_trs,) * n_runs)
    common = _features(rng, layout, 100)
    Ks, signal = [], np.zeros((layout.n_rows, n_targets), np.float32)
    for _ in range(n_bands):
        n_features = int(rng.choice([300, 800, 1600]))
        X = _features(rng, layout, n_features)
        X[:, :100] += common  # what families share
        K = X @ X.T
        Ks.append((K / np.diag(K).mean()).astype(np.float32))
        course = X @ rng.standard_normal((n_features, n_targets)).astype(np.float32)
        strength = rng.uniform(0, 1, n_targets) * (rng.random(n_targets) < 1.5 / n_bands)
        signal += course / course.std() * strength.astype(np.float32)
    signal[:, : n_targets // 3] = 0
    Y = signal + 2 * rng.standard_normal(signal.shape, dtype=np.float32)
    return Problem(layout, Ks, _by_run(Y, layout, scale=True))


def _features(rng: np.random.Generator, layout: RunLayout, n: int) -> np.ndarray:
    X = rng.standard_normal((len(layout.names), layout.n_trs[0], n), dtype=np.float32)
    X = gaussian_filter1d(X, 1.5, axis=1) * np.arange(1, n + 1, dtype=np.float32) ** -0.5
    return _by_run(X.reshape(layout.n_rows, n), layout)


def _by_run(X: np.ndarray, layout: RunLayout, *, scale: bool = False) -> np.ndarray:
    """Centre, and where asked scale, every run."""
    out = X.reshape(len(layout.names), layout.n_trs[0], -1)
    out = out - out.mean(axis=1, keepdims=True)
    if scale:
        out = out / out.std(axis=1, keepdims=True)
    return out.reshape(X.shape).astype(np.float32)
