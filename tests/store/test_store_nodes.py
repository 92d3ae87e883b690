"""A node holds what was written, under its key, and nothing else is ever read as a result."""

from __future__ import annotations

import json
import pickle
import time
from pathlib import Path

import numpy as np
import pytest

from brainsim.core.errors import IncompleteNodeError, InvalidValueError, StoreError, UnknownNameError
from brainsim.core.seeds import named_rng
from brainsim.store import NODE_TYPES, ArraySpec, Store

NODE = "results/demo/sub-01"
KEY = {"step_s": 1.0, "model": "pixels", "seed": 3}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "s.zarr", "a")


def write(store: Store, node: str = NODE, *, key: dict | None = None, value: float = 1.0, **options: object):
    arrays = {"values": np.full((7, 3), value, np.float32), "count": np.arange(7)}
    return store.write(node, type="toy", key=key or KEY, arrays=arrays, attributes={"model": "pixels"}, **options)


def test_read_gives_back_what_was_written(store: Store) -> None:
    rng = named_rng(0, "store")
    arrays = {
        "f32": rng.standard_normal((50, 4)).astype(np.float32),
        "f16": rng.standard_normal((50, 2, 3)).astype(np.float16),
        "f64_with_nan": np.where(rng.random(9) < 0.5, np.nan, 1.0),
        "big_endian": np.arange(12, dtype=">i4").reshape(4, 3),
        "transposed": rng.standard_normal((4, 50)).T,
        "flags": rng.random((5, 2)) < 0.5,
        "bytes": rng.integers(0, 255, 11).astype(np.uint8),
        "no_rows": np.empty((0, 3), np.float32),
        "no_columns": np.empty((3, 0), np.int64),
    }
    info = store.write(NODE, type="toy", key=KEY, arrays=arrays)
    assert set(info.arrays) == set(arrays)
    for name, array in arrays.items():
        found = store.read(NODE, name)
        assert info.arrays[name] == (array.shape, str(found.dtype))
        assert found.dtype.newbyteorder("=") == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("chunk_rows", [None, 1, 4, 100])
def test_rows_and_columns_equal_numpy_indexing(store: Store, chunk_rows: int | None) -> None:
    X = named_rng(1, "store").standard_normal((23, 9)).astype(np.float32)
    store.write(NODE, type="toy", key=KEY, arrays={"X": X, "x": X[:, 0]}, chunk_rows=chunk_rows)
    picks = [slice(None), slice(3, 17), slice(20, 3, -2), [5, 5, 0, -1], np.array([], int), X[:, 0] > 0]
    columns = [slice(None), slice(2, 5), slice(8, None, -3), [7, 0, 7], []]
    for _ in range(2):  # the second time, checked chunks are known
        for rows in picks:
            np.testing.assert_array_equal(store.read(NODE, "x", rows), X[rows, 0])
            for cols in columns:
                expected = X[rows][:, np.asarray(cols, int) if isinstance(cols, list) else cols]
                np.testing.assert_array_equal(store.read(NODE, "X", rows, cols), expected)


def test_what_is_read_may_be_changed_without_changing_the_store(store: Store) -> None:
    write(store)
    store.read(NODE, "values")[:] = 5
    store.info(NODE).attributes["model"] = "another"
    store.nodes()[0].key["step_s"] = 7
    assert store.read(NODE, "values").max() == 1
    assert store.info(NODE).attributes == {"model": "pixels"}
    assert store.info(NODE).key == KEY


def test_info_says_what_made_the_node(store: Store) -> None:
    info = store.write(
        NODE,
        type="toy",
        key={"seed": 3, "layers": ("a", "b"), "alpha": np.float32(0.5)},
        arrays={"r": np.zeros((2, 5), np.float32)},
        attributes={"shape": (1, 2), "n": np.int64(4)},
    )
    assert info == store.info(NODE) == Store(store.path).info(NODE)
    assert (info.type, info.version, info.complete, info.seed) == ("toy", 1, True, 3)
    assert info.key == {"seed": 3, "layers": ["a", "b"], "alpha": 0.5}
    assert info.attributes == {"shape": [1, 2], "n": 4}
    assert info.arrays == {"r": ((2, 5), "float32")}
    assert info.software["numpy"] == np.__version__
    on_disk = sum(p.stat().st_size for p in (store.path / NODE / "r").rglob("*") if p.is_file())
    assert info.nbytes == on_disk


