"""An extraction that broke off goes on at the clip: little is computed again, and the bits are the same."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brainsim.commands import extract_run
from brainsim.commands.extract import extract
from brainsim.compute.threads import torch_threads
from brainsim.core.errors import StoreError
from brainsim.stimuli import render_moving_photographs, write_video
from brainsim.store import Store, layout

CHUNK_ROWS, BATCH = 7, 4
N_CLIPS = 60
# Random masks are drawn clip by clip: the one state that a run carries from clip to clip.
OPTIONS: dict[str, Any] = {
    "models": ["frame-difference", "mae-base-tiny"],
    "layers": ["grid", "*0*", "*1*"],
    "protocol": "study",
    "step_s": 0.1,
    "batch_size": BATCH,
}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "CHUNK_ROWS", CHUNK_ROWS)
    monkeypatch.setattr(layout, "MIN_CHUNK_BYTES", 1)


@pytest.fixture(scope="module")
def movie(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("movies") / "run.mp4"
    write_video(path, render_moving_photographs(0, 0, duration_s=6, fps_hz=12, width=64, height=48), 12)
    return path


class Stop(Exception):
    pass


def count_batches(patch: pytest.MonkeyPatch, *, stop_after: int | None = None) -> list[tuple[str, int]]:
    """Note model and first clip of every batch that is computed; break off before the one after `stop_after`."""
    compute, seen = extract_run._compute, []

    def watched(job: Any, batch: Any, *rest: Any) -> Any:
        if len(seen) == stop_after:
            raise Stop
        seen.append((job.row.name, batch.first))
        return compute(job, batch, *rest)

    patch.setattr(extract_run, "_compute", watched)
    return seen


def contents(path: Path) -> dict[str, bytes]:
    box = Store(path)
    return {f"{info.path}:{a}": box.read(info.path, a).tobytes() for info in box.nodes() for a in info.arrays}


@pytest.mark.parametrize("n_batches", [0, 3, 17, 29])
def test_only_the_last_chunk_is_computed_again(movie: Path, tmp_path: Path, n_batches: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        done = count_batches(patch, stop_after=n_batches)
        with pytest.raises(Stop):
            extract(movie, store=tmp_path / "broken.zarr", **OPTIONS)
    assert Store(tmp_path / "broken.zarr").nodes("activations") == []
    with pytest.MonkeyPatch.context() as patch:
        again = count_batches(patch)
        summary = extract(movie, store=tmp_path / "broken.zarr", **OPTIONS)
    assert summary.n_nodes_written == len(Store(tmp_path / "broken.zarr").nodes("activations"))
    for model in OPTIONS["models"]:
        n_done = BATCH * sum(name == model for name, _ in done)
        first = min(clip for name, clip in again if name == model)
        assert first % BATCH == 0
        # One chunk, the batch that its rows end in, and the batch that was on its way when it broke off.
        assert n_done - CHUNK_ROWS - 2 * BATCH < first <= n_done
    extract(movie, store=tmp_path / "undisturbed.zarr", **OPTIONS)
    assert contents(tmp_path / "broken.zarr") == contents(tmp_path / "undisturbed.zarr")
    assert Store(tmp_path / "broken.zarr").verify() == []


def test_a_run_that_broke_off_at_the_last_mark_computes_nothing(
    movie: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from brainsim.commands.extract_writing import JobWriter

    def refuse(_: JobWriter) -> None:
        raise Stop

    options = OPTIONS | {"step_s": 0.1, "models": ["frame-difference"], "layers": ["grid"]}
    with monkeypatch.context() as patch:
        patch.setattr(layout, "CHUNK_ROWS", 6)  # whole chunks, to the last row
        patch.setattr(JobWriter, "complete", refuse)
        with pytest.raises(Stop):
            extract(movie, store=tmp_path / "s.zarr", **options)
    monkeypatch.setattr(layout, "CHUNK_ROWS", 6)
    seen = count_batches(monkeypatch)
    extract(movie, store=tmp_path / "s.zarr", **options)
    assert seen == []
    extract(movie, store=tmp_path / "undisturbed.zarr", **options)
    assert contents(tmp_path / "s.zarr") == contents(tmp_path / "undisturbed.zarr")


def test_overwriting_goes_on_from_nothing(movie: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        count_batches(patch, stop_after=20)
        with pytest.raises(Stop):
            extract(movie, store=tmp_path / "s.zarr", **OPTIONS)
    with pytest.MonkeyPatch.context() as patch:
        seen = count_batches(patch)
        extract(movie, store=tmp_path / "s.zarr", overwrite=True, **OPTIONS)
    assert len(seen) == 2 * N_CLIPS / BATCH


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"batch_size": 3}, "batch_size was 4, is 3"),
        ({"machine": "cpu (OTHER)"}, r"device was 'cpu \(OTHER\)', is 'cpu"),
    ],
)
def test_what_was_begun_with_other_batches_or_elsewhere_is_begun_again_and_told(
    movie: Path, tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    from brainsim.commands import extract_writing

    machine, changed = change.get("machine"), {k: v for k, v in change.items() if k != "machine"}
    with pytest.MonkeyPatch.context() as patch:
        count_batches(patch, stop_after=20)
        if machine is not None:
            patch.setattr(extract_writing, "name_device", lambda _: machine)
        with pytest.raises(Stop):
            extract(movie, store=tmp_path / "broken.zarr", **OPTIONS)
    with pytest.MonkeyPatch.context() as patch:
        again = count_batches(patch)
        summary = extract(movie, store=tmp_path / "broken.zarr", **(OPTIONS | changed))
    assert min(clip for _, clip in again) == 0
    (warning,) = [text for text in summary.warnings if "start again" in text and "mae" in text]
    assert re.search(rf"mae-base-tiny on run: 4 layers .* begun otherwise \({told}", warning), warning
    extract(movie, store=tmp_path / "undisturbed.zarr", **(OPTIONS | changed))
    assert contents(tmp_path / "broken.zarr") == contents(tmp_path / "undisturbed.zarr")


def test_an_error_while_writing_ends_the_extraction_with_that_error(
    movie: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    from brainsim.store import writer

    put, left = writer.put, [40_000]

    def put_until_full(path: str, partial: str, *parts: bytes) -> int:
        left[0] -= sum(memoryview(part).nbytes for part in parts)
        if left[0] < 0:
            Path(partial).write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        return put(path, partial, *parts)

    with monkeypatch.context() as patch:
        patch.setattr(writer, "put", put_until_full)
        with pytest.raises(StoreError, match="no space for writing node 'activations/"):
            extract(movie, store=tmp_path / "s.zarr", **OPTIONS)
    assert Store(tmp_path / "s.zarr").verify() == []
    assert Store(tmp_path / "s.zarr").nodes("activations") == []
    extract(movie, store=tmp_path / "s.zarr", **OPTIONS)
    extract(movie, store=tmp_path / "undisturbed.zarr", **OPTIONS)
    assert contents(tmp_path / "s.zarr") == contents(tmp_path / "undisturbed.zarr")


# Inside user and mount namespaces of its own, where it may mount a file system of 3 MiB.
FULL_DISK = """
import subprocess, sys
from pathlib import Path
import numpy as np
from brainsim.commands import extract_run
from brainsim.commands.extract import extract
from brainsim.core.errors import StoreError
from brainsim.store import Store, layout

