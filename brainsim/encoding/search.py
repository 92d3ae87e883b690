"""Turn kernels, BOLD and a pool of candidates into the best cross-validated score of every support, target and fold."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch

from brainsim.core.errors import InvalidValueError, NumericalError
from brainsim.core.progress import SILENT, Progress
from brainsim.encoding.candidates import CandidatePool
from brainsim.encoding.folds import Factor, FoldIndex, TargetBatch, batch_targets, factorise, score_inner, score_outer

# Every third alpha is scored for all targets; only targets for which the curve through those could beat what they have
# are scored on the alphas between. The score is smooth in log alpha, so the grid's best is found all the same.
COARSE_STEP = 3

# How far above the parabola through three coarse scores the best of the fine ones may lie, as a share of their range.
PARABOLA_SLACK = 0.25


@dataclass
class SupportBest:
    """The best candidate so far whose support is exactly one subset of the groups.

    Parameters
    ----------
    inner : Tensor of float32, (n_folds, n_targets)
        Best validation R2, by which candidates are chosen.
    r2, r : Tensor of float32, (n_folds, n_targets)
        Test scores of that candidate.
    candidate, alpha : Tensor of int32, (n_folds, n_targets)
        Which one it is.
    """

    inner: torch.Tensor
    r2: torch.Tensor
    r: torch.Tensor
    candidate: torch.Tensor
    alpha: torch.Tensor

    @classmethod
    def empty(cls, n_folds: int, n_targets: int, device: torch.device) -> SupportBest:
        """Return a best of nothing."""

        def full(value: float, dtype: torch.dtype) -> torch.Tensor:
            return torch.full((n_folds, n_targets), value, dtype=dtype, device=device)

        return cls(
            full(-torch.inf, torch.float32),
            full(torch.nan, torch.float32),
            full(torch.nan, torch.float32),
            full(-1, torch.int32),
            full(-1, torch.int32),
        )

    def challenge(self, other: SupportBest) -> None:
        """Take over what is better in `other`; ties keep what is here."""
        better = other.inner > self.inner
        for name in ("inner", "r2", "r", "candidate", "alpha"):
            mine = getattr(self, name)
            mine[better] = getattr(other, name)[better]

    def copy(self) -> SupportBest:
        """Return an independent copy."""
        return SupportBest(*(getattr(self, n).clone() for n in ("inner", "r2", "r", "candidate", "alpha")))


@dataclass
class SearchLog:
    """What happened in a search, for the result's warnings.

    Parameters
    ----------
    n_factored, n_float64 : int
        Candidates times alphas that were factorised, and how many of them needed float64.
    failed : list of (candidate, alpha)
        Pairs that even float64 could not factorise; they took no part.
    n_scored : int
        Candidates times alphas times targets that were scored.
    n_candidates_done : int
        Candidates that were searched before the time ran out.
    """

    n_factored: int = 0
    n_float64: int = 0
    failed: list[tuple[int, int]] = field(default_factory=list)
    n_scored: int = 0
    n_candidates_done: int = 0


@dataclass(frozen=True)
class SearchOptions:
    """How to search.

    Parameters
    ----------
    exhaustive : bool
        Score every alpha for every target instead of a coarse grid with refinement where it can matter.
    time_budget_s : float, optional
        Stop after this many seconds with the best so far.
    """

    exhaustive: bool = False
    time_budget_s: float | None = None


def mix_kernels(Ks: Sequence[np.ndarray] | torch.Tensor, gamma: np.ndarray, *, device: str) -> torch.Tensor:
    """Return ``sum_b gamma_b K_b`` in float32, reading only the bands that have weight (they may be memory-mapped)."""
    total: torch.Tensor | None = None
    for band in np.flatnonzero(gamma).tolist():
        K = torch.as_tensor(np.asarray(Ks[band]) if not isinstance(Ks, torch.Tensor) else Ks[band], device=device)
        total = K * float(gamma[band]) if total is None else total.add_(K, alpha=float(gamma[band]))
    if total is None:
        raise InvalidValueError("a candidate has no band with weight.")
    return total


class _AlphaScan:
    """Scores of one candidate over the alpha grid, filled where they are wanted."""

    def __init__(
        self,
        K: torch.Tensor,
        alphas: Sequence[float],
        batch: TargetBatch,
        folds: FoldIndex,
        log: SearchLog,
        candidate: int,
    ) -> None:
        self.K, self.alphas, self.batch, self.folds, self.log, self.candidate = K, alphas, batch, folds, log, candidate
        shape = (len(alphas), folds.n_folds, batch.Y.shape[1])
        device = batch.Y.device
        self.inner = torch.full(shape, -torch.inf, device=device)
        self.r2 = torch.full(shape, torch.nan, device=device)
        self.r = torch.full(shape, torch.nan, device=device)
        self.known = torch.zeros((len(alphas), batch.Y.shape[1]), dtype=torch.bool, device=device)

    def score(self, index: int, columns: torch.Tensor | None = None) -> None:
        """Score one alpha for all targets or for some."""
        at = slice(None) if columns is None else columns
        self.known[index, at] = True
        batch = self.batch if columns is None else self.batch.select(columns)
        try:
            factor: Factor = factorise(self.K, self.alphas[index], self.folds, n_targets=batch.Y.shape[1])
        except NumericalError:
            self.log.failed.append((self.candidate, index))
            return
        C = factor.G @ batch.Y.to(factor.dtype)
        outer = score_outer(C, factor, batch, self.folds)
        # NaN never wins: a comparison with it is false, and -inf is what an unscored alpha has.
        self.inner[index][:, at] = torch.nan_to_num(score_inner(C, factor, batch), nan=-torch.inf)
        self.r2[index][:, at] = outer.r2
        self.r[index][:, at] = outer.r
        self.log.n_factored += 1
        self.log.n_float64 += factor.dtype == torch.float64
        self.log.n_scored += batch.Y.shape[1]

    def best(self) -> SupportBest:
        """Return the best alpha of each fold and target."""
        inner, index = self.inner.max(dim=0)
        pick = index[None]
        return SupportBest(
            inner,
            self.r2.gather(0, pick)[0],
            self.r.gather(0, pick)[0],
            torch.full_like(index, self.candidate, dtype=torch.int32),
            index.to(torch.int32),
        )

    def wanted(self, current: torch.Tensor) -> dict[int, torch.Tensor]:
        """Return which unscored alphas to score, and for which targets.

        A target needs the alphas around its best one where that best, or the parabola through it and the scored alphas
        on either side, could beat `current`.

        Parameters
        ----------
        current : Tensor, (n_folds, n_targets)
            What has to be beaten.
        """
        n = len(self.alphas)
        best, index = self.inner.max(dim=0)  # (n_folds, n_targets)
        grid = torch.arange(n, device=best.device)[:, None, None]
        scored = self.known[:, None, :] & torch.isfinite(self.inner)
        below = torch.where(scored & (grid < index), grid, -1).max(dim=0).values
        above = torch.where(scored & (grid > index), grid, n).min(dim=0).values
        left = torch.where(below >= 0, self.inner.gather(0, below.clamp(min=0)[None])[0], best)
        right = torch.where(above < n, self.inner.gather(0, above.clamp(max=n - 1)[None])[0], best)
        drop = best - torch.minimum(left, right)
        # The vertex of a parabola whose middle point is the highest of three lies at most an eighth of the sum of the
        # two drops above it, hence at most a quarter of the larger one; the slack covers what is not parabolic.
        open_ = (best + drop * (0.25 + PARABOLA_SLACK) > current) & torch.isfinite(best)
        wanted = {}
        for alpha in range(n):
            columns = (open_ & (below < alpha) & (above > alpha)).any(dim=0) & ~self.known[alpha]
            if bool(columns.any()):
                wanted[alpha] = torch.nonzero(columns)[:, 0]
        return wanted


def _scan_alphas(scan: _AlphaScan, current: torch.Tensor, options: SearchOptions) -> None:
    n = len(scan.alphas)
    if options.exhaustive or n <= COARSE_STEP + 1:
        for index in range(n):
            scan.score(index)
        return
    for index in sorted({*range(0, n, COARSE_STEP), n - 1}):
        scan.score(index)
    for index, columns in scan.wanted(current).items():
        scan.score(index, columns)


def search_supports(
    Ks: Sequence[np.ndarray],
    Y: np.ndarray,
    *,
    pool: CandidatePool,
    alphas: Sequence[float],
    folds: FoldIndex,
    device: str = "cpu",
    options: SearchOptions | None = None,
    progress: Progress = SILENT,
    label: str = "search",
) -> tuple[dict[int, SupportBest], SearchLog]:
    """Score every candidate once, and keep the best of each exact support.

    Parameters
    ----------
    Ks : sequence of ndarray, n_bands of (n_rows, n_rows)
        Kernels, centred within runs, mean diagonal 1; read one at a time, so memory maps are welcome.
    Y : ndarray of float32, (n_rows, n_targets)
        BOLD, z-scored within runs, no NaN.
    pool : CandidatePool
        Mixtures to try.
    alphas : sequence of float
        Increasing penalties, above 0, in units of a kernel's mean diagonal.
    folds : FoldIndex
        Nested folds.

    Returns
    -------
    dict of int to SupportBest
        For each support that occurs in the pool.
    SearchLog
        What happened.
    """
    if any(b <= a for a, b in pairwise(alphas)) or alphas[0] <= 0:
        raise InvalidValueError(f"alphas are {list(alphas)}; they must be positive and increasing.")
    options = options or SearchOptions()
    batch = batch_targets(Y, folds, device=device)
    log = SearchLog()
    bests: dict[int, SupportBest] = {}
    started = time.monotonic()
    with torch.inference_mode(), progress.task(label, total=pool.n_candidates, unit="candidates") as task:
        for candidate, support in enumerate(pool.supports.tolist()):
            if (
                options.time_budget_s is not None
                and log.n_candidates_done
                and time.monotonic() - started > options.time_budget_s
            ):
                break
            K = mix_kernels(Ks, pool.gammas[candidate], device=device)
            scan = _AlphaScan(K, alphas, batch, folds, log, candidate)
            _scan_alphas(scan, _bar(bests, support, batch, folds), options)
            found = scan.best()
            if support in bests:
                bests[support].challenge(found)
            else:
                bests[support] = found
            log.n_candidates_done += 1
            task.advance()
    return bests, log


def _bar(bests: dict[int, SupportBest], support: int, batch: TargetBatch, folds: FoldIndex) -> torch.Tensor:
    """Return the validation score that a candidate of this support has to beat: the best of its subsets so far."""
    bar = torch.full((folds.n_folds, batch.Y.shape[1]), -torch.inf, device=batch.Y.device)
    for other, best in bests.items():
        if other & support == other:
            bar = torch.maximum(bar, best.inner)
    return bar


def best_of_subsets(bests: dict[int, SupportBest], masks: Sequence[int]) -> Iterator[tuple[int, SupportBest]]:
    """Let every candidate compete in each subset that contains its support.

    Yields
    ------
    (mask, SupportBest)
        In the order of `masks`. The validation score never falls from a subset to one that contains it.
    """
    for mask in masks:
        best: SupportBest | None = None
        for support in sorted(bests):
            if support & mask == support:
                if best is None:
                    best = bests[support].copy()
                else:
                    best.challenge(bests[support])
        if best is None:
            raise InvalidValueError(f"no candidate lies inside subset {mask:b}.")
        yield mask, best
