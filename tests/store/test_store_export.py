"""Exported nodes: the same numbers, in files that other programs open; axes keep their names."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from brainsim import store_export
from brainsim.core.errors import InvalidValueError, MissingDependencyError, StoreDamageError, UnknownNameError
from brainsim.core.seeds import named_rng
from brainsim.store import Store

NODE, FIT = "activations/m@0a1b2c3d/layer1/run-1", "fits/a/movie/sub-01"
X = named_rng(0, "export").standard_normal((40, 6)).astype(np.float32)
R2 = named_rng(1, "export").standard_normal(9).astype(np.float32)
FOLDS = named_rng(2, "export").standard_normal((3, 9)).astype(np.float32)
BAND = named_rng(3, "export").standard_normal((40, 2, 9)).astype(np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    store = Store(tmp_path / "s.zarr", "a")
    time_s = np.arange(1.0, 41.0)
    arrays = {"values": X, "time_s": time_s, "window_s": np.stack([time_s - 1, time_s], 1)}
    store.write(NODE, type="activations", key={"step_s": 1.0}, arrays=arrays, attributes={"model": "m"}, chunk_rows=16)
    masked = R2.copy()
    masked[4] = np.nan
    results = {"r2": masked, "r": R2, "r2_folds": FOLDS, "band_predicted": BAND, "counts": np.arange(5)}
    store.write(FIT, type="fit", key={"seed": 1}, arrays=results, attributes={"folds": ["a", "b", "c"]})
    return store.path


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brainsim.commands.store_export.BLOCK_BYTES", 150)


def test_npy_files_hold_each_array_and_what_made_it(path: Path, tmp_path: Path) -> None:
    done = store_export("activations", tmp_path / "out", store=path)
    assert done.nodes[0]["files"] == [f"{NODE}/{name}.npy" for name in ("values", "time_s", "window_s")]
    np.testing.assert_array_equal(np.load(tmp_path / "out" / NODE / "values.npy"), X)
    np.testing.assert_array_equal(np.load(tmp_path / "out" / NODE / "time_s.npy", mmap_mode="r"), np.arange(1.0, 41.0))
    told = json.loads((tmp_path / "out" / NODE / "node.json").read_text())
    assert (told["key"], told["attributes"]) == ({"step_s": 1.0}, {"model": "m"})
    assert json.loads(json.dumps(asdict(done)))


def test_parquet_has_a_column_per_array_and_a_table_per_axis(path: Path, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    store_export("activations", tmp_path / "out", store=path, format="parquet")
    table = pq.read_table(tmp_path / "out" / NODE / "time.parquet")
    assert table.column_names == ["values", "time_s", "window_s"]
    np.testing.assert_array_equal(np.array(table["values"].to_pylist(), np.float32), X)
    np.testing.assert_array_equal(table["time_s"].to_numpy(), np.arange(1.0, 41.0))
    assert json.loads(table.schema.metadata[b"attributes"]) == {"model": "m"}
    done = store_export("fits", tmp_path / "out", store=path, format="parquet")
    assert sorted(file.rpartition("/")[2] for file in done.nodes[0]["files"]) == [
        "counts_axis_0.parquet", "fold.parquet", "target.parquet", "time.parquet",
    ]  # fmt: skip
    scores = pq.read_table(tmp_path / "out" / FIT / "target.parquet").to_pandas()
    assert np.isnan(scores["r2"][4])
    np.testing.assert_array_equal(scores["r"], R2)
    lists = pq.read_table(tmp_path / "out" / FIT / "time.parquet")
    np.testing.assert_array_equal(np.array(lists["band_predicted"].to_pylist(), np.float32).reshape(BAND.shape), BAND)


def test_xarray_opens_the_zarr_with_named_axes_and_times(path: Path, tmp_path: Path) -> None:
    xarray = pytest.importorskip("xarray")
    store_export("activations", tmp_path / "out", store=path, format="zarr")
    with xarray.open_zarr(tmp_path / "out" / NODE) as dataset:
        assert dataset["values"].dims == ("time", "feature")
        np.testing.assert_array_equal(dataset["values"].values, X)
        np.testing.assert_array_equal(dataset["values"].sel(time=slice(3.0, 5.0)).values, X[2:5])
        assert dataset.attrs["model"] == "m"
    store_export("fits", tmp_path / "out", store=path, format="zarr")
    with xarray.open_zarr(tmp_path / "out" / FIT) as dataset:
        assert dataset["r2_folds"].dims == ("fold", "target")
        assert dataset["band_predicted"].dims == ("time", "band", "target")
        assert np.isnan(dataset["r2"].values[4])
        np.testing.assert_array_equal(dataset["counts"].values, np.arange(5))  # 0 is a number, not a missing one


def test_xarray_opens_nodes_of_the_store_itself(path: Path) -> None:
    xarray = pytest.importorskip("xarray")
    with xarray.open_zarr(path / NODE, consolidated=False) as dataset:
        assert dataset["values"].dims == ("time", "feature")
        np.testing.assert_array_equal(dataset["values"].values, X)


def test_nothing_is_replaced_unasked_and_a_dry_run_writes_nothing(path: Path, tmp_path: Path) -> None:
    planned = store_export("activations", tmp_path / "out", store=path, dry_run=True)
    assert planned.nbytes == X.nbytes + 40 * 8 * 3
    assert not (tmp_path / "out").exists()
    store_export("activations", tmp_path / "out", store=path)
    with pytest.raises(InvalidValueError, match="is there already"):
        store_export("activations", tmp_path / "out", store=path)
    store_export("activations", tmp_path / "out", store=path, format="zarr", overwrite=True)
    assert not (tmp_path / "out" / NODE / "values.npy").exists()
    with pytest.raises(UnknownNameError, match="no complete node"):
        store_export("activations/none", tmp_path / "out", store=path)


def test_damage_is_not_exported(path: Path, tmp_path: Path) -> None:
    chunk = path / NODE / "values/c/2/0"
    data = bytearray(chunk.read_bytes())
    data[3] ^= 1
    chunk.write_bytes(data)
    for format in ("npy", "zarr"):
        with pytest.raises(StoreDamageError):
            store_export("activations", tmp_path / "out", store=path, format=format)
        assert [p for p in (tmp_path / "out").rglob("*") if p.is_file()] == []


def test_parquet_without_pyarrow_is_named(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependencyError, match=r"brainsim-toolkit\[parquet\]"):
        store_export("fits", tmp_path / "out", store=path, format="parquet")
