"""A worker killed in the middle of partition costs nothing but time: every array is, bit for bit, that of threads."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from brainsim.commands.partition import partition
from brainsim.core.progress import SilentProgress, Task
from brainsim.store import Store

N_RUNS, N_TRS, N_TARGETS = 4, 60, 120
FAMILIES = {"static": ("cnn",), "dynamic": ("flow",), "masked": ("mae",)}
OPTIONS: dict[str, Any] = {
    "dataset": "tiny",
    "alphas": (1.0, 10.0, 100.0, 1000.0),
    "n_candidates": 60,
    "device": "cpu",
    "n_targets_batch": 30,
}


def write_store(path: Path) -> Path:
    """Write activations of three models and two subjects that follow the first two of them."""
    store = Store(path, mode="a")
    rng = np.random.default_rng(7)
    runs = [f"movie{run}" for run in range(N_RUNS)]
    features = {(m, run): rng.standard_normal((N_TRS, 8)) for m in ("cnn", "flow", "mae") for run in runs}
    families = {model: family for family, models in FAMILIES.items() for model in models}
    for (model, run), values in features.items():
        end_s = np.arange(1.0, 2 * N_TRS + 1)
        store.write(
            f"activations/{model}@00000001/layer0/{run}",
            type="activations",
            key={"model": model, "run": run},
            arrays={
                "values": np.repeat(values, 2, axis=0).astype(np.float32),
                "time_s": end_s,
                "window_s": np.stack([end_s - 1, end_s], axis=1),
            },
            attributes={
                "model": model,
                "layer": "layer0",
                "layer_index": 0,
                "family": families[model],
                "stimulus": run,
            },
        )
    for subject in ("sub-01", "sub-02"):
        weights = {model: rng.standard_normal((8, N_TARGETS)) for model in ("cnn", "flow")}
        for run in runs:
            signal = np.roll(sum(features[model, run] @ weights[model] for model in weights), 2, axis=0)
            values = signal / signal.std() + rng.standard_normal(signal.shape)
            store.write(
                f"bold/tiny/{subject}/{run}",
                type="bold",
                key={"subject": subject, "run": run},
                arrays={
                    "values": ((values - values.mean(0)) / values.std(0)).astype(np.float32),
                    "valid": np.ones(N_TARGETS, np.uint8),
                },
                attributes={
                    "tr_s": 2.0,
                    "start_s": 0.0,
                    "stimulus": run,
                    "run": run,
                    "subject": subject,
                    "dataset": "tiny",
                },
            )
        half = np.arange(N_TARGETS) < N_TARGETS // 2
        store.write(
            f"rois/tiny/{subject}",
            type="targets",
            key={"subject": subject},
            arrays={
                "ijk": np.arange(N_TARGETS, dtype=np.int32)[:, None],
                "membership": np.stack([half, ~half]).astype(np.uint8),
            },
            attributes={
                "roi_names": ["V1", "V4"],
                "streams": {"early": ["V1"], "ventral": ["V4"]},
                "n_targets": N_TARGETS,
                "affine": None,
                "volume_shape": None,
                "space": "table",
            },
        )
    return path


class Killer(SilentProgress):
    """Progress that kills a worker process each time a task is done, until one is missed."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.n_done = 0
        self.n_killed = 0

    @contextmanager
    def task(self, label: str, *, total: float | None = None, unit: str = "") -> Iterator[Task]:
        """Watch the bar of tasks."""
        with super().task(label, total=total, unit=unit) as bar:
            yield _Watched(self) if unit == "tasks" else bar

    def warn(self, message: str) -> None:
        """Remember a warning."""
        self.warnings.append(message)

    def kill(self) -> None:
        """Kill one worker by the signal that the kernel uses when memory is short."""
        self.n_done += 1
        if any("died" in warning for warning in self.warnings):
            return
        workers = [p for p in psutil.Process().children(recursive=True) if "spawn_main" in " ".join(p.cmdline())]
        workers[0].kill()
        self.n_killed += 1


class _Watched:
    def __init__(self, killer: Killer) -> None:
        self.killer = killer

    def advance(self, n: float = 1) -> None:
        self.killer.kill()

    def set_total(self, total: float) -> None:
        return None


def results(path: Path) -> dict[tuple[str, str], bytes]:
    """Return the bytes of every array that partition wrote."""
    store = Store(path)
    nodes = [*store.nodes("partitions"), *store.nodes("kernels")]
    return {(node.path, name): store.read(node.path, name).tobytes() for node in nodes for name in node.arrays}


@pytest.mark.slow
def test_a_worker_killed_in_mid_partition_changes_no_bit(tmp_path: Path) -> None:
    undisturbed = write_store(tmp_path / "threads.zarr")
    disturbed = Path(shutil.copytree(undisturbed, tmp_path / "local.zarr"))
    partition("parts", store=undisturbed, families=FAMILIES, cluster="threads", **OPTIONS)
    killer = Killer()
    done = partition(
        "parts", store=disturbed, families=FAMILIES, cluster="local", n_workers=2, progress=killer, **OPTIONS
    )
    assert killer.n_killed >= 1
    assert sum("died; it is run again" in warning for warning in killer.warnings) >= 1
    assert killer.n_done >= 4
    expected, got = results(undisturbed), results(disturbed)
    assert expected.keys() == got.keys()
    assert [name for name, there in got.items() if there != expected[name]] == []
    assert done.n_nodes_written >= 2
    again = partition("parts", store=disturbed, families=FAMILIES, **OPTIONS)
    assert again.n_nodes_written == 0
