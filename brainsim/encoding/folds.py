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

# float32 carries about 7 digits. The residuals lose log10(largest eigenvalue / alpha) of them in the worst direction;
# at this bound on eps * n / alpha the R2 of float32 and float64 differed by less than 5e-5 (tests/encoding).
MAX_FLOAT32_LOSS = 2e-3


@dataclass(frozen=True)
class FoldIndex:
    """The folds of one time axis as device tensors, with the pairs that inner validation needs.

    Parameters
    ----------
    n_rows : int
        Rows of the time axis.
    names : tuple of str
        Fold names.
    test, excluded : tuple of LongTensor
        Scored rows and rows left out of training, per fold.
    pairs : tuple of (int, int)
        Every unordered pair of folds.
    """

    n_rows: int
    names: tuple[str, ...]
    test: tuple[torch.Tensor, ...]
    excluded: tuple[torch.Tensor, ...]
    pairs: tuple[tuple[int, int], ...]

    @property
    def n_folds(self) -> int:
        """Number of folds."""
        return len(self.test)


def index_folds(folds: Sequence[Fold], n_rows: int, *, device: str = "cpu", nested: bool = True) -> FoldIndex:
    """Put folds onto a device.

    Parameters
    ----------
    folds : sequence of Fold
        At least 2, or 3 where nested.
    n_rows : int
        Rows of the time axis; every fold lies inside.
    device : str
        Torch device.
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
    return FoldIndex(
        n_rows=n_rows,
        names=tuple(fold.name for fold in folds),
        test=tuple(torch.as_tensor(fold.test, device=device) for fold in folds),
        excluded=tuple(torch.as_tensor(fold.excluded, device=device) for fold in folds),
        pairs=tuple(combinations(range(len(folds)), 2)) if nested else (),
    )


@dataclass(frozen=True)
class HeldOut:
    """Rows of one held-out set and the operator that turns ``C`` on them into residuals.

    Parameters
    ----------
    rows : LongTensor, (n_excluded,)
        Rows that training did not see.
    parts : tuple of (fold, LongTensor)
        For each fold scored here: its number and its positions in `rows`.
    inverse : Tensor, (n_excluded, n_excluded)
        ``(G_BB)^-1``.
    """

    rows: torch.Tensor
    parts: tuple[tuple[int, torch.Tensor], ...]
    inverse: torch.Tensor


@dataclass(frozen=True)
class Factor:
    """Everything that one candidate (a kernel and an alpha) needs to score any target.

    Parameters
    ----------
    G : Tensor, (n_rows, n_rows)
        Inverse of ``K + alpha I``.
    outer : tuple of HeldOut
        One per fold.
    inner : tuple of HeldOut
        One per pair of folds.
    dtype : torch.dtype
        float32, or float64 where float32 would lose too many digits.
    """

    G: torch.Tensor
    outer: tuple[HeldOut, ...]
    inner: tuple[HeldOut, ...]

    @property
    def dtype(self) -> torch.dtype:
        """Arithmetic of this factor."""
        return self.G.dtype


def invert_spd(A: torch.Tensor) -> torch.Tensor:
    """Return the inverse of a symmetric positive definite matrix, by Cholesky.

    Raises
    ------
    NumericalError
        Where a pivot is not positive or the result is not finite.
    """
    L, info = torch.linalg.cholesky_ex(A)
    if int(info) != 0:
        raise NumericalError(f"Cholesky factorisation stopped at pivot {int(info)} of {A.shape[0]}.")
    inverse = torch.cholesky_inverse(L)
    if not bool(torch.isfinite(inverse.diagonal()).all()):
        raise NumericalError("the inverse of a kernel is not finite.")
    return inverse


def _positions(rows: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Return where each element of `wanted` stands in sorted `rows`."""
    return torch.searchsorted(rows, wanted)


def _hold_out(G: torch.Tensor, folds: FoldIndex, members: tuple[int, ...]) -> HeldOut:
    if len(members) == 1:
        rows = folds.excluded[members[0]]
    else:
        rows = torch.unique(torch.cat([folds.excluded[i] for i in members]), sorted=True)
    inverse = invert_spd(G[rows][:, rows])
    return HeldOut(rows, tuple((i, _positions(rows, folds.test[i])) for i in members), inverse)


