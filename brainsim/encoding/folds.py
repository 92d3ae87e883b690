"""Turn one inverse of the full system into the residuals of every training set that cross-validation needs.

With ``K`` the kernel of all rows, ``G = (K + alpha I)^-1`` and ``C = G Y``, the model that is trained on all rows
outside a set B leaves the residual ``E_B = (G_BB)^-1 C_B`` on B. B = one fold gives the outer test residual; B = two
folds r and s gives the inner validation residual of s when r is the test fold, and of r when s is. (The identity is
the block form of the leave-one-out shortcut of ridge regression; it follows from the inverse of a partitioned matrix.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch

from brainsim.core.errors import InvalidValueError, NumericalError
from brainsim.core.runs import Fold
from brainsim.encoding.spans import Span, merge_spans, within
from brainsim.encoding.together import blocks_together, invert_together, score_tests_together

# float32 carries about 7 digits. The residuals lose log10(largest eigenvalue / alpha) of them in the worst direction;
# at this bound on eps * n / alpha the R2 of float32 and float64 differed by less than 5e-5 (tests/encoding).
MAX_LOSS = 1e-3

# A correlation, and a variance, of fewer rows says nothing.
LEAST_ROWS = 3


@dataclass(frozen=True)
class FoldIndex:
    """The folds of one time axis as ranges of rows, with the pairs that inner validation needs.

    Parameters
    ----------
    n_rows : int
        Rows of the time axis.
    names : tuple of str
        Fold names.
    test, excluded : tuple of (int, int)
        Scored rows and rows left out of training, per fold, as ranges (first row, row after the last).
    pairs : tuple of (int, int)
        Every unordered pair of folds.
    """

    n_rows: int
    names: tuple[str, ...]
    test: tuple[Span, ...]
    excluded: tuple[Span, ...]
    pairs: tuple[tuple[int, int], ...]

    @property
    def n_folds(self) -> int:
        """Number of folds."""
        return len(self.test)

    def validation_rows(self, scored: int, tested: int) -> Span:
        """Return the rows of one fold that validate models while another is tested: not those near the tested one."""
        (start, stop), (left, right) = self.test[scored], self.excluded[tested]
        return (max(start, right), stop) if left <= start else (start, min(stop, left))


def index_folds(folds: Sequence[Fold], n_rows: int, *, nested: bool = True) -> FoldIndex:
    """Check folds and note them as ranges.

    Parameters
    ----------
    folds : sequence of Fold
        At least 2, or 3 where nested.
    n_rows : int
        Rows of the time axis; every fold lies inside.
    nested : bool
        Whether hyperparameters are chosen by inner folds; without, no pairs are made.
    """
    least = 3 if nested else 2
    if len(folds) < least:
        raise InvalidValueError(
            f"{len(folds)} folds; {'nested' if nested else 'plain'} cross-validation needs {least}."
        )
    if any(fold.excluded.max() >= n_rows or fold.excluded.min() < 0 for fold in folds):
        raise InvalidValueError(f"a fold points outside the {n_rows} rows of the time axis.")
    covered = np.concatenate([fold.test for fold in folds])
    if len(np.unique(covered)) != len(covered):
        raise InvalidValueError("test folds overlap; every row may be scored once.")
    index = FoldIndex(
        n_rows=n_rows,
        names=tuple(fold.name for fold in folds),
        test=tuple(_span(fold.test) for fold in folds),
        excluded=tuple(_span(fold.excluded) for fold in folds),
        pairs=tuple(combinations(range(len(folds)), 2)) if nested else (),
    )
    for scored, tested in (order for pair in index.pairs for order in (pair, pair[::-1])):
        start, stop = index.validation_rows(scored, tested)
        if stop - start < LEAST_ROWS:
            raise InvalidValueError(
                f"the gap around fold {folds[tested].name} leaves {max(stop - start, 0)} rows of {folds[scored].name} "
                f"to validate on; at least {LEAST_ROWS} are needed.",
                hint="--gap smaller, or fewer --blocks",
            )
    return index


def _span(rows: np.ndarray) -> Span:
    if len(rows) == 0 or rows[-1] - rows[0] + 1 != len(rows):
        raise InvalidValueError("a fold is not a contiguous range of rows; held-out parts of movies must be.")
    return int(rows[0]), int(rows[-1]) + 1


@dataclass(frozen=True)
class HeldOut:
    """Rows of one held-out set and what turns ``C`` on them into residuals.

    Parameters
    ----------
    spans : tuple of Span
        Rows that training did not see, as increasing ranges.
    parts : tuple of (fold, Span)
        For each fold scored here: its number and its range within the held-out rows.
    L : Tensor or None, (n_excluded, n_excluded)
        Lower Cholesky factor of ``G_BB``; not needed where there is the inverse.
    inverse : Tensor or None
        ``(G_BB)^-1``, where so many targets will be scored that one product beats two triangular solves.
    """

    spans: tuple[Span, ...]
    parts: tuple[tuple[int, Span], ...]
    L: torch.Tensor | None
    inverse: torch.Tensor | None

    def take(self, C: torch.Tensor, columns: torch.Tensor | None = None) -> torch.Tensor:
        """Return the held-out rows of `C`, (n_excluded, n_targets or n_columns)."""
        parts = [C[a:b] if columns is None else C[a:b].index_select(1, columns) for a, b in self.spans]
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def residuals(self, C: torch.Tensor) -> torch.Tensor:
        """Return ``(G_BB)^-1 C_B``, (n_excluded, n_targets)."""
        return self.solve(self.take(C))

    def solve(self, rows: torch.Tensor) -> torch.Tensor:
        """Return ``(G_BB)^-1`` times the held-out rows, (n_excluded, n_targets)."""
        solved: torch.Tensor
        if self.inverse is not None:
            solved = self.inverse @ rows
        else:
            assert self.L is not None
            solved = torch.cholesky_solve(rows, self.L)
        return solved


@dataclass(frozen=True)
class Factor:
    """Everything that one candidate (a kernel and an alpha) needs to score any target.

    Parameters
    ----------
    G : Tensor, (n_rows, n_rows)
        Inverse of ``K + alpha I``; float64 where float32 would lose too many digits.
    outer : tuple of HeldOut
        One per fold. Pairs of folds are made when they are scored (`encoding/pairs.py`): all at once they take four
        times the kernel.
    together : tuple of Tensor, (n_folds, n_padded, n_padded) each, optional
        On a GPU ``G_BB`` of all folds and their inverses (`encoding/together.py`).
    """

    G: torch.Tensor
    outer: tuple[HeldOut, ...]
    together: tuple[torch.Tensor, torch.Tensor] | None = None

    @property
    def dtype(self) -> torch.dtype:
        """Arithmetic of this factor."""
        return self.G.dtype


def cholesky(A: torch.Tensor) -> torch.Tensor:
    """Return the lower Cholesky factor, or raise NumericalError where a pivot is not positive or not finite."""
    L: torch.Tensor
    L, info = torch.linalg.cholesky_ex(A)
    if int(info) != 0 or not bool(torch.isfinite(L.diagonal()).all()):
        raise NumericalError(f"Cholesky factorisation stopped at pivot {int(info)} of {A.shape[0]}.")
    return L


def hold_out(G: torch.Tensor, folds: FoldIndex, members: tuple[int, ...], n_targets: int) -> HeldOut:
    """Hold out one fold or two: factorise the block of `G` on the rows that training must not see.

    Parameters
    ----------
    G : Tensor, (n_rows, n_rows)
        Inverse of ``K + alpha I``.
    members : tuple of int
        The folds.
    n_targets : int
        How many targets will be solved for.
    """
    spans = merge_spans([folds.excluded[i] for i in members])
    if len(spans) == 1:
        block = G[spans[0][0] : spans[0][1], spans[0][0] : spans[0][1]]
    else:
        block = torch.cat([torch.cat([G[a:b, c:d] for c, d in spans], dim=1) for a, b in spans])
    L = cholesky(block)
    # An explicit inverse costs about as much as solving for this many targets.
    inverse = torch.cholesky_inverse(L) if n_targets > len(L) else None
    return HeldOut(spans, tuple((i, within(spans, folds.test[i])) for i in members), L, inverse)


def needs_float64(alpha: float, n_rows: int) -> bool:
    """Tell whether float32 would lose too many digits (a kernel of mean diagonal 1 has eigenvalues up to n_rows)."""
    return _loses_too_much(torch.float32, alpha, n_rows)


def _loses_too_much(dtype: torch.dtype, alpha: float, n_rows: int) -> bool:
    return float(torch.finfo(dtype).eps) * n_rows / alpha > MAX_LOSS


def factorise(
    K: torch.Tensor, alpha: float, folds: FoldIndex, *, n_targets: int = 1, dtype: torch.dtype | None = None
) -> Factor:
    """Factorise one candidate for every outer training set at once.

    Parameters
    ----------
    K : Tensor of float32, (n_rows, n_rows)
        Kernel with mean diagonal 1, centred within runs.
    alpha : float
        Ridge penalty, above 0, in units of the kernel's mean diagonal.
    folds : FoldIndex
        From `index_folds`.
    n_targets : int
        How many targets will be scored: decides between products and triangular solves.
    dtype : torch.dtype, optional
        float32 or float64; by default float32 where that is exact enough and succeeds, else float64.

    Raises
    ------
    NumericalError
        Where it cannot be factorised, or where even float64 would lose the digits that scores are made of.
    """
    if dtype is None:
        if not needs_float64(alpha, folds.n_rows):
            try:
                return factorise(K, alpha, folds, n_targets=n_targets, dtype=torch.float32)
            except NumericalError:
                pass  # float64 has the last word
        dtype = torch.float64
    if dtype == torch.float64 and _loses_too_much(dtype, alpha, folds.n_rows):
        raise NumericalError(f"alpha {alpha:g} is below what float64 can tell from 0 with {folds.n_rows} rows.")
    A = K.to(dtype, copy=True)
    A.diagonal().add_(alpha)
    if A.device.type == "cpu":
        G = torch.cholesky_inverse(cholesky(A))
        return Factor(G, tuple(hold_out(G, folds, (i,), n_targets) for i in range(folds.n_folds)))
    return factorise_together(A, folds)


def factorise_together(A: torch.Tensor, folds: FoldIndex) -> Factor:
    """Factorise ``K + alpha I`` with all folds as one batch."""
    G = invert_together(A[None])[0]
    together = blocks_together(G, folds)
    outer = []
    for i, span in enumerate(folds.excluded):
        n = span[1] - span[0]
        outer.append(HeldOut((span,), ((i, within((span,), folds.test[i])),), None, together[1][i, :n, :n]))
    return Factor(G, tuple(outer), together)


@dataclass(frozen=True)
class TargetBatch:
    """A batch of targets with the sums that scores divide by.

    Parameters
    ----------
    Y : Tensor of float32, (n_rows, n_targets)
        BOLD, z-scored within runs, without NaN.
    mean : Tensor, (n_folds, n_targets)
        Mean over each fold's test rows.
    total : Tensor, (n_folds, n_targets)
        Sum of squares about that mean.
    """

    Y: torch.Tensor
    mean: torch.Tensor
    total: torch.Tensor

    def select(self, columns: torch.Tensor) -> TargetBatch:
        """Return the batch of some targets."""
        return TargetBatch(self.Y[:, columns], self.mean[:, columns], self.total[:, columns])


def batch_targets(Y: np.ndarray, folds: FoldIndex, *, device: str = "cpu") -> TargetBatch:
    """Put targets onto a device and sum what the scores need (in float64)."""
    Yt = torch.as_tensor(np.ascontiguousarray(Y, dtype=np.float32), device=device)
    mean = torch.stack([Yt[a:b].double().mean(dim=0) for a, b in folds.test])
    total = torch.stack(
        [(Yt[a:b].double() - m).square().sum(dim=0) for (a, b), m in zip(folds.test, mean, strict=True)]
    )  # (n_folds, n_targets)
    return TargetBatch(Yt, mean.float(), total.float())


@dataclass(frozen=True)
class Projection:
    """What a factor makes of targets.

    Parameters
    ----------
    C : Tensor, (n_rows, n_targets)
        ``G Y``.
    outer : tuple of Tensor, (n_excluded, n_targets) each
        Per fold ``G_B,rest Y_rest``: the part of ``C_B`` that comes from the training rows. A test prediction is
        ``-(G_BB)^-1`` times it; as the difference of BOLD and residual it would drown in rounding where alpha is large.
    """

    C: torch.Tensor
    outer: tuple[torch.Tensor, ...]


def project(factor: Factor, Y: torch.Tensor) -> Projection:
    """Multiply targets by a factor, keeping apart what comes from the training rows of each fold.

    Parameters
    ----------
    Y : Tensor of float32, (n_rows, n_targets)
        BOLD.
    """
    G, Y = factor.G, Y.to(factor.dtype)
    C = torch.empty_like(Y)
    outer = []
    for held in factor.outer:
        ((start, stop),) = held.spans
        rows = G[start:stop]
        outer.append(torch.addmm(rows[:, :start] @ Y[:start], rows[:, stop:], Y[stop:]))
        C[start:stop] = torch.addmm(outer[-1], rows[:, start:stop], Y[start:stop])
    row = 0
    for start, stop in (*merge_spans([held.spans[0] for held in factor.outer]), (len(Y), len(Y))):
        C[row:start] = G[row:start] @ Y  # rows that no fold leaves out
        row = stop
    return Projection(C, tuple(outer))


@dataclass(frozen=True)
class OuterScores:
    """Scores of the outer test folds.

    Parameters
    ----------
    r2, r : Tensor of float32, (n_folds, n_targets)
        Coefficient of determination and Pearson correlation (0 where a prediction is constant).
    """

    r2: torch.Tensor
    r: torch.Tensor


def predict_fold(
    projection: Projection, factor: Factor, fold: int, columns: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the prediction of one test fold by the model trained without it, (n_test, n_targets or n_columns)."""
    held = factor.outer[fold]
    ((_, (start, stop)),) = held.parts
    from_training = projection.outer[fold]
    return -held.solve(from_training if columns is None else from_training[:, columns])[start:stop]


