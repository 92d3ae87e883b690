"""Turn the RDMs of a model's layers into one prediction per run, by non-negative weights fitted on the other runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from brainsim.core.errors import InvalidValueError


def standardise(rdms: np.ndarray) -> np.ndarray:
    """Z-score every RDM over its pairs, float64; a constant one becomes 0."""
    z: np.ndarray = rdms.astype(np.float64) - rdms.mean(axis=-1, keepdims=True)
    std = z.std(axis=-1, keepdims=True)
    z /= np.where(std > 0, std, 1.0)
    return z


def combine_layers(layers: Sequence[np.ndarray], target: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Predict each run's RDM from a model's layers with weights that never saw that run.

    Non-negative least squares with an intercept on the pooled, standardised pairs of all other runs (the standardising
    is the intercept). Weights are the same for all runs that are fitted together, so runs may have different lengths.

    Parameters
    ----------
    layers : sequence of ndarray, (n_layers, n_pairs) per run
        RDMs of the layers.
    target : sequence of ndarray, (n_pairs,) per run
        The RDM to predict.

    Returns
    -------
    list of ndarray of float64, (n_pairs,) per run
        Zero where no layer has weight.
    """
    from scipy.optimize import nnls

    if len(layers) < 2:
        raise InvalidValueError(f"{len(layers)} run(s); layers are combined by leaving one run out of at least 2.")
    A = [standardise(rdms) for rdms in layers]
    y = [standardise(rdm[None])[0] for rdm in target]
    products = np.stack([a @ a.T for a in A])  # (n_runs, n_layers, n_layers)
    moments = np.stack([a @ b for a, b in zip(A, y, strict=True)])  # (n_runs, n_layers)
    predictions = []
    for run in range(len(A)):
        # Summed afresh: subtracting the held-out run would leave its rounding in the weights.
        others = [other for other in range(len(A)) if other != run]
        G, b = products[others].sum(axis=0), moments[others].sum(axis=0)
        # |A w - y|^2 = |R w - z|^2 + constant with G = R'R and R'z = b; a touch of ridge where layers repeat.
        R = np.linalg.cholesky(G + np.eye(len(G)) * 1e-9 * max(np.trace(G), 1.0)).T
        weights, _ = nnls(R, np.linalg.solve(R.T, b))
        predictions.append(weights @ A[run])
    return predictions
