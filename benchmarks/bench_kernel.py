"""The delayed kernel of a wide layer, streamed from the store, against the bare undelayed product; its peak memory."""

from __future__ import annotations

import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch

from brainsim.commands.encoding_data import RunTiming, SubjectGroup
from brainsim.commands.kernels import KernelOptions, layer_kernel
from brainsim.core.timing import TrGrid
from brainsim.features import kernels
from brainsim.features.bands import LayerSource
from brainsim.store import ArraySpec, Store

N_RUNS, DELAYS, BATCH = 8, (1, 2, 3, 4), 45
N_REPEATS = 2

# What a kernel imports when it is first made is not what is measured.
IMPORTED = (kernels, scipy.sparse)


def run(*, quick: bool, device: str) -> dict[str, Any]:
    """Measure 200,000 features of 3,600 TRs, float32, in a store; products are measured in turn with kernels.

    The product is `X @ X.T` in float32 over data that lie in memory: by torch as one call, and by NumPy, which computes
    one triangle. Kernels are made in a process of their own, whose peak memory is that of everything it imports, too.
    """
    n_features, n_trs = (1_000, 10) if quick else (200_000, 450)
    found: dict[str, Any] = {"n_features": n_features, "n_trs": N_RUNS * n_trs, "n_delays": len(DELAYS)}
    with tempfile.TemporaryDirectory(prefix="brainsim-bench-") as folder:
        store, told = Path(folder) / "store.zarr", Path(folder) / "told.json"
        _write(Store(store, "a"), n_features, n_trs)
        _warm(store)
        measured: dict[str, list[dict[str, float]]] = {"kernel": [], "torch product": [], "numpy product": []}
        for _ in range(1 if quick else N_REPEATS):
            for name, runs in measured.items():
                function = _measure_kernel if name == "kernel" else _measure_product
                first: tuple[Any, ...] = (store,) if name == "kernel" else (name.split()[0],)
                arguments = (*first, n_features, n_trs, device, told)
                runs.append(_measure(function, arguments, told, alone=not quick))
    for name, runs in measured.items():
        found |= {f"{name}, {key}": statistics.median(run[key] for run in runs) for key in runs[0]}
    for key in ("s", "cpu_s"):
        for product in ("torch product", "numpy product"):
            pairs = zip(measured["kernel"], measured[product], strict=True)
            found[f"kernel / {product}, {key}"] = statistics.median(ours[key] / theirs[key] for ours, theirs in pairs)
    return found


def _measure(function: Callable[..., None], arguments: tuple[Any, ...], told: Path, *, alone: bool) -> dict[str, float]:
    """Run a measurement, in a process of its own where its memory matters."""
    if alone:
        process = multiprocessing.get_context("spawn").Process(target=function, args=arguments)
        process.start()
        process.join()
        if process.exitcode:
            raise RuntimeError(f"{function.__name__} ended with {process.exitcode}")
    else:
        function(*arguments)
    measured: dict[str, float] = json.loads(told.read_text())
    return measured


def _write(store: Store, n_features: int, n_trs: int) -> None:
    rng = np.random.default_rng(0)
    end_s = np.arange(1.0, n_trs + 1)
    specs = {
        "values": ArraySpec((n_trs, n_features)),
        "time_s": ArraySpec((n_trs,), "float64"),
        "window_s": ArraySpec((n_trs, 2), "float64"),
    }
    for index in range(N_RUNS):
        with store.writer(_node(index), type="activations", key={"run": index}, arrays=specs) as writer:
            for start in range(0, n_trs, BATCH):
                n_rows = min(BATCH, n_trs - start)
                writer.append("values", rng.standard_normal((n_rows, n_features), dtype=np.float32))
            writer.append("time_s", end_s)
            writer.append("window_s", np.stack([end_s - 1, end_s], axis=1))
            writer.complete()


def _node(index: int) -> str:
    return f"activations/bench@00000001/wide/movie{index}"


def _warm(store: Path) -> None:
    """Read every file once, so that the disk is not what is measured."""
    for file in store.rglob("*"):
        if file.is_file():
            file.read_bytes()


def _measure_kernel(store: Path, n_features: int, n_trs: int, device: str, told: Path) -> None:
    names = [f"movie{index}" for index in range(N_RUNS)]
    nodes = {name: _node(index) for index, name in enumerate(names)}
    layer = LayerSource("bench", "wide", "bench", "bench@00000001", 0, n_features, nodes, ("",) * N_RUNS)
    group = SubjectGroup(tuple(RunTiming(name, name, TrGrid(n_trs, 1.0)) for name in names), ())
    begin_s, begin_cpu_s = time.perf_counter(), time.process_time()
    K = layer_kernel(Store(store), layer, group, KernelOptions(DELAYS, "zscore", device))
    seconds, cpu_s = time.perf_counter() - begin_s, time.process_time() - begin_cpu_s
    assert K.shape == (N_RUNS * n_trs,) * 2
    lines = Path("/proc/self/status").read_text().splitlines()
    peak_kib = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    told.write_text(json.dumps({"s": seconds, "cpu_s": cpu_s, "peak_gib": peak_kib / 2**20}))


def _measure_product(way: str, n_features: int, n_trs: int, device: str, told: Path) -> None:
    X = np.random.default_rng(0).standard_normal((N_RUNS * n_trs, n_features), dtype=np.float32)
    Xt = torch.from_numpy(X).to(device)
    small = Xt[:8, :64]
    (small @ small.T).cpu()
    begin_s, begin_cpu_s = time.perf_counter(), time.process_time()
    K = X @ X.T if way == "numpy" else (Xt @ Xt.T).cpu().numpy()
    seconds, cpu_s = time.perf_counter() - begin_s, time.process_time() - begin_cpu_s
    assert K.shape == (N_RUNS * n_trs,) * 2
    told.write_text(json.dumps({"s": seconds, "cpu_s": cpu_s}))
