"""Turn a factor into the validation score of every outer fold: each pair of folds held out of training in turn.

The model trained without folds r and s is validated on s when r is the test fold, and on r when s is. Pairs are where a
nested search spends its time, so a fold and target take part only where they ask for a score.
"""

from __future__ import annotations

from functools import lru_cache

import torch

from brainsim.core.errors import NumericalError
from brainsim.encoding.folds import Factor, FoldIndex, Span, TargetBatch, hold_out

# Bytes of residuals that a device holds at once where all pairs are solved together.
DEVICE_TILE_BYTES = 2**30


def score_inner(
    C: torch.Tensor, factor: Factor, batch: TargetBatch, folds: FoldIndex, wanted: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the validation R2 for every outer fold: the mean over the other folds.

    Parameters
    ----------
    C : Tensor, (n_rows, n_targets)
        ``G Y``.
    factor : Factor
        What made it.
    batch : TargetBatch
        The same targets.
    folds : FoldIndex
        Nested folds.
    wanted : Tensor of bool, (n_folds, n_targets), optional
        Which entries are asked for; the others may be anything. All by default.

    Returns
    -------
    Tensor of float32, (n_folds, n_targets)
        Entry r is the mean over s != r of the R2 on fold s of the model trained without r and s.

    Raises
    ------
    NumericalError
        Where a pair cannot be factorised.
    """
    if C.device.type == "cpu":
        loss = _loss_by_pairs(C, factor, batch, folds, wanted)
    else:
        loss = loss_together(C, factor, batch, folds)
    return 1 - loss / (folds.n_folds - 1)


def _loss_by_pairs(
    C: torch.Tensor, factor: Factor, batch: TargetBatch, folds: FoldIndex, wanted: torch.Tensor | None
) -> torch.Tensor:
    """Solve pair after pair: one pair's factor is in memory at a time, and only targets that ask for it are solved."""
    loss = torch.zeros((folds.n_folds, C.shape[1]), dtype=torch.float32, device=C.device)
    for pair in folds.pairs:
        columns = None if wanted is None else _asking(wanted[pair[0]] | wanted[pair[1]])
        n_targets = C.shape[1] if columns is None else len(columns)
        if n_targets == 0:
            continue
        held = hold_out(factor.G, folds, pair, n_targets)
        E = held.solve(held.take(C, columns))  # (n_excluded, n_columns)
        (r, at_r), (s, at_s) = held.parts
        for scored, rows_scored, tested in ((r, at_r, s), (s, at_s, r)):
            squares = _squares(E, rows_scored)
            if columns is None:
                loss[tested] += squares / batch.total[scored]
            else:
                loss[tested].index_add_(0, columns, squares / batch.total[scored].index_select(0, columns))
    return loss


def _asking(wanted: torch.Tensor) -> torch.Tensor | None:
    """Return the targets that are marked, or None for all: then nothing need be copied."""
    columns = torch.nonzero(wanted)[:, 0]
    return None if len(columns) == len(wanted) else columns


def _squares(E: torch.Tensor, rows: Span) -> torch.Tensor:
    return E[rows[0] : rows[1]].square().sum(dim=0).float()


def loss_together(C: torch.Tensor, factor: Factor, batch: TargetBatch, folds: FoldIndex) -> torch.Tensor:
    """Solve all pairs as one batch, which is what a GPU is fast at: shorter pairs are padded with rows of nothing."""
    rows, is_scored = _stack_pairs(folds, C.device)  # (n_pairs, n_padded), (n_pairs, 2, n_padded)
    n_pairs, n_padded = rows.shape
    padding = rows == folds.n_rows
    at = rows.clamp(max=folds.n_rows - 1)
    blocks = factor.G[at[:, :, None], at[:, None, :]]
    blocks.masked_fill_(padding[:, :, None] | padding[:, None, :], 0)
    blocks.diagonal(dim1=1, dim2=2).add_(padding.to(blocks.dtype))  # 1 where nothing is, so that they stay invertible
    L, info = torch.linalg.cholesky_ex(blocks)
    if bool((info != 0).any()) or not bool(torch.isfinite(L.diagonal(dim1=1, dim2=2)).all()):
        raise NumericalError(f"Cholesky factorisation of {int((info != 0).sum())} of {n_pairs} pairs of folds stopped.")
    inverse = torch.cholesky_inverse(L)  # (n_pairs, n_padded, n_padded)
    pairs = torch.tensor(folds.pairs, device=C.device)  # (n_pairs, 2)
    tested = pairs.flip(1).reshape(-1)
    loss = torch.zeros((folds.n_folds, C.shape[1]), dtype=torch.float32, device=C.device)
    n_columns = max(1, DEVICE_TILE_BYTES // (2 * n_pairs * n_padded * C.element_size()))
    for start in range(0, C.shape[1], n_columns):
        tile = slice(start, start + n_columns)
        held = C[:, tile][at].masked_fill_(padding[:, :, None], 0)  # (n_pairs, n_padded, n_tile)
        squares = torch.bmm(inverse, held).square_()
        sums = torch.bmm(is_scored.to(squares.dtype), squares).float()  # (n_pairs, 2, n_tile)
        share = sums / batch.total[:, tile][pairs]
        loss[:, tile].index_add_(0, tested, share.reshape(2 * n_pairs, -1))
    return loss


@lru_cache(maxsize=4)
def _stack_pairs(folds: FoldIndex, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the rows that each pair leaves out, padded with `n_rows`, and which of them either fold scores."""
    test = [torch.arange(*span) for span in folds.test]
    excluded = [torch.arange(*span) for span in folds.excluded]
    union = [torch.unique(torch.cat([excluded[r], excluded[s]])) for r, s in folds.pairs]
    rows = torch.nn.utils.rnn.pad_sequence(union, batch_first=True, padding_value=folds.n_rows)
    is_scored = torch.stack(
        [
            torch.stack([torch.isin(row, test[fold]) for fold in pair])
            for row, pair in zip(rows, folds.pairs, strict=True)
        ]
    )
    return rows.to(device), is_scored.to(device)