movie, disk = map(Path, sys.argv[1:3])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(disk)], check=True)
layout.CHUNK_ROWS, layout.MIN_CHUNK_BYTES = 7, 1
compute, n_batches = extract_run._compute, 0

def fill_disk(*arguments):
    global n_batches
    n_batches += 1
    if n_batches == 8:  # another program takes what is left
        with open(disk / "other", "wb", buffering=0) as other:
            try:
                while other.write(bytes(4096)):
                    pass
            except OSError:
                pass
    return compute(*arguments)

options = {"models": ["pixels", "frame-difference"], "step_s": 0.1, "batch_size": 4, "store": disk / "s.zarr"}
extract_run._compute = fill_disk
try:
    extract(movie, **options)
except StoreError as error:
    print(error)
extract_run._compute = compute
print(Store(disk / "s.zarr").verify(), [info.path for info in Store(disk / "s.zarr").nodes("activations")])
(disk / "other").unlink()
extract(movie, **options)
box = Store(disk / "s.zarr")
print(box.verify(), len(box.nodes("activations")))
extract(movie, **options | {"store": disk / "whole.zarr"})
other = Store(disk / "whole.zarr")
print(all(box.read(i.path, a).tobytes() == other.read(i.path, a).tobytes() for i in other.nodes() for a in i.arrays))
"""


def test_a_disk_that_fills_up_is_a_named_error_and_the_store_valid(movie: Path, tmp_path: Path) -> None:
    namespaces = ["unshare", "-Urm", "--"]
    try:
        subprocess.run([*namespaces, "mount", "-t", "tmpfs", "none", str(tmp_path)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file system can be mounted here")
    (tmp_path / "disk").mkdir()
    words = [*namespaces, sys.executable, "-c", FULL_DISK, str(movie), str(tmp_path / "disk")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, *rest = done.stdout.splitlines()
    assert first.startswith("no space for writing node 'activations/")
    assert rest == ["[] []", "[] 2", "True"]


@pytest.mark.slow
def test_killed_at_random_instants_it_ends_with_the_same_bits(root_dir: Path) -> None:
    """A few of the 50 rounds of `python -m benchmarks.faults.killed`."""
    if not (root_dir / "benchmarks").is_dir():
        pytest.skip("the benchmarks are not part of an installation")
    words = [sys.executable, "-m", "benchmarks.faults.killed", "--rounds", "5"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=root_dir)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("the same bits each time\n")


def test_chunks_in_the_test_are_as_small_as_meant(movie: Path, tmp_path: Path) -> None:
    extract(movie, store=tmp_path / "s.zarr", **OPTIONS)
    info = Store(tmp_path / "s.zarr").nodes("activations/*/*/run")[0]
    chunks = list((tmp_path / "s.zarr" / info.path / "values/c").iterdir())
    assert len(chunks) == np.ceil(N_CLIPS / CHUNK_ROWS)


def test_batches_side_by_side_give_the_bits_of_one_after_the_other(movie: Path, tmp_path: Path) -> None:
    """Several models at once, broken off and gone on with; each batch by one thread, whatever their number."""
    options = OPTIONS | {"models": ["frame-difference", "mae-base-tiny", "videomae-base-tiny"], "protocol": "default"}
    at_work: list[int] = []
    compute, busy, lock = extract_run._compute, [0], threading.Lock()

    def counted(*arguments: Any) -> Any:
        with lock:
            busy[0] += 1
            at_work.append(busy[0])
        try:
            return compute(*arguments)
        finally:
            with lock:
                busy[0] -= 1

    for name, n_threads in (("one", 1), ("two", 2), ("three", 3)):
        at_work.clear()
        with torch_threads(n_threads), pytest.MonkeyPatch.context() as patch:
            patch.setattr(extract_run, "_compute", counted)
            extract(movie, store=tmp_path / f"{name}.zarr", **options)
        assert max(at_work) == n_threads
    with torch_threads(3):
        with pytest.MonkeyPatch.context() as patch:
            count_batches(patch, stop_after=11)
            with pytest.raises(Stop):
                extract(movie, store=tmp_path / "broken.zarr", **options)
        extract(movie, store=tmp_path / "broken.zarr", **options)
    expected = contents(tmp_path / "one.zarr")
    for name in ("two", "three", "broken"):
        assert contents(tmp_path / f"{name}.zarr") == expected


def test_models_that_must_run_in_order_do(movie: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random masks are drawn clip by clip."""
    with torch_threads(1):
        extract(movie, store=tmp_path / "one.zarr", **OPTIONS)
    with torch_threads(3):
        seen = count_batches(monkeypatch)
        extract(movie, store=tmp_path / "three.zarr", **OPTIONS)
    masked = [first for name, first in seen if name == "mae-base-tiny"]
    assert masked == sorted(masked)
    assert contents(tmp_path / "three.zarr") == contents(tmp_path / "one.zarr")
