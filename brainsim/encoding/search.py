"""Turn kernels, BOLD and a pool of candidates into the best cross-validated score of every support, target and fold."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from brainsim.compute.threads import MadeOnce, map_in_order, torch_threads
from brainsim.core.errors import InvalidValueError
from brainsim.core.progress import SILENT, Progress
from brainsim.encoding.best import SearchLog, SupportBest
from brainsim.encoding.candidates import CandidatePool
from brainsim.encoding.folds import FoldIndex, batch_targets
from brainsim.encoding.scan import AlphaScan, Reference

# A candidate learns from all candidates before it but the last few, which may still be at work beside it: so what it
# learns does not depend on how many are. This many are enough for the threads of one task.
MAX_LAG = 16

# Rows of kernels that are added at a time.
MIXED_ROWS = 64

# Steps of the grid below its middle at which a climb begins at the lowest.
LOWEST_START = 5


@dataclass(frozen=True)
class SearchOptions:
    """How to search.

    Parameters
    ----------
    exhaustive : bool
        Score every alpha for every target, instead of climbing (`encoding/scan.py`).
    n_workers : int
        Candidates scored at once, each by one thread; more than 16 are of no use. It does not change a bit of the
        result.
    time_budget_s : float, optional
        Stop after this many seconds with the best so far.
    n_least : int
        Candidates that are scored in any case. Even mixtures come first in a pool: with these every subset has one.
    """

    exhaustive: bool = False
    n_workers: int = 1
    time_budget_s: float | None = None
    n_least: int = 1


@runtime_checkable
class MixesRows(Protocol):
    """Kernels on disk that know how to read and add them a few rows at a time."""

    def mix_rows(self, bands: Sequence[int], gamma: np.ndarray) -> np.ndarray:
        """Return ``sum_b gamma_b K_b`` over some bands, float32 (n_rows, n_rows)."""


def add_rows(total: np.ndarray, K: np.ndarray, weight: float) -> None:
    """Add a weighted kernel, or some of its rows, to a sum; few rows at a time stay in the cache."""
    for start in range(0, len(K), MIXED_ROWS):
        rows = slice(start, start + MIXED_ROWS)
        total[rows] += np.multiply(K[rows], np.float32(weight))


def mix_kernels(Ks: Sequence[np.ndarray], gamma: np.ndarray) -> torch.Tensor:
    """Return ``sum_b gamma_b K_b`` in float32, reading only the bands that have weight (they may be memory-mapped)."""
    bands = np.flatnonzero(gamma).tolist()
    if not bands:
        raise InvalidValueError("a candidate has no band with weight.")
    if isinstance(Ks, MixesRows):
        total = Ks.mix_rows(bands, gamma)
    else:
        total = np.zeros_like(Ks[bands[0]])
        for band in bands:
            add_rows(total, Ks[band], gamma[band])
    return torch.from_numpy(total)


class DeviceKernels:
    """Kernels that stay on a GPU from their first use on, as many as half of what is free there holds.

    A band is read and sent once, and not for every candidate that has it.

    Parameters
    ----------
    Ks : sequence of ndarray, n_bands of (n_rows, n_rows)
        Kernels, in memory or on disk.
    device : str
        A GPU.
    """

    def __init__(self, Ks: Sequence[np.ndarray], device: str) -> None:
        self._Ks, self._device = Ks, device
        self._kept: dict[int, torch.Tensor] = {}
        self._room = torch.cuda.mem_get_info(device)[0] // 2 if torch.cuda.is_available() else 0

    def mix(self, gamma: np.ndarray) -> torch.Tensor:
        """Return ``sum_b gamma_b K_b``, float32 on the device."""
        rest = gamma.copy()
        total: torch.Tensor | None = None
        for band in np.flatnonzero(gamma).tolist():
            K = self._take(band)
            if K is not None:
                total = torch.zeros_like(K) if total is None else total
                total.add_(K, alpha=float(gamma[band]))
                rest[band] = 0
        if total is None or rest.any():
            others = mix_kernels(self._Ks, rest).to(self._device)
            total = others if total is None else total.add_(others)
        return total

    def _take(self, band: int) -> torch.Tensor | None:
        """Return a band's kernel on the device, or None where there is no room."""
        if band not in self._kept and self._room > 0:
            K = torch.as_tensor(np.asarray(self._Ks[band], np.float32)).to(self._device)
            self._room -= K.nbytes
            self._kept[band] = K
        return self._kept.get(band)


