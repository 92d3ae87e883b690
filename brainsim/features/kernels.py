"""Turn blocks of TR-aligned features into a band's kernel: scaled within runs, delayed, centred, of mean diagonal 1.

Delays cost nothing: the kernel of the delayed design is the sum over delays d of the kernel shifted by d along both
axes within runs; that of convolved features is H K H' with the convolution H of each run. Features are read once, a
block of columns at a time, and never copied per delay.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from queue import Empty, SimpleQueue

import numpy as np
import torch
from torch import Tensor

from brainsim.compute.threads import map_in_order, torch_threads
from brainsim.core.checks import check_choice
from brainsim.core.errors import InvalidValueError, NumericalError
from brainsim.core.resources import memory_free_bytes
from brainsim.core.runs import RunLayout
from brainsim.features.blas import lower_product
from brainsim.features.hrf import BandedMatrix
from brainsim.stimuli.ahead import run_ahead

SCALINGS = ("zscore", "center")

# A feature whose spread within a run is below this share of its size is constant there: what is left is rounding.
CONSTANT_SHARE = 1e-6

# Features that are scaled at a time on a CPU: each passes through the cache once instead of seven times.
TILE_FEATURES = 1024

# Panels of rows in which a symmetric product is computed: 8 leave out 44 % of it, and are still large products.
N_PANELS = 8

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
    out = torch.empty(X.shape, dtype=torch.float32)
    for rows in layout.slices:
        _scale_run(X[rows], scaling, out=out[rows])
    return out.numpy()


def _scale_run(run: np.ndarray, scaling: str, *, out: Tensor) -> bool:
    """Write the scaled features of one run, (n_trs, n_features), into `out`; return whether all were finite."""
    width = TILE_FEATURES if out.device.type == "cpu" else max(out.shape[1], 1)
    is_finite = True
    for start in range(0, out.shape[1], width):
        tile = slice(start, start + width)
        is_finite &= _scale_tile(run[:, tile], scaling, out=out[:, tile])
    return is_finite


def _scale_tile(run: np.ndarray, scaling: str, *, out: Tensor) -> bool:
    """Do as `_scale_run` says, for so few features that they stay in the cache.

    The mean is taken off twice: what the rounding of a large mean leaves, the second takes off, so that float32 is as
    good here as float64 and the passes over the data cost half as much.
    """
    X = torch.from_numpy(np.asarray(run, np.float32)).to(out.device)
    mean = X.mean(dim=0)  # (n_features,)
    torch.sub(X, mean, out=out)
    out -= out.mean(dim=0)
    std = out.square().mean(dim=0).sqrt()
    constant = std <= CONSTANT_SHARE * mean.abs()
    scale = torch.ones_like(std) if scaling == "center" else 1 / torch.where(std == 0, 1, std)
    out *= torch.where(constant, 0, scale)
    return bool(torch.isfinite(std).all())  # one value that is not finite makes its feature's mean and spread so


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
    """Return ``X X'`` of the scaled features, streaming blocks of columns: one is read while others are multiplied.

    Blocks are cut alike, and summed in order, whatever the number of threads.

    Parameters
    ----------
    read_block : callable (start, stop) -> sequence of ndarray
        Columns start to stop of each run's features on the TR grid, (n_trs, stop - start) each; called in a thread.
    n_features : int
        Number of columns in all.
    layout : RunLayout
        Rows of each run.
    scaling : {"zscore", "center"}
        See `scale_within_runs`.
    block_features : int
        Columns of a block; three are in memory at once, and two more for each further thread.
    device : str
        Where blocks are scaled and multiplied.
    name : str
        Whose features they are, for errors.

    Returns
    -------
    ndarray of float64, (n_rows, n_rows)
        Products in float32, sums over blocks in float64.

    Raises
    ------
    InvalidValueError
        Runs of another length than the layout's.
    NumericalError
        Values that are not finite.
    """
    check_choice("--scaling", scaling, SCALINGS)
    K = torch.zeros((layout.n_rows, layout.n_rows), dtype=torch.float64, device=device)
    scratch = threading.local()  # what a block is scaled into, per thread
    spare: SimpleQueue[np.ndarray] = SimpleQueue()  # memory of products that are summed already
    starts = range(0, n_features, block_features)
    blocks = ((start, read_block(start, min(start + block_features, n_features))) for start in starts)

    def multiply(block: tuple[int, Sequence[np.ndarray]]) -> Tensor:
        start, runs = block
        lengths = tuple(len(run) for run in runs)
        if lengths != layout.n_trs:
            raise InvalidValueError(f"runs of features have {lengths} TRs; the BOLD runs have {layout.n_trs}.")
        X: Tensor | None = getattr(scratch, "X", None)
        if X is None or X.shape[1] != runs[0].shape[1]:
            scratch.X = X = torch.empty((layout.n_rows, runs[0].shape[1]), device=device)
        finite = [_scale_run(run, scaling, out=X[rows]) for run, rows in zip(runs, layout.slices, strict=True)]
        if not all(finite):
            raise NumericalError(
                f"features {start} to {start + X.shape[1] - 1} of {name} hold values that are not finite.",
                hint="extract them again with --overwrite",
            )
        return _lower_gram(X, spare)

    is_cpu = torch.device(device).type == "cpu"
    n_workers = _count_threads(layout.n_rows, block_features, len(starts)) if is_cpu else 1
    with (
        closing(run_ahead(blocks, depth=1)) as ahead,
        _single_threaded() if is_cpu else nullcontext(),
        closing(map_in_order(multiply, ahead, n_workers=n_workers, max_ahead=lambda _: n_workers)) as grams,
    ):
        for _, gram in grams:
            for rows in _panels(layout.n_rows):
                K[rows, : rows.stop] += gram[rows, : rows.stop]
            if is_cpu:
                spare.put(gram.numpy())
    lower = torch.tril(K)
    return (lower + torch.tril(lower, -1).T).cpu().numpy()


def _lower_gram(X: Tensor, spare: SimpleQueue[np.ndarray]) -> Tensor:
    """Return ``X X'``, float32 (n_rows, n_rows), for half the work or little more: its lower triangle alone."""
    if X.device.type == "cpu":  # torch has no product that knows that it is symmetric
        try:
            out = spare.get_nowait()
        except Empty:
            out = None
        return torch.from_numpy(lower_product(X.numpy(), out=out))
    gram = torch.zeros((len(X), len(X)), device=X.device)
    for rows in _panels(len(X)):
        gram[rows, : rows.stop] = X[rows] @ X[: rows.stop].T
    return gram


