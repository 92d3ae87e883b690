"""Turn stored activations into the kernel of a layer, a block of features at a time, and nodes into kernels to mix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from brainsim.commands.haemodynamics import FIR, haemodynamics
from brainsim.core.provenance import digest
from brainsim.core.timing import average_weights

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from brainsim.commands.encoding_data import RunTiming, SubjectGroup
    from brainsim.core.runs import RunLayout
    from brainsim.features.bands import LayerSource
    from brainsim.store import Store

# Bytes of a block of features as float32; about four are in memory at once, and two more for each further core. Larger
# ones are no faster.
BLOCK_BYTES = 96 * 2**20

# Narrower blocks would cost more in reading than they save in memory.
MIN_BLOCK_FEATURES = 256

# Kernels kept in memory while candidates mix them: ten of 3,600 TRs, or all where these are half of them. Mixtures ask
# for all kernels in turn, so that few of many would be kept in vain; the system's file cache serves the others.
KERNEL_CACHE_BYTES = 512 * 2**20


@dataclass(frozen=True)
class KernelOptions:
    """What makes a kernel from activations.

    Parameters
    ----------
    delays : tuple of int
        Delays in TRs; empty where features are convolved.
    scaling : str
        "zscore" or "center", within runs.
    device : str
        Where products are computed; it does not change what is stored beyond rounding.
    hrf : str
        "fir" for delays, or the canonical response that features are convolved with.
    """

    delays: tuple[int, ...]
    scaling: str
    device: str = "cpu"
    hrf: str = "fir"

    def record(self) -> dict[str, Any]:
        """Return what changes a kernel, for keys."""
        return {**haemodynamics(self.hrf, self.delays), "scaling": self.scaling}


def layer_kernel(store: Store, layer: LayerSource, group: SubjectGroup, options: KernelOptions) -> np.ndarray:
    """Return the delayed or convolved kernel of one layer on a group's TR grid, float32 (n_rows, n_rows)."""
    from brainsim.features.hrf import hrf_matrix
    from brainsim.features.kernels import convolved_kernel, delayed_kernel

    K = layer_gram(store, layer, group, options)
    if options.hrf == FIR:
        return delayed_kernel(K, group.layout, delays=options.delays, name=layer.name)
    responses = [hrf_matrix(t.grid.n_trs, t.grid.tr_s, hrf=options.hrf) for t in group.timing]
    return convolved_kernel(K, group.layout, responses=responses, name=layer.name)


def layer_gram(store: Store, layer: LayerSource, group: SubjectGroup, options: KernelOptions) -> np.ndarray:
    """Return the inner products of one layer's scaled features between a group's TRs, float64 (n_rows, n_rows).

    Raises
    ------
    AlignmentError
        Where a TR has no clip.
    """
    from brainsim.compute.threads import map_in_order
    from brainsim.core.resources import n_cores
    from brainsim.features.kernels import gram_from_blocks

    n_threads = min(n_cores(), len(group.stimuli))
    averages = [clip_averages(store, layer, timing) for timing in group.timing]
    n_rows = max(group.layout.n_rows, sum(store.info(layer.nodes[s]).arrays["values"][0][0] for s in group.stimuli))

    def read_block(start: int, stop: int) -> list[np.ndarray]:
        def read(stimulus: str) -> np.ndarray:
            return store.read(layer.nodes[stimulus], "values", columns=slice(start, stop)).astype(
                np.float32, copy=False
            )

        runs: list[np.ndarray | None] = [None] * len(group.timing)
        # With the first block all chunks are checked, and there is nothing to multiply meanwhile.
        for stimulus, clips in map_in_order(read, group.stimuli, n_workers=1 if start else n_threads):
            for index, (average, timing) in enumerate(zip(averages, group.timing, strict=True)):
                if timing.stimulus == stimulus:
                    runs[index] = average_clips(average, clips)
        return [run for run in runs if run is not None]

    return gram_from_blocks(
        read_block,
        n_features=layer.n_features,
        layout=group.layout,
        scaling=options.scaling,
        block_features=block_width(n_rows),
        device=options.device,
        name=layer.name,
    )


def clip_averages(store: Store, layer: LayerSource, timing: RunTiming) -> csr_array:
    """Return the sparse matrix that averages a layer's clips into the TRs of a run, float32 (n_trs, n_clips)."""
    from scipy.sparse import csr_array

    time_s = store.read(layer.nodes[timing.stimulus], "time_s")
    what = f"clips of {layer.name} in run {timing.run}"
    trs, clips, weights = average_weights(time_s, timing.grid, what=what)
    return csr_array((weights, (trs, clips)), shape=(timing.grid.n_trs, len(time_s)))