def test_same_key_does_nothing_the_second_time(store: Store) -> None:
    first = write(store)
    files = {p: p.stat().st_mtime_ns for p in store.path.rglob("*") if p.is_file() and ".locks" not in p.parts}
    assert write(store, key=dict(reversed(KEY.items())), value=9.0) == first
    assert {p: p.stat().st_mtime_ns for p in files} == files
    assert store.has(NODE)
    assert store.has(NODE, key=KEY)
    assert not store.has(NODE, key={**KEY, "step_s": 2.0})
    with store.writer(NODE, type="toy", key=KEY, arrays={"values": ArraySpec((None, 3))}) as writer:
        assert writer.is_complete
        writer.append("values", np.ones((4, 3), np.float32))
        assert writer.complete() == first
    np.testing.assert_array_equal(store.read(NODE, "values"), np.ones((7, 3)))


def test_another_key_is_refused_by_field(store: Store) -> None:
    write(store)
    with pytest.raises(InvalidValueError, match=r"step_s was 1\.0, is 2\.0.*--overwrite") as caught:
        write(store, key={**KEY, "step_s": 2.0}, value=2.0)
    assert "pixels" not in str(caught.value)
    assert store.read(NODE, "values").max() == 1
    write(store, key={**KEY, "step_s": 2.0}, value=2.0, overwrite=True)
    assert store.read(NODE, "values").min() == 2
    assert store.info(NODE).key["step_s"] == 2


def test_overwriting_leaves_nothing_of_the_old_node(store: Store) -> None:
    arrays = {"old": np.zeros((40, 3), np.float32)}
    store.write(NODE, type="toy", key=KEY, arrays=arrays, attributes={"old": 1}, chunk_rows=4)
    write(store, key={"new": 1}, overwrite=True)
    assert sorted(p.name for p in (store.path / NODE).iterdir()) == ["count", "values", "zarr.json"]
    assert store.info(NODE).attributes == {"model": "pixels"}
    assert store.verify() == []


@pytest.mark.parametrize("n_rows", [1, 10, 24, 25, 26, 100])
@pytest.mark.parametrize("block", [1, 7, 10, 33, 1000])
@pytest.mark.parametrize("announced", [True, False])
def test_blocks_of_any_size_give_the_same_bytes(tmp_path: Path, n_rows: int, block: int, announced: bool) -> None:
    X = named_rng(2, "store", n_rows).standard_normal((n_rows, 3)).astype(np.float32)
    store = Store(tmp_path / "s.zarr", "a")
    spec = ArraySpec((n_rows if announced else None, 3))
    with store.writer(NODE, type="toy", key=KEY, arrays={"X": spec}, chunk_rows=10) as writer:
        for start in range(0, n_rows, block):
            writer.append("X", X[start : start + block])
        writer.set_attributes({"n": n_rows})
        info = writer.complete()
    assert info.arrays["X"] == ((n_rows, 3), "float32")
    assert info.attributes == {"n": n_rows}
    np.testing.assert_array_equal(store.read(NODE, "X"), X)
    store.write("whole", type="toy", key=KEY, arrays={"X": X}, chunk_rows=10)
    for file in (store.path / "whole" / "X").rglob("*"):
        if file.is_file():
            assert (store.path / NODE / file.relative_to(store.path / "whole")).read_bytes() == file.read_bytes()
    assert store.verify() == []


def test_leaving_without_complete_leaves_an_unfinished_node(store: Store) -> None:
    arrays = {"X": ArraySpec((None, 3))}
    with store.writer(NODE, type="toy", key=KEY, arrays=arrays, chunk_rows=2) as writer:
        writer.append("X", np.ones((5, 3), np.float32))
    with pytest.raises(KeyError, match="boom"), store.writer("b", type="toy", key=KEY, arrays=arrays) as writer:
        raise KeyError("boom")
    assert not store.has(NODE)
    assert store.nodes() == []
    assert [(n.path, n.complete) for n in store.nodes(complete=False)] == [("b", False), (NODE, False)]
    for read in (store.info, lambda node: store.read(node, "X"), lambda node: store.open_array(node, "X")):
        with pytest.raises(IncompleteNodeError, match="unfinished"):
            read(NODE)
    assert store.verify() == []
    write(store)
    assert store.has(NODE)
    assert sorted(p.name for p in (store.path / NODE).iterdir()) == ["count", "values", "zarr.json"]


def test_too_few_and_too_many_rows_are_refused(store: Store) -> None:
    arrays = {"X": ArraySpec((4, 2))}
    with store.writer(NODE, type="toy", key=KEY, arrays=arrays) as writer:
        writer.append("X", np.ones((3, 2), np.float32))
        with pytest.raises(InvalidValueError, match="has 3 rows; 4 were announced"):
            writer.complete()
        with pytest.raises(InvalidValueError, match="would have 5 rows; 4 were announced"):
            writer.append("X", np.ones((2, 2), np.float32))
        with pytest.raises(InvalidValueError, match=r"shape \(2, 3\); it must be \(n_rows, 2\)"):
            writer.append("X", np.ones((2, 3), np.float32))
        with pytest.raises(InvalidValueError, match="there is no 'Y'"):
            writer.append("Y", np.ones((2, 3), np.float32))
        writer.append("X", np.ones((1, 2), np.float32))
        writer.complete()
        with pytest.raises(InvalidValueError, match="not open for writing"):
            writer.append("X", np.ones((1, 2), np.float32))
    with pytest.raises(InvalidValueError, match="was used already"), writer:
        pass
    assert store.has(NODE)


