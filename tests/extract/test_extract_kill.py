"""An extraction that is killed in the middle is continued by the same command, to the same bits."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from brainsim.commands.extract import extract
from brainsim.stimuli import render_moving_photographs, write_video
from brainsim.store import Store

# Kills itself when as many clips as the last argument says are done.
SCRIPT = """
import os, signal, sys
from contextlib import contextmanager
from brainsim.commands.extract import extract
from brainsim.core.progress import SilentProgress

class Deadly(SilentProgress):
    left = int(sys.argv[-1])

    @contextmanager
    def task(self, label, *, total=None, unit=""):
        yield self

    def advance(self, n=1):
        Deadly.left -= n
        if Deadly.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def set_total(self, total):
        pass

models = ["pixels", "frame-difference"]
extract(sys.argv[2:-1], models=models, step_s=0.25, batch_size=4, store=sys.argv[1], progress=Deadly())
"""


@pytest.fixture
def movies(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"run-{run}.mp4" for run in (1, 2)]
    for run, path in enumerate(paths):
        write_video(path, render_moving_photographs(0, run, duration_s=6, fps_hz=12, width=64, height=48), 12)
    return paths


@pytest.mark.parametrize("after_clips", [20, 70])
def test_killed_in_the_middle_and_run_again_gives_the_same_bits(
    movies: list[Path], tmp_path: Path, after_clips: int
) -> None:
    store = tmp_path / "killed.zarr"
    words = [sys.executable, "-c", SCRIPT, str(store), *map(str, movies), str(after_clips)]
    killed = subprocess.run(words, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    whole = len(Store(store).nodes("activations"))
    assert whole == (0 if after_clips == 20 else 2)  # the first movie has 48 clips of two models
    options = {"models": ["pixels", "frame-difference"], "step_s": 0.25, "batch_size": 4}
    again = extract(movies, store=store, **options)  # type: ignore[arg-type]  # by keyword
    assert (again.n_nodes_reused, again.n_nodes_written) == (whole, 4 - whole)
    extract(movies, store=tmp_path / "undisturbed.zarr", **options)  # type: ignore[arg-type]  # by keyword
    first, second = Store(store), Store(tmp_path / "undisturbed.zarr")
    assert [i.path for i in first.nodes()] == [i.path for i in second.nodes()]
    for info in first.nodes():
        for array in info.arrays:
            a, b = first.read(info.path, array), second.read(info.path, array)
            np.testing.assert_array_equal(a.view(np.uint8), b.view(np.uint8))
    assert first.verify() == []
