"""RDMs and comparisons against rsatoolbox: 3,600 conditions of 50,000 features, and 100 comparisons."""

from __future__ import annotations

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


def run(*, quick: bool, device: str) -> dict[str, Any]:
    """Measure ours and the peer's in one run; without the peer only ours."""
    n, p, n_compared = (60, 400, 40) if quick else (3600, 50_000, 300)
    X = np.random.default_rng(0).standard_normal((n, p), dtype=np.float32)
    figures: dict[str, Any] = {"conditions": n, "features": p}

    def ours(distance: str) -> np.ndarray:
        gram, sums = gram_of_blocks((X[:, a : a + BLOCK] for a in range(0, p, BLOCK)), n, device=device)
        return upper(square_rdm(gram, sums, p, distance=distance, name="X"))

    found: dict[str, np.ndarray] = {}
    for distance in ("correlation", "sqeuclidean"):
        found[distance], figures[f"{distance}_s"] = _timed(lambda d=distance: ours(d))
    A, B = np.random.default_rng(1).random((2, 10, n_compared * (n_compared - 1) // 2))
    for name in PEER:
        COMPARISONS[name](A[:, :45], B[:, :45])  # imports are not timed
        found[name], figures[f"100 {name}_s"] = _timed(lambda c=name: COMPARISONS[c](A, B))
    peer = _peer()
    if peer is None:
        return figures
    for distance, method in (("correlation", "correlation"), ("sqeuclidean", "euclidean")):
        data = peer.data.Dataset(X.astype(np.float64))
        theirs, seconds = _timed(lambda m=method, d=data: peer.rdm.calc_rdm(d, method=m).dissimilarities[0])
        figures[f"{distance}: ratio"] = seconds / figures[f"{distance}_s"]
        figures[f"{distance}: largest difference"] = float(np.abs(theirs - found[distance]).max())
    for name, method in PEER.items():
        pair = peer.rdm.RDMs(A.copy()), peer.rdm.RDMs(B.copy())
        theirs, seconds = _timed(lambda m=method, r=pair: peer.rdm.compare(*r, method=m))
        figures[f"100 {name}: ratio"] = seconds / figures[f"100 {name}_s"]
        figures[f"100 {name}: largest difference"] = float(np.abs(theirs - found[name]).max())
    return figures


def _timed(function: Callable[[], np.ndarray]) -> tuple[np.ndarray, float]:
    started = time.perf_counter()
    value = function()
    return value, time.perf_counter() - started


def _peer() -> Any:
    """Return rsatoolbox; None where it is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import rsatoolbox
        except ImportError:
            return None
    return rsatoolbox