def block_width(n_rows: int) -> int:
    """Return how many features of so many rows are read at once."""
    return max(BLOCK_BYTES // (4 * n_rows), MIN_BLOCK_FEATURES)


def average_clips(average: csr_array, clips: np.ndarray) -> np.ndarray:
    """Return the TRs of a run, (n_trs, n_features); without a copy where each is one clip, and they follow another."""
    first, n_trs = int(average.indices[0]), len(average.indptr) - 1
    if np.array_equal(average.indices, np.arange(first, first + n_trs)):
        return clips[first : first + n_trs]
    runs: np.ndarray = average @ clips
    return runs


def band_key(layers: Sequence[LayerSource], group: SubjectGroup, options: KernelOptions) -> dict[str, Any]:
    """Return everything that makes the kernel of one layer or of several that share a weight."""
    return {
        "layers": [list(layer.digests) for layer in layers],
        "timing": [[t.stimulus, t.grid.n_trs, t.grid.tr_s, t.grid.start_s] for t in group.timing],
        **options.record(),
    }


def kernel_path(key: dict[str, Any]) -> str:
    """Return the node of a kernel."""
    return f"kernels/{digest(key)[:16]}"


def keep_rows(K: np.ndarray, rows: np.ndarray, layout: RunLayout) -> np.ndarray:
    """Return the kernel of some rows as if the others had not been measured; delays and responses saw their features.

    A kernel that is centred within runs differs from the one of features centred over the rows that are kept by numbers
    that are the same in a run's rows, or columns: centring the rest anew takes them away, exactly.

    Parameters
    ----------
    K : ndarray of float32, (n_rows, n_rows)
        Centred within runs.
    rows : ndarray of int64, (n_kept,)
        Rows that are kept, increasing.
    layout : RunLayout
        Of these.

    Returns
    -------
    ndarray of float32, (n_kept, n_kept)
        Mean diagonal of 1, as all kernels have.
    """
    kept = K[np.ix_(rows, rows)].astype(np.float64)
    for run in layout.slices:
        kept[run] -= kept[run].mean(axis=0)
    for run in layout.slices:
        kept[:, run] -= kept[:, run].mean(axis=1, keepdims=True)
    return np.asarray(kept / np.diag(kept).mean(), dtype=np.float32)


class StoredKernels(Sequence[np.ndarray]):
    """Kernels that are read from the store when a candidate mixes them; few of them are kept in memory.

    Parameters
    ----------
    store : Store
        Where they are.
    paths : sequence of str
        Their nodes.
    rows : ndarray of int64, (n_kept,), optional
        The only rows that take part; kernels are then centred anew, within the runs of `layout`.
    layout : RunLayout, optional
        Rows of each run that take part.
    """

    def __init__(
        self, store: Store, paths: Sequence[str], *, rows: np.ndarray | None = None, layout: RunLayout | None = None
    ) -> None:
        self._store, self._paths = store, list(paths)
        self._rows, self._layout = rows, layout
        n_stored = int(store.info(paths[0]).arrays["K"][0][0]) if paths else 1
        self._n_rows = n_stored if rows is None else len(rows)
        n_kept = KERNEL_CACHE_BYTES // (4 * n_stored**2)
        self._n_kept = n_kept if 2 * n_kept >= len(paths) else 0
        self._kept: dict[str, np.ndarray] = {}

    def _read(self, path: str) -> np.ndarray:
        K = self._kept.get(path)
        if K is None:
            K = self._store.read(path, "K")
            if self._rows is not None and self._layout is not None:
                K = keep_rows(K, self._rows, self._layout)
            if len(self._kept) < self._n_kept:  # the first stay: asked for in turn, the latest would never be there
                self._kept[path] = K
        return K

    def mix_rows(self, bands: Sequence[int], gamma: np.ndarray) -> np.ndarray:
        """Return ``sum_b gamma_b K_b`` over some bands, float32 (n_rows, n_rows): chunk by chunk where that can be."""
        from brainsim.encoding.search import add_rows

        total = np.zeros((self._n_rows, self._n_rows), np.float32)
        for band in bands:
            path = self._paths[band]
            if self._rows is not None or self._n_kept:
                add_rows(total, self._read(path), gamma[band])
                continue
            for rows in self._store.row_ranges(path, "K"):
                add_rows(total[rows], self._store.read(path, "K", rows), gamma[band])
        return total

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self._read(self._paths[index])

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[i] for i in range(len(self)))
