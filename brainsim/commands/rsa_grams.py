"""Turn stored activations into inner products between TRs as BOLD would show them, kept in the store.

All that happens between activations and an RDM is linear in time. So inner products and sums over features are all that
is kept of a layer, and every RDM of it follows from them: another distance, lag, edge or comparison reads no features.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from brainsim.commands.kernels import average_clips, block_width, clip_averages
from brainsim.commands.made_once import make_once
from brainsim.core.errors import AlignmentError
from brainsim.core.provenance import digest
from brainsim.core.runs import RunLayout
from brainsim.core.timing import TrGrid

if TYPE_CHECKING:
    from brainsim.commands.encoding_data import RunTiming
    from brainsim.features.bands import LayerSource
    from brainsim.features.hrf import BandedMatrix
    from brainsim.store import Store

# Of what nodes hold and how it is made.
VERSION = 1


@dataclass(frozen=True)
class RowProducts:
    """Inner products of the TRs of some runs, after the haemodynamic response.

    Parameters
    ----------
    products : ndarray of float64, (n_rows, n_rows)
        Of every two rows.
    sums : ndarray of float64, (n_rows,)
        Of each row over its features.
    """

    products: np.ndarray
    sums: np.ndarray


@dataclass(frozen=True)
class GramPlan:
    """Which inner products are wanted of a layer.

    Parameters
    ----------
    timing : tuple of RunTiming
        All runs.
    blocks : tuple of tuple of int
        Runs whose TRs are paired with one another.
    sampling : {"average", "window-start"}
        How clips become TRs; see `RsaSettings`.
    device : str
        Where products are computed; it changes nothing beyond rounding.
    """

    timing: tuple[RunTiming, ...]
    blocks: tuple[tuple[int, ...], ...]
    sampling: str
    device: str = "cpu"

    @property
    def layouts(self) -> list[RunLayout]:
        """Rows of each block."""
        return [
            RunLayout(tuple(self.timing[r].run for r in runs), tuple(self.timing[r].grid.n_trs for r in runs))
            for runs in self.blocks
        ]

    def key(self, layer: LayerSource) -> dict[str, Any]:
        """Return everything that makes a layer's node."""
        return {
            "kind": "gram",
            "version": VERSION,
            "layers": [list(layer.digests)],
            "timing": [[t.stimulus, t.grid.n_trs, t.grid.tr_s, t.grid.start_s] for t in self.timing],
            "blocks": [list(runs) for runs in self.blocks],
            "sampling": self.sampling,
        }


