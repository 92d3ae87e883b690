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
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

from brainsim.compute.threads import map_in_order, torch_threads
from brainsim.core.checks import check_count
from brainsim.core.errors import InvalidValueError
from brainsim.core.progress import SILENT, Progress
from brainsim.core.runs import RunLayout
from brainsim.core.seeds import named_rng
from brainsim.encoding.best import SupportBest
from brainsim.encoding.chosen import chosen_groups
from brainsim.encoding.folds import Factor, FoldIndex, factorise
from brainsim.encoding.search import share_mixtures

# Bytes of null data sets in memory at once, per worker.
BLOCK_BYTES = 128 * 2**20

# Bytes of matrices of chosen models that are kept.
CACHE_BYTES = 512 * 2**20


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


def check_shift(layout: RunLayout, min_shift: int) -> None:
    """Refuse a least shift, in rows (TRs) in either direction, that some run is too short for.

    Raises
    ------
    InvalidValueError
    """
    check_count("the least shift", min_shift)
    shortest = min(layout.n_trs)
    if 2 * min_shift > shortest - 1:
        raise InvalidValueError(
            f"the least shift is {min_shift} TRs in either direction, which leaves none: the shortest run has "
            f"{shortest} TRs.",
            hint="--null-shift-s with fewer seconds",
        )


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
    check_shift(layout, min_shift)
    rng = named_rng(seed, "nulls", *map(str, layout.n_trs))
    rows = np.empty((n_nulls, layout.n_rows), np.int64)
    for start, n in zip(layout.starts, layout.n_trs, strict=True):
        shifts = rng.integers(min_shift, n - min_shift + 1, size=n_nulls)
        rows[:, start : start + n] = start + (np.arange(n) - shifts[:, None]) % n
    return rows


