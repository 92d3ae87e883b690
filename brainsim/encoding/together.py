"""Turn the held-out blocks of all folds into one batch, which is what a GPU is fast at; shorter folds are padded."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import torch

from brainsim.core.errors import NumericalError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from brainsim.encoding.folds import FoldIndex, TargetBatch


def invert_together(A: torch.Tensor) -> torch.Tensor:
    """Return the inverses of symmetric positive matrices, (n, n_rows, n_rows).

    Raises
    ------
    NumericalError
        Where one is not positive.
    """
    L, info = torch.linalg.cholesky_ex(A)
    if bool((info != 0).any() | ~torch.isfinite(L.diagonal(dim1=1, dim2=2)).all()):
        raise NumericalError(f"Cholesky factorisation of {int((info != 0).sum())} of {len(A)} matrices stopped.")
    one = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device).expand_as(A)
    half = torch.linalg.solve_triangular(L, one, upper=False)
    inverse: torch.Tensor = half.mT @ half
    return inverse


class FoldStack(NamedTuple):
    """What computing all folds at once needs to know of them.

    Parameters
    ----------
    at : Tensor of int64, (n_folds, n_padded)
        The rows that each fold leaves out; any row where padded.
    padding : Tensor of bool, (n_folds, n_padded)
        Where it is padded.
    is_scored : Tensor of bool, (n_folds, n_padded)
        Which of the rows are its test rows.
    first, second : Tensor of int64, (n_pairs,)
        Folds of the pairs.
    tests : Tensor of float32, (n_folds, 2 * n_pairs)
        1 where a fold is the one tested: of the first n_pairs columns the first of a pair, of the others the second.
    """

    at: torch.Tensor
    padding: torch.Tensor
    is_scored: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor
    tests: torch.Tensor


@lru_cache(maxsize=4)
def stack_folds(folds: FoldIndex, device: torch.device) -> FoldStack:
    """Lay out all folds side by side on a device."""
    rows = torch.nn.utils.rnn.pad_sequence(
        [torch.arange(*span) for span in folds.excluded], batch_first=True, padding_value=folds.n_rows
    )
    is_scored = torch.stack([torch.isin(row, torch.arange(*t)) for row, t in zip(rows, folds.test, strict=True)])
    first, second = torch.tensor(folds.pairs, dtype=torch.int64).reshape(-1, 2).T
    tests = torch.nn.functional.one_hot(torch.cat([first, second]), folds.n_folds).T.float()
    at, padding = rows.clamp(max=folds.n_rows - 1), rows == folds.n_rows
    return FoldStack(*(values.to(device) for values in (at, padding, is_scored, first, second, tests)))


def padded_blocks(G: torch.Tensor, stack: FoldStack, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return blocks of a matrix between pairs of folds, (n, n_padded, n_padded); 0 in padded rows and columns."""
    found = G[stack.at[left][:, :, None], stack.at[right][:, None, :]]
    return found.masked_fill_(stack.padding[left][:, :, None] | stack.padding[right][:, None, :], 0)


def blocks_together(G: torch.Tensor, folds: FoldIndex) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the diagonal blocks of all folds and their inverses, (n_folds, n_padded, n_padded); 1 where padded."""
    stack = stack_folds(folds, G.device)
    every = torch.arange(folds.n_folds, device=G.device)
    A = padded_blocks(G, stack, every, every)
    A.diagonal(dim1=1, dim2=2).add_(stack.padding.to(A.dtype))  # so that they stay invertible
    return A, invert_together(A)


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
    stack = stack_folds(folds, A_inverse.device)
    scored = stack.is_scored[:, :, None]
    from_training = torch.nn.utils.rnn.pad_sequence(list(outer), batch_first=True)  # (n_folds, n_padded, n_targets)
    predicted = (A_inverse @ from_training).neg_().masked_fill_(~scored, 0)
    Y = batch.Y.to(predicted.dtype)[stack.at].masked_fill_(~scored, 0)
    r2 = 1 - (Y - predicted).square_().sum(dim=1) / batch.total
    middle = predicted.sum(dim=1, keepdim=True) / scored.sum(dim=1, keepdim=True)
    about_mean = torch.where(scored, Y - batch.mean[:, None], 0)
    predicted = torch.where(scored, predicted - middle, 0)
    covariance = (predicted * about_mean).sum(dim=1)
    norm = torch.linalg.vector_norm(predicted, dim=1) * batch.total.sqrt()
    return r2.float(), torch.where(norm > 0, covariance / norm, 0.0).float()
