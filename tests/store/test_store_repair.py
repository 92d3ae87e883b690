"""A damaged node is made to be missing just where it is damaged, and the same command makes just that again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brainsim.commands.store import store_verify
from brainsim.core.errors import IncompleteNodeError
from brainsim.core.seeds import named_rng
from brainsim.store import ArraySpec, Store

NODE = "activations/m@0a1b2c3d/layer1/run-1"
X = named_rng(0, "repair").standard_normal((45, 6)).astype(np.float32)
CHUNK_ROWS = 10
KEY = {"model": "m", "protocol": "default", "step_s": 0.5, "pool": "mean"}
ATTRIBUTES = {"model": "m", "layer": "layer1", "stimulus": "run-1"}


def write(store: Store, *, rows: np.ndarray = X) -> int:
    """Write the activations, going on from what is there; return the first row that was written."""
    n = len(rows)
    specs = {"values": ArraySpec(rows.shape), "time_s": ArraySpec((n,), "float64"),
             "window_s": ArraySpec((n, 2), "float64")}  # fmt: skip
    with store.writer(
        NODE, type="activations", key=KEY, arrays=specs, attributes=ATTRIBUTES, chunk_rows=CHUNK_ROWS, resume=True
    ) as writer:
        first = writer.n_rows("values") if not writer.is_complete else n
        time_s = np.arange(float(n))
        for name, array in (("values", rows), ("time_s", time_s), ("window_s", np.stack([time_s, time_s + 1], 1))):
            writer.append(name, array[writer.n_rows(name) :])
        writer.complete()
    return first


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "s.zarr", "a")
    write(store)
    store.write("kernels/0011", type="kernel", key={"a": 1}, arrays={"K": np.eye(4, dtype=np.float32)})
    store.write("fits/a/movie/sub-01", type="fit", key={}, arrays={"r2": X[0], "r": X[0]})
    store.write("bold/movie/sub-01/run-1", type="bold", key={}, arrays={"values": X, "valid": np.ones(6, np.uint8)})
    return store


def flip(path: Path, at: int = 5) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.parent != folder}


@pytest.mark.parametrize(
    ("files", "first"),
    [
        (["values/c/2/0"], 20),
        (["values/c/0/0"], 0),
        (["values/c/4/0"], 40),
        (["values/c/1/0", "values/c/3/0"], 10),
        (["time_s/c/1"], 40),  # the last chunk is not full, so its rows are always made again
    ],
)
@pytest.mark.parametrize("harm", [flip, Path.unlink])
def test_activations_keep_their_whole_chunks_and_are_gone_on_from(
    store: Store, files: list[str], first: int, harm: Any
) -> None:
    before = contents(store.path / NODE)
    for file in files:
        harm(store.path / NODE / file)
    found = store_verify(store.path, repair=True)
    assert [(row["node"], row["done"], row["n_damaged"]) for row in found.repairs] == [(NODE, "unfinished", len(files))]
    assert found.repairs[0]["rerun"].startswith("brainsim extract run-1 --models m --protocol default --pool mean")
    assert found.unfinished == (NODE,)
    with pytest.raises(IncompleteNodeError):
        store.read(NODE, "values")
    assert store_verify(store.path).ok
    assert write(store) == first
    assert contents(store.path / NODE) == before
    np.testing.assert_array_equal(store.read(NODE, "values"), X)
    assert store_verify(store.path).repairs == ()


def test_metadata_of_arrays_is_written_again_from_the_record(store: Store) -> None:
    before = contents(store.path / NODE)
    flip(store.path / NODE / "values/zarr.json")
    (store.path / NODE / "time_s/zarr.json").unlink()
    found = store_verify(store.path, repair=True)
    assert [row["done"] for row in found.repairs] == ["rewritten"]
    assert contents(store.path / NODE) == before
    assert store_verify(store.path).ok


def test_kernels_go_and_other_results_stay_with_the_command_that_makes_them(store: Store) -> None:
    for node, file in (("kernels/0011", "K/c/0/0"), ("fits/a/movie/sub-01", "r2/c/0"),
                       ("bold/movie/sub-01/run-1", "values/c/0/0")):  # fmt: skip
        flip(store.path / node / file)
    found = store_verify(store.path, repair=True)
    told = {row["node"]: (row["done"], row["rerun"]) for row in found.repairs}
    assert told == {
        "kernels/0011": ("deleted", "brainsim kernel, fit or partition"),
        "fits/a/movie/sub-01": ("left", "brainsim fit a --dataset movie, with its options and --overwrite"),
        "bold/movie/sub-01/run-1": ("left", "brainsim ingest, with --overwrite"),
    }
    assert not store.has("kernels/0011")
    np.testing.assert_array_equal(store.read("fits/a/movie/sub-01", "r"), X[0])
    assert len(store_verify(store.path).damages) == 2


def test_a_node_without_a_readable_record_is_nothing_to_go_on_from(store: Store) -> None:
    flip(store.path / NODE / "zarr.json")
    (store.path / "fits/a/movie/sub-01/zarr.json").unlink()
    found = store_verify(store.path, repair=True)
    assert {row["node"]: row["done"] for row in found.repairs} == {NODE: "deleted", "fits/a/movie/sub-01": "left"}
    assert write(store) == 0
    np.testing.assert_array_equal(store.read(NODE, "values"), X)


def test_a_damaged_group_is_written_again_and_takes_no_whole_node_with_it(store: Store) -> None:
    (store.path / "activations/m@0a1b2c3d/zarr.json").write_text("{")
    found = store_verify(store.path, repair=True)
    assert [(row["node"], row["done"]) for row in found.repairs] == [("activations/m@0a1b2c3d", "rewritten")]
    assert store_verify(store.path).ok
    np.testing.assert_array_equal(store.read(NODE, "values"), X)


def test_what_is_whole_or_being_written_or_strange_is_left(store: Store) -> None:
    assert store_verify(store.path, repair=True).repairs == ()
    (store.path / NODE / "notes.txt").write_text("?")
    assert [row["done"] for row in store_verify(store.path, repair=True).repairs] == ["left"]
    assert (store.path / NODE / "notes.txt").exists()
    (store.path / NODE / "notes.txt").unlink()
    flip(store.path / NODE / "values/c/2/0")
    from brainsim.store.locks import NodeLock

    with NodeLock(store.path, NODE):
        assert [row["done"] for row in store_verify(store.path, repair=True).repairs] == ["locked"]
    assert store.has(NODE)
