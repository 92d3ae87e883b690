"""Fits that start together make each kernel once: one makes it, the others wait, and take over if it dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fit_store import write_activations, write_subject

from brainsim import fit, kernel, partition
from brainsim.commands import kernel_tasks, made_once
from brainsim.core.errors import NumericalError, StoreLockedError
from brainsim.core.progress import SilentProgress
from brainsim.store import ArraySpec, Store

RUNS, N_TRS = (1, 2, 3, 4), 24
FEW = {"dataset": "tiny", "n_candidates": 4, "delays": (1, 2), "alphas": (1.0, 100.0)}

# Makes kernels as brainsim does, but begins the first one only when it is told to.
OTHER = """
import sys, time
from pathlib import Path
from brainsim import partition
from brainsim.commands import kernel_tasks

store, folder = sys.argv[1], Path(sys.argv[2])
real = kernel_tasks.layer_kernel

def layer_kernel(opened, layer, group, options):
    (folder / "begun").touch()
    while not (folder / "go").exists():
        time.sleep(0.01)
    with (folder / "made").open("a") as file:
        file.write(layer.name + chr(10))
    return real(opened, layer, group, options)

kernel_tasks.layer_kernel = layer_kernel
partition("other", store=store, dataset="tiny", n_candidates=4, delays=(1, 2), alphas=(1.0, 100.0))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    store = Store(tmp_path / "s.zarr", "a")
    write_activations(store, runs=RUNS, n_trs=N_TRS)
    write_subject(store, "sub-01", runs=RUNS, n_trs=N_TRS, n_targets=6)
    return store.path


@contextmanager
def other_process(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start a partition of the same store that stops inside its first kernel."""
    process = subprocess.Popen([sys.executable, "-c", OTHER, str(path), str(path.parent)])
    try:
        deadline = time.monotonic() + 240
        while not (path.parent / "begun").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield process
    finally:
        process.kill()
        process.wait()


class Listener(SilentProgress):
    """Does something the first time that a wait is told."""

    def __init__(self, action: object) -> None:
        self.action, self.notes = action, []

    def note(self, message: str) -> None:
        self.notes.append(message)
        if len(self.notes) == 1:
            self.action()


def test_of_two_processes_one_makes_a_kernel_and_the_other_waits(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    real = kernel_tasks.layer_kernel
    monkeypatch.setattr(kernel_tasks, "layer_kernel", lambda *a: made.append(a[1].name) or real(*a))
    with other_process(path) as other:
        told = Listener((path.parent / "go").touch)
        fit("mine", store=path, progress=told, **FEW)
        assert other.wait(timeout=240) == 0
    assert told.notes[0] == "the kernel of cnn/layer0 is being made by another process; waiting for it."
    everything = made + (path.parent / "made").read_text().split()
    assert sorted(everything) == sorted(set(everything))  # each once, by either
    assert len(everything) == 6
    store = Store(path)
    assert store.has("fits/mine/tiny/sub-01")
    assert store.has("partitions/other/tiny/group")
    assert store.verify() == []
    assert store.nodes("kernels", complete=False) == []


def test_the_kernel_of_a_process_that_is_killed_is_taken_over(path: Path) -> None:
    with other_process(path) as other:
        told = Listener(lambda: os.kill(other.pid, signal.SIGKILL))
        done = partition("mine", store=path, progress=told, **FEW)
        assert other.wait(timeout=60) == -signal.SIGKILL
    assert len(told.notes) == 1
    assert done.n_nodes_written
    assert not (path.parent / "made").exists()
    assert Store(path).nodes("kernels", complete=False) == []


def test_a_process_that_never_ends_is_an_error_after_a_while(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made_once, "WAIT_S", 0.05)
    monkeypatch.setattr(made_once, "POLL_S", 0.01)
    planned = kernel(dataset="tiny", store=path, models=["mae"], bands="layer", dry_run=True)
    node = planned.kernels[0]["node"]
    store = Store(path, "a")
    with (
        store.writer(node, type="kernel", key={}, arrays={"K": ArraySpec((2, 2))}),
        pytest.raises(
            StoreLockedError, match=r"the kernel of mae/layer0 was waited for .* h: .*being written by process"
        ),
    ):
        kernel(dataset="tiny", store=path, models=["mae"], bands="layer")


def test_a_kernel_that_cannot_be_made_leaves_nothing_and_no_lock(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise NumericalError("cnn/layer0 is not finite.")

    with monkeypatch.context() as patch:
        patch.setattr(kernel_tasks, "layer_kernel", fail)
        with pytest.raises(NumericalError, match="not finite"):
            fit("mine", store=path, **FEW)
    assert Store(path).nodes("kernels", complete=None) == []
    assert fit("mine", store=path, **FEW).n_nodes_written == 1


@pytest.mark.slow
def test_on_a_cluster_workers_make_the_kernels_of_a_fit(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the command itself makes no kernel of a layer")

    monkeypatch.setattr(kernel_tasks, "layer_kernel", refuse)
    fit("mine", store=path, cluster="local", n_workers=2, **FEW)
    monkeypatch.undo()
    other = path.with_name("t.zarr")
    store = Store(other, "a")
    write_activations(store, runs=RUNS, n_trs=N_TRS)
    write_subject(store, "sub-01", runs=RUNS, n_trs=N_TRS, n_targets=6)
    fit("mine", store=other, **FEW)
    for info in Store(other).nodes("kernels"):
        assert (Store(path).read(info.path, "K") == Store(other).read(info.path, "K")).all()