def score_fold(
    predicted: torch.Tensor, batch: TargetBatch, folds: FoldIndex, fold: int, columns: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return R2 and Pearson correlation (0 where a prediction is constant) of one test fold, (n_targets,) each."""
    chosen = batch if columns is None else batch.select(columns)
    Y = chosen.Y[slice(*folds.test[fold])].to(predicted.dtype)
    mean, total = chosen.mean[fold], chosen.total[fold]
    r2 = 1 - (Y - predicted).square().sum(dim=0) / total
    predicted = predicted - predicted.mean(dim=0)
    covariance = (predicted * (Y - mean)).sum(dim=0)
    norm = torch.linalg.vector_norm(predicted, dim=0) * total.sqrt()
    return r2.float(), torch.where(norm > 0, covariance / norm, 0.0).float()


def score_outer(projection: Projection, factor: Factor, batch: TargetBatch, folds: FoldIndex) -> OuterScores:
    """Score the outer test folds; see `OuterScores`."""
    if factor.together is not None:
        return OuterScores(*score_tests_together(factor.together[1], projection.outer, batch, folds))
    scores = [score_fold(predict_fold(projection, factor, fold), batch, folds, fold) for fold in range(folds.n_folds)]
    return OuterScores(torch.stack([r2 for r2, _ in scores]), torch.stack([r for _, r in scores]))


def training_weights(C: torch.Tensor, factor: Factor, fold: int) -> torch.Tensor:
    """Return the dual weights of the model trained without one fold: zero on the rows left out.

    Returns
    -------
    Tensor, (n_rows, n_targets)
    """
    held = factor.outer[fold]
    ((start, stop),) = held.spans
    weights: torch.Tensor = C - factor.G[:, start:stop] @ held.residuals(C)
    weights[start:stop] = 0
    return weights
