"""Turn RDMs of layers and streams into small pictures of some, and into the likeness of all to one another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from brainsim.core.seeds import named_rng
from brainsim.rsa.combine import standardise
from brainsim.rsa.compare import COMPARISONS

# A picture of more pixels than this is not read more finely on a page.
MAX_PIXELS = 120

# How alike two RDMs are is known to 0.002 from so many pairs; more would only take time and memory.
MAX_PAIRS = 200_000

# What stands for a comparison of which all pairs of all layers would take too long, or needs whole geometries.
STAND_IN = {"kendall": "spearman", "whitened-cosine": "pearson", "cka": "pearson"}


def average_subjects(Y: np.ndarray, streams: list[str]) -> np.ndarray:
    """Return the mean of the subjects' standardised RDMs of each stream, in the order in which streams come.

    Parameters
    ----------
    Y : ndarray, (n_targets, n_pairs)
        One RDM per subject and stream.
    streams : list of str
        The stream of each row.

    Returns
    -------
    ndarray of float32, (n_streams, n_pairs)
    """
    names = list(dict.fromkeys(streams))
    means = np.zeros((len(names), Y.shape[1]))
    for row, stream in enumerate(streams):  # one RDM at a time: of thousands of stimuli each has millions of pairs
        means[names.index(stream)] += standardise(Y[row : row + 1])[0] / streams.count(stream)
    return means.astype(np.float32)


def similarity_of_all(A: Sequence[np.ndarray], Y: Sequence[np.ndarray], comparison: str) -> tuple[np.ndarray, str]:
    """Return how alike all RDMs are, mean over blocks, and how that was measured; of at most `MAX_PAIRS` pairs a block.

    Parameters
    ----------
    A : sequence of ndarray, (n_layers, n_pairs) per block
    Y : sequence of ndarray, (n_streams, n_pairs) per block
        Means over subjects.
    comparison : str
        A key of `COMPARISONS`; what would take too long has a stand-in.

    Returns
    -------
    ndarray of float32, (n_layers + n_streams, n_layers + n_streams)
        Symmetric, 1 on the diagonal.
    """
    used = STAND_IN.get(comparison, comparison)
    compare = COMPARISONS[used]
    total = np.zeros((len(A[0]) + len(Y[0]),) * 2)
    for models, brains in zip(A, Y, strict=True):
        pairs = choose_pairs(models.shape[1])
        both = np.concatenate([models[:, pairs], brains[:, pairs].astype(models.dtype)])
        total += np.nan_to_num(compare(both, both))
    mean = total / len(A)
    mean = (mean + mean.T) / 2
    np.fill_diagonal(mean, 1.0)
    return mean.astype(np.float32), used


def choose_pairs(n_pairs: int, *, at_most: int = MAX_PAIRS) -> slice | np.ndarray:
    """Return all pairs, or so many of them, drawn the same way every time, in order."""
    if n_pairs <= at_most:
        return slice(None)
    return np.sort(named_rng(0, "pictures", "pairs").choice(n_pairs, at_most, replace=False))


def picture(rdm: np.ndarray, i: np.ndarray, j: np.ndarray, n_rows: int, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Return an RDM as a square of at most `max_pixels` pixels a side, each the mean of its pairs.

    Parameters
    ----------
    rdm : ndarray, (n_pairs,)
    i, j : ndarray of int, (n_pairs,)
        The rows of each pair.
    n_rows : int

    Returns
    -------
    ndarray of float32, (n_pixels, n_pixels)
        Symmetric; NaN where no pair falls into a pixel.
    """
    step = rows_per_pixel(n_rows, max_pixels=max_pixels)
    n = -(-n_rows // step)
    at = np.concatenate([(i // step) * n + j // step, (j // step) * n + i // step])
    values = np.concatenate([rdm, rdm]).astype(np.float64)
    counts = np.bincount(at, minlength=n * n)
    sums = np.bincount(at, weights=values, minlength=n * n)
    mean = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return mean.reshape(n, n).astype(np.float32)


def rows_per_pixel(n_rows: int, *, max_pixels: int = MAX_PIXELS) -> int:
    """Return how many rows of an RDM make one pixel of its picture."""
    return max(1, -(-n_rows // max_pixels))
