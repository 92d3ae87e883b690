"""A store at a URL: read and checked there, copied byte by byte, never written."""

from __future__ import annotations

import functools
import pickle
import threading
import zipfile
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from brainsim import store_fetch
from brainsim.commands.store import store_ls, store_show, store_verify
from brainsim.core.errors import BrainsimError, IncompleteNodeError, InvalidValueError, StoreDamageError, StoreError
from brainsim.core.progress import SILENT
from brainsim.core.seeds import named_rng
from brainsim.store import ArraySpec, Store
from brainsim.store.remote import UrlStore, fetch_node, open_store

NODE = "activations/m@0a1b2c3d/layer1/run-1"
X = named_rng(0, "remote").standard_normal((40, 6)).astype(np.float32)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    store = Store(tmp_path / "shared.zarr", "a")
    time_s = np.arange(1.0, 41.0)
    arrays = {"values": X, "time_s": time_s, "window_s": np.stack([time_s - 1, time_s], 1)}
    store.write(NODE, type="activations", key={"step_s": 1.0}, arrays=arrays, attributes={"model": "m"}, chunk_rows=16)
    store.write("fits/a/movie/sub-01", type="fit", key={}, arrays={"r2": X[0], "r": X[0]})
    with store.writer("fits/b", type="toy", key={}, arrays={"r": ArraySpec((None,))}):
        pass
    return store.path


@pytest.fixture(params=["http", "memory"])
def url(shared: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "http":
        pytest.importorskip("aiohttp")
        server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=shared.parent))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/{shared.name}"
        server.shutdown()
        server.server_close()
        return
    fsspec = pytest.importorskip("fsspec")
    memory, base = fsspec.filesystem("memory"), f"/{uuid4().hex}"
    for file in shared.rglob("*"):
        if file.is_file():
            memory.pipe_file(f"{base}/{file.relative_to(shared)}", file.read_bytes())
    yield f"memory:/{base}"
    memory.rm(base, recursive=True)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_nodes_are_listed_and_read_there(url: str) -> None:
    store = open_store(url)
    assert isinstance(store, UrlStore)
    assert [info.path for info in store.nodes()] == [NODE, "fits/a/movie/sub-01"]
    np.testing.assert_array_equal(store.read(NODE, "values"), X)
    np.testing.assert_array_equal(store.read(NODE, "values", slice(10, 30), slice(2, 4)), X[10:30, 2:4])
    assert store.info(NODE).attributes["model"] == "m"
    assert store.has(NODE, key={"step_s": 1.0})
    assert not store.has("activations/none")
    assert store.verify() == []
    with pytest.raises(IncompleteNodeError):
        store.read("fits/b", "r")
    with pytest.raises(InvalidValueError, match="open for reading"):
        store.write("a/b", type="toy", key={}, arrays={})
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(store)).read(NODE, "values"), X)


def test_the_words_that_look_take_urls(url: str) -> None:
    assert store_ls(url).n_nodes == 2
    assert store_ls(Path(url)).n_unfinished == 1  # as the command line gives it
    assert store_show(url, NODE).arrays["values"]["shape"] == [40, 6]
    assert store_verify(url).ok


