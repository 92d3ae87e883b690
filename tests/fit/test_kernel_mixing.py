"""Kernels in the store are mixed as those in memory are, bit for bit, however few of them are kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from brainsim.commands.kernels import StoredKernels, keep_rows
from brainsim.core.runs import RunLayout
from brainsim.core.seeds import named_rng
from brainsim.encoding.search import DeviceKernels, mix_kernels
from brainsim.store import Store


def test_kernels_are_mixed_from_the_store_as_from_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "s.zarr", "a")
    Ks = named_rng(0, "mix").standard_normal((5, 70, 70)).astype(np.float32)
    for band, K in enumerate(Ks):
        store.write(f"kernels/{band:016x}", type="kernel", key={"band": band}, arrays={"K": K}, chunk_rows=32)
    gamma = np.array([0.5, 0.0, 0.25, 0.15, 0.1])
    paths = [f"kernels/{band:016x}" for band in range(5)]
    expected = mix_kernels(list(Ks), gamma)
    for n_bytes in (2**20, 0):  # all are kept, or none and read chunk by chunk
        monkeypatch.setattr("brainsim.commands.kernels.KERNEL_CACHE_BYTES", n_bytes)
        stored = StoredKernels(store, paths)
        for _ in range(2):
            torch.testing.assert_close(mix_kernels(stored, gamma), expected, rtol=0, atol=0)
    rows, layout = np.delete(np.arange(70), [3, 40]), RunLayout(("a", "b"), (34, 34))
    some = mix_kernels(StoredKernels(store, paths, rows=rows, layout=layout), gamma)
    by_hand = sum(g * keep_rows(K, rows, layout) for g, K in zip(gamma, Ks, strict=True))
    np.testing.assert_allclose(some, by_hand, atol=1e-5)


@pytest.mark.parametrize("n_fit", [0, 2, 9])
def test_kernels_on_a_device_are_mixed_alike_whether_or_not_they_fit(
    n_fit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    Ks = list(named_rng(0, "mix").standard_normal((5, 70, 70)).astype(np.float32))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (2 * n_fit * Ks[0].nbytes, 0))
    kernels = DeviceKernels(Ks, "cpu")
    for gamma in (np.array([0.5, 0.0, 0.25, 0.15, 0.1]), np.array([0.0, 1.0, 0.0, 0.0, 0.0]), np.ones(5)):
        for _ in range(2):
            torch.testing.assert_close(kernels.mix(gamma), mix_kernels(Ks, gamma), rtol=0, atol=1e-6)
