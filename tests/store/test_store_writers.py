"""One writer at a time; one that is killed, or whose disk is full, leaves an unfinished node and no lock."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from brainsim.core.errors import StoreError, StoreLockedError
from brainsim.core.seeds import named_rng
from brainsim.store import ArraySpec, Store
from brainsim.store import writer as writing
from brainsim.store.exchange import exchange

NODE = "activations/m@1/l/r"
KEY = {"step_s": 1.0}
X = named_rng(0, "writers").standard_normal((64, 16)).astype(np.float32)

WRITER = """
import sys, time
import numpy as np
from brainsim.core.seeds import named_rng
from brainsim.store import ArraySpec, Store

X = named_rng(0, "writers").standard_normal((64, 16)).astype(np.float32)
store = Store(sys.argv[1], "a")
with store.writer("activations/m@1/l/r", type="toy", key={"step_s": 1.0}, arrays={"X": ArraySpec((64, 16))},
                  chunk_rows=4) as writer:
    for row in range(64):
        writer.append("X", X[row:row + 1])
        print(row, flush=True)
        if row == int(sys.argv[2]):
            time.sleep(60)
    writer.complete()
"""


def start_writer(path: Path, stop_at: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITER), str(path), str(stop_at)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) == stop_at:
            return process
    raise AssertionError("the writer ended early")


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.parent != folder}


def write(store: Store, node: str = NODE) -> None:
    store.write(node, type="toy", key=KEY, arrays={"X": X}, chunk_rows=4)


@pytest.mark.parametrize("stop_at", [2, 41])
def test_killed_in_mid_write_then_rerun_gives_the_same_bytes(tmp_path: Path, stop_at: int) -> None:
    undisturbed = Store(tmp_path / "undisturbed.zarr", "a")
    write(undisturbed)
    process = start_writer(tmp_path / "s.zarr", stop_at)
    with pytest.raises(StoreLockedError, match=rf"is being written by process {process.pid} on "):
        write(Store(tmp_path / "s.zarr", "a"))
    kill(process)

    reader = Store(tmp_path / "s.zarr")
    assert reader.nodes() == []
    assert [info.path for info in reader.nodes(complete=False)] == [NODE]
    assert reader.verify() == []
    assert list((tmp_path / "s.zarr/.locks").iterdir())  # what the dead one left

    store = Store(tmp_path / "s.zarr", "a")  # … is swept
    assert not (store.path / ".locks").exists()
    write(store)
    assert contents(store.path / NODE) == contents(undisturbed.path / NODE)
    assert store.verify() == []
    np.testing.assert_array_equal(store.read(NODE, "X"), X)


def test_half_written_files_are_swept_by_the_next_writer(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.zarr", "a")
    process = start_writer(store.path, 2)
    lock = next((store.path / ".locks").glob("*.lock"))
    lock.with_suffix(".partial").write_bytes(b"half a chunk")
    lock.with_suffix(".trash").mkdir()
    Store(store.path, "a")  # the live writer's files stay
    assert lock.with_suffix(".partial").exists()
    kill(process)
    write(store)
    assert [p.suffix for p in (store.path / ".locks").iterdir()] == [".lock"]
    path = store.path
    del store
    assert not (path / ".locks").exists()


def test_a_second_writer_is_refused_at_once_in_the_same_process_too(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.zarr", "a")
    arrays = {"X": ArraySpec((None, 16))}
    with store.writer(NODE, type="toy", key=KEY, arrays=arrays) as writer:
        for call in (lambda: write(store), lambda: write(Store(store.path, "a")), lambda: store.delete(NODE)):
            with pytest.raises(StoreLockedError, match=f"process {os.getpid()} on .*one writer at a time"):
                call()
        write(store, "activations/m@1/l/another")  # another node is free
        writer.append("X", X)
        writer.complete()
    write(store)  # the same key: nothing to do, and the lock is free again
    np.testing.assert_array_equal(store.read(NODE, "X"), X)


def test_readers_never_wait_for_writers(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.zarr", "a")
    write(store, "a/done")
    process = start_writer(store.path, 10)
    try:
        reader = Store(store.path)
        np.testing.assert_array_equal(reader.read("a/done", "X"), X)
        assert [info.path for info in reader.nodes()] == ["a/done"]
    finally:
        kill(process)


def test_many_writers_of_different_nodes_do_not_disturb_each_other(tmp_path: Path) -> None:
    errors: list[BaseException] = []

    def work(worker: int) -> None:
        try:
            for index in range(25):
                write(Store(tmp_path / "s.zarr", "a"), f"a/{index % 5}/{worker}-{index}")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    store = Store(tmp_path / "s.zarr")
    assert len(store.nodes()) == 100
    assert store.verify() == []


def test_racing_for_one_node_of_a_new_store_ends_with_one_whole_node(tmp_path: Path) -> None:
    outcomes: list[str] = []

    def work(path: Path) -> None:
        try:
            write(Store(path, "a"))
            outcomes.append("written")
        except StoreLockedError:
            outcomes.append("locked")

    for race in range(10):
        outcomes.clear()
        path = tmp_path / f"{race}.zarr"
        threads = [threading.Thread(target=work, args=(path,)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(outcomes) == 6
        assert "written" in outcomes
        np.testing.assert_array_equal(Store(path).read(NODE, "X"), X)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_failing_disk_is_a_named_error_and_the_node_unfinished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    import brainsim.store.writer as writer_module

    store = Store(tmp_path / "s.zarr", "a")
    write(store, "a/done")
    put, calls = writer_module.put, []

    def fail_at_third(path: str, partial: str, *parts: bytes) -> int:
        calls.append(path)
        if len(calls) > 6:
            Path(partial).write_bytes(b"half")
            raise OSError(number, os.strerror(number))
        return put(path, partial, *parts)

    with monkeypatch.context() as patch:
        patch.setattr(writer_module, "put", fail_at_third)
        with pytest.raises(StoreError, match=r"no space for writing node|Input/output error") as caught:
            write(store)
    assert caught.value.hint or number == errno.EIO
    assert [info.path for info in store.nodes()] == ["a/done"]
    assert [info.path for info in store.nodes(complete=False)] == [NODE]
    assert not list((store.path / ".locks").glob("*.partial"))
    write(store)
    assert store.verify() == []


def test_what_cannot_fit_is_refused_before_it_is_begun(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.zarr", "a")
    arrays = {"X": ArraySpec((10**9, 10**6))}
    with (
        pytest.raises(StoreError, match=r"no space for node .* free, .* needed"),
        store.writer(NODE, type="toy", key=KEY, arrays=arrays),
    ):
        pass
    assert store.nodes(complete=None) == []


def test_a_limit_on_file_size_is_a_named_error(tmp_path: Path) -> None:
    script = """
    import resource, sys
    import numpy as np
    from brainsim.core.errors import StoreError
    from brainsim.store import Store
    store = Store(sys.argv[1], "a")
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    try:
        store.write("a", type="toy", key={}, arrays={"X": np.zeros((100, 100))})
    except StoreError as error:
        print(error)
    print([info.path for info in store.nodes(complete=False)])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "s.zarr")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        f"writing node 'a' failed in the store at {tmp_path / 's.zarr'}: File too large.",
        "['a']",
    ]