def test_a_cast_that_would_lose_the_number_is_refused(store: Store) -> None:
    arrays = {"h": ArraySpec((None, 1), "float16"), "i": ArraySpec((None, 1), "int32")}
    with store.writer(NODE, type="toy", key=KEY, arrays=arrays) as writer:
        with pytest.raises(InvalidValueError, match="holds 70000; float16 ends at 65504"):
            writer.append("h", np.array([[70000.0]]))
        with pytest.raises(InvalidValueError, match="int32 cannot hold"):
            writer.append("i", np.array([[0.5]]))
        writer.append("h", np.array([[np.nan], [np.inf], [1.5]]))
        writer.append("i", np.array([[5]], np.int64))
        writer.complete()
    np.testing.assert_array_equal(store.read(NODE, "h"), np.array([[np.nan], [np.inf], [1.5]], np.float16))


@pytest.mark.parametrize(
    "node", ["", "/a", "a/", "a//b", "../a", "a/../../b", ".locks/a", "a/.", "a b", "a/zarr.json", "a\\b", "x" * 201, 7]
)
def test_paths_that_lead_elsewhere_are_refused(store: Store, node: str) -> None:
    for call in (store.has, store.info, store.delete, lambda n: write(store, n)):
        with pytest.raises(InvalidValueError, match="it must"):
            call(node)
    assert store.nodes(complete=None) == []


def test_a_node_holds_no_nodes(store: Store) -> None:
    write(store)
    with pytest.raises(InvalidValueError, match="'results/demo/sub-01' is a node"):
        write(store, f"{NODE}/run-1")
    with pytest.raises(InvalidValueError, match="nodes below it"):
        write(store, "results/demo")
    store.delete(NODE)
    write(store, "results/demo")  # an empty group may become one


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.array(["a"])}, "dtype '<U1'"),
        ({"x": np.array([None])}, "dtype 'object'"),
        ({"x": np.array([1j])}, "dtype 'complex128'"),
        ({"x": np.float32(3)}, "no axes"),
        ({"../x": np.zeros(3)}, "must be made of letters"),
    ],
)
def test_arrays_that_have_no_place_are_refused(store: Store, arrays: dict, message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        store.write(NODE, type="toy", key=KEY, arrays=arrays)
    assert store.nodes(complete=None) == []


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"a": {"b": [1, float("nan")]}}, r"\['a'\]\['b'\]\[1\] is nan"),
        ({"a": Path("x")}, "Path"),
        ({"brainsim": 1}, "the store's own record"),
        ({"a": {1: 2}}, "names that are not text"),
    ],
)
def test_attributes_that_are_not_json_are_refused(store: Store, attributes: dict, message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        store.write(NODE, type="toy", key=KEY, arrays={}, attributes=attributes)


def test_known_types_need_their_arrays_and_name_their_axes(store: Store) -> None:
    with pytest.raises(InvalidValueError, match="it must have values, valid"):
        store.write("bold/a/b/c", type="bold", key=KEY, arrays={"values": np.zeros((2, 3))})
    with pytest.raises(InvalidValueError, match="1 axes; it must have 2: time, target"):
        store.write("bold/a/b/c", type="bold", key=KEY, arrays={"values": np.zeros(2), "valid": np.zeros(2)})
    store.write("bold/a/b/c", type="bold", key=KEY, arrays={"values": np.zeros((2, 3)), "valid": np.ones(3)})
    document = json.loads((store.path / "bold/a/b/c/values/zarr.json").read_text())
    assert document["dimension_names"] == ["time", "target"]


def test_later_versions_of_a_type_are_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    later = replace(NODE_TYPES["truth"], version=2)
    with monkeypatch.context() as patch:
        patch.setitem(NODE_TYPES._items, "truth", later)
        store.write("truth/a", type="truth", key=KEY, arrays={})
    with pytest.raises(StoreError, match="format version 2 of 'truth'; this brainsim reads versions up to 1"):
        Store(store.path).info("truth/a")


def test_nodes_are_listed_by_path_type_and_wildcards(store: Store) -> None:
    for path in ("bold/a/s1/r2", "bold/a/s1/r1", "bold/ab/s1/r1", "acts/m@1/l1/r1", "acts/m@2/l1/r1"):
        store.write(path, type=path.split("/")[0] + "-toy", key={"path": path}, arrays={})

    def listed(*args: str, **options: str) -> list[str]:
        return [info.path for info in store.nodes(*args, **options)]

    assert listed() == sorted(listed())
    assert len(listed()) == 5
    assert listed("bold/a") == listed("bold/a/") == ["bold/a/s1/r1", "bold/a/s1/r2"]
    assert listed("bold/*/*/r1") == ["bold/a/s1/r1", "bold/ab/s1/r1"]
    assert listed("acts/m@?/l1/r1") == ["acts/m@1/l1/r1", "acts/m@2/l1/r1"]
    assert listed(type="acts-toy") == ["acts/m@1/l1/r1", "acts/m@2/l1/r1"]
    assert listed("bold/a/s1/r1") == ["bold/a/s1/r1"]
    assert listed("bold/a/s1/r1/deeper") == listed("nothing") == []
    for prefix in ("/bold", "../s.zarr", ".locks"):
        with pytest.raises(InvalidValueError, match="prefix"):
            store.nodes(prefix)


def test_unknown_names_come_with_near_misses(store: Store) -> None:
    write(store)
    with pytest.raises(UnknownNameError, match="did you mean 'results/demo/sub-01'"):
        store.info("results/demo/sub-1")
    with pytest.raises(UnknownNameError, match="did you mean 'values'"):
        store.read(NODE, "value")
    with pytest.raises(UnknownNameError):
        store.delete("results/nothing")
    with pytest.raises(InvalidValueError, match="go beyond the 7 there are"):
        store.read(NODE, "values", [7])
    with pytest.raises(InvalidValueError, match="a slice or a list of whole numbers"):
        store.read(NODE, "values", [0.5])
    with pytest.raises(InvalidValueError, match="one axis"):
        store.read(NODE, "count", columns=slice(0, 1))


def test_deleted_nodes_are_gone(store: Store) -> None:
    write(store)
    store.delete(NODE)
    assert not store.has(NODE)
    assert not (store.path / NODE).exists()
    assert store.verify() == []


def test_a_store_travels_as_its_path(store: Store) -> None:
    write(store)
    again = pickle.loads(pickle.dumps(store))
    assert (again.path, again.mode) == (store.path, "a")
    np.testing.assert_array_equal(again.read(NODE, "values"), store.read(NODE, "values"))


def test_reading_creates_nothing_and_writing_needs_mode_a(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"there is no store at .*brainsim extract"):
        Store(tmp_path / "none.zarr")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InvalidValueError, match="allowed: 'r'"):
        Store(tmp_path / "none.zarr", "w")
    Store(tmp_path / "s.zarr", "a")
    with pytest.raises(InvalidValueError, match="open for reading"):
        write(Store(tmp_path / "s.zarr"))


