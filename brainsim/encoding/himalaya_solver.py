"""Turn kernels and BOLD into nested cross-validated scores with himalaya's own random search: the reference solver.

himalaya (Dupré la Tour et al., NeuroImage 2022) refits every training set. It is what `encoding/search.py` is tested
against, and stays selectable for those who want its numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType

import numpy as np
import torch
from himalaya.backend import get_backend, set_backend
from himalaya.kernel_ridge import solve_multiple_kernel_ridge_random_search
from himalaya.scoring import correlation_score, r2_score

from brainsim.core.errors import DeviceError
from brainsim.core.progress import SILENT, Progress
from brainsim.core.runs import Fold
from brainsim.encoding.best import SupportBest


@contextmanager
def himalaya_backend(name: str) -> Iterator[ModuleType]:
    """Set himalaya's global backend for a block and put the old one back, also after an exception."""
    if name == "torch_cuda" and not torch.cuda.is_available():
        raise DeviceError("himalaya's backend is torch_cuda; torch sees no CUDA device here.", hint="--backend torch")
    before = get_backend().name
    try:
        yield set_backend(name, on_error="raise")
    finally:
        set_backend(before, on_error="raise")


def search_with_himalaya(
    Ks: Sequence[np.ndarray],
    Y: np.ndarray,
    *,
    gammas: np.ndarray,
    alphas: Sequence[float],
    folds: Sequence[Fold],
    backend: str = "torch",
    n_targets_batch: int = 2000,
    progress: Progress = SILENT,
) -> SupportBest:
    """Run himalaya's random search inside every outer training set.

    Parameters
    ----------
    Ks : sequence of ndarray, n_bands of (n_rows, n_rows)
        Kernels.
    Y : ndarray of float32, (n_rows, n_targets)
        BOLD, z-scored within runs, no NaN.
    gammas : ndarray of float32, (n_candidates, n_bands)
        Mixtures to try, in this order.
    alphas : sequence of float
        Penalties.
    folds : sequence of Fold
        The same folds serve as outer tests and as inner validation sets.
    backend : {"torch", "torch_cuda", "numpy"}
        himalaya's backend.

    Returns
    -------
    SupportBest
        As the search of this room gives it; the validation score is the mean over inner folds.
    """
    n_rows, n_targets, n_folds = Y.shape[0], Y.shape[1], len(folds)
    inner = np.full((n_folds, n_targets), -np.inf, np.float32)
    r2, r = np.full_like(inner, np.nan), np.full_like(inner, np.nan)
    candidate, alpha = np.full(inner.shape, -1, np.int32), np.full(inner.shape, -1, np.int32)
    stack = np.stack([np.asarray(K, np.float32) for K in Ks])
    log_gammas = np.log(gammas.astype(np.float64).clip(min=np.finfo(np.float64).tiny))
    with himalaya_backend(backend) as xp, progress.task("himalaya", total=n_folds, unit="folds") as task:
        for index, fold in enumerate(folds):
            train = np.setdiff1d(np.arange(n_rows), fold.excluded)
            deltas, duals, scores = solve_multiple_kernel_ridge_random_search(
                xp.asarray(stack[:, train[:, None], train[None, :]]),
                xp.asarray(Y[train]),
                n_iter=xp.asarray(gammas),
                alphas=xp.asarray(np.asarray(alphas, np.float32)),
                score_func=r2_score,  # himalaya's default, the mean squared error, weighs noisy folds more
                cv=inner_splits(folds, index, train),
                n_targets_batch=n_targets_batch,
                return_weights="dual",
                local_alpha=True,
                jitter_alphas=False,
                progress_bar=False,
            )
            weights = xp.to_numpy(xp.exp(deltas))[:, None, :]  # (n_bands, 1, n_targets)
            K_test = stack[:, fold.test[:, None], train[None, :]]
            predicted = (weights * (K_test @ xp.to_numpy(duals))).sum(axis=0).astype(np.float32)
            r2[index] = xp.to_numpy(r2_score(xp.asarray(Y[fold.test]), xp.asarray(predicted)))
            r[index] = xp.to_numpy(correlation_score(xp.asarray(Y[fold.test]), xp.asarray(predicted)))
            inner[index] = xp.to_numpy(scores).max(axis=0)
            found = _identify(xp.to_numpy(deltas).astype(np.float64), log_gammas, np.log(np.asarray(alphas)))
            candidate[index], alpha[index] = found
            task.advance()
    return SupportBest(*(torch.from_numpy(a) for a in (inner, r2, r, candidate, alpha)))


def inner_splits(folds: Sequence[Fold], outer: int, train: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (training rows, validation rows) of every inner fold, as places in the outer training set."""
    return [
        (np.flatnonzero(~np.isin(train, fold.excluded)), np.flatnonzero(np.isin(train, fold.test)))
        for at, fold in enumerate(folds)
        if at != outer
    ]


def _identify(deltas: np.ndarray, log_gammas: np.ndarray, log_alphas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which candidate and alpha each target's ``delta = log(gamma / alpha)`` came from."""
    floor = -60.0  # below e^-60 a weight is none, whatever its logarithm says
    grid = np.maximum(log_gammas[:, None, :] - log_alphas[None, :, None], floor)  # (n_candidates, n_alphas, n_bands)
    flat = grid.reshape(-1, grid.shape[-1])
    index = np.array([int(np.abs(flat - column).sum(axis=1).argmin()) for column in np.maximum(deltas.T, floor)])
    return index // len(log_alphas), index % len(log_alphas)
