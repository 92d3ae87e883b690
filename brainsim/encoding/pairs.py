"""Turn a factor into the validation score of every outer fold: each pair of folds held out of training in turn.

The model trained without folds r and s is validated on s when r is the test fold, and on r when s is. Rows in the gap
around r are near r: where r is tested they validate nothing. Pairs are where a nested search spends its time, so a fold
and target take part only where they ask for a score.
"""

from __future__ import annotations

from functools import lru_cache

import torch

from brainsim.encoding.folds import Factor, FoldIndex, TargetBatch, cholesky, hold_out
from brainsim.encoding.spans import Span, within
from brainsim.encoding.together import blocks_together, invert_together, padded_blocks, stack_folds

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
    if wanted is None:
        wanted = torch.ones_like(loss, dtype=torch.bool)
    asking = wanted.sum(dim=1).tolist()
    # (G_BB)^-1 C_B with one fold held out: half of what every pair of it needs.
    alone = [held.residuals(C) for held in factor.outer]
    for pair in folds.pairs:
        # The second fold's residuals come first, the first one's cost another product: let fewer ask for those.
        first, second = sorted(pair, key=lambda fold: -asking[fold])
        columns = torch.nonzero(wanted[first] | wanted[second])[:, 0]
        if len(columns) == 0:
            continue
        if _overlap(folds.excluded[first], folds.excluded[second]):
            solved = _solve_whole(C, factor, folds, (first, second), columns)
        else:
            solved = _solve_by_halves(C, alone[first], factor, folds, (first, second), columns, wanted[second])
        for tested, (at, squares) in zip((second, first), solved, strict=True):
            scored = first + second - tested
            total = _columns(sum_about_mean(batch, folds, scored, tested), at)
            loss[tested].index_add_(0, at, squares / total)
    return loss


def sum_about_mean(batch: TargetBatch, folds: FoldIndex, scored: int, tested: int) -> torch.Tensor:
    """Return the sums of squares that validation on one fold divides by while another is tested, (n_targets,)."""
    rows = folds.validation_rows(scored, tested)
    if rows == folds.test[scored]:
        return batch.total[scored]
    Y = batch.Y[slice(*rows)].double()
    return (Y - Y.mean(dim=0)).square().sum(dim=0).float()


def _solve_by_halves(
    C: torch.Tensor,
    alone: torch.Tensor,
    factor: Factor,
    folds: FoldIndex,
    pair: tuple[int, int],
    columns: torch.Tensor,
    wants_first: torch.Tensor,
) -> tuple[tuple[torch.Tensor, torch.Tensor], ...]:
    """Return for either fold of a pair the targets solved and their sums of squared residuals.

    With the blocks ``A, B, D`` of ``G_BB``, ``U = A^-1 B`` and the Schur complement ``S = D - B' U``, the residuals are
    ``E_2 = S^-1 (C_2 - B' A^-1 C_1)`` and ``E_1 = A^-1 C_1 - U E_2``. `alone` is ``A^-1 C_1``, which all pairs of the
    first fold share: three small products instead of one large one, which takes a third more.
    """
    rows, others = (slice(*folds.excluded[fold]) for fold in pair)
    B = factor.G[rows, others]
    U = factor.outer[pair[0]].solve(B)
    L = cholesky(torch.addmm(factor.G[others, others], B.T, U, alpha=-1))
    right = torch.addmm(_columns(C[others], columns), B.T, _columns(alone, columns), alpha=-1)
    is_many = len(columns) > len(L)  # an explicit inverse costs about as much as solving for this many targets
    second = torch.cholesky_inverse(L) @ right if is_many else torch.cholesky_solve(right, L)
    # Validated on the second fold: tests of the first. And the other way round.
    kept = torch.nonzero(wants_first.index_select(0, columns))[:, 0]
    at = columns.index_select(0, kept)
    first = torch.addmm(_columns(alone, at), U, _columns(second, kept), alpha=-1)
    squares = [
        _squares(E, (folds.test[fold][0] - folds.excluded[fold][0], folds.test[fold][1] - folds.excluded[fold][0]))
        for E, fold in zip((first, second), pair, strict=True)
    ]
    return (at, squares[0]), (columns, squares[1])


def _solve_whole(
    C: torch.Tensor, factor: Factor, folds: FoldIndex, pair: tuple[int, int], columns: torch.Tensor
) -> tuple[tuple[torch.Tensor, torch.Tensor], ...]:
    """Do the same for neighbouring blocks, of which each leaves out rows of the other."""
    held = hold_out(factor.G, folds, pair, len(columns))
    E = held.solve(held.take(C, columns))  # (n_excluded, n_columns)
    squares = [
        _squares(E, within(held.spans, folds.validation_rows(fold, other)))
        for fold, other in zip(pair, pair[::-1], strict=True)
    ]
    return (columns, squares[0]), (columns, squares[1])