def test_a_folder_that_is_no_store_is_never_written_into(tmp_path: Path) -> None:
    import zarr

    for name, content in (("notes", "thesis.txt"), ("zarr2", ".zgroup"), ("half", "c/0")):
        path = tmp_path / name / content
        path.parent.mkdir(parents=True)
        path.write_text("mine")
    (tmp_path / "file").write_text("mine")
    zarr.create_group(tmp_path / "foreign", attributes={"mine": 1}, zarr_format=3)
    (tmp_path / "empty").mkdir()
    before = {p: p.read_bytes() if p.is_file() else None for p in tmp_path.rglob("*")}
    for name in ("notes", "zarr2", "half", "file", "foreign"):
        for mode in ("r", "a"):
            with pytest.raises(StoreError, match=r"no store|is a file|another program"):
                Store(tmp_path / name, mode)
    assert {p: p.read_bytes() if p.is_file() else None for p in tmp_path.rglob("*")} == before
    assert Store(tmp_path / "empty", "a").nodes() == []


def test_a_node_is_not_a_store(store: Store) -> None:
    write(store)
    with pytest.raises(StoreError, match="a part of a store"):
        Store(store.path / NODE)


def test_a_store_from_the_future_is_refused(store: Store) -> None:
    file = store.path / "zarr.json"
    document = json.loads(file.read_text())
    document["attributes"]["brainsim"] = {"type": "store", "version": 2, "otherwise": True}
    file.write_text(json.dumps(document))
    for mode in ("r", "a"):
        with pytest.raises(StoreError, match=r"the store has format version 2.*versions up to 1.*pip install"):
            Store(store.path, mode)


def test_a_thousand_nodes_are_listed_in_half_a_second(store: Store) -> None:
    for index in range(1000):
        store.write(f"a/{index // 100}/{index}", type="toy", key={"i": index, "layers": ["x"] * 20}, arrays={})
    fresh = Store(store.path)
    began = time.process_time()
    assert len(fresh.nodes()) == 1000
    assert time.process_time() - began < 1.5  # 0.1 s alone on a core; room for a loaded machine
