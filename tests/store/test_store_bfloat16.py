"""bfloat16: rounded to the nearest, read exactly, and never taken for other numbers."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr

from brainsim import store_export, store_fetch, store_import
from brainsim.commands.store import store_verify
from brainsim.core.errors import InvalidValueError, NumericalError, StoreDamageError, StoreError
from brainsim.core.provenance import digest
from brainsim.core.seeds import named_rng
from brainsim.store import ArraySpec, Store
from brainsim.store.bfloat16 import BFLOAT16, LARGEST, NAN_BITS, round_to_bfloat16, widen_bfloat16
from brainsim.store.remote import open_store

NODE = "activations/m@0a1b2c3d/layer1/run-1"
ATTRIBUTES = {"model": "m", "layer": "layer1", "stimulus": "run-1"}
X = (named_rng(0, "bfloat16").standard_normal((45, 6)) * 10.0 ** np.arange(-20, 40, 10)).astype(np.float32)
SPECIAL = np.array(
    [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, 2.0**-133, -(2.0**-133), 2.0**-126, LARGEST, -LARGEST], np.float32
)  # zeros, infinities, the smallest subnormal and normal number, the largest: each is a bfloat16


def stored(X: np.ndarray) -> np.ndarray:
    """Return what is read of numbers that were stored, as torch rounds them."""
    rounded: np.ndarray = torch.from_numpy(X).to(torch.bfloat16).float().numpy()
    return rounded


def write(store: Store, values: np.ndarray = X, *, node: str = NODE, resume: bool = False, stop: int = 10**9) -> None:
    n = len(values)
    specs = {"values": ArraySpec(values.shape, BFLOAT16), "time_s": ArraySpec((n,), "float64"),
             "window_s": ArraySpec((n, 2), "float64")}  # fmt: skip
    with store.writer(
        node, type="activations", key={}, arrays=specs, chunk_rows=10, attributes=ATTRIBUTES, resume=resume
    ) as writer:
        for start in range(writer.n_rows("values"), n, 7):
            if start >= stop:
                return
            writer.append("values", values[start : start + 7])
        writer.append("time_s", np.arange(float(n))[writer.n_rows("time_s") :])
        writer.append("window_s", np.zeros((n, 2))[writer.n_rows("window_s") :])
        writer.complete()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "s.zarr", "a")
    write(store)
    return store


# ---------------------------------------------------------------------- rounding


def test_every_bfloat16_is_kept_as_it_is() -> None:
    bits = np.arange(2**16, dtype=np.uint16)
    numbers = widen_bfloat16(bits)
    np.testing.assert_array_equal(numbers, torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16).float().numpy())
    nan = np.isnan(numbers)
    np.testing.assert_array_equal(round_to_bfloat16(numbers)[~nan], bits[~nan])  # -0 and infinities among them
    assert set(round_to_bfloat16(numbers)[nan].tolist()) == {NAN_BITS}


def test_float32_is_rounded_to_nearest_even_as_torch_does() -> None:
    rng = named_rng(0, "bits")
    any_bits = rng.integers(0, 2**32, 300_000, dtype=np.uint32)
    ties = (any_bits & np.uint32(0xFFFF0000)) | np.uint32(0x8000)
    for bits in (any_bits, ties, ties + np.uint32(1), ties - np.uint32(1)):
        numbers = bits.view(np.float32)
        numbers = numbers[~np.isnan(numbers)]
        expected = torch.from_numpy(numbers).to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)
        np.testing.assert_array_equal(round_to_bfloat16(numbers), expected)


def test_float64_is_rounded_once_and_not_by_way_of_float32() -> None:
    step = Fraction(1, 2**7)
    beside = Fraction(1, 2**40)  # float32 cannot tell it from the tie
    for digit in (1, 2):  # an odd and an even neighbour below
        tie = 1 + step * digit + step / 2
        for number, expected in ((tie - beside, tie - step / 2), (tie + beside, tie + step / 2)):
            for sign in (1, -1):
                bits = round_to_bfloat16(np.array([sign * float(number)]))
                assert Fraction(float(widen_bfloat16(bits)[0])) == sign * expected
    huge = round_to_bfloat16(np.array([1e300, -1e300, np.nan, np.inf, 1e-300, -0.0, 3.0]))
    np.testing.assert_array_equal(widen_bfloat16(huge), [np.inf, -np.inf, np.nan, np.inf, 0.0, -0.0, 3.0])


def test_whole_numbers_and_other_byte_orders_and_strides_are_rounded_as_their_values() -> None:
    values = np.arange(-300, 300).reshape(20, 30)
    expected = stored(values.astype(np.float32))
    for given in (values, values.astype(np.int16), values.astype(">f4"), values.astype(np.float16), values.T.copy().T):
        np.testing.assert_array_equal(widen_bfloat16(round_to_bfloat16(given)), expected)


# ---------------------------------------------------------------------- the store


def test_what_is_read_is_float32_and_exactly_what_was_rounded(store: Store) -> None:
    expected = stored(X)
    assert store.info(NODE).arrays["values"] == ((45, 6), BFLOAT16)
    assert (store.path / NODE / "values/c/0/0").stat().st_size == 2 * 10 * 6 + 4
    values = store.read(NODE, "values")
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, expected)
    for rows, columns in ((slice(3, 33), slice(2, 5)), ([44, 0, 7], [5, 1]), (slice(None), slice(0, 1))):
        for _ in range(2):  # the second time from chunks that were checked
            found = store.read(NODE, "values", rows, columns)
            np.testing.assert_array_equal(found, expected[rows][:, columns])
    again = store.read(NODE, "values", slice(1, 2))
    again[:] = 0
    np.testing.assert_array_equal(store.read(NODE, "values"), expected)


def test_special_values_come_back(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.zarr", "a")
    values = np.append(SPECIAL, np.float32(np.nan))[:, None]
    write(store, values)
    found = store.read(NODE, "values")
    np.testing.assert_array_equal(found, values)
    np.testing.assert_array_equal(np.signbit(found[:-1]), np.signbit(values[:-1]))
    write(store, np.full((3, 1), 2.0**-150, np.float32), node="activations/m@0a1b2c3d/layer1/run-2")
    assert not store.read("activations/m@0a1b2c3d/layer1/run-2", "values").any()


@pytest.mark.parametrize("largest", [np.float32(3.4e38), 3.4e38, 1e300])
def test_numbers_beyond_the_range_are_refused(tmp_path: Path, largest: float) -> None:
    store = Store(tmp_path / "s.zarr", "a")
    with pytest.raises(InvalidValueError, match=r"array 'values' holds .*; bfloat16 ends at 3.38953e\+38"):
        write(store, np.array([[1.0, largest], [np.nan, np.inf]]))
    with pytest.raises(InvalidValueError, match=r"is complex64; bfloat16 cannot hold that kind of number"):
        write(store, np.ones((3, 2), np.complex64))
    assert not store.has(NODE)


def test_numbers_of_ml_dtypes_are_taken_as_they_are(tmp_path: Path) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    store = Store(tmp_path / "s.zarr", "a")
    store.write("toy/x", type="toy", key={}, arrays={"X": X.astype(ml_dtypes.bfloat16)})
    np.testing.assert_array_equal(store.read("toy/x", "X"), stored(X))


def test_a_writer_that_broke_off_is_gone_on_from_to_the_same_bytes(store: Store, tmp_path: Path) -> None:
    other = Store(tmp_path / "t.zarr", "a")
    write(other, resume=True, stop=30)
    assert not other.has(NODE)
    write(other, resume=True)
    for file in (store.path / NODE / "values").rglob("*"):
        if file.is_file():
            assert (
                file.read_bytes()
                == (other.path / NODE / "values" / file.relative_to(store.path / NODE / "values")).read_bytes()
            )


def test_damage_is_found_and_repaired_as_of_any_type(store: Store) -> None:
    chunk = store.path / NODE / "values/c/1/0"
    data = bytearray(chunk.read_bytes())
    data[3] ^= 1
    chunk.write_bytes(data)
    with pytest.raises(StoreDamageError, match="fails its checksum"):
        store.read(NODE, "values")
    with pytest.raises(StoreDamageError, match="fails its checksum"):
        store.open_array(NODE, "values")[:]
    assert [damage.chunk for damage in store.verify()] == ["values/c/1/0"]
    store_verify(store=store.path, repair=True)
    write(store, resume=True)
    np.testing.assert_array_equal(Store(store.path).read(NODE, "values"), stored(X))


def test_libraries_that_stream_see_float32(store: Store) -> None:
    import dask.array

    array = store.open_array(NODE, "values")
    assert (array.dtype, array.shape, array.chunks) == (np.float32, (45, 6), (10, 6))
    np.testing.assert_array_equal(array[12:33, 1:4], stored(X)[12:33, 1:4])
    np.testing.assert_array_equal(dask.array.from_zarr(array).sum(axis=1).compute(), stored(X).sum(axis=1))


def test_a_url_is_read_and_copied(store: Store, tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    url = f"file://{store.path}"
    np.testing.assert_array_equal(open_store(url).read(NODE, "values", columns=slice(1, 3)), stored(X)[:, 1:3])
    store_fetch(url, "activations", store=tmp_path / "mine.zarr")
    np.testing.assert_array_equal(Store(tmp_path / "mine.zarr").read(NODE, "values"), stored(X))


# ---------------------------------------------------------------------- other programs


def test_tensorstore_reads_the_same_numbers(store: Store) -> None:
    tensorstore = pytest.importorskip("tensorstore")
    folder = str(store.path / NODE / "values")
    array = tensorstore.open({"driver": "zarr3", "kvstore": {"driver": "file", "path": folder}}, read=True).result()
    assert array.dtype.name == "bfloat16"
    assert np.isnan(float(array.fill_value))
    np.testing.assert_array_equal(array.read().result().astype(np.float32), stored(X))


def test_zarr_and_xarray_refuse_what_they_do_not_know(store: Store) -> None:
    xarray = pytest.importorskip("xarray")
    with pytest.raises(ValueError, match="bfloat16"):
        zarr.open_array(store.path / NODE / "values", mode="r")
    with pytest.raises(ValueError, match="bfloat16"):
        xarray.open_zarr(store.path / NODE, consolidated=False)
    metadata = json.loads((store.path / NODE / "values/zarr.json").read_text())
    assert (metadata["data_type"], metadata["fill_value"]) == ("bfloat16", "NaN")


def test_a_type_of_the_future_is_told_and_not_repaired_away(store: Store) -> None:
    file = store.path / NODE / "zarr.json"
    document = json.loads(file.read_text())
    record = document["attributes"]["brainsim"]
    record["arrays"]["values"]["dtype"] = "float8_e4m3"
    del record["record_digest"]
    record["record_digest"] = digest(document["attributes"])
    file.write_text(json.dumps(document))
    with pytest.raises(StoreError, match="holds numbers of type 'float8_e4m3'; this brainsim reads bool, int8"):
        Store(store.path).read(NODE, "values")
    done = store_verify(store=store.path, repair=True)
    assert done.repairs[0]["done"] == "left"
    assert (store.path / NODE / "values/c/0/0").exists()


@pytest.mark.parametrize("format", ["npy", "zarr", "parquet"])
def test_exports_are_float32(store: Store, tmp_path: Path, format: str) -> None:
    store_export("activations", tmp_path / "out", store=store.path, format=format)
    folder = tmp_path / "out" / NODE
    if format == "npy":
        values = np.load(folder / "values.npy")
    elif format == "zarr":
        xarray = pytest.importorskip("xarray")
        with xarray.open_zarr(folder) as dataset:
            values = dataset["values"].values
    else:
        table = pytest.importorskip("pyarrow.parquet").read_table(folder / "time.parquet")
        values = np.array(table["values"].to_pylist(), np.float32)
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, stored(X))


def test_imported_features_are_rounded_once(tmp_path: Path) -> None:
    np.save(tmp_path / "f.npy", X.astype(np.float64))
    options = {"model": "clip", "stimulus": "movie1", "step_s": 1.0, "store": tmp_path / "s.zarr", "dtype": BFLOAT16}
    done = store_import([tmp_path / "f.npy"], **options)
    np.testing.assert_array_equal(Store(tmp_path / "s.zarr").read(done.layers[0]["node"], "values"), stored(X))
    assert done.nbytes == 2 * X.size
    np.save(tmp_path / "g.npy", np.full((3, 2), 3.4e38))
    with pytest.raises(NumericalError, match=r"'g' of .* reaches 3.4e\+38; bfloat16 ends at 3.38953e\+38"):
        store_import([tmp_path / "g.npy"], **options)