def _overlap(one: Span, other: Span) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def _columns(values: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Return some columns; all of them need no copy."""
    return values if len(columns) == values.shape[-1] else values.index_select(-1, columns)


def _squares(E: torch.Tensor, rows: Span) -> torch.Tensor:
    return E[rows[0] : rows[1]].square().sum(dim=0).float()


def loss_together(C: torch.Tensor, factor: Factor, batch: TargetBatch, folds: FoldIndex) -> torch.Tensor:
    """Solve all pairs as one batch, which is what a GPU is fast at, by halves or, where blocks overlap, whole."""
    if any(_overlap(folds.excluded[r], folds.excluded[s]) for r, s in folds.pairs):
        return _loss_whole(C, factor, batch, folds)
    return _loss_halves(C, factor, batch, folds)


def _loss_halves(C: torch.Tensor, factor: Factor, batch: TargetBatch, folds: FoldIndex) -> torch.Tensor:
    """Do for all pairs at once what `_solve_by_halves` does for one; shorter folds are padded with rows of nothing."""
    stack = stack_folds(folds, C.device)
    first, second = stack.first, stack.second
    A, A_inverse = blocks_together(factor.G, folds) if factor.together is None else factor.together
    B = padded_blocks(factor.G, stack, first, second)  # (n_pairs, n_padded, n_padded)
    U = A_inverse[first] @ B
    S_inverse = invert_together(torch.baddbmm(A[second], B.mT, U, alpha=-1))
    loss = torch.zeros((folds.n_folds, C.shape[1]), dtype=torch.float32, device=C.device)
    weights = stack.is_scored.to(C.dtype)[:, None]  # (n_folds, 1, n_padded)
    n_columns = max(1, DEVICE_TILE_BYTES // (4 * len(first) * stack.at.shape[1] * C.element_size()))
    for start in range(0, C.shape[1], n_columns):
        tile = slice(start, start + n_columns)
        held = C[:, tile][stack.at].masked_fill_(stack.padding[:, :, None], 0)  # (n_folds, n_padded, n_tile)
        alone = A_inverse @ held
        one = alone[first]
        other = S_inverse @ torch.baddbmm(held[second], B.mT, one, alpha=-1)
        one.baddbmm_(U, other, alpha=-1)
        # Validated on the second fold: tests of the first. And the other way round.
        squares = [(weights[f] @ E.square_())[:, 0].float() for f, E in ((second, other), (first, one))]
        totals = batch.total[:, tile]
        shares = torch.cat([squares[0] / totals[second], squares[1] / totals[first]])  # (2 * n_pairs, n_tile)
        loss[:, tile] = stack.tests @ shares
    return loss


def _loss_whole(C: torch.Tensor, factor: Factor, batch: TargetBatch, folds: FoldIndex) -> torch.Tensor:
    """Solve all pairs as one batch, each pair whole; shorter pairs are padded with rows of nothing."""
    rows, is_scored = _stack_pairs(folds, C.device)  # (n_pairs, n_padded), (n_pairs, 2, n_padded)
    n_pairs, n_padded = rows.shape
    padding = rows == folds.n_rows
    at = rows.clamp(max=folds.n_rows - 1)
    blocks = factor.G[at[:, :, None], at[:, None, :]]
    blocks.masked_fill_(padding[:, :, None] | padding[:, None, :], 0)
    blocks.diagonal(dim1=1, dim2=2).add_(padding.to(blocks.dtype))  # 1 where nothing is, so that they stay invertible
    inverse = invert_together(blocks)  # (n_pairs, n_padded, n_padded)
    tested = torch.tensor(folds.pairs, device=C.device).flip(1).reshape(-1)
    tests = torch.nn.functional.one_hot(tested, folds.n_folds).T.float()  # (n_folds, 2 * n_pairs)
    totals = torch.stack(
        [torch.stack([sum_about_mean(batch, folds, r, s), sum_about_mean(batch, folds, s, r)]) for r, s in folds.pairs]
    )  # (n_pairs, 2, n_targets)
    loss = torch.zeros((folds.n_folds, C.shape[1]), dtype=torch.float32, device=C.device)
    n_columns = max(1, DEVICE_TILE_BYTES // (2 * n_pairs * n_padded * C.element_size()))
    for start in range(0, C.shape[1], n_columns):
        tile = slice(start, start + n_columns)
        held = C[:, tile][at].masked_fill_(padding[:, :, None], 0)  # (n_pairs, n_padded, n_tile)
        squares = torch.bmm(inverse, held).square_()
        sums = torch.bmm(is_scored.to(squares.dtype), squares).float()  # (n_pairs, 2, n_tile)
        loss[:, tile] = tests @ (sums / totals[:, :, tile]).reshape(2 * n_pairs, -1)
    return loss


@lru_cache(maxsize=4)
def _stack_pairs(folds: FoldIndex, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the rows that each pair leaves out, padded with `n_rows`, and which of them either fold scores."""
    excluded = [torch.arange(*span) for span in folds.excluded]
    union = [torch.unique(torch.cat([excluded[r], excluded[s]])) for r, s in folds.pairs]
    rows = torch.nn.utils.rnn.pad_sequence(union, batch_first=True, padding_value=folds.n_rows)
    is_scored = torch.stack(
        [
            torch.stack(
                [torch.isin(row, torch.arange(*folds.validation_rows(fold, sum(pair) - fold))) for fold in pair]
            )
            for row, pair in zip(rows, folds.pairs, strict=True)
        ]
    )
    return rows.to(device), is_scored.to(device)
