"""Turn a layer's features into fewer that keep their inner products: a seeded sparse random projection."""

from __future__ import annotations

import math
import warnings

import numpy as np
import torch
from torch import Tensor

from brainsim.core.seeds import named_rng

# Features whose part of the matrix is drawn at once, from a generator of its own: the part depends on nothing else, so
# that blocks of features give what all of them together give.
BLOCK = 2**16
# What is kept of matrices when a movie is over: all of 3 million features with 28,000 outputs take half of it, and a
# quarter of a minute to draw.
KEPT_BYTES = 2**30

_kept: dict[tuple[int, int, torch.device], Sketch] = {}


def find_sketch(n_outputs: int, *, seed: int, device: torch.device) -> Sketch:
    """Return a sketch, with what is kept of its matrix from earlier movies in this process."""
    key = (n_outputs, seed, device)
    sketch = _kept.pop(key, None) or Sketch(n_outputs, seed=seed, device=device)
    _kept[key] = sketch  # the last used is the last to go
    return sketch


def trim_sketches(n_bytes: int = KEPT_BYTES) -> None:
    """Let go of matrices until no more than a number of bytes is kept, of those longest unused first."""
    left = n_bytes
    for key, sketch in reversed(list(_kept.items())):
        sketch.trim(left)
        left -= sketch.n_bytes
        if not sketch.n_bytes:
            del _kept[key]


class Sketch:
    """A sparse random projection of features, of any number, to `n_outputs`.

    Each feature goes to `n_copies` of the outputs, one in each of as many equal groups of them, with a random sign and
    the weight 1 / sqrt(n_copies). Inner products are kept on average, with the variance

        (|x|² |y|² + <x, y>² - 2 Σ x_i² y_i²) / n_outputs,

    which is never above that of a dense Gaussian matrix. Matrices whose entries are each zero or not by themselves (as
    scikit-learn's SparseRandomProjection draws them) add a term that grows with Σ x_i² y_i² and the sparsity: too much
    for transformers, whose residual streams have a few features hundreds of times as large as the others.

    The matrix of a layer is never dense, and layers share one: its first columns. Parts of it are kept on the device, 8
    bytes for each of n_features * n_copies entries.

    Parameters
    ----------
    n_outputs : int
        Features after it. Layers that have no more are left as they are.
    seed : int
        Same seed and `n_outputs`: same matrix, on any device.
    device : torch.device
        Where features are.

    References
    ----------
    Kane & Nelson 2014, Sparser Johnson-Lindenstrauss transforms, Journal of the ACM 61(1):4. The variance: Charikar,
    Chen & Farach-Colton 2002, of which this is the mean over groups.
    """

    def __init__(self, n_outputs: int, *, seed: int, device: torch.device) -> None:
        self.n_outputs = n_outputs
        self.seed = seed
        # Sparse products exist for CPUs and CUDA.
        self.device = device if device.type == "cuda" else torch.device("cpu")
        self.n_copies = count_copies(n_outputs)
        self._parts: dict[tuple[int, int], Tensor] = {}

    def __call__(self, values: Tensor) -> Tensor:
        """Return (n_clips, n_outputs) from features (n_clips, n_features), float32."""
        n_features = values.shape[1]
        if n_features <= self.n_outputs:
            return values
        x = values.to(self.device, torch.float32).T  # (n_features, n_clips)
        sums = torch.zeros((self.n_outputs, x.shape[1]), device=self.device)
        for begin in range(0, n_features, BLOCK):
            block = x[begin : begin + BLOCK]
            sums += torch.sparse.mm(self._part(begin // BLOCK, len(block)), block.contiguous())
        return sums.T.contiguous()

    @property
    def n_bytes(self) -> int:
        """Bytes of the parts that are kept on the device."""
        return sum(_count_bytes(part) for part in self._parts.values())

    def trim(self, n_bytes: int) -> None:
        """Let go of parts, of the last features first, until no more than `n_bytes` are kept."""
        for key in sorted(self._parts, reverse=True):
            if self.n_bytes <= n_bytes:
                return
            del self._parts[key]

    def _part(self, index: int, n_features: int) -> Tensor:
        """Return the matrix of one block of features, sparse (n_outputs, n_features)."""
        key = (index, n_features)
        if key not in self._parts:
            outputs, signs = draw_block(self.n_outputs, index, seed=self.seed)
            part = _as_sparse(outputs[:n_features], signs[:n_features], self.n_outputs)
            if self.device.type == "cpu" and not torch.backends.mkl.is_available():  # type: ignore[no-untyped-call]
                # Without MKL a CPU has no product of compressed rows.
                part = part.to_sparse(layout=torch.sparse_coo).coalesce()
            self._parts[key] = part.to(self.device)
        return self._parts[key]


def count_copies(n_outputs: int) -> int:
    """Return to how many outputs each feature goes.

    Two large features that meet in one of them are wrong by one over this number; sqrt(n_outputs) / 8 is about one over
    the error that `n_outputs` stands for in `count_outputs`.
    """
    return min(max(math.ceil(math.sqrt(n_outputs) / 8), 4), n_outputs)


def draw_block(n_outputs: int, index: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return where the features of one block go and with which sign, int32 and float32 (BLOCK, n_copies)."""
    n_copies = count_copies(n_outputs)
    edges = np.arange(n_copies + 1) * n_outputs // n_copies
    rng = named_rng(seed, "sketch", n_outputs, index)
    outputs = rng.integers(edges[:-1], edges[1:], (BLOCK, n_copies), np.int32)
    signs = rng.integers(0, 2, (BLOCK, n_copies), np.int8).astype(np.float32) * 2 - 1
    return outputs, signs


def _count_bytes(part: Tensor) -> int:
    if part.layout == torch.sparse_csr:
        tensors = [part.crow_indices(), part.col_indices(), part.values()]
    else:
        tensors = [part.indices(), part.values()]
    return sum(tensor.nbytes for tensor in tensors)


def _as_sparse(outputs: np.ndarray, signs: np.ndarray, n_outputs: int) -> Tensor:
    n_features, n_copies = outputs.shape
    order = np.argsort(outputs, axis=None, kind="stable")
    rows = np.concatenate([[0], np.cumsum(np.bincount(outputs.ravel(), minlength=n_outputs))]).astype(np.int32)
    columns = (order // n_copies).astype(np.int32)
    values = signs.ravel()[order] / np.float32(math.sqrt(n_copies))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta", category=UserWarning)
        return torch.sparse_csr_tensor(
            torch.from_numpy(rows),
            torch.from_numpy(columns),
            torch.from_numpy(values),
            size=(n_outputs, n_features),
            check_invariants=True,
        )
