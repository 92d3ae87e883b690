"""Turn kernels, BOLD and a pool of candidates into the best cross-validated score of every support, target and fold."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch

from brainsim.compute.threads import map_in_order
from brainsim.core.errors import InvalidValueError, NumericalError
from brainsim.core.progress import SILENT, Progress
from brainsim.encoding.candidates import CandidatePool
from brainsim.encoding.folds import (
    Factor,
    FoldIndex,
    TargetBatch,
    batch_targets,
    factorise,
    project,
    score_inner,
    score_outer,
)

# Alphas scored beyond the best one so far: a second one finds most of the rare second peaks.
LOOK_AHEAD = 2


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
        Which one it is; -1 where none could be scored.
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
        self.take(other, other.inner > self.inner)

    def take(self, other: SupportBest, better: torch.Tensor) -> None:
        """Take over what `better` (n_folds, n_targets) marks."""
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

    def add(self, other: SearchLog) -> None:
        """Count what another log counted."""
        self.n_factored += other.n_factored
        self.n_float64 += other.n_float64
        self.failed += other.failed
        self.n_scored += other.n_scored
        self.n_candidates_done += other.n_candidates_done


@dataclass(frozen=True)
class SearchOptions:
    """How to search.

    Parameters
    ----------
    exhaustive : bool
        Score every alpha for every target. Otherwise each candidate starts in the middle of the grid, and goes on in
        the direction that improves a fold's and target's score until it no longer does: the score of ridge regression
        is smooth in log alpha and, but for rare targets, has one peak.
    n_workers : int
        Candidates scored at once, each by one thread. It does not change a bit of the result.
    time_budget_s : float, optional
        Stop after this many seconds with the best so far.
    """

    exhaustive: bool = False
    n_workers: int = 1
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
    """The best alpha of one candidate for every fold and target.

    A fold sees only the alphas that its own validation scores ask for. Were it to profit from those that other folds
    ask for, whose validation sets hold this fold's test run, its choice would depend on the run it is tested on.
    """

    def __init__(
        self, K: torch.Tensor, alphas: Sequence[float], batch: TargetBatch, folds: FoldIndex, candidate: int
    ) -> None:
        self.K, self.alphas, self.batch, self.folds, self.candidate = K, alphas, batch, folds, candidate
        self.log = SearchLog(n_candidates_done=1)
        shape = (folds.n_folds, batch.Y.shape[1])
        self.best = SupportBest.empty(*shape, batch.Y.device)

    def score(self, index: int, wanted: torch.Tensor) -> None:
        """Score one alpha for the folds and targets that `wanted` (n_folds, n_targets) marks."""
        columns = torch.nonzero(wanted.any(dim=0))[:, 0]
        n_targets = len(columns)
        if n_targets == 0:
            return
        batch = self.batch if n_targets == wanted.shape[1] else self.batch.select(columns)
        try:
            factor: Factor = factorise(self.K, self.alphas[index], self.folds, n_targets=n_targets)
        except NumericalError:
            self.log.failed.append((self.candidate, index))
            return
        projection = project(factor, batch.Y)
        outer = score_outer(projection, factor, batch, self.folds)
        inner = score_inner(projection.C, factor, batch)
        # A score that is NaN or -inf never wins.
        better = wanted[:, columns] & (inner > self.best.inner[:, columns])
        fold, at = torch.nonzero(better, as_tuple=True)
        target = columns[at]
        self.best.inner[fold, target] = inner[fold, at]
        self.best.r2[fold, target] = outer.r2[fold, at]
        self.best.r[fold, target] = outer.r[fold, at]
        self.best.candidate[fold, target] = self.candidate
        self.best.alpha[fold, target] = index
        self.log.n_factored += 1
        self.log.n_float64 += factor.dtype == torch.float64
        self.log.n_scored += n_targets

    def score_all(self) -> None:
        """Score the whole grid."""
        everything = torch.ones_like(self.best.alpha, dtype=torch.bool)
        for index in range(len(self.alphas)):
            self.score(index, everything)

    def climb(self, start: int) -> None:
        """Score from `start` outwards, until LOOK_AHEAD alphas beyond the best of every fold and target are scored."""
        for steps in (range(start, len(self.alphas)), range(start - 1, -1, -1)):
            for index in steps:
                # Around the start for all; on while the best alpha is near, or none could be scored.
                wanted = ((self.best.alpha - index).abs() <= LOOK_AHEAD) | (self.best.alpha < 0)
                wanted |= abs(index - start) <= LOOK_AHEAD
                if not bool(wanted.any()):
                    break
                self.score(index, wanted)


@contextmanager
def single_threaded() -> Iterator[None]:
    """Use one thread per product for a block: candidates side by side gain more, and always give the same bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
    started = time.monotonic()

    def scan(candidate: int, start: int | None) -> _AlphaScan:
        with torch.no_grad():
            K = mix_kernels(Ks, pool.gammas[candidate], device=device)
            scan = _AlphaScan(K, alphas, batch, folds, candidate)
            if start is None:
                scan.score_all()
            else:
                scan.climb(start)
            return scan

    log = SearchLog()
    bests: dict[int, SupportBest] = {}
    with single_threaded(), progress.task(label, total=pool.n_candidates, unit="candidates") as task:
        start = None if options.exhaustive else _middle_alpha(alphas, folds.n_rows)
        results = map_in_order(lambda c: scan(c, start), range(pool.n_candidates), n_workers=options.n_workers)
        for candidate, done in results:
            log.add(done.log)
            support = int(pool.supports[candidate])
            if support in bests:
                bests[support].challenge(done.best)
            else:
                bests[support] = done.best
            task.advance()
            if options.time_budget_s is not None and time.monotonic() - started > options.time_budget_s:
                results.close()
                break
    return bests, log


def _middle_alpha(alphas: Sequence[float], n_rows: int) -> int:
    """Return where every search begins: the alpha nearest to the square root of the number of rows.

    Kernels have mean diagonal 1: the best alpha lies between 1 (little noise) and the number of rows (nearly
    all noise). BOLD has no say: with one, the test run, or other subjects, could tip a choice.
    """
    return int(np.argmin(np.abs(np.log(alphas) - 0.5 * np.log(n_rows))))


def best_of_subsets(
    bests: dict[int, SupportBest], masks: Sequence[int], *, price: float = 0.0
) -> Iterator[tuple[int, SupportBest]]:
    """Let every candidate compete in each subset that contains its support.

    Parameters
    ----------
    bests : dict of int to SupportBest
        From `search_supports`.
    masks : sequence of int
        Subsets wanted.
    price : float
        What each group in a candidate's support costs, as a share of what is left to explain: candidates compete by
        ``R2 - price * n_groups * (1 - R2)``. With no price the largest support wins a little too often, by chance, and
        is then a little worse on the test run: useless groups come out below zero.

    Yields
    ------
    (mask, SupportBest)
        In the order of `masks`. What candidates compete by never falls from a subset to one that contains it.
    """
    for mask in masks:
        best: SupportBest | None = None
        score = torch.empty(0)
        for support in sorted(bests):
            if support & mask != support:
                continue
            other = bests[support]
            other_score = other.inner - price * support.bit_count() * (1 - other.inner)
            if best is None:
                best, score = other.copy(), other_score
            else:
                better = other_score > score
                best.take(other, better)
                score = torch.where(better, other_score, score)
        if best is None:
            raise InvalidValueError(f"no candidate lies inside subset {mask:b}.")
        yield mask, best
