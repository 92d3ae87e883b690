"""Turn a seed into small kernels and targets that follow them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from brainsim.core.runs import RunLayout

UNEVEN = RunLayout(("a", "b", "c", "d"), (30, 41, 25, 36))
ALPHAS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


def make_kernels(n_bands: int, layout: RunLayout, *, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    kernels = []
    for _ in range(n_bands):
        X = rng.standard_normal((layout.n_rows, 60)) * np.arange(1, 61) ** -0.7
        for rows in layout.slices:
            X[rows] -= X[rows].mean(axis=0)
        K = X @ X.T
        kernels.append((K / np.trace(K) * len(K)).astype(np.float32))
    return kernels


def make_targets(kernels: Sequence[np.ndarray], layout: RunLayout, n: int, *, noise: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(1)
    Y = sum(np.linalg.cholesky(K + 1e-4 * np.eye(len(K))) @ rng.standard_normal((len(K), n)) for K in kernels)
    Y = Y / Y.std() + noise * rng.standard_normal(Y.shape)
    for rows in layout.slices:
        Y[rows] = (Y[rows] - Y[rows].mean(axis=0)) / Y[rows].std(axis=0)
    return Y.astype(np.float32)
