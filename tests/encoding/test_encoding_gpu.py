"""On a GPU: the search, kernels and inner products give what the CPU gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from encoding_data import UNEVEN, make_kernels, make_targets

from brainsim.core.runs import RunLayout, folds_by_block, folds_by_run
from brainsim.encoding.candidates import draw_pool
from brainsim.encoding.folds import index_folds
from brainsim.encoding.search import SearchOptions, search_supports
from brainsim.features.kernels import gram_from_blocks
from brainsim.rsa.rdm import gram_of_blocks

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

# From penalties that float32 holds to some that need float64.
GRID = tuple(np.logspace(-3, 5, 17))


@pytest.mark.parametrize("exhaustive", [True, False])
@pytest.mark.parametrize("kind", ["runs", "blocks with gap", "single level"])
def test_search_on_a_gpu_finds_what_the_cpu_finds(kind: str, exhaustive: bool) -> None:
    Ks = make_kernels(3, UNEVEN)
    Y = make_targets(Ks[:2], UNEVEN, 400)
    folds = folds_by_block(UNEVEN, n_blocks=5, gap=3) if kind == "blocks with gap" else folds_by_run(UNEVEN)
    index = index_folds(folds, UNEVEN.n_rows, nested=kind != "single level")
    pool = draw_pool([0, 1, 2], n_candidates=12)
    options = SearchOptions(exhaustive=exhaustive)
    (on_cpu, log), (on_gpu, gpu_log) = (
        search_supports(Ks, Y, pool=pool, alphas=GRID, folds=index, device=device, options=options)
        for device in ("cpu", "cuda")
    )
    assert list(on_cpu) == list(on_gpu)
    assert log.n_float64 > 0
    assert gpu_log.n_float64 > 0
    for support, expected in on_cpu.items():
        found = on_gpu[support]
        same = (found.candidate.cpu() == expected.candidate) & (found.alpha.cpu() == expected.alpha)
        assert float(same.float().mean()) > 0.98  # all but ties
        for name in ("inner", "r2", "r"):
            theirs, ours = getattr(expected, name)[same], getattr(found, name).cpu()[same]
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_kernels_and_inner_products_on_a_gpu_are_those_of_the_cpu() -> None:
    layout = RunLayout(("a", "b"), (30, 50))
    X = np.random.default_rng(0).standard_normal((layout.n_rows, 700), dtype=np.float32) + 3
    on_cpu, on_gpu = (
        gram_from_blocks(
            lambda start, stop: [X[rows, start:stop] for rows in layout.slices],
            n_features=X.shape[1], layout=layout, block_features=256, device=device,
        )
        for device in ("cpu", "cuda")
    )  # fmt: skip
    np.testing.assert_allclose(on_gpu, on_cpu, atol=1e-5 * np.abs(on_cpu).max())
    weights = np.random.default_rng(1).standard_normal((20, layout.n_rows))
    for chosen in (None, weights):
        n_rows = layout.n_rows if chosen is None else len(chosen)
        (gram, sums), (gpu_gram, gpu_sums) = (
            gram_of_blocks((X[:, a : a + 256] for a in range(0, 700, 256)), n_rows, weights=chosen, device=device)
            for device in ("cpu", "cuda")
        )
        np.testing.assert_allclose(gpu_gram, gram, atol=1e-5 * np.abs(gram).max())
        np.testing.assert_allclose(gpu_sums, sums, atol=1e-3)
