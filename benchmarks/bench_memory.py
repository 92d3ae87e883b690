"""Peak memory of a whole partition at 10,000 and 100,000 targets, and the time of a second run that finds all done."""

from __future__ import annotations

import json
import multiprocessing
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from brainsim.commands.partition import partition
from brainsim.store import ArraySpec, Store

N_RUNS, TR_S = 8, 1.0
N_FAMILIES, N_LAYERS, N_FEATURES = 9, 12, 64


def run(*, quick: bool, device: str) -> dict[str, Any]:
    """Measure at 3,600 TRs and 108 layer bands of 9 families, in a process of its own for each size."""
    sizes = (50, 100) if quick else (10_000, 100_000)
    n_trs = 30 if quick else 450
    found: dict[str, Any] = {"rows": N_RUNS * n_trs, "bands": N_FAMILIES * N_LAYERS}
    with tempfile.TemporaryDirectory(prefix="brainsim-bench-") as folder:
        for n_targets in sizes:
            store = Path(folder) / f"{n_targets}.zarr"
            context = multiprocessing.get_context("spawn")
            for step, function in (("write", _write_store), ("partition", _partition)):
                told = Path(folder) / f"{step}.json"
                process = context.Process(target=function, args=(store, n_targets, n_trs, device, told))
                process.start()
                process.join()
                if process.exitcode:
                    raise RuntimeError(f"{step} at {n_targets} targets ended with {process.exitcode}")
            measured = json.loads(told.read_text())
            found |= {f"{n_targets} targets: {key}": value for key, value in measured.items()}
    peaks = [found[f"{n_targets} targets: peak_gib"] for n_targets in sizes]
    return {**found, "ratio": peaks[1] / peaks[0]}


def _partition(store: Path, n_targets: int, n_trs: int, device: str, told: Path) -> None:
    """Partition with few mixtures and alphas: memory does not depend on how many there are."""
    options: dict[str, Any] = {
        "dataset": "bench",
        "store": store,
        "bands": "layer",
        "subsets": "leave-one-out",
        "alphas": (10.0, 100.0, 1000.0),
        "n_candidates": 1,
        "device": device,
    }
    started = time.monotonic()
    partition("bench", **options)
    first_s = time.monotonic() - started
    started = time.monotonic()
    partition("bench", **options)
    again_s = time.monotonic() - started
    peak_kib = next(
        int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")
    )
    told.write_text(json.dumps({"peak_gib": peak_kib / 2**20, "first_s": first_s, "second_run_s": again_s}))


def _write_store(path: Path, n_targets: int, n_trs: int, device: str, told: Path) -> None:
    """Write activations of all layers, and one subject's BOLD in blocks of rows."""
    store = Store(path, mode="a")
    rng = np.random.default_rng(0)
    end_s = np.arange(1.0, n_trs + 1)
    for run in range(N_RUNS):
        for family in range(N_FAMILIES):
            for layer in range(N_LAYERS):
                store.write(
                    f"activations/model{family}@00000001/layer{layer}/movie{run}",
                    type="activations",
                    key={"family": family, "layer": layer, "run": run},
                    arrays={
                        "values": rng.standard_normal((n_trs, N_FEATURES), dtype=np.float32),
                        "time_s": end_s,
                        "window_s": np.stack([end_s - 1, end_s], axis=1),
                    },
                    attributes={
                        "model": f"model{family}",
                        "layer": f"layer{layer}",
                        "layer_index": layer,
                        "family": f"family{family}",
                        "stimulus": f"movie{run}",
                    },
                )
        _write_run(store, rng, run, n_targets, n_trs)
    store.write(
        "rois/bench/sub-01",
        type="targets",
        key={"subject": "sub-01"},
        arrays={
            "ijk": np.arange(n_targets, dtype=np.int32)[:, None],
            "membership": (np.arange(n_targets) % 20 == np.arange(20)[:, None]).astype(np.uint8),
        },
        attributes={
            "roi_names": [f"roi-{i}" for i in range(20)],
            "streams": {"early": ["roi-0", "roi-1"], "ventral": [f"roi-{i}" for i in range(2, 20)]},
            "n_targets": n_targets,
            "affine": None,
            "volume_shape": None,
            "space": "table",
        },
    )


def _write_run(store: Store, rng: np.random.Generator, run: int, n_targets: int, n_trs: int) -> None:
    node = f"bold/bench/sub-01/run-{run}"
    attributes = {
        "tr_s": TR_S,
        "start_s": 0.0,
        "stimulus": f"movie{run}",
        "run": f"run-{run}",
        "subject": "sub-01",
        "dataset": "bench",
    }
    specs = {"values": ArraySpec((n_trs, n_targets)), "valid": ArraySpec((n_targets,), "uint8")}
    with store.writer(node, type="bold", key={"run": run}, arrays=specs, attributes=attributes) as writer:
        for start in range(0, n_trs, 50):
            n_rows = min(50, n_trs - start)
            writer.append("values", rng.standard_normal((n_rows, n_targets), dtype=np.float32))
        writer.append("valid", np.ones(n_targets, np.uint8))
        writer.complete()
