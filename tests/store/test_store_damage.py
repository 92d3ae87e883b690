"""A byte that is not the one that was written is an error that names it, never a number."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from brainsim.core.errors import IncompleteNodeError, StoreDamageError, StoreError
from brainsim.core.seeds import named_rng
from brainsim.store import Damage, Store

NODE = "bold/planted/sub-01/run-1"
X = named_rng(0, "damage").standard_normal((40, 6)).astype(np.float32)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "s.zarr", "a")
    write(store)
    store.write("bold/planted/sub-01/run-2", type="toy", key={"run": 2}, arrays={"X": X + 1}, chunk_rows=10)
    return store


def write(store: Store, **options: bool) -> None:
    store.write(NODE, type="toy", key={"run": 1}, arrays={"X": X}, attributes={"a": "b"}, chunk_rows=10, **options)


def flip(path: Path, at: int = -20) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)


def swap_with_another_run(path: Path) -> None:
    path.write_bytes(Path(str(path).replace("run-1", "run-2")).read_bytes())


WAYS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (Path.unlink, "is missing"),
    "empty": (lambda path: path.write_bytes(b""), "has 0 bytes instead of 244"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:100]), "has 100 bytes"),
    "longer": (lambda path: path.write_bytes(path.read_bytes() + b"0"), "has 245 bytes"),
    "flipped": (flip, "fails its checksum"),
    "flipped-in-checksum": (lambda path: flip(path, -1), "fails its checksum"),
    "swapped": (swap_with_another_run, "fails its checksum"),  # its own checksum is right: the manifest's is not
}


@pytest.mark.parametrize("way", WAYS)
def test_a_damaged_chunk_is_an_error_that_names_it(store: Store, way: str) -> None:
    harm, said = WAYS[way]
    harm(store.path / NODE / "X/c/2/0")
    zarr_array = store.open_array(NODE, "X")
    reads = (
        lambda: store.read(NODE, "X"),
        lambda: store.read(NODE, "X", slice(25, 26)),
        lambda: store.read(NODE, "X", columns=slice(0, 2)),
        lambda: zarr_array[25],
        lambda: zarr_array[:],
    )
    for read in reads:
        with pytest.raises(StoreDamageError, match=r"chunk 'X/c/2/0' of node 'bold/planted/sub-01/run-1'") as caught:
            read()
        assert said in caught.value.message
        assert "brainsim store verify" in str(caught.value)
    np.testing.assert_array_equal(store.read(NODE, "X", slice(0, 20)), X[:20])  # what is whole can be read
    np.testing.assert_array_equal(zarr_array[:20], X[:20])
    damages = store.verify()
    assert [(d.node, d.chunk) for d in damages] == [(NODE, "X/c/2/0")]
    assert said in damages[0].what


def test_damage_after_a_chunk_was_checked_is_still_found(store: Store) -> None:
    block = (slice(None), slice(1, 3))
    np.testing.assert_array_equal(store.read(NODE, "X", *block), X[block])
    flip(store.path / NODE / "X/c/0/0")
    with pytest.raises(StoreDamageError):
        store.read(NODE, "X", *block)


def test_a_missing_folder_of_chunks_is_found(store: Store) -> None:
    import shutil

    shutil.rmtree(store.path / NODE / "X/c")
    with pytest.raises(StoreDamageError, match=r"X/c/0/0.*is missing"):
        store.read(NODE, "X")
    assert len(store.verify()) == 4


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:50]),
        lambda path: path.write_bytes(b"\xff" + path.read_bytes()[1:]),
        lambda path: path.write_text(path.read_text().replace('"a":"b"', '"a":"c"')),
        lambda path: path.write_text(path.read_text().replace('"complete":true', '"complete":false')),
        lambda path: path.write_text(path.read_text().replace('"group"', '"goats"')),
        lambda path: path.write_text("[]"),
        lambda path: path.write_text('{"zarr_format":3,"node_type":"group","attributes":{"brainsim":7}}'),
        lambda path: path.write_text(
            '{"zarr_format":3,"node_type":"group","attributes":{"brainsim":{"type":"toy","version":1}}}'
        ),
    ],
)
def test_a_damaged_record_is_an_error_and_never_skipped(store: Store, harm: Callable[[Path], object]) -> None:
    harm(store.path / NODE / "zarr.json")
    reads = (
        lambda s: s.read(NODE, "X"),
        lambda s: s.info(NODE),
        lambda s: s.has(NODE),
        lambda s: s.nodes(),
        lambda s: s.open_array(NODE, "X"),
        write,
    )
    for opened in (store, Store(store.path, "a")):
        for read in reads:
            with pytest.raises(StoreDamageError, match=NODE):
                read(opened)
    assert [(d.node, d.chunk) for d in store.verify()] == [(NODE, None)]
    assert len(store.nodes("*/*/*/run-2")) == 1
    write(store, overwrite=True)
    assert store.verify() == []
    np.testing.assert_array_equal(store.read(NODE, "X"), X)


def test_every_flipped_byte_of_a_record_is_found(store: Store) -> None:
    path = store.path / NODE / "zarr.json"
    good = path.read_bytes()
    for at in range(len(good)):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with pytest.raises(StoreError):
            Store(store.path).nodes()


def test_a_missing_record_is_found(store: Store) -> None:
    (store.path / NODE / "zarr.json").unlink()
    with pytest.raises(StoreDamageError, match=r"zarr.json of 'bold/planted/sub-01/run-1' is missing"):
        store.nodes()
    assert [d.node for d in store.verify()] == [NODE]
    (store.path / "bold/zarr.json").write_text("{")
    assert [d.node for d in store.verify()] == ["bold"]
    with pytest.raises(StoreDamageError, match="bold"):
        write(store, overwrite=True)


def test_a_damaged_root_is_an_error(store: Store) -> None:
    (store.path / "zarr.json").write_text("{")
    for mode in ("r", "a"):
        with pytest.raises(StoreDamageError, match=r"zarr.json of the store"):
            Store(store.path, mode)


def test_verify_finds_changed_array_metadata_and_strangers(store: Store) -> None:
    flip(store.path / NODE / "X/zarr.json", 5)
    (store.path / NODE / "X/c/9").mkdir()
    (store.path / NODE / "X/c/9/0").write_bytes(b"?")
    (store.path / NODE / "notes.txt").write_text("?")
    assert {(d.node, d.chunk) for d in store.verify()} == {
        (NODE, "X/zarr.json"),
        (NODE, "X/c/9/0"),
        (NODE, "notes.txt"),
    }
    np.testing.assert_array_equal(store.read(NODE, "X"), X)  # it does not depend on either
    with pytest.raises(StoreDamageError):
        store.open_array(NODE, "X")


def test_verify_counts_bytes_and_says_nothing_of_a_healthy_store(store: Store) -> None:
    from contextlib import contextmanager

    from brainsim.core.progress import SilentProgress

    class Watched(SilentProgress):
        def __init__(self) -> None:
            self.total, self.done = 0.0, 0.0

        @contextmanager
        def task(self, label: str, *, total: float | None = None, unit: str = ""):
            assert unit == "B"
            self.total = total
            yield self

        def advance(self, n: float = 1) -> None:
            self.done += n

    watched = Watched()
    assert store.verify(watched) == []
    assert watched.total == watched.done == sum(info.nbytes for info in store.nodes()) > 0
    assert Damage("a", "b", None).chunk is None


def test_random_changes_of_a_byte_are_all_found_and_none_is_read_as_a_number(
    tmp_path: Path, root_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (root_dir / "benchmarks").is_dir():
        pytest.skip("the benchmarks are not part of an installation")
    monkeypatch.syspath_prepend(root_dir)
    from benchmarks.faults import flips  # a script: this is its small version

    store, rng = flips.make_store(tmp_path / "flips.zarr"), named_rng(7, "flips")
    chunks = sorted(p for p in store.path.rglob("c/**/*") if p.is_file())
    for path in rng.choice(np.array(chunks, object), 60):
        assert flips.flip_and_look(store, path, rng) is None
    assert store.verify() == []


def test_a_complete_node_that_lost_a_file_is_written_again(store: Store) -> None:
    (store.path / NODE / "X/c/1/0").unlink()
    write(store)
    np.testing.assert_array_equal(store.read(NODE, "X"), X)


def test_reading_a_node_that_is_being_rewritten_says_so(store: Store) -> None:
    reader = Store(store.path)
    record = reader._complete(NODE)
    with store.writer(NODE, type="toy", key={"run": 1}, arrays={}, overwrite=True):
        reader._with_array = lambda node, array: record  # the reader looked just before the writer began
        with pytest.raises(IncompleteNodeError, match="unfinished"):
            reader.read(NODE, "X")


def test_the_record_names_every_file_with_size_and_checksum(store: Store) -> None:
    import google_crc32c

    record = json.loads((store.path / NODE / "zarr.json").read_text())["attributes"]["brainsim"]
    assert set(record["files"]) == {"X/zarr.json", *(f"X/c/{i}/0" for i in range(4))}
    for file, (size, crc) in record["files"].items():
        data = (store.path / NODE / file).read_bytes()
        assert size == len(data)
        assert crc == google_crc32c.value(data if file.endswith("zarr.json") else data[:-4])