def needs_float64(alpha: float, n_rows: int) -> bool:
    """Tell whether float32 would lose too many digits (a kernel of mean diagonal 1 has eigenvalues up to n_rows)."""
    return float(torch.finfo(torch.float32).eps) * n_rows / alpha > MAX_FLOAT32_LOSS


def factorise(K: torch.Tensor, alpha: float, folds: FoldIndex) -> Factor:
    """Factorise one candidate for every outer and inner training set at once.

    Parameters
    ----------
    K : Tensor of float32, (n_rows, n_rows)
        Kernel with mean diagonal 1, centred within runs.
    alpha : float
        Ridge penalty, above 0, in units of the kernel's mean diagonal.
    folds : FoldIndex
        From `index_folds`.

    Raises
    ------
    NumericalError
        Where even float64 cannot factorise it.
    """
    dtypes = (torch.float64,) if needs_float64(alpha, folds.n_rows) else (torch.float32, torch.float64)
    for dtype in dtypes:
        try:
            A = K.to(dtype, copy=True)
            A.diagonal().add_(alpha)
            G = invert_spd(A)
            outer = tuple(_hold_out(G, folds, (i,)) for i in range(folds.n_folds))
            inner = tuple(_hold_out(G, folds, pair) for pair in folds.pairs)
            return Factor(G, outer, inner)
        except NumericalError:
            if dtype == torch.float64:
                raise
    raise NumericalError("no arithmetic is left to try.")


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
    mean = torch.stack([Yt[rows].double().mean(dim=0) for rows in folds.test])
    total = torch.stack(
        [((Yt[rows].double() - m) ** 2).sum(dim=0) for rows, m in zip(folds.test, mean, strict=True)]
    )  # (n_folds, n_targets)
    return TargetBatch(Yt, mean.float(), total.float())


def score_inner(C: torch.Tensor, factor: Factor, batch: TargetBatch) -> torch.Tensor:
    """Return the validation R2 for every outer fold: the mean over the other folds.

    Parameters
    ----------
    C : Tensor, (n_rows, n_targets)
        ``G Y``.

    Returns
    -------
    Tensor of float32, (n_folds, n_targets)
        Entry r is the mean over s != r of the R2 on fold s of the model trained without r and s.
    """
    n_folds = len(factor.outer)
    loss = torch.zeros((n_folds, C.shape[1]), dtype=torch.float32, device=C.device)
    for held in factor.inner:
        E = held.inverse @ C[held.rows]  # (n_excluded, n_targets)
        (r, at_r), (s, at_s) = held.parts
        loss[s] += _squares(E, at_r) / batch.total[r]
        loss[r] += _squares(E, at_s) / batch.total[s]
    return 1 - loss / (n_folds - 1)


def _squares(E: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    return torch.linalg.vector_norm(E[rows], dim=0).square().float()


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


def outer_residuals(C: torch.Tensor, factor: Factor) -> list[torch.Tensor]:
    """Return the residual on each test fold of the model trained without it, (n_test, n_targets) each."""
    residuals = []
    for held in factor.outer:
        ((_, at),) = held.parts
        residuals.append(held.inverse[at] @ C[held.rows])
    return residuals


def score_outer(C: torch.Tensor, factor: Factor, batch: TargetBatch, folds: FoldIndex) -> OuterScores:
    """Score the outer test folds; see `OuterScores`."""
    r2, r = [], []
    for fold, E in enumerate(outer_residuals(C, factor)):
        Y = batch.Y[folds.test[fold]].to(E.dtype)
        predicted = Y - E
        predicted = predicted - predicted.mean(dim=0)
        covariance = (predicted * (Y - batch.mean[fold])).sum(dim=0)
        norm = predicted.square().sum(dim=0).sqrt() * batch.total[fold].sqrt()
        r2.append(1 - E.square().sum(dim=0) / batch.total[fold])
        r.append(torch.where(norm > 0, covariance / norm, 0.0))
    return OuterScores(torch.stack(r2).float(), torch.stack(r).float())


def training_weights(C: torch.Tensor, factor: Factor, fold: int) -> torch.Tensor:
    """Return the dual weights of the model trained without one fold: zero on the rows left out.

    Returns
    -------
    Tensor, (n_rows, n_targets)
    """
    held = factor.outer[fold]
    E = held.inverse @ C[held.rows]
    weights = C - factor.G[:, held.rows] @ E
    weights[held.rows] = 0
    return weights