def layer_grams(store: Store, layer: LayerSource, plan: GramPlan) -> list[RowProducts]:
    """Return a layer's inner products of every block, from the store; they are made where they are not there.

    Raises
    ------
    AlignmentError
        TRs without features.
    """
    from brainsim.store import ArraySpec

    key = plan.key(layer)
    path = f"grams/{digest(key)[:16]}"
    lengths = [layout.n_rows for layout in plan.layouts]

    def compute() -> dict[str, np.ndarray]:
        found = list(_compute_grams(store, layer, plan))
        return {
            "products": np.concatenate([one.products[np.tri(len(one.sums), dtype=bool)] for one in found]),
            "sums": np.concatenate([one.sums for one in found]),
        }

    make_once(
        store,
        path,
        type="gram",
        key=key,
        arrays={
            "products": ArraySpec((sum(n * (n + 1) // 2 for n in lengths),), "float64"),
            "sums": ArraySpec((sum(lengths),), "float64"),
        },
        attributes={
            "layer": layer.name,
            "layout": [[t.run, t.grid.n_trs] for t in plan.timing],
            "blocks": [list(runs) for runs in plan.blocks],
            "sampling": plan.sampling,
            "n_features": layer.n_features,
        },
        compute=compute,
        what=f"inner products of {layer.name}",
    )
    return _unpack(store.read(path, "products"), store.read(path, "sums"), lengths)


def _unpack(packed: np.ndarray, sums: np.ndarray, lengths: Sequence[int]) -> list[RowProducts]:
    """Return the blocks of a node: lower triangles with their diagonals, one block after the other."""
    found = []
    for n in lengths:
        n_products = n * (n + 1) // 2
        products = np.zeros((n, n))
        products[np.tri(n, dtype=bool)] = packed[:n_products]
        products += np.tril(products, -1).T
        found.append(RowProducts(products, sums[:n]))
        packed, sums = packed[n_products:], sums[n:]
    return found


def _compute_grams(store: Store, layer: LayerSource, plan: GramPlan) -> Iterator[RowProducts]:
    make = _average_gram if plan.sampling == "average" else _window_gram
    for runs, layout in zip(plan.blocks, plan.layouts, strict=True):
        yield make(store, layer, [plan.timing[run] for run in runs], layout, plan.device)


def _average_gram(
    store: Store, layer: LayerSource, timing: Sequence[RunTiming], layout: RunLayout, device: str
) -> RowProducts:
    """Return products of features averaged to TRs, about their mean of the run as BOLD is, and convolved.

    The response is applied to the products, on both sides: features are multiplied once, undelayed.
    """
    from brainsim.features.hrf import hrf_matrix
    from brainsim.features.kernels import convolve_kernel, gram_from_blocks

    averages = [clip_averages(store, layer, t) for t in timing]
    sums = np.zeros(layout.n_rows)

    def read_block(start: int, stop: int) -> list[np.ndarray]:
        trs = []
        for average, t, rows in zip(averages, timing, layout.slices, strict=True):
            clips = store.read(layer.nodes[t.stimulus], "values", columns=slice(start, stop))
            trs.append(average_clips(average, clips.astype(np.float32, copy=False)))
            sums[rows] += trs[-1].sum(axis=1, dtype=np.float64)
        return trs

    K = gram_from_blocks(
        read_block,
        n_features=layer.n_features,
        layout=layout,
        scaling="center",
        block_features=block_width(max(average.shape[1] for average in averages)),
        device=device,
        name=layer.name,
    )
    responses = [hrf_matrix(t.grid.n_trs, t.grid.tr_s) for t in timing]
    convolved = [
        response @ (sums[rows] - sums[rows].mean()) for response, rows in zip(responses, layout.slices, strict=True)
    ]
    return RowProducts(convolve_kernel(K, layout, responses=responses), np.concatenate(convolved))


def _window_gram(
    store: Store, layer: LayerSource, timing: Sequence[RunTiming], layout: RunLayout, device: str
) -> RowProducts:
    """Return products of features that are convolved and sampled as the study does: not centred.

    What is left of features that are not centred lies in the last digits of their products, so that these are float64;
    and there are far fewer TRs than clips, so that features are convolved, not products.
    """
    from brainsim.rsa.rdm import gram_of_blocks
    from brainsim.stimuli.ahead import run_ahead

    matrices = [_window_matrix(store, layer, t) for t in timing]
    width = block_width(max(2 * matrix.shape[1] for matrix in matrices))

    def features() -> Iterator[np.ndarray]:
        for start in range(0, layer.n_features, width):
            columns = slice(start, min(start + width, layer.n_features))
            parts = [
                matrix @ store.read(layer.nodes[t.stimulus], "values", columns=columns)
                for matrix, t in zip(matrices, timing, strict=True)
            ]
            yield np.concatenate(parts)

    with closing(run_ahead(features(), depth=1)) as ahead:
        return RowProducts(*gram_of_blocks(ahead, layout.n_rows, device=device))


def _window_matrix(store: Store, layer: LayerSource, timing: RunTiming) -> BandedMatrix:
    """Return what turns a run's clips into TRs, (n_trs, n_clips), in float64."""
    clip_s = store.read(layer.nodes[timing.stimulus], "window_s")[:, 0]
    matrix = _sampling(clip_s.astype(np.float64).tobytes(), timing.grid)
    if len(matrix.empty_rows):
        raise AlignmentError(
            f"{len(matrix.empty_rows)} of {timing.grid.n_trs} TRs of run {timing.run} have no clip of {layer.name} in "
            f"the 20 s before their middle (first: TR {matrix.empty_rows[0]}).",
            hint="trim the run (ingest --drop-volumes, --n-trs)",
        )
    return matrix


@lru_cache(maxsize=64)  # layers share the times of their clips: they are not looked up in the response again for each
def _sampling(clip_s: bytes, grid: TrGrid) -> BandedMatrix:
    from brainsim.features.hrf import BandedMatrix, sampling_matrix

    return BandedMatrix(sampling_matrix(np.frombuffer(clip_s), grid.tr_s, grid.n_trs, start_s=grid.start_s))
