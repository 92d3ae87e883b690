"""Turn blocks of TR-aligned features into a band's kernel: scaled within runs, delayed, centred, of mean diagonal 1.

Delays cost nothing: the kernel of the delayed design is the sum over delays d of the kernel shifted by d along both
axes within runs. Features are read once, a block of columns at a time, and never copied per delay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from brainsim.core.checks import check_choice
from brainsim.core.errors import InvalidValueError, NumericalError
from brainsim.core.runs import RunLayout

SCALINGS = ("zscore", "center")

# A feature whose spread within a run is below this share of its size is constant there: what is left is rounding.
CONSTANT_SHARE = 1e-6

ReadBlock = Callable[[int, int], Sequence[np.ndarray]]


def scale_within_runs(X: np.ndarray, layout: RunLayout, *, scaling: str) -> np.ndarray:
    """Centre, or z-score, every feature within every run.

    Parameters
    ----------
    X : ndarray, (n_rows, n_features)
        Features on the TR grid, runs stacked.
    layout : RunLayout
        Rows of each run.
    scaling : {"zscore", "center"}
        Z-scoring gives every feature the same weight in the kernel. A feature that is constant in a run is 0 there.

    Returns
    -------
    ndarray of float32, (n_rows, n_features)
    """
    check_choice("--scaling", scaling, SCALINGS)
    out = np.empty(X.shape, np.float32)
    for rows in layout.slices:
        run = X[rows].astype(np.float64)
        mean = run.mean(axis=0)
        centred = run - mean
        std = np.sqrt(np.square(centred).mean(axis=0))
        constant = std <= CONSTANT_SHARE * np.abs(mean)
        centred = np.where(constant, 0, centred)
        if scaling == "zscore":
            centred /= np.where(constant | (std == 0), 1, std)
        out[rows] = centred
    return out


def gram_from_blocks(
    read_block: ReadBlock,
    *,
    n_features: int,
    layout: RunLayout,
    scaling: str = "zscore",
    block_features: int = 16384,
    device: str = "cpu",
    name: str = "the bands",
) -> np.ndarray:
    """Return ``X X'`` of the scaled features, streaming blocks of columns.

    Parameters
    ----------
    read_block : callable (start, stop) -> sequence of ndarray
        Columns start to stop of each run's features on the TR grid, (n_trs, stop - start) each.
    n_features : int
        Number of columns in all.
    layout : RunLayout
        Rows of each run.
    block_features : int
        Columns held in memory at once.
    name : str
        Whose features they are, for errors.

    Returns
    -------
    ndarray of float64, (n_rows, n_rows)
        Products in float32, sums over blocks in float64.
    """
    K = torch.zeros((layout.n_rows, layout.n_rows), dtype=torch.float64)
    for start in range(0, n_features, block_features):
        runs = read_block(start, min(start + block_features, n_features))
        lengths = tuple(len(run) for run in runs)
        if lengths != layout.n_trs:
            raise InvalidValueError(f"runs of features have {lengths} TRs; the BOLD runs have {layout.n_trs}.")
        X = scale_within_runs(np.concatenate(list(runs)), layout, scaling=scaling)
        if not np.isfinite(X).all():
            raise NumericalError(
                f"features {start} to {start + X.shape[1] - 1} of {name} hold values that are not finite.",
                hint="extract them again with --overwrite",
            )
        Xt = torch.as_tensor(X, device=device)
        K += (Xt @ Xt.T).cpu().double()
    return K.numpy()


def delay_kernel(K: np.ndarray, layout: RunLayout, *, delays: Sequence[int]) -> np.ndarray:
    """Return the kernel of the delayed design without building it.

    ``K_delayed[i, j] = sum_d K[i - d, j - d]``, where row i - d must lie in the run of row i and row j - d in that of
    row j; outside, the features are zero (their mean), as at the start of a run.

    Parameters
    ----------
    K : ndarray, (n_rows, n_rows)
        Kernel of undelayed features.
    layout : RunLayout
        Rows of each run.
    delays : sequence of int
        Delays in TRs, 0 or more.

    Returns
    -------
    ndarray of float64, (n_rows, n_rows)
    """
    if not delays or min(delays) < 0 or len(set(delays)) != len(delays):
        raise InvalidValueError(
            f"--delays is {list(delays)}; it must be one or more different whole TRs, 0 or above.",
            hint="--delays 1,2,3,4 covers 2 to 8 s at a TR of 2 s",
        )
    shortest = min(layout.n_trs)
    if max(delays) >= shortest:
        raise InvalidValueError(f"--delays reaches {max(delays)} TRs; the shortest run has {shortest}.")
    out = np.zeros(K.shape, np.float64)
    for delay in delays:
        for a, n_a in zip(layout.starts, layout.n_trs, strict=True):
            for b, n_b in zip(layout.starts, layout.n_trs, strict=True):
                out[a + delay : a + n_a, b + delay : b + n_b] += K[a : a + n_a - delay, b : b + n_b - delay]
    return out


def centre_within_runs(K: np.ndarray, layout: RunLayout) -> np.ndarray:
    """Return ``H K H`` with H the centring of each run: the kernel of features whose run means are removed."""
    K = K.astype(np.float64)
    for rows in layout.slices:
        K[rows] -= K[rows].mean(axis=0, keepdims=True)
    for rows in layout.slices:
        K[:, rows] -= K[:, rows].mean(axis=1, keepdims=True)
    return K


def normalise_kernel(K: np.ndarray, *, name: str) -> np.ndarray:
    """Return the kernel with mean diagonal 1, so that bands compare and alphas mean the same everywhere.

    Raises
    ------
    NumericalError
        Where the features never vary.
    """
    mean = float(np.trace(K)) / len(K)
    if not np.isfinite(mean) or mean <= 0:
        raise NumericalError(f"the features of {name} never vary within a run; they can explain nothing.")
    return (K / mean).astype(np.float32)


def delayed_kernel(K: np.ndarray, layout: RunLayout, *, delays: Sequence[int], name: str) -> np.ndarray:
    """Delay, centre and normalise a kernel of scaled features: what every analysis uses.

    Returns
    -------
    ndarray of float32, (n_rows, n_rows)
    """
    return normalise_kernel(centre_within_runs(delay_kernel(K, layout, delays=delays), layout), name=name)
