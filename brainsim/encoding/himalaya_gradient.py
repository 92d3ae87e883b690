"""Turn kernels and BOLD into nested cross-validated scores with himalaya's hyper-gradient solver: weights by descent.

It follows the gradient of the validation loss in the log weights of the bands, for every target on its own, instead of
choosing among mixtures (Dupré la Tour et al., NeuroImage 2022). With many bands it may find better weights than a pool.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from himalaya.kernel_ridge import solve_multiple_kernel_ridge_hyper_gradient
from himalaya.scoring import correlation_score, r2_score, r2_score_split

from brainsim.core.progress import SILENT, Progress
from brainsim.core.runs import Fold
from brainsim.encoding.himalaya_solver import himalaya_backend, inner_splits

# Steps of the outer loop; himalaya's ten are too few from a cold start, which "ridgecv" is not.
MAX_ITER = 50

# Steps of himalaya's inner solver per outer one. With a single step the dual weights lag behind their hyperparameters.
MAX_ITER_DUAL = 5


@dataclass(frozen=True)
class GradientScores:
    """What the descent found.

    Parameters
    ----------
    r2, r : ndarray of float32, (n_folds, n_targets)
        Test scores.
    split_r2 : ndarray of float32, (n_bands, n_targets)
        Mean over folds of each band's part of R2 (himalaya's `r2_score_split`).
    weight : ndarray of float32, (n_bands, n_targets)
        Mean over folds of each band's share of the weights.
    """

    r2: np.ndarray
    r: np.ndarray
    split_r2: np.ndarray
    weight: np.ndarray


def search_with_hyper_gradient(
    Ks: Sequence[np.ndarray],
    Y: np.ndarray,
    *,
    folds: Sequence[Fold],
    backend: str = "torch",
    n_targets_batch: int = 2000,
    max_iter: int = MAX_ITER,
    seed: int = 0,
    progress: Progress = SILENT,
) -> GradientScores:
    """Run himalaya's hyper-gradient descent inside every outer training set.

    Parameters
    ----------
    Ks : sequence of ndarray, n_bands of (n_rows, n_rows)
        Kernels.
    Y : ndarray of float32, (n_rows, n_targets)
        BOLD, z-scored within runs, no NaN.
    folds : sequence of Fold
        The same folds serve as outer tests and as inner validation sets.
    backend : {"torch", "torch_cuda", "numpy"}
        himalaya's backend.
    n_targets_batch : int
        Targets that descend together. himalaya stops a batch when none of its targets moves any more, so the last
        digits of a score depend on which targets share a batch.
    max_iter : int
        Steps of the outer loop at most.
    seed : int
        Seed of its order of steps.
    """
    n_bands, n_rows, n_targets = len(Ks), len(Y), Y.shape[1]
    r2, r = (np.empty((len(folds), n_targets), np.float32) for _ in range(2))
    split, weight = np.zeros((n_bands, n_targets)), np.zeros((n_bands, n_targets))
    stack = np.stack([np.asarray(K, np.float32) for K in Ks])
    with himalaya_backend(backend) as xp, progress.task("himalaya", total=len(folds), unit="folds") as task:
        for index, fold in enumerate(folds):
            train = np.setdiff1d(np.arange(n_rows), fold.excluded)
            deltas, duals, _ = solve_multiple_kernel_ridge_hyper_gradient(
                xp.asarray(stack[:, train[:, None], train[None, :]]),
                xp.asarray(Y[train]),
                cv=inner_splits(folds, index, train),
                return_weights="dual",
                initial_deltas="ridgecv",
                max_iter=max_iter,
                max_iter_inner_dual=MAX_ITER_DUAL,
                kernel_ridge_method="conjugate_gradient",
                n_targets_batch=n_targets_batch,
                random_state=seed,
                progress_bar=False,
            )
            gains = xp.to_numpy(xp.exp(deltas)).astype(np.float64)  # (n_bands, n_targets), gamma / alpha
            K_test = stack[:, fold.test[:, None], train[None, :]]
            parts = (gains[:, None, :] * (K_test @ xp.to_numpy(duals))).astype(np.float32)
            Y_test = xp.asarray(Y[fold.test])
            joint = xp.asarray(parts.sum(axis=0))
            r2[index] = xp.to_numpy(r2_score(Y_test, joint))
            r[index] = xp.to_numpy(correlation_score(Y_test, joint))
            split += xp.to_numpy(r2_score_split(Y_test, xp.asarray(parts)))
            weight += gains / gains.sum(axis=0)
            task.advance()
    n_folds = len(folds)
    return GradientScores(r2, r, (split / n_folds).astype(np.float32), (weight / n_folds).astype(np.float32))