class Predictors:
    """The models that a search chose, as matrices that take BOLD to its cross-validated prediction.

    Row i of the matrix of a mixture and alpha belongs to the model that is trained without the fold of row i; its
    entries are 0 where training leaves out. A few matrices are kept.

    Parameters
    ----------
    models : ChosenModels
        Where the models come from.
    """

    def __init__(self, models: ChosenModels) -> None:
        self.models = models
        n_kept = max(2, CACHE_BYTES // (4 * models.folds.n_rows**2))
        mix = share_mixtures(models.Ks, models.gammas, device=models.device, n_kept=models.n_workers)

        @lru_cache(maxsize=n_kept)  # of a function, not of a method: that would hold the kernels beyond the task
        def make(candidate: int, alpha: int) -> torch.Tensor:
            with torch.inference_mode():
                return _predictor(mix(candidate), models.alphas[alpha], models.folds)

        self._get = make

    def __call__(self, candidate: int, alpha: int) -> torch.Tensor:
        """Return the matrix of a mixture and alpha, float32 (n_rows, n_rows)."""
        return self._get(candidate, alpha)


def _predictor(K: torch.Tensor, alpha: float, folds: FoldIndex) -> torch.Tensor:
    factor = factorise(K, alpha, folds, n_targets=folds.n_rows)
    W = torch.zeros_like(K)
    for fold, (start, stop) in enumerate(folds.test):
        W[start:stop] = prediction_operator(factor, fold)
    return W


def predict_chosen(predictors: Predictors, best: SupportBest, Y: np.ndarray) -> np.ndarray:
    """Return the cross-validated prediction of every row by the chosen models, float32 (n_rows, n_targets).

    Rows that no fold tests, and targets without a model, are 0.
    """
    models = predictors.models
    Yt = torch.as_tensor(Y, device=models.device)
    predicted = torch.zeros_like(Yt)
    for candidate, alpha, mask in chosen_groups(best):
        W = predictors(candidate, alpha)
        for fold, (start, stop) in enumerate(models.folds.test):
            columns = torch.nonzero(mask[fold])[:, 0]
            predicted[start:stop, columns] = W[start:stop] @ Yt[:, columns]
    return predicted.cpu().numpy()


def score_nulls(
    predictors: Predictors,
    best: SupportBest,
    moving: np.ndarray,
    rows: np.ndarray,
    *,
    fixed: np.ndarray | None = None,
    progress: Progress = SILENT,
    label: str = "nulls",
) -> np.ndarray:
    """Score data sets with the chosen models, trained anew on each: correlation of BOLD and prediction on test rows.

    A correlation does not know how large a prediction is. R2 does, and hyperparameters make predictions larger on the
    data that they were chosen on than on shifted ones: tested by R2, regions without any effect had a median p of 0.9.
    The gain of a family is tested by the difference of two such scores. Of 160 families without an effect of their own,
    but correlated with one that has it, this found 4 % at 5 %; the gain in R2 9 %, partial correlations 15 to 25 %.

    Parameters
    ----------
    predictors : Predictors
        The models.
    best : SupportBest
        Which mixture and alpha every fold and target chose.
    moving : ndarray of float32, (n_rows, n_targets)
        BOLD, or its part, that is shifted.
    rows : ndarray of int64, (n_sets, n_rows)
        Where each data set takes its rows from: `draw_shifts`.
    fixed : ndarray of float32, (n_rows, n_targets), optional
        Part of the BOLD that is not shifted.

    Returns
    -------
    ndarray of float32, (n_sets, n_targets)
        Mean over folds; NaN where no model was chosen, 0 where a prediction is constant.
    """
    device = predictors.models.device
    moved = torch.as_tensor(np.ascontiguousarray(moving, dtype=np.float32), device=device)
    kept = None if fixed is None else torch.as_tensor(np.ascontiguousarray(fixed, dtype=np.float32), device=device)
    take = torch.as_tensor(rows, device=device)
    scores = torch.zeros((len(rows), moved.shape[1]), dtype=torch.float32, device=device)
    folds = predictors.models.folds

    def score(group: tuple[int, int, torch.Tensor]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        candidate, alpha, mask = group
        found = []
        with torch.inference_mode():
            W = predictors(candidate, alpha)
            for fold, (start, stop) in enumerate(folds.test):
                columns = torch.nonzero(mask[fold])[:, 0]
                if len(columns):
                    data = _Shifted(moved[:, columns], None if kept is None else kept[:, columns], take)
                    found.append((columns, _score_fold(W[start:stop], slice(start, stop), data)))
        return found

    groups = list(chosen_groups(best))
    with torch_threads(1), progress.task(label, total=len(groups), unit="models") as task:
        for _, parts in map_in_order(score, groups, n_workers=predictors.models.n_workers):
            for columns, r in parts:
                scores[:, columns] += r
            task.advance()
    scores /= folds.n_folds
    scores[:, (best.candidate < 0).any(dim=0)] = torch.nan
    return scores.cpu().numpy()


class _Shifted(NamedTuple):
    """Data sets that are made when they are wanted: (n_rows, n_targets) of BOLD, and rows (n_sets, n_rows) to take."""

    moved: torch.Tensor
    fixed: torch.Tensor | None
    take: torch.Tensor


def _score_fold(W: torch.Tensor, rows: slice, data: _Shifted) -> torch.Tensor:
    """Return the correlation of one fold in every data set, (n_sets, n_targets)."""
    n_rows, n_columns = data.moved.shape
    size = max(1, BLOCK_BYTES // (4 * n_rows * n_columns))
    out = torch.empty((len(data.take), n_columns), dtype=torch.float32, device=data.moved.device)
    for start in range(0, len(data.take), size):
        block = data.take[start : start + size]
        Y = data.moved[block.T]  # (n_rows, n_block, n_columns)
        if data.fixed is not None:
            Y += data.fixed[:, None, :]
        flat = Y.reshape(n_rows, -1)
        out[start : start + size] = _correlate(W @ flat, flat[rows]).reshape(len(block), n_columns)
    return out


def _correlate(predicted: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Return the correlation of columns; 0 where one of them is constant."""
    predicted, truth = predicted - predicted.mean(dim=0), truth - truth.mean(dim=0)
    norm = torch.linalg.vector_norm(predicted, dim=0) * torch.linalg.vector_norm(truth, dim=0)
    return torch.where(norm > 0, (predicted * truth).sum(dim=0) / norm, 0.0)


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