def stores_of_the_killed(path: Path, script: str) -> Iterator[Store]:
    """Run a script that writes and says when it has begun, kill it a moment later, and yield what it left: 8 times."""
    rng = named_rng(3, script)
    for _ in range(8):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script), str(path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        threading.Event().wait(float(rng.uniform(0.0, 0.1)))
        kill(process)
        store = Store(path)
        assert store.verify() == []
        yield store


def test_killed_at_any_instant_never_leaves_a_wrong_number(tmp_path: Path) -> None:
    script = """
    import sys
    import numpy as np
    from brainsim.store import Store
    store = Store(sys.argv[1], "a")
    print("ready", flush=True)
    for round in range(10_000):
        for node in range(3):
            store.write(f"n/{node}", type="toy", key={"round": round}, arrays={"X": np.full((30, 8), round)},
                        chunk_rows=8, overwrite=True)
    """
    for store in stores_of_the_killed(tmp_path / "s.zarr", script):
        for info in store.nodes():
            assert (store.read(info.path, "X") == info.key["round"]).all()


def test_killed_at_any_instant_never_leaves_nothing_of_a_node_that_is_kept_until_then(tmp_path: Path) -> None:
    script = """
    import sys
    import numpy as np
    from brainsim.store import ArraySpec, Store
    store = Store(sys.argv[1], "a")
    for round in range(100_000):
        with store.writer("n/kept", type="toy", key={"round": round}, arrays={"X": ArraySpec((30, 8))},
                          overwrite=True, keep_old=True) as writer:
            writer.append("X", np.full((30, 8), round))
            writer.complete()
        if not round:
            print("ready", flush=True)
    """
    for store in stores_of_the_killed(tmp_path / "s.zarr", script):
        info = store.info("n/kept")
        assert (store.read(info.path, "X") == info.key["round"]).all()


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_kept_node_changes_places_with_the_new_one(
    tmp_path: Path, can_exchange: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "s.zarr", "a")
    store.write(NODE, type="toy", key={"n": 1}, arrays={"X": X, "Y": X[:3]})

    def refuse(*_: str) -> None:
        raise AssertionError("there was an instant without the node")

    if can_exchange:
        monkeypatch.setattr(writing, "move", refuse)
    else:
        monkeypatch.setattr(writing, "exchange", lambda *_: False)
    with store.writer(
        NODE, type="toy", key={"n": 2}, arrays={"X": ArraySpec((64, 16))}, overwrite=True, keep_old=True
    ) as other:
        other.append("X", 2 * X)
        np.testing.assert_array_equal(store.read(NODE, "X"), X)
        other.complete()
    np.testing.assert_array_equal(store.read(NODE, "X"), 2 * X)
    assert set(store.info(NODE).arrays) == {"X"}
    assert store.verify() == []
    assert {left.suffix for left in (tmp_path / "s.zarr" / ".locks").iterdir()} <= {".lock"}


def test_folders_are_exchanged_where_the_system_can(tmp_path: Path) -> None:
    a, b = tmp_path / "ä", tmp_path / "b"
    for folder in (a, b):
        folder.mkdir()
        (folder / folder.name).touch()
    assert exchange(str(a), str(b)) == (sys.platform in ("linux", "darwin"))
    assert [f.name for f in a.iterdir()] == ["b"]
    assert not exchange(str(a), str(tmp_path / "absent"))
