"""Damaged activations are repaired by the command that made them, which computes only what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from brainsim.commands import extract_run
from brainsim.commands.extract import extract
from brainsim.commands.store import store_verify
from brainsim.stimuli import render_moving_photographs, write_video
from brainsim.store import Store, layout

CHUNK_ROWS, BATCH = 7, 4
OPTIONS: dict[str, Any] = {
    "models": ["frame-difference"],
    "step_s": 0.1,
    "batch_size": BATCH,
}


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
