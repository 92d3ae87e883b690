"""Extraction on workers of a cluster gives the bits of extraction in one process, also when a worker is killed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from brainsim.commands import extract_tasks
from brainsim.commands.extract import extract
from brainsim.commands.extract_options import ExtractOptions
from brainsim.commands.extract_tasks import ExtractTask, run_task
from brainsim.core.errors import InputFileError, InvalidValueError
from brainsim.core.progress import SilentProgress
from brainsim.stimuli import render_moving_photographs, write_video
from brainsim.store import Store

OPTIONS: dict[str, Any] = {"models": ["pixels", "frame-difference"], "step_s": 0.25, "sketch_error": 0.9}


@pytest.fixture
def movies(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"run-{run}.mp4" for run in (1, 2)]
    for run, path in enumerate(paths):
        write_video(path, render_moving_photographs(0, run, duration_s=6, fps_hz=12, width=64, height=48), 12)
    return paths


def contents(path: Path) -> dict[str, bytes]:
    box = Store(path)
    return {f"{info.path}:{a}": box.read(info.path, a).tobytes() for info in box.nodes() for a in info.arrays}


@dataclass
class Bar:
    """Counts."""

    total: float | None
    done: float = 0

    def advance(self, n: float = 1) -> None:
        self.done += n

    def set_total(self, total: float) -> None:
        self.total = total


class Listener(SilentProgress):
    """Remembers warnings, and how far each bar went."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.bars: dict[str, Bar] = {}

    @contextmanager
    def task(self, label: str, *, total: float | None = None, unit: str = "") -> Iterator[Bar]:
        self.bars[label] = Bar(total)
        yield self.bars[label]

    def warn(self, message: str) -> None:
        self.warnings.append(message)


def kill_a_writer(path: Path, killed: threading.Event, over: threading.Event) -> None:
    """Kill the worker when it has begun a node."""
    while not over.wait(0.002):
        if (path / "zarr.json").exists() and Store(path).nodes("activations", complete=False):
            for process in psutil.Process().children(recursive=True):
                if "spawn_main" in " ".join(process.cmdline()):
                    process.kill()
                    killed.set()
                    return


@pytest.mark.slow
def test_a_worker_killed_in_mid_extraction_costs_its_task_only(movies: list[Path], tmp_path: Path) -> None:
    options = {"models": ["mae-base-tiny"], "step_s": 0.02, "protocol": "study", "batch_size": 2}
    killed, over, listener = threading.Event(), threading.Event(), Listener()
    watch = threading.Thread(target=kill_a_writer, args=(tmp_path / "killed.zarr", killed, over))
    watch.start()
    try:
        extract(
            movies, store=tmp_path / "killed.zarr", cluster="local", n_workers=1,
            cluster_options=["cores_per_worker=1", "memory_per_worker=2 GB"], progress=listener, **options,
        )  # type: ignore[arg-type]  # by keyword  # fmt: skip
    finally:
        over.set()
        watch.join()
    assert killed.is_set()
    assert any("the worker that ran mae-base-tiny on run-" in warning for warning in listener.warnings)
    extract(movies, store=tmp_path / "here.zarr", **options)  # type: ignore[arg-type]  # by keyword
    assert contents(tmp_path / "killed.zarr") == contents(tmp_path / "here.zarr")
    assert Store(tmp_path / "killed.zarr").verify() == []


def test_a_worker_that_sees_another_movie_refuses(movies: list[Path], tmp_path: Path) -> None:
    Store(tmp_path / "s.zarr", "a")
    options = ExtractOptions(
        layers=("*",), pool="none", dtype="float32", step_s=1.0, clip_window="trailing", resize="crop",
        protocol="default", tap=None, checkpoint=None, random_weights=False, seed=0, device="cpu", batch_size=8,
        overwrite=False,
    )  # fmt: skip
    task = ExtractTask(tmp_path / "s.zarr", "pixels", {"path": movies[0], "name": "run-1"}, "other", options)
    assert task.label == "pixels on run-1"
    with pytest.raises(InputFileError, match=r"run-1.mp4 is another file for the worker than for who planned"):
        run_task(task)


def test_tasks_note_the_error_that_their_sketch_was_chosen_for(
    movies: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_here(tasks: list[ExtractTask], *_: Any) -> tuple[int, tuple[str, ...]]:
        return sum(run_task(task)[0] for task in tasks), ()

    monkeypatch.setattr(extract_tasks, "run_on_cluster", run_here)
    options: dict[str, Any] = {"models": ["mae-base-tiny"], "layers": ["*1*"], "step_s": 0.5, "sketch_error": 0.9}
    extract(movies, store=tmp_path / "there.zarr", cluster="local", **options)
    extract(movies, store=tmp_path / "here.zarr", **options)
    there, here = (
        [info.attributes["sketch"] for info in Store(tmp_path / name).nodes("activations")]
        for name in ("there.zarr", "here.zarr")
    )
    assert there == here
    assert {sketch["error"] for sketch in there} == {0.9}


@pytest.mark.parametrize("words", [{"cluster": "cloud"}, {"cluster": "local", "cluster_options": ["memory=1 GB"]}])
def test_words_that_no_cluster_knows_are_refused(movies: list[Path], tmp_path: Path, words: dict[str, Any]) -> None:
    with pytest.raises(InvalidValueError, match=r"--cluster is 'cloud'|--cluster-options has 'memory=1 GB'"):
        extract(movies, store=tmp_path / "s.zarr", **words, **OPTIONS)
    assert not (tmp_path / "s.zarr").exists()


def test_workers_write_the_bits_of_one_process_and_nothing_the_second_time(movies: list[Path], tmp_path: Path) -> None:
    listener = Listener()
    there = extract(
        movies, store=tmp_path / "there.zarr", cluster="local", n_workers=1,
        cluster_options=["cores_per_worker=1", "memory_per_worker=2 GB"], progress=listener, **OPTIONS,
    )  # fmt: skip
    assert listener.bars["clips of all tasks"] == Bar(there.n_clips, there.n_clips)
    here = extract(movies, store=tmp_path / "here.zarr", **OPTIONS)
    assert (there.n_nodes_written, there.bytes, there.feature_sets) == (4, here.bytes, here.feature_sets)
    assert contents(tmp_path / "there.zarr") == contents(tmp_path / "here.zarr")
    again = extract(movies, store=tmp_path / "there.zarr", cluster="local", n_workers=1, **OPTIONS)
    assert (again.n_nodes_written, again.n_nodes_reused) == (0, 4)
