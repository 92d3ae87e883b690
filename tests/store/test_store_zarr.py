"""What brainsim writes is what plain zarr reads, and what zarr itself would write."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec

from brainsim.core.seeds import named_rng
from brainsim.store import ArraySpec, Store
from brainsim.store.bfloat16 import BFLOAT16
from brainsim.store.layout import DTYPES

NODE = "activations/m@0/l/r"


def make(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    drawn = named_rng(0, "zarr", dtype, *shape).standard_normal(shape) * 50
    return (np.abs(drawn) if dtype.startswith("uint") else drawn).astype(dtype)


@pytest.mark.parametrize("dtype", [dtype for dtype in DTYPES if dtype != BFLOAT16])  # that one zarr does not know
@pytest.mark.parametrize("shape", [(11,), (11, 3), (11, 2, 3)])
def test_bytes_equal_those_that_zarr_writes(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    X = make(dtype, shape)
    store = Store(tmp_path / "ours.zarr", "a")
    store.write(NODE, type="toy", key={}, arrays={"X": X}, chunk_rows=4)
    theirs = zarr.create_array(
        tmp_path / "theirs",
        shape=shape,
        dtype=dtype,
        chunks=(4, *shape[1:]),
        filters=None,
        serializer=BytesCodec(),
        compressors=(Crc32cCodec(),),
        fill_value=np.nan if dtype.startswith("float") else 0,
        zarr_format=3,
    )
    theirs[:] = X
    ours = store.path / NODE / "X"
    files = {p.relative_to(tmp_path / "theirs") for p in (tmp_path / "theirs").rglob("*") if p.is_file()}
    assert files == {p.relative_to(ours) for p in ours.rglob("*") if p.is_file()}
    for file in files:
        one, other = (ours / file).read_bytes(), (tmp_path / "theirs" / file).read_bytes()
        assert one == other if file.name != "zarr.json" else json.loads(one) == json.loads(other)


def test_plain_zarr_reads_nodes_arrays_axes_and_attributes(tmp_path: Path) -> None:
    X = make("float32", (700, 5))
    store = Store(tmp_path / "s.zarr", "a")
    arrays = {"values": X, "time_s": np.arange(700.0), "window_s": np.zeros((700, 2))}
    store.write(NODE, type="activations", key={"step_s": 1}, arrays=arrays, attributes={"model": "m"}, chunk_rows=300)
    store.write("truth/x", type="truth", key={}, arrays={}, attributes={"rows": [{"unique": 0.1}]})
    path = store.path
    del store  # a store at rest holds nothing but Zarr
    root = zarr.open_group(path, mode="r", zarr_format=3)
    assert {name for name, _ in root.members(max_depth=None)} == {
        "activations", "activations/m@0", "activations/m@0/l", NODE, f"{NODE}/values", f"{NODE}/time_s",
        f"{NODE}/window_s", "truth", "truth/x",
    }  # fmt: skip
    np.testing.assert_array_equal(root[f"{NODE}/values"][:], X)
    values = root[f"{NODE}/values"]
    assert values.metadata.dimension_names == ("time", "feature")
    assert np.isnan(values.fill_value)
    assert values.chunks == (300, 5)
    assert root[NODE].attrs["model"] == "m"
    assert root[NODE].attrs["brainsim"]["complete"] is True
    assert root["truth/x"].attrs["rows"] == [{"unique": 0.1}]
    assert root.attrs["brainsim"]["type"] == "store"


def test_plain_zarr_sees_a_flipped_bit(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.zarr", "a")
    store.write(NODE, type="toy", key={}, arrays={"X": make("float32", (8, 2))})
    chunk = store.path / NODE / "X/c/0/0"
    data = bytearray(chunk.read_bytes())
    data[5] ^= 1
    chunk.write_bytes(data)
    with pytest.raises(ValueError, match="checksum"):
        zarr.open_array(store.path / NODE / "X", mode="r")[:]


@pytest.mark.parametrize(
    ("shape", "dtype", "chunks"),
    [
        ((451, 25_088), "float32", (226, 25_088)),  # 300 rows at most, dealt evenly
        ((900, 802_816), "float32", (10, 802_816)),  # 32 MiB at most
        ((900, 20_000_000), "float16", (1, 20_000_000)),  # at least a row
        ((100_000,), "float32", (100_000,)),  # narrow arrays are one file
        ((2_000_000,), "float64", (125_000,)),  # … of 1 MiB
        ((5, 3), "float32", (5, 3)),
        ((3, 0), "float32", (3, 1)),
    ],
)
def test_chunks_suit_both_ways_of_reading(shape: tuple[int, ...], dtype: str, chunks: tuple[int, ...]) -> None:
    from brainsim.store.layout import choose_chunk_rows, lay_out

    spec = ArraySpec(shape, dtype)
    assert lay_out(spec, shape[0], choose_chunk_rows(spec)).chunk_shape == chunks


def test_open_array_streams_and_checks(tmp_path: Path) -> None:
    import dask.array

    X = make("float32", (40, 6))
    store = Store(tmp_path / "s.zarr", "a")
    store.write(NODE, type="toy", key={}, arrays={"X": X}, chunk_rows=10)
    array = store.open_array(NODE, "X")
    assert isinstance(array, zarr.Array)
    np.testing.assert_array_equal(array[5:25, 2:4], X[5:25, 2:4])
    np.testing.assert_array_equal((dask.array.from_zarr(array) * 2).compute(), X * 2)
    with pytest.raises(ValueError, match="read-only"):
        array[:] = 0
