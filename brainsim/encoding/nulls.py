"""Turn what a search chose into scores of null data sets, whose BOLD is shifted against the features run by run.

A circular shift keeps each run's autocorrelation, and with the same shift for all targets what targets have in common;
it breaks what ties BOLD to features. Hyperparameters stay as they were chosen, so each chosen mixture and alpha is
factorised once, and a null data set costs two products: ``W_r = -(G_rr)^-1 G_r,rest`` takes any BOLD to its prediction
of fold r.

The unique part of a family has another null: what the other families explain stays where it is. It is what is left of
the BOLD by their cross-validated prediction that is shifted (after Freedman and Lane 1983).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from brainsim.compute.threads import map_in_order
from brainsim.core.checks import check_count
from brainsim.core.errors import InvalidValueError
from brainsim.core.progress import SILENT, Progress
from brainsim.core.runs import RunLayout
from brainsim.core.seeds import named_rng
from brainsim.encoding.best import SupportBest
from brainsim.encoding.folds import Factor, FoldIndex, factorise
from brainsim.encoding.search import mix_kernels, single_threaded
from brainsim.encoding.split import chosen_groups

# Bytes of null data sets in memory at once, per worker.
BLOCK_BYTES = 128 * 2**20


@dataclass(frozen=True)
class ChosenModels:
    """Where the models of a search come from.

    Parameters
    ----------
    Ks : sequence of ndarray, n_bands of (n_rows, n_rows)
        Kernels as in the search.
    gammas : ndarray, (n_candidates, n_bands)
        The pool's mixtures.
    alphas : sequence of float
        The alpha grid.
    folds : FoldIndex
        Outer folds.
    device : str
        torch device.
    n_workers : int
        Models refitted at once.
    """

    Ks: Sequence[np.ndarray]
    gammas: np.ndarray
    alphas: Sequence[float]
    folds: FoldIndex
    device: str = "cpu"
    n_workers: int = 1


def draw_shifts(layout: RunLayout, *, n_nulls: int, min_shift: int, seed: int = 0) -> np.ndarray:
    """Draw the rows that null data sets take their BOLD from.

    Parameters
    ----------
    layout : RunLayout
        Rows of each run; every run is shifted on its own, around its own end.
    n_nulls : int
        Null data sets.
    min_shift : int
        Least shift in rows (TRs), in either direction.
    seed : int
        Seed. The same layout gives the same shifts: subjects who saw the same are shifted alike, so that what their
        BOLD has in common beside the features stays in common.

    Returns
    -------
    ndarray of int64, (n_nulls, n_rows)
        Row i of null data set j is row ``[j, i]`` of the BOLD.
    """
    check_count("--nulls", n_nulls)
    check_count("the least shift", min_shift)
    shortest = min(layout.n_trs)
    if 2 * min_shift > shortest - 1:
        raise InvalidValueError(
            f"the least shift is {min_shift} TRs in either direction; the shortest run has {shortest} TRs, which leaves "
            "none.",
            hint="--null-shift-s with fewer seconds",
        )
    rng = named_rng(seed, "nulls", *map(str, layout.n_trs))
    rows = np.empty((n_nulls, layout.n_rows), np.int64)
    for start, n in zip(layout.starts, layout.n_trs, strict=True):
        shifts = rng.integers(min_shift, n - min_shift + 1, size=n_nulls)
        rows[:, start : start + n] = start + (np.arange(n) - shifts[:, None]) % n
    return rows


def predict_chosen(models: ChosenModels, best: SupportBest, Y: np.ndarray) -> np.ndarray:
    """Return the cross-validated prediction of every row by the chosen models, float32 (n_rows, n_targets).

    Rows that no fold tests, and targets without a model, are 0.
    """
    Yt = torch.as_tensor(Y, device=models.device)
    predicted = torch.zeros_like(Yt)
    for fold, columns, W in _operators(models, best):
        start, stop = models.folds.test[fold]
        predicted[start:stop, columns] = W @ Yt[:, columns]
    return predicted.cpu().numpy()


def score_nulls(
    models: ChosenModels,
    best: SupportBest,
    moving: np.ndarray,
    rows: np.ndarray,
    *,
    fixed: np.ndarray | None = None,
    progress: Progress = SILENT,
    label: str = "nulls",
) -> np.ndarray:
    """Score null data sets with the chosen models, trained anew on each.

    Parameters
    ----------
    models : ChosenModels
        Where the models come from.
    best : SupportBest
        Which mixture and alpha every fold and target chose.
    moving : ndarray of float32, (n_rows, n_targets)
        BOLD, or its part, that is shifted.
    rows : ndarray of int64, (n_nulls, n_rows)
        From `draw_shifts`.
    fixed : ndarray of float32, (n_rows, n_targets), optional
        Part of the BOLD that is not shifted.

    Returns
    -------
    ndarray of float32, (n_nulls, n_targets)
        Test R2, mean over folds; NaN where no model was chosen.
    """
    device = models.device
    moved = torch.as_tensor(np.ascontiguousarray(moving, dtype=np.float32), device=device)
    kept = None if fixed is None else torch.as_tensor(np.ascontiguousarray(fixed, dtype=np.float32), device=device)
    take = torch.as_tensor(rows, device=device)
    scores = torch.zeros((len(rows), moved.shape[1]), dtype=torch.float32, device=device)

    def score(group: tuple[int, int, torch.Tensor]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return [
            (columns, _score_fold(W, models.folds.test[fold], moved[:, columns], kept, columns, take))
            for fold, columns, W in _group_operators(models, *group)
        ]

    groups = list(chosen_groups(best))
    with single_threaded(), progress.task(label, total=len(groups), unit="models") as task:
        for _, parts in map_in_order(score, groups, n_workers=models.n_workers):
            for columns, r2 in parts:
                scores[:, columns] += r2
            task.advance()
    scores /= models.folds.n_folds
    scores[:, (best.candidate < 0).any(dim=0)] = torch.nan
    return scores.cpu().numpy()


def _score_fold(
    W: torch.Tensor,
    test: tuple[int, int],
    moved: torch.Tensor,
    kept: torch.Tensor | None,
    columns: torch.Tensor,
    take: torch.Tensor,
) -> torch.Tensor:
    """Return the R2 of one fold in every null data set, (n_nulls, n_columns)."""
    n_rows, n_columns = moved.shape
    fixed = None if kept is None else kept[:, columns]
    size = max(1, BLOCK_BYTES // (4 * n_rows * n_columns))
    out = torch.empty((len(take), n_columns), dtype=torch.float32, device=moved.device)
    for start in range(0, len(take), size):
        block = take[start : start + size]
        Y = moved[block.T]  # (n_rows, n_block, n_columns)
        if fixed is not None:
            Y += fixed[:, None, :]
        predicted = (W @ Y.reshape(n_rows, -1)).reshape(-1, len(block), n_columns)
        truth = Y[test[0] : test[1]]
        total = (truth - truth.mean(dim=0)).square_().sum(dim=0)
        out[start : start + size] = 1 - (truth - predicted).square_().sum(dim=0) / total
    return out


def _operators(models: ChosenModels, best: SupportBest) -> list[tuple[int, torch.Tensor, torch.Tensor]]:
    """Return (fold, targets, W) of everything that was chosen."""
    with single_threaded():
        found = map_in_order(
            lambda group: _group_operators(models, *group), chosen_groups(best), n_workers=models.n_workers
        )
        return [operator for _, operators in found for operator in operators]


def _group_operators(
    models: ChosenModels, candidate: int, alpha: int, mask: torch.Tensor
) -> list[tuple[int, torch.Tensor, torch.Tensor]]:
    """Return (fold, targets, W) of one chosen mixture and alpha."""
    with torch.inference_mode():
        K = mix_kernels(models.Ks, models.gammas[candidate], device=models.device)
        factor = factorise(K, models.alphas[alpha], models.folds, n_targets=K.shape[0])
        return [
            (fold, torch.nonzero(mask[fold])[:, 0], prediction_operator(factor, fold))
            for fold in torch.nonzero(mask.any(dim=1))[:, 0].tolist()
        ]


def prediction_operator(factor: Factor, fold: int) -> torch.Tensor:
    """Return the matrix that takes BOLD to the prediction of one fold by the model trained without it.

    Returns
    -------
    Tensor of float32, (n_test, n_rows)
        Zero in the columns that training leaves out.
    """
    held = factor.outer[fold]
    ((start, stop),) = held.spans
    ((_, (first, last)),) = held.parts
    rows = factor.G[start:stop].clone()
    rows[:, start:stop] = 0
    return -held.solve(rows)[first:last].float()
