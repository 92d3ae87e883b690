"""RDMs and comparisons against rsatoolbox: 3,600 conditions of 50,000 features; 100 comparisons, small and large."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from brainsim.rsa.compare import COMPARISONS
from brainsim.rsa.rdm import gram_of_blocks, square_rdm, upper

BLOCK = 16384

# Their name for ours.
PEER = {
    "spearman": "spearman",
    "pearson": "corr",
    "cosine": "cosine",
    "kendall": "tau-a",
    "whitened-cosine": "cosine_cov",
}


# What a comparison is called where its figures are.
SMALL, LARGE = "100", "large: 100"

# Of the 100 comparisons of large RDMs by tau-a the peer makes so many: all of them take it more than five minutes. Each
# of its comparisons sorts its two RDMs again, so that what all take follows from a few.
N_PEER_TAU = 2

# Small RDMs are compared in milliseconds, so that one try is not enough.
N_REPEATS = 5


def run(*, quick: bool, device: str) -> dict[str, Any]:
    """Measure ours and the peer's in one run; without the peer only ours."""
    n, p = (60, 400) if quick else (3600, 50_000)
    n_small, n_large = (40, 60) if quick else (300, 3600)
    figures: dict[str, Any] = {"conditions": n, "features": p}
    peer = _peer()
    _measure_distances(figures, peer, n, p, device)
    rng = np.random.default_rng(1)
    for size, n_compared in ((SMALL, n_small), (LARGE, n_large)):
        # As RDMs are kept: 8 bytes a value of 20 large RDMs would be a gigabyte before anything is computed.
        A, B = rng.random(
            (2, 10, n_compared * (n_compared - 1) // 2), dtype=np.float64 if size == SMALL else np.float32
        )
        for name in PEER:
            _measure_comparison(figures, peer, size, name, A, B)
    return figures


def _measure_distances(figures: dict[str, Any], peer: Any, n: int, p: int, device: str) -> None:
    X = np.random.default_rng(0).standard_normal((n, p), dtype=np.float32)

    def ours(distance: str) -> np.ndarray:
        gram, sums = gram_of_blocks((X[:, a : a + BLOCK] for a in range(0, p, BLOCK)), n, device=device)
        return upper(square_rdm(gram, sums, p, distance=distance, name="X"))

    for distance, method in (("correlation", "correlation"), ("sqeuclidean", "euclidean")):
        found, seconds, cpu_seconds = _timed(lambda d=distance: ours(d))
        figures[f"{distance}_s"] = seconds
        if peer is None:
            continue
        data = peer.data.Dataset(X.astype(np.float64))
        theirs, their_seconds, their_cpu = _timed(
            lambda m=method, d=data: peer.rdm.calc_rdm(d, method=m).dissimilarities[0]
        )
        figures[f"{distance}: ratio"] = their_seconds / seconds
        figures[f"{distance}: ratio of CPU time"] = their_cpu / cpu_seconds
        figures[f"{distance}: largest difference"] = float(np.abs(theirs - found).max())


def _measure_comparison(figures: dict[str, Any], peer: Any, size: str, name: str, A: np.ndarray, B: np.ndarray) -> None:
    """Measure all rows of A against all of B; where the peer makes but a few of the comparisons, its figure says so."""
    compare = COMPARISONS[name]
    compare(A[:, :45], B[:, :45])  # imports are not timed
    n_repeats = N_REPEATS if size == SMALL else 1
    found, seconds, cpu_seconds = _timed(lambda: compare(A, B), n_repeats)
    figures[f"{size} {name}_s"] = seconds
    figures[f"{size} {name}: CPU s"] = cpu_seconds
    if peer is None:
        return
    few = size == LARGE and name == "kendall"
    n_b = N_PEER_TAU if few else len(B)
    a, b = (X.astype(np.float64) for X in (A[: 1 if few else len(A)], B[:n_b]))
    pair = peer.rdm.RDMs(a), peer.rdm.RDMs(b)
    theirs, their_seconds, their_cpu = _timed(lambda: peer.rdm.compare(*pair, method=PEER[name]), n_repeats)
    share = len(A) * len(B) / theirs.size
    told = f" (the peer's from {theirs.size} comparisons)" if few else ""
    figures[f"{size} {name}: ratio{told}"] = their_seconds * share / seconds
    figures[f"{size} {name}: ratio of CPU time{told}"] = their_cpu * share / cpu_seconds
    same = found[: len(a), : len(b)]
    figures[f"{size} {name}: largest difference"] = float(np.abs(theirs - same).max())


def _timed(function: Callable[[], np.ndarray], n_repeats: int = 1) -> tuple[np.ndarray, float, float]:
    """Return the value of a function, the seconds it took, and those that cores spent on it: medians of its repeats."""
    seconds, cpu_seconds = [], []
    for _ in range(n_repeats):
        started, cpu_started = time.perf_counter(), time.process_time()
        value = function()
        seconds.append(time.perf_counter() - started)
        cpu_seconds.append(time.process_time() - cpu_started)
    return value, statistics.median(seconds), statistics.median(cpu_seconds)


def _peer() -> Any:
    """Return rsatoolbox; None where it is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import rsatoolbox
        except ImportError:
            return None
    return rsatoolbox
