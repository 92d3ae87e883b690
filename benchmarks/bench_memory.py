"""Peak memory of a whole partition at 10,000 and 100,000 targets, and the time of a second run that finds all done."""

from __future__ import annotations

import json
import multiprocessing
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from brainsim.commands.fit import fit
from brainsim.commands.partition import partition
from brainsim.store import ArraySpec, Store

N_RUNS, TR_S = 8, 1.0
N_FAMILIES, N_LAYERS, N_FEATURES = 9, 12, 64


def run(*, quick: bool, device: str) -> dict[str, Any]:
    """Measure a partition of 896 TRs at 10,000 and 100,000 targets and a fit of 3,600 TRs, with 108 layer bands.

    Each in a process of its own, with as few mixtures and alphas as there can be: memory does not depend on how many.
    """
    cases = [(50, 30, "partition"), (100, 30, "partition")]
    if not quick:
        cases = [(10_000, 112, "partition"), (100_000, 112, "partition"), (10_000, 450, "fit")]
    found: dict[str, Any] = {"bands": N_FAMILIES * N_LAYERS}
    for n_targets, n_trs, verb in cases:
        with tempfile.TemporaryDirectory(prefix="brainsim-bench-") as folder:
            store, told = Path(folder) / "store.zarr", Path(folder) / "told.json"
            for function in (_write_store, _measure):
                arguments = (store, n_targets, n_trs, device, verb, told)
                process = multiprocessing.get_context("spawn").Process(target=function, args=arguments)
                process.start()
                process.join()
                if process.exitcode:
                    raise RuntimeError(f"{function.__name__} of {n_targets} targets ended with {process.exitcode}")
            name = f"{verb}, {N_RUNS * n_trs} TRs, {n_targets} targets: "
            found |= {name + key: value for key, value in json.loads(told.read_text()).items()}
    small, large = (found[f"partition, {N_RUNS * trs} TRs, {n} targets: peak_gib"] for n, trs, _ in cases[:2])
    return {**found, "ratio_of_targets": large / small}


def _measure(store: Path, n_targets: int, n_trs: int, device: str, verb: str, told: Path) -> None:
    options: dict[str, Any] = {
        "dataset": "bench",
        "store": store,
        "bands": "layer",
        "alphas": (10.0, 100.0, 1000.0),
        "time_budget": "0.001s",
        "device": device,
    }

    def command() -> None:
        if verb == "fit":
            fit("bench", layer_curves=False, **options)
        else:
            partition("bench", subsets="leave-one-out", **options)

    seconds = []
    for _ in range(2):
        started = time.monotonic()
        command()
        seconds.append(time.monotonic() - started)
    lines = Path("/proc/self/status").read_text().splitlines()
    peak_kib = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    told.write_text(json.dumps({"peak_gib": peak_kib / 2**20, "first_s": seconds[0], "second_run_s": seconds[1]}))


def _write_store(path: Path, n_targets: int, n_trs: int, device: str, verb: str, told: Path) -> None:
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