@pytest.fixture(params=["zip", "memory", "file"])
def root_url(shared: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """A store that is the root of its file system: its path there is empty."""
    fsspec = pytest.importorskip("fsspec")
    files = {str(file.relative_to(shared)): file.read_bytes() for file in shared.rglob("*") if file.is_file()}
    if request.param == "zip":
        with zipfile.ZipFile(shared.with_suffix(".zip"), "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        yield f"zip://::{shared.with_suffix('.zip')}"
        return
    if request.param == "file":
        yield f"file://{shared}/"
        return
    memory = fsspec.filesystem("memory")
    for name, data in files.items():
        memory.pipe_file(f"/{name}", data)
    yield "memory://"
    for name in {name.split("/")[0] for name in files}:
        memory.rm(f"/{name}", recursive=True)


def test_a_store_may_be_the_root_of_what_a_url_opens(root_url: str, shared: Path, tmp_path: Path) -> None:
    store = open_store(root_url)
    np.testing.assert_array_equal(store.read(NODE, "values"), X)
    assert store_verify(root_url).ok
    assert store_ls(root_url).nodes == store_ls(shared).nodes
    store_fetch(root_url, "activations/*", store=tmp_path / "mine.zarr")
    assert contents(tmp_path / "mine.zarr" / NODE) == contents(shared / NODE)


def test_nodes_are_copied_byte_by_byte(url: str, shared: Path, tmp_path: Path) -> None:
    planned = store_fetch(url, store=tmp_path / "own.zarr", dry_run=True)
    assert (planned.n_nodes_written, planned.nodes[0]["state"]) == (1, "missing")
    assert not (tmp_path / "own.zarr").exists()
    done = store_fetch(url, store=tmp_path / "own.zarr")
    assert (done.n_nodes_written, done.nodes[0]["node"]) == (1, NODE)
    assert contents(tmp_path / "own.zarr" / NODE) == contents(shared / NODE)
    own = Store(tmp_path / "own.zarr")
    np.testing.assert_array_equal(own.read(NODE, "values", columns=slice(1, 3)), X[:, 1:3])
    assert own.verify() == []
    assert store_fetch(url, store=tmp_path / "own.zarr").n_nodes_reused == 1
    Store(tmp_path / "own.zarr", "a").delete(NODE)
    Store(tmp_path / "own.zarr", "a").write(NODE, type="toy", key={"step_s": 2.0}, arrays={})
    with pytest.raises(InvalidValueError, match="step_s was 2"):
        store_fetch(url, store=tmp_path / "own.zarr")
    store_fetch(url, store=tmp_path / "own.zarr", overwrite=True)
    assert contents(tmp_path / "own.zarr" / NODE) == contents(shared / NODE)


def test_a_copy_that_broke_off_is_gone_on_from(url: str, shared: Path, tmp_path: Path) -> None:
    remote, own, fetched = UrlStore(url), Store(tmp_path / "own.zarr", "a"), []
    fetch = remote.fetch

    def broken(record: object, file: str) -> np.ndarray:
        if file == "values/c/2/0" and not fetched[-1:] == ["again"]:
            raise StoreError("the line is dead.")
        return fetch(record, file)  # type: ignore[arg-type]  # passed on as it came

    remote.fetch = broken  # type: ignore[method-assign]  # a line that dies
    with SILENT.task("fetch") as task:
        with pytest.raises(StoreError, match="the line is dead"):
            fetch_node(remote, NODE, own, overwrite=False, task=task)
        assert not own.has(NODE)
        fetched.append("again")
        assert fetch_node(remote, NODE, own, overwrite=False, task=task)
    assert contents(own.path / NODE) == contents(shared / NODE)


def test_damage_elsewhere_is_found_and_never_copied(shared: Path, tmp_path: Path) -> None:
    chunk = shared / NODE / "values/c/1/0"
    data = bytearray(chunk.read_bytes())
    data[7] ^= 1
    chunk.write_bytes(data)
    remote = UrlStore(f"file://{shared}")
    with pytest.raises(StoreDamageError, match="fails its checksum"):
        remote.read(NODE, "values")
    assert [(d.node, d.chunk) for d in remote.verify()] == [(NODE, "values/c/1/0")]
    with pytest.raises(StoreDamageError):
        store_fetch(str(shared), store=tmp_path / "own.zarr")
    assert not Store(tmp_path / "own.zarr").has(NODE)
    chunk.unlink()
    with pytest.raises(StoreDamageError, match="is missing"):
        remote.read(NODE, "values")


@pytest.mark.parametrize(
    "url", ["memory://nowhere", "http://127.0.0.1:9/none", "nonsense://x", "file:///nowhere/at/all"]
)
def test_urls_without_a_store_are_named(url: str) -> None:
    with pytest.raises(BrainsimError, match=url):
        open_store(url)


@pytest.mark.parametrize("mode", ["r", "a"])
@pytest.mark.parametrize("place", ["s3://bucket/s.zarr", "file:///tmp/s.zarr", Path("https://lab.org/s.zarr")])
def test_a_url_is_no_folder_to_write_into(
    place: str | Path, mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match="is a URL") as error:
        Store(place, mode)
    assert "store fetch" in str(error.value.hint)
    assert not list(tmp_path.iterdir())