def _panels(n_rows: int) -> list[slice]:
    size = math.ceil(n_rows / N_PANELS)
    return [slice(start, min(start + size, n_rows)) for start in range(0, n_rows, size)]


def _count_threads(n_rows: int, n_columns: int, n_blocks: int) -> int:
    """Return how many blocks are multiplied at once: as there are cores, and as half of the free memory holds."""
    per_thread = 4 * (2 * n_rows * n_columns + 2 * n_rows**2)  # read and scaled; its product, and one that waits
    return max(1, min(torch.get_num_threads(), n_blocks, int(memory_free_bytes() // 2 // per_thread)))


@contextmanager
def _single_threaded() -> Iterator[None]:
    """Use one thread per block, in products by BLAS itself as well."""
    from threadpoolctl import threadpool_limits

    with torch_threads(1), threadpool_limits(1, user_api="blas"):
        yield


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
    check_delays(delays, layout)
    out = np.zeros(K.shape, np.float64)
    for delay in delays:
        for a, n_a in zip(layout.starts, layout.n_trs, strict=True):
            for b, n_b in zip(layout.starts, layout.n_trs, strict=True):
                out[a + delay : a + n_a, b + delay : b + n_b] += K[a : a + n_a - delay, b : b + n_b - delay]
    return out


def convolve_kernel(K: np.ndarray, layout: RunLayout, *, responses: Sequence[np.ndarray]) -> np.ndarray:
    """Return the kernel of convolved features without convolving them: ``H K H'``, each run with its own H.

    Parameters
    ----------
    K : ndarray, (n_rows, n_rows)
        Kernel of the features.
    layout : RunLayout
        Rows of each run.
    responses : sequence of ndarray, (n_trs, n_trs) each
        What convolves the TRs of each run (`hrf_matrix`); before a run begins features are zero (their mean).

    Returns
    -------
    ndarray of float64, (n_rows, n_rows)
    """
    out = K.astype(np.float64)
    banded = [BandedMatrix(response) for response in responses]
    for rows, response in zip(layout.slices, banded, strict=True):
        out[rows] = response @ out[rows]
    for rows, response in zip(layout.slices, banded, strict=True):
        out[:, rows] = (response @ out[:, rows].T).T
    return out


def check_delays(delays: Sequence[int], layout: RunLayout) -> None:
    """Raise InvalidValueError unless the delays are different whole TRs that every run is long enough for."""
    whole = all(isinstance(delay, int) for delay in delays)
    if not delays or not whole or min(delays) < 0 or len(set(delays)) != len(delays):
        raise InvalidValueError(
            f"--delays is {list(delays)}; it must be one or more different whole TRs, 0 or above.",
            hint="--delays 1,2,3,4 covers 2 to 8 s at a TR of 2 s",
        )
    shortest = min(layout.n_trs)
    if max(delays) >= shortest:
        raise InvalidValueError(f"--delays reaches {max(delays)} TRs; the shortest run has {shortest}.")


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


def convolved_kernel(K: np.ndarray, layout: RunLayout, *, responses: Sequence[np.ndarray], name: str) -> np.ndarray:
    """Convolve, centre and normalise a kernel of scaled features, as `delayed_kernel` delays it.

    Returns
    -------
    ndarray of float32, (n_rows, n_rows)
    """
    return normalise_kernel(centre_within_runs(convolve_kernel(K, layout, responses=responses), layout), name=name)