def mixer(Ks: Sequence[np.ndarray], device: str) -> Callable[[np.ndarray], torch.Tensor]:
    """Return what mixes kernels by a candidate's weights (n_bands,) onto a device."""
    return partial(mix_kernels, Ks) if device == "cpu" else DeviceKernels(Ks, device).mix


def share_mixtures(
    Ks: Sequence[np.ndarray], gammas: np.ndarray, *, device: str, n_kept: int
) -> MadeOnce[int, torch.Tensor]:
    """Return what mixes a candidate's kernels once for all threads and alphas that follow each other."""
    mix = mixer(Ks, device)
    return MadeOnce(lambda candidate: mix(gammas[candidate]), n_kept=n_kept)


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
        Nested folds, or folds without pairs: then every fold chooses by the mean test score of all folds.

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
    mix = mixer(Ks, device)
    leader = _Leader(pool, middle=middle_alpha(alphas, folds.n_rows), shape=(folds.n_folds, Y.shape[1]), device=device)

    def scan(job: tuple[int, Reference]) -> AlphaScan:
        candidate, reference = job
        with torch.no_grad():
            allowed = None if pool.allowed is None else torch.as_tensor(pool.allowed[candidate], device=device)
            K = mix(pool.gammas[candidate])
            scan = AlphaScan(K, alphas, batch, folds, candidate=candidate, reference=reference, allowed=allowed)
            if options.exhaustive:
                scan.score_all()
            else:
                scan.climb()
            return scan

    log = SearchLog(n_candidates=pool.n_candidates)
    started = time.monotonic()
    with torch_threads(1), progress.task(label, total=pool.n_candidates, unit="candidates") as task:
        results = map_in_order(scan, leader.jobs(), n_workers=options.n_workers, max_ahead=_lag)
        for n_done, (_, done) in enumerate(results, start=1):
            log.add(done.log)
            leader.merge(done.best, done.candidate)
            task.advance()
            is_late = options.time_budget_s is not None and time.monotonic() - started > options.time_budget_s
            if is_late and n_done >= options.n_least:
                results.close()
                break
    return leader.bests, log


def _lag(candidate: int) -> int:
    """Return how many of the candidates before this one it does not learn from."""
    return min(MAX_LAG, (candidate + 1) // 2)


class _Leader:
    """The bests so far, and from them where each further candidate begins and what it has to beat."""

    def __init__(self, pool: CandidatePool, *, middle: int, shape: tuple[int, int], device: str) -> None:
        self.supports: list[int] = pool.supports.tolist()
        self.bests: dict[int, SupportBest] = {}
        self._middle = middle
        self._shape, self._device = shape, torch.device(device)
        self._inner = torch.full(shape, -torch.inf, device=self._device)
        self._start = torch.full(shape, middle, dtype=torch.int32, device=self._device)
        self._n_merged = 0
        self._ready: dict[int, Reference] = {}
        self._make_ready(0)

    def jobs(self) -> Iterator[tuple[int, Reference]]:
        """Yield each candidate with its reference."""
        for candidate in range(len(self.supports)):
            yield candidate, self._ready.pop(candidate)

    def merge(self, best: SupportBest, candidate: int) -> None:
        """Take a candidate's scores in; candidates come in order."""
        support = self.supports[candidate]
        if support in self.bests:
            self.bests[support].challenge(best)
        else:
            self.bests[support] = best
        better = best.inner > self._inner
        self._inner = torch.where(better, best.inner, self._inner)
        start = best.alpha.clamp(min=max(self._middle - LOWEST_START, 0), max=self._middle)
        self._start = torch.where(better, start, self._start)
        self._n_merged = candidate + 1
        self._make_ready(candidate + 1)

    def _make_ready(self, first: int) -> None:
        """Note for all candidates that learn from just what is merged now what that is."""
        for later in range(first, min(first + MAX_LAG + 1, len(self.supports))):
            if later - _lag(later) == self._n_merged:
                self._ready[later] = self._reference(later)

    def _reference(self, candidate: int) -> Reference:
        best = self.bests.get(self.supports[candidate])
        inner = torch.full(self._shape, -torch.inf, device=self._device) if best is None else best.inner.clone()
        return Reference(self._start, inner)


def middle_alpha(alphas: Sequence[float], n_rows: int) -> int:
    """Return where the first candidate begins: the alpha nearest to the square root of the number of rows.

    Kernels have mean diagonal 1: the best alpha lies between 1 (little noise) and the number of rows (nearly
    all noise). BOLD has no say: with one, the test run, or other subjects, could tip a choice.
    """
    return int(np.argmin(np.abs(np.log(alphas) - 0.5 * np.log(n_rows))))
