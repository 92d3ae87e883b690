"""A writer that was interrupted is gone on from, chunk by chunk, and nothing unchecked is taken over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brainsim.core.errors import IncompleteNodeError, InvalidValueError
from brainsim.store import ArraySpec, Store

NODE, KEY = "toys/a", {"made": "here"}
X = np.random.default_rng(0).normal(size=(22, 6)).astype(np.float32)  # chunks of 4 rows: five whole ones and a half
SPECS = {"X": ArraySpec(X.shape), "t": ArraySpec((22,), "float64")}


def open_writer(store: Store, *, key: dict[str, Any] = KEY, chunk_rows: int = 4, **options: Any) -> Any:
    options = {"resume": True, "arrays": SPECS} | options
    return store.writer(NODE, type="toy", key=key, chunk_rows=chunk_rows, **options)


def interrupt(store: Store, n_rows: int, **options: Any) -> None:
    with open_writer(store, **options) as writer:
        for row in range(n_rows):
            writer.append("X", X[row : row + 1])


def finish(store: Store, **options: Any) -> int:
    with open_writer(store, **options) as writer:
        kept = int(writer.n_rows("X"))
        assert writer.n_rows("t") == 0
        writer.append("X", X[kept:])
        writer.append("t", np.arange(22.0))
        writer.complete()
    return kept


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.parent != folder}


def assert_right(store: Store) -> None:
    np.testing.assert_array_equal(store.read(NODE, "X"), X)
    np.testing.assert_array_equal(store.read(NODE, "t"), np.arange(22.0))
    assert store.verify() == []


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "s.zarr", "a")


@pytest.mark.parametrize(("n_rows", "kept"), [(0, 0), (3, 0), (4, 4), (11, 8), (22, 20)])
def test_whole_chunks_are_kept_and_the_files_are_those_of_an_undisturbed_writer(
    store: Store, tmp_path: Path, n_rows: int, kept: int
) -> None:
    undisturbed = Store(tmp_path / "undisturbed.zarr", "a")
    finish(undisturbed)
    interrupt(store, n_rows)
    assert finish(store) == kept
    assert_right(store)
    assert contents(store.path / NODE) == contents(undisturbed.path / NODE)


def test_an_unfinished_node_with_a_manifest_is_never_read(store: Store) -> None:
    interrupt(store, 9)
    reader = Store(store.path)
    (info,) = reader.nodes(complete=False)
    assert info.nbytes == 2 * (4 * 6 * 4 + 4)
    assert reader.nodes() == []
    assert reader.verify() == []
    with pytest.raises(IncompleteNodeError):
        reader.read(NODE, "X")


def test_interrupted_again_and_again_it_ends_right(store: Store) -> None:
    kept = []
    for n_rows in (5, 4, 7, 4):
        with open_writer(store) as writer:
            begin = writer.n_rows("X")
            kept.append(begin)
            writer.append("X", X[begin : begin + n_rows])
    assert kept == [0, 4, 8, 12]
    assert finish(store) == 16
    assert_right(store)


@pytest.mark.parametrize("harm", ["flip", "remove", "cut", "swap"])
def test_a_chunk_that_is_not_the_one_that_was_written_ends_what_is_kept(store: Store, harm: str) -> None:
    interrupt(store, 13)
    chunk, other = store.path / NODE / "X/c/1/0", store.path / NODE / "X/c/2/0"
    data = bytearray(chunk.read_bytes())
    if harm == "flip":
        data[7] ^= 1
    if harm == "remove":
        chunk.unlink()
    else:
        chunk.write_bytes(data[:-1] if harm == "cut" else other.read_bytes() if harm == "swap" else bytes(data))
    assert finish(store) == 4
    assert_right(store)


def test_a_chunk_that_the_manifest_does_not_name_is_not_trusted(store: Store) -> None:
    """Killed between a chunk's renaming and the manifest's, or with chunks of an older node not yet swept."""
    interrupt(store, 9)
    (store.path / NODE / "X/c/2").mkdir()
    (store.path / NODE / "X/c/2/0").write_bytes((store.path / NODE / "X/c/0/0").read_bytes())
    assert finish(store) == 8
    assert_right(store)


@pytest.mark.parametrize(
    "options",
    [
        {"key": {"made": "elsewhere"}},
        {"attributes": {"pool": "mean"}},
        {"overwrite": True},
        {"chunk_rows": 5},
        {"resume": False},
    ],
)
def test_what_was_made_otherwise_is_begun_anew(store: Store, options: dict[str, Any]) -> None:
    interrupt(store, 13)
    assert finish(store, **options) == 0
    assert_right(store)


def test_other_software_begins_anew(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from brainsim.store import records

    interrupt(store, 13)
    monkeypatch.setattr(records, "_software", lambda: {"brainsim": "another"})
    assert finish(store) == 0
    assert_right(store)


def test_an_open_length_cannot_be_resumed(store: Store) -> None:
    with pytest.raises(InvalidValueError, match="array 'X' has an open length; only known lengths can be resumed"):
        open_writer(store, arrays={"X": ArraySpec((None, 6))})
