"""`ingest --figure`: the quality of what is in the store, in a file; a bad place is refused before anything is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ingest_trees import write_tree

from brainsim.commands.ingest import ingest
from brainsim.commands.report_sources import read_runs
from brainsim.core.errors import InputFileError, InvalidValueError
from brainsim.store import Store


@pytest.mark.parametrize(("name", "begins"), [("q.png", b"\x89PNG"), ("deep/q.svg", b"<?xml"), ("q.pdf", b"%PDF")])
def test_a_figure_is_written_of_each_kind_also_when_all_runs_are_there(
    tmp_path: Path, name: str, begins: bytes
) -> None:
    tree = write_tree(tmp_path / "tree")
    for _ in range(2):
        ingest(tree, dataset="d", store=tmp_path / "s.zarr", figure=tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(begins)
        (tmp_path / name).unlink()
    assert not list((tmp_path / name).parent.glob(".partial*"))


def test_scrubbed_trs_and_viewings_reach_the_report(tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "tree")
    (tree / "map.tsv").write_text("run\tstimulus\nrun-1\ta\nrun-2\ta\nrun-3\tb\n")
    done = ingest(tree, dataset="d", store=tmp_path / "s.zarr", scrub="fd>0.9", stimulus_map=tree / "map.tsv")
    store = Store(tmp_path / "s.zarr")
    runs = read_runs(store, {info.path: info for info in store.nodes("bold")}, "d")
    assert [q.n_repeats for q in runs] == [2, 1]
    assert [q.n_scrubbed for q in runs] == [row["n_scrubbed"] for row in done.qc]
    assert max(q.n_scrubbed or 0 for q in runs) > 0


def test_run_2_comes_before_run_10(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.zarr", "a")
    arrays = {"values": np.zeros((3, 2), np.float32), "valid": np.ones(2, np.uint8)}
    for subject, run in (("sub-10", 1), ("sub-2", 10), ("sub-2", 2)):
        store.write(f"bold/d/{subject}/run-{run}", type="bold", key={}, arrays=arrays, attributes={"tr_s": 2.0})
    runs = read_runs(store, {info.path: info for info in store.nodes("bold")}, "d")
    assert [(q.subject, q.run) for q in runs] == [("sub-2", "run-2"), ("sub-2", "run-10"), ("sub-10", "run-1")]


def test_places_where_no_figure_can_be_are_named(tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "tree")
    for wrong in ("quality.jpg", "quality", ""):
        with pytest.raises(InvalidValueError, match=r"end in \.png, \.svg or \.pdf") as refused:
            ingest(tree, dataset="d", store=tmp_path / "s.zarr", figure=wrong)
        assert refused.value.hint == "--figure quality.png"
    assert not (tmp_path / "s.zarr").exists()
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(InputFileError, match=r"q\.png cannot be written"):
        ingest(tree, dataset="d", store=tmp_path / "s.zarr", figure=tmp_path / "file/deep/q.png")
    assert not (tmp_path / "s.zarr").exists()
    planned = ingest(tree, dataset="other", store=tmp_path / "s.zarr", figure=tmp_path / "q.png", dry_run=True)
    assert planned.dry_run
    assert not (tmp_path / "q.png").exists()
