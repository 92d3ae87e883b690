"""Tables of results: names instead of numbers, each number once and where it belongs, subjects below one another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import brainsim
from brainsim import read_tables, store_export
from brainsim.core.errors import AlignmentError, InvalidValueError, UnknownNameError
from brainsim.core.seeds import named_rng
from brainsim.store import Store

N = 6
RUNS, FAMILIES = ["run-1", "run-2"], ["static", "flow"]
SUBSETS = [["static"], ["flow"], ["static", "flow"]]
AFFINE = [[-2.0, 0.0, 0.0, 90.0], [0.0, 2.0, 0.0, -126.0], [0.0, 0.0, 2.0, -72.0], [0.0, 0.0, 0.0, 1.0]]
MEMBERS = np.array([[1, 1, 0, 0, 0, 0], [0, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 0]], np.uint8)
STREAMS = {"early": ["V1", "V2"], "lateral": ["MT"]}


def draw(subject: str, *shape: int) -> np.ndarray:
    return named_rng(0, f"tables {subject} {shape}").standard_normal(shape).astype(np.float32)


def write_targets(store: Store, subject: str, *, n: int = N) -> None:
    ijk = np.arange(3 * n).reshape(n, 3).astype(np.int32)
    store.write(
        f"rois/mine/{subject}", type="targets", key={"n": n, "subject": subject}, overwrite=True,
        arrays={"ijk": ijk, "membership": np.resize(MEMBERS, (3, n)) if n != N else MEMBERS},
        attributes={"dataset": "mine", "subject": subject, "roi_names": ["V1", "V2", "MT"], "streams": STREAMS,
                    "affine": AFFINE, "volume_shape": [20, 20, 20], "space": "native", "n_targets": n},
    )  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    store = Store(tmp_path / "s.zarr", "a")
    layers = [{"model": "net", "layer": layer, "index": i, "family": "static"} for i, layer in enumerate(["a", "b"])]
    for subject in ("sub-01", "sub-02"):
        write_targets(store, subject)
        told = {"folds": RUNS, "roi_names": ["V1", "V2", "MT"], "streams": STREAMS, "layers": layers,
                "sources": [f"rois/mine/{subject}", f"bold/mine/{subject}/run-1"]}  # fmt: skip
        r2 = draw(subject, N)
        r2[-1] = np.nan
        store.write(
            f"fits/all/mine/{subject}", type="fit", key={"subject": subject}, attributes=told,
            arrays={"r2": r2, "r": r2**2, "r2_folds": draw(subject, 2, N), "layer_r2": draw(subject, 2, N),
                    "predicted": draw(subject, 9, N), "band_predicted": draw(subject, 9, 1, N),
                    "stream_r2_folds": draw(subject, 2, 2)},
        )  # fmt: skip
        store.write(
            f"partitions/all/mine/{subject}", type="partition", key={"subject": subject},
            attributes={**told, "families": FAMILIES, "subsets": SUBSETS, "parts": SUBSETS},
            arrays={"subset_r2": draw(subject, 3, N), "unique": draw(subject, 2, N), "parts": draw(subject, 3, N),
                    "roi_subset_r2": draw(subject, 3, 3, 2)},
        )  # fmt: skip
    rows = [
        {"stream": stream, "families": some, "mean": 0.1, "low": None, "subjects": [0.05 * k, 0.15]}
        for stream in STREAMS
        for k, some in enumerate(SUBSETS)
    ]
    store.write(
        "partitions/all/mine/group", type="partition-group", key={}, arrays={},
        attributes={"parts": rows, "families": FAMILIES, "subjects": ["sub-01", "sub-02"], "warnings": []},
    )  # fmt: skip
    return store.path


def test_targets_have_places_regions_and_scores(path: Path) -> None:
    table = read_tables("fits/all", store=path)["targets"]
    assert list(table.columns) == [
        "name", "dataset", "subject", "target", "i", "j", "k", "x_mm", "y_mm", "z_mm", "rois", "streams", "r2", "r",
    ]  # fmt: skip
    assert table["subject"].tolist() == ["sub-01"] * N + ["sub-02"] * N
    second = table[table["subject"] == "sub-02"].reset_index(drop=True)
    assert second["target"].tolist() == list(range(N))
    assert second.loc[1, ["i", "j", "k", "x_mm", "y_mm", "z_mm"]].tolist() == [3, 4, 5, 84.0, -118.0, -62.0]
    assert second["rois"].fillna("").tolist() == ["V1", "V1;V2", "V2", "MT", "MT", ""]
    assert second["streams"].fillna("").tolist() == ["early", "early", "early", "lateral", "lateral", ""]
    stored = Store(path).read("fits/all/mine/sub-02", "r2")
    np.testing.assert_array_equal(second["r2"].to_numpy(), stored)


def test_several_numbers_of_a_target_are_columns_with_names(path: Path) -> None:
    tables = read_tables("fits/all/mine/sub-01", store=path)
    assert "targets_predicted" not in tables  # over time: maps and npy have it
    assert "targets_band_predicted" not in tables
    stored = Store(path).read("fits/all/mine/sub-01", "layer_r2")
    np.testing.assert_array_equal(tables["targets_layer_r2"][["net/a", "net/b"]].to_numpy(), stored.T)
    partition = read_tables("partitions/all", store=path)
    wide, long = partition["targets_parts"], partition["parts"]
    assert list(wide.columns[4:]) == ["static", "flow", "static+flow"]
    assert len(wide) == 2 * N
    assert list(long.columns) == [
        "name", "dataset", "stream", "families", "mean", "low", "subject_sub-01", "subject_sub-02",
    ]  # fmt: skip
    assert long["families"].tolist() == ["static", "flow", "static+flow"] * 2
    assert long["subject_sub-01"].tolist() == [0.0, 0.05, 0.1] * 2


def test_arrays_without_targets_are_long(path: Path) -> None:
    table = read_tables("partitions/all/mine/sub-02", store=path)["roi_subset_fold"]
    assert len(table) == 3 * 3 * 2
    stored = Store(path).read("partitions/all/mine/sub-02", "roi_subset_r2")
    row = table[(table["roi"] == "MT") & (table["subset"] == "static+flow") & (table["fold"] == "run-2")]
    assert row["roi_subset_r2"].tolist() == [stored[2, 2, 1]]
    streams = read_tables("fits", store=path)["stream_fold"]
    assert streams[streams["subject"] == "sub-01"]["stream"].tolist() == ["early", "early", "lateral", "lateral"]


def test_only_chosen_tables_are_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    original = Store.read
    monkeypatch.setattr(
        Store, "read", lambda self, path, name, *a: (read.append(name), original(self, path, name, *a))[1]
    )
    tables = read_tables("partitions/all", store=path, tables=["targets_unique", "parts"])
    assert set(tables) == {"targets_unique", "parts"}
    assert read == ["unique", "unique"]
    with pytest.raises(UnknownNameError, match="unknown table 'targets_uniqe'"):
        read_tables("partitions/all", store=path, tables=["targets_uniqe"])


def test_tables_of_a_result_whose_targets_are_others_now_are_refused(path: Path, tmp_path: Path) -> None:
    write_targets(Store(path, "a"), "sub-02", n=4)
    with pytest.raises(AlignmentError, match="6 targets and was made before rois/mine/sub-02"):
        read_tables("fits/all", store=path)
    with pytest.raises(AlignmentError):
        store_export("fits/all", tmp_path / "out", store=path, format="tsv")
    assert not (tmp_path / "out").exists()


def test_tables_are_of_results(path: Path) -> None:
    Store(path, "a").write("mixed/x", type="own", key={}, arrays={"a": np.zeros(3)}, attributes={})
    with pytest.raises(InvalidValueError, match=r"'mixed' holds none \(own\)"):
        read_tables("mixed", store=path)
    with pytest.raises(UnknownNameError, match="has the path 'fitts'"):
        read_tables("fitts", store=path)
    assert "read_tables" in dir(brainsim)


def test_exported_tables_are_those_that_are_read(path: Path, tmp_path: Path) -> None:
    planned = store_export("partitions/all", tmp_path / "out", store=path, format="tsv", dry_run=True)
    done = store_export("partitions/all", tmp_path / "out", store=path, format="tsv")
    assert planned.nodes == done.nodes
    for node in done.nodes:
        there = {file.relative_to(tmp_path / "out").as_posix() for file in (tmp_path / "out" / node["node"]).iterdir()}
        assert there == {*node["files"], f"{node['node']}/node.json"}
        for name, table in read_tables(node["node"], store=path).items():
            file = tmp_path / "out" / node["node"] / f"{name}.tsv"
            pd.testing.assert_frame_equal(pd.read_csv(file, sep="\t"), table, check_dtype=False, rtol=1e-6)
    text = (tmp_path / "out" / "partitions/all/mine/group/parts.tsv").read_text().splitlines()
    assert text[1].split("\t") == ["all", "mine", "early", "static", "0.1", "n/a", "0.0", "0.15"]
