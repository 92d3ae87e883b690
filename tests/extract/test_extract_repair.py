"""Damaged activations are repaired by the command that made them, which computes only what is missing."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from brainsim import store_import
from brainsim.cli.main import make_app
from brainsim.commands import extract_run
from brainsim.commands.extract import extract
from brainsim.commands.store import store_verify
from brainsim.core.seeds import named_rng
from brainsim.stimuli import render_moving_photographs, write_video
from brainsim.store import Store, layout

CHUNK_ROWS, BATCH = 7, 4
OPTIONS: dict[str, Any] = {
    "models": ["frame-difference"],
    "step_s": 0.1,
    "batch_size": BATCH,
}


def run_printed(command: str) -> None:
    """Run a command just as it is printed."""
    words = shlex.split(command)
    assert words[0] == "brainsim"
    done = CliRunner().invoke(make_app(), words[1:])
    assert done.exit_code == 0, done.output


def chunks(store: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in store.rglob("*") if file.is_file() and "/c/" in str(file)}


@pytest.mark.parametrize(
    "options",
    [
        # More digits than a short form shows, everything drawn at random, and what the key leaves out.
        {
            "models": ["mae-base-tiny"], "random_weights": True, "seed": 3, "sketch_error": 0.5, "layers": ["*1*"],
            "protocol": "study", "step_s": 0.123456789, "dtype": "float16", "pad": "drop", "clip_window": "centred",
        },
        {"models": ["frame-difference"], "sketch": 16, "seed": 5, "step_s": 0.1},
    ],
)  # fmt: skip
def test_the_command_that_a_repair_prints_makes_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    monkeypatch.setattr(layout, "CHUNK_ROWS", CHUNK_ROWS)
    monkeypatch.setattr(layout, "MIN_CHUNK_BYTES", 1)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    movie = Path("run 1.mp4")
    write_video(movie, render_moving_photographs(0, 0, duration_s=4, fps_hz=12, width=64, height=48), 12)
    extract(movie, store="s.zarr", names=["watched"], batch_size=3, **options)
    node = Store("s.zarr").nodes("activations")[0].path
    before = chunks(Path("s.zarr").absolute())
    (Path("s.zarr") / node / "values/c/1/0").unlink()
    (repair,) = store_verify("s.zarr", repair=True).repairs
    left = [file for file in chunks(Path("s.zarr")) if node in str(file) and "values" in file.parts]
    assert [file.parts[-2:] for file in left] == [("0", "0")]  # what is behind the gap is made again
    monkeypatch.chdir(tmp_path)
    run_printed(repair["rerun"])
    assert chunks(tmp_path / "work/s.zarr") == before
    assert store_verify(tmp_path / "work/s.zarr").ok


def test_the_command_for_an_array_says_how_it_was_read(tmp_path: Path) -> None:
    frames = named_rng(0, "frames").random((24, 20, 30)).astype(np.float32) * 7
    np.save(tmp_path / "run.npy", frames)
    words: dict[str, Any] = {"frame_s": 1 / 24, "axes": "txy", "value_range": (-0.5, 7.25), "models": ["pixels"]}
    extract(tmp_path / "run.npy", store=tmp_path / "s.zarr", step_s=0.25, **words)
    before = chunks(tmp_path / "s.zarr")
    node = Store(tmp_path / "s.zarr").nodes("activations")[0].path
    (tmp_path / "s.zarr" / node / "values/c/0/0").unlink()
    (repair,) = store_verify(tmp_path / "s.zarr", repair=True).repairs
    run_printed(repair["rerun"])
    assert chunks(tmp_path / "s.zarr") == before


def test_the_command_for_an_imported_layer_imports_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("made elsewhere.npz", **{"block[0]": named_rng(0, "X").random((12, 5)), "names": np.array(["a"] * 12)})
    store_import(
        [Path("made elsewhere.npz")], model="clip", stimulus="run", store="s.zarr", layers=["block*"], names=["early"],
        step_s=0.1234567891, start_s=-0.5, dtype="bfloat16", family="other",
    )  # fmt: skip
    before = chunks(tmp_path / "s.zarr")
    node = Store("s.zarr").nodes("activations")[0].path
    (tmp_path / "s.zarr" / node / "values/c/0/0").unlink()
    (repair,) = store_verify("s.zarr", repair=True).repairs
    assert repair["n_kept"] == 0
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    run_printed(repair["rerun"])
    assert chunks(tmp_path / "s.zarr") == before


def test_extract_makes_again_just_what_a_repair_found_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "CHUNK_ROWS", CHUNK_ROWS)
    monkeypatch.setattr(layout, "MIN_CHUNK_BYTES", 1)
    movie = tmp_path / "run.mp4"
    write_video(movie, render_moving_photographs(0, 0, duration_s=2, fps_hz=12, width=64, height=48), 12)
    extract(movie, store=tmp_path / "s.zarr", **OPTIONS)
    store = Store(tmp_path / "s.zarr")
    nodes = [info.path for info in store.nodes("activations")]
    before = {file: file.read_bytes() for file in store.path.rglob("*") if file.is_file() and "/c/" in str(file)}
    damaged = store.path / nodes[0] / "values/c/1/0"
    damaged.write_bytes(damaged.read_bytes()[:-1])

    found = store_verify(store.path, repair=True)
    assert [(row["node"], row["done"]) for row in found.repairs] == [(nodes[0], "unfinished")]
    assert f"brainsim extract {movie} --models frame-difference --protocol default" in found.repairs[0]["rerun"]

    seen: list[int] = []
    compute = extract_run._compute

    def watched(job: Any, batch: Any, *rest: Any) -> Any:
        seen.append(batch.first)
        return compute(job, batch, *rest)

    monkeypatch.setattr(extract_run, "_compute", watched)
    done = extract(movie, store=tmp_path / "s.zarr", **OPTIONS)
    assert done.n_nodes_written == 1
    assert min(seen) == CHUNK_ROWS // BATCH * BATCH  # nothing before the batch that the chunk begins in
    assert {file: file.read_bytes() for file in before} == before
    assert store_verify(store.path).ok
