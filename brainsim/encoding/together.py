"""Turn the held-out blocks of all folds into one batch, which is what a GPU is fast at; shorter folds are padded."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import torch

from brainsim.core.errors import NumericalError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from brainsim.encoding.folds import FoldIndex, TargetBatch


def invert_together(A: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return lower Cholesky factors and inverses of symmetric positive matrices, (n, n_rows, n_rows) each.

    Raises
    ------
    NumericalError
        Where one is not positive.
    """
    L, info = torch.linalg.cholesky_ex(A)
    if bool((info != 0).any() | ~torch.isfinite(L.diagonal(dim1=1, dim2=2)).all()):
        raise NumericalError(f"Cholesky factorisation of {int((info != 0).sum())} of {len(A)} held-out parts stopped.")
    one = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device).expand_as(A)
    half = torch.linalg.solve_triangular(L, one, upper=False)
    return L, half.mT @ half


@lru_cache(maxsize=4)
def stack_folds(folds: FoldIndex, device: torch.device) -> tuple[torch.Tensor, ...]:
    """Return what computing all folds at once needs to know of them.

    Returns
    -------
    rows : Tensor of int64, (n_folds, n_padded)
        What each fold leaves out, padded with `n_rows`.
    is_scored : Tensor of bool, (n_folds, n_padded)
        Which of them are its test rows.
    first, second : Tensor of int64, (n_pairs,)
        Folds of the pairs.
    tests : Tensor of float32, (n_folds, 2 * n_pairs)
        1 where a fold is the one tested: of the first n_pairs columns the first of a pair, of the others the second.
    """
    rows = torch.nn.utils.rnn.pad_sequence(
        [torch.arange(*span) for span in folds.excluded], batch_first=True, padding_value=folds.n_rows
    )
    is_scored = torch.stack([torch.isin(row, torch.arange(*t)) for row, t in zip(rows, folds.test, strict=True)])
    first, second = torch.tensor(folds.pairs, dtype=torch.int64).reshape(-1, 2).T
    tests = torch.nn.functional.one_hot(torch.cat([first, second]), folds.n_folds).T.float()
    return rows.to(device), is_scored.to(device), first.to(device), second.to(device), tests.to(device)


def padded_blocks(G: torch.Tensor, folds: FoldIndex, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return blocks of a matrix between pairs of folds, (n, n_padded, n_padded); 0 in padded rows and columns."""
    rows = stack_folds(folds, G.device)[0]
    padding, at = rows == folds.n_rows, rows.clamp(max=folds.n_rows - 1)
    found = G[at[left][:, :, None], at[right][:, None, :]]
    return found.masked_fill_(padding[left][:, :, None] | padding[right][:, None, :], 0)


def blocks_together(G: torch.Tensor, folds: FoldIndex) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the diagonal blocks of all folds and their inverses, (n_folds, n_padded, n_padded); 1 where padded."""
    every = torch.arange(folds.n_folds, device=G.device)
    A = padded_blocks(G, folds, every, every)
    padding = stack_folds(folds, G.device)[0] == folds.n_rows
    A.diagonal(dim1=1, dim2=2).add_(padding.to(A.dtype))  # so that they stay invertible
    _, inverse = invert_together(A)
    return A, inverse


def score_tests_together(
    A_inverse: torch.Tensor, outer: Sequence[torch.Tensor], batch: TargetBatch, folds: FoldIndex
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return R2 and Pearson correlation (0 where a prediction is constant) of all test folds at once.

    Parameters
    ----------
    A_inverse : Tensor, (n_folds, n_padded, n_padded)
        From `blocks_together`.
    outer : sequence of Tensor, (n_excluded, n_targets) each
        Per fold ``G_B,rest Y_rest`` (`encoding/folds.py`).
    batch : TargetBatch
        The same targets.

    Returns
    -------
    tuple of Tensor of float32, (n_folds, n_targets) each
    """
    rows, is_scored = stack_folds(folds, A_inverse.device)[:2]
    from_training = torch.nn.utils.rnn.pad_sequence(list(outer), batch_first=True)  # (n_folds, n_padded, n_targets)
    scored = is_scored[:, :, None]
    predicted = (A_inverse @ from_training).neg_().masked_fill_(~scored, 0)
    about_mean = batch.Y.to(predicted.dtype)[rows.clamp(max=folds.n_rows - 1)] - batch.mean[:, None]
    about_mean.masked_fill_(~scored, 0)
    n_test = is_scored.sum(dim=1)[:, None, None]
    middle = predicted.sum(dim=1, keepdim=True) / n_test
    offset = torch.where(scored, batch.mean[:, None], 0)
    r2 = 1 - (about_mean + offset - predicted).square_().sum(dim=1) / batch.total
    predicted = torch.where(scored, predicted - middle, 0)
    covariance = (predicted * about_mean).sum(dim=1)
    norm = torch.linalg.vector_norm(predicted, dim=1) * batch.total.sqrt()
    return r2.float(), torch.where(norm > 0, covariance / norm, 0.0).float()
