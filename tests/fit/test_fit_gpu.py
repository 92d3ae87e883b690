"""On a GPU: fit, partition and kernel write what they write on the CPU, all options of theirs that compute included."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fit_store import make_store

from brainsim.commands.fit import fit
from brainsim.commands.partition import partition
from brainsim.store import Store

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

FEW: dict[str, Any] = {"dataset": "tiny", "alphas": (1.0, 10.0, 100.0, 1000.0), "n_candidates": 10}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("gpu") / "store.zarr")


def assert_alike(store: Path, one: str, other: str, subjects: Sequence[str] = ("sub-01", "sub-02", "sub-03")) -> None:
    opened = Store(store)
    for subject in subjects:
        for name in opened.info(f"{one}/{subject}").arrays:
            expected, found = opened.read(f"{one}/{subject}", name), opened.read(f"{other}/{subject}", name)
            assert found.shape == expected.shape
            if expected.dtype.kind == "f" and not name.endswith("_p"):
                np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
                off = np.abs(found - expected) > 1e-3
                assert off.mean() < 0.02, (name, found[off], expected[off])  # ties may be decided otherwise


def test_fit_on_a_gpu_is_that_of_the_cpu(store: Path) -> None:
    for device in ("cpu", "cuda"):
        fit(device, store=store, device=device, n_nulls=20, keep=("predictions", "weights"), **FEW)
    assert_alike(store, "fits/cpu/tiny", "fits/cuda/tiny")


def test_himalayas_search_runs_on_a_gpu(store: Path) -> None:
    for device in ("cpu", "cuda"):
        fit(
            f"theirs-{device}", store=store, device=device, solver="himalaya-random-search", subjects=("sub-02",), **FEW
        )
    assert_alike(store, "fits/theirs-cpu/tiny", "fits/theirs-cuda/tiny", ("sub-02",))


def test_partition_on_a_gpu_is_that_of_the_cpu(store: Path) -> None:
    for device in ("cpu", "cuda"):
        partition(device, store=store, device=device, n_nulls=20, refine=2, **FEW)
    assert_alike(store, "partitions/cpu/tiny", "partitions/cuda/tiny")


def test_tasks_run_on_one_gpu_each(store: Path) -> None:
    partition("alone", store=store, device="cuda", **FEW)
    partition("pinned", store=store, device="cuda", cluster="cuda", **FEW)
    for subject in ("sub-01", "sub-02", "sub-03"):
        for name in ("subset_r2", "parts"):
            one, other = (Store(store).read(f"partitions/{n}/tiny/{subject}", name) for n in ("alone", "pinned"))
            np.testing.assert_array_equal(one, other)
