"""Processes of this machine give what threads give, survive the death of a worker, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import compute_tasks as work
import psutil
import pytest
from compute_tasks import Notes, Square
from distributed import Nanny

from brainsim.compute.cluster import ClusterError, ClusterOptions, WorkerKilledError, run_tasks
from brainsim.core.errors import DeviceError, InputFileError, InvalidValueError, MissingDependencyError

HERE = Path(__file__).parent


def local(n_workers: int) -> ClusterOptions:
    """Return options of a local cluster that share the machine with the other tests."""
    return ClusterOptions("local", n_workers=n_workers, memory_per_worker="1 GiB", cores_per_worker=1)


@pytest.fixture(autouse=True)
def _nothing_is_left_behind(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    environment = _environment()
    yield
    assert [child.name() for child in workers_of(psutil.Process())] == []
    assert list(folder.glob("brainsim-workers-*")) == []
    assert _environment() == environment
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()


def _environment() -> dict[str, str]:
    return {
        name: value for name, value in os.environ.items() if name not in ("PYTEST_CURRENT_TEST", "__DASK_PARENT_PID")
    }


def workers_of(process: psutil.Process) -> list[psutil.Process]:
    """Return the living worker processes below a process."""
    found = []
    for child in process.children(recursive=True):
        with _gone_is_fine():
            if "spawn_main" in " ".join(child.cmdline()) and child.status() != psutil.STATUS_ZOMBIE:
                found.append(child)
    return found


@contextmanager
def _gone_is_fine() -> Iterator[None]:
    try:
        yield
    except psutil.NoSuchProcess:
        return


@pytest.mark.parametrize("n_workers", [1, 2, 3])
def test_any_number_of_workers_gives_what_threads_give(n_workers: int) -> None:
    tasks = [Square(number) for number in range(5)]
    here = dict(run_tasks(work.square, tasks, options=ClusterOptions()))
    there = dict(run_tasks(work.square, tasks, options=local(n_workers)))
    assert here == there == {task: task.number**2 for task in tasks}


def test_a_killed_worker_costs_its_task_which_runs_again(tmp_path: Path) -> None:
    tasks = [Square(number, str(tmp_path)) for number in range(5)]
    progress = Notes()
    started: list[Square] = []
    results = run_tasks(work.square_after_a_kill, tasks, options=local(2), on_start=started.append, progress=progress)
    assert sorted(result for _, result in results) == [0, 1, 4, 9, 16]
    assert (tmp_path / "killed").exists()
    assert sorted(started, key=lambda task: task.number) == tasks  # the second try is not a second start
    assert progress.warnings == ["the worker that ran square of 2 died; it is run again (at most 3 times)."]
    assert progress.notes[0] == "2 of 2 workers are running."


def test_a_task_that_kills_every_worker_is_named_and_its_neighbours_are_not(tmp_path: Path) -> None:
    tasks = [Square(number, str(tmp_path)) for number in range(4)]
    done: list[tuple[Square, int]] = []
    with pytest.raises(WorkerKilledError, match=r"died 2 times while it ran square of 1; .* out of memory") as error:
        done.extend(run_tasks(work.kill_every_time, tasks, options=local(2), retries=2))
    assert sorted(result for _, result in done) == [0, 4, 9]
    assert len(list(tmp_path.iterdir())) == 2
    assert error.value.hint is not None
    assert "--n-workers" in error.value.hint


@pytest.mark.slow
def test_a_worker_that_outgrows_its_memory_is_ended_before_the_machine_suffers() -> None:
    options = ClusterOptions("local", n_workers=1, memory_per_worker="600 MiB", cores_per_worker=1)
    assert [result for _, result in run_tasks(work.take_memory, [Square(200)], options=options)] == [200]
    with pytest.raises(
        WorkerKilledError, match=r"square of 1200; most likely it needs more than the 600\.0 MiB that a worker has"
    ):
        list(run_tasks(work.take_memory, [Square(1200)], options=options))


def test_an_error_reaches_the_caller_as_itself_and_drops_the_rest() -> None:
    tasks = [Square(1), *(Square(number) for number in range(10, 40))]
    with pytest.raises(InputFileError) as error:
        list(run_tasks(work.fail_with_notes, tasks, options=local(1)))
    assert error.value.message == "no kernel at kernels/abc."
    assert error.value.hint == "brainsim store ls kernels"
    assert error.value.__notes__ == ["while fitting sub-01"]
    assert "in fail_with_notes" in str(error.value.__cause__)


def test_a_worker_knows_its_share_and_has_loaded_nothing_heavy() -> None:
    options = ClusterOptions("local", n_workers=1, memory_per_worker="1500 MiB", cores_per_worker=1)
    [(_, told)] = run_tasks(work.tell_share, [Square(0)], options=options)
    assert told == {"cores": 1, "memory": 1500 * 2**20, "omp": "1", "gpu": "", "modules": "dask distributed"}


def test_a_result_that_should_lie_in_the_store_is_refused() -> None:
    with pytest.raises(InvalidValueError, match=r"the result of square of 3 is 1\.9 MiB when pickled"):
        list(run_tasks(work.return_too_much, [Square(3)], options=local(1)))


def test_leaving_early_ends_the_workers() -> None:
    results = run_tasks(work.square, [Square(number) for number in range(9)], options=local(1))
    next(results)
    assert len(workers_of(psutil.Process())) == 1
    results.close()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_an_interrupt_leaves_no_process_and_no_noise(tmp_path: Path, number: int, code: int) -> None:
    script = (
        f"import signal, sys; sys.path.insert(0, {str(HERE)!r})\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored below a shell's background jobs
        "import compute_tasks as work\n"
        "from brainsim.compute.cluster import ClusterOptions, run_tasks\n"
        "if __name__ == '__main__':\n"
        "    options = ClusterOptions('local', n_workers=2, memory_per_worker='1 GiB')\n"
        f"    tasks = [work.Square(i, {str(tmp_path)!r}) for i in range(3)]\n"
        "    try:\n"
        "        list(run_tasks(work.sleep_long, tasks, options=options))\n"
        "    except KeyboardInterrupt:\n"
        "        sys.exit(130)\n"
    )
    driver = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        until = time.monotonic() + 60
        while len(list(tmp_path.glob("*.pid"))) < 2 and time.monotonic() < until:
            time.sleep(0.05)
        workers = workers_of(psutil.Process(driver.pid))
        assert len(workers) == 2
        os.killpg(driver.pid, number) if number == signal.SIGINT else driver.send_signal(number)
        _, noise = driver.communicate(timeout=120)
    finally:
        driver.kill()
        driver.communicate()
    assert (driver.returncode, noise) == (code, "")
    assert [worker for worker in workers if worker.is_running()] == []


@pytest.mark.slow
def test_workers_end_with_a_driver_that_was_killed(tmp_path: Path) -> None:
    script = (
        f"import sys; sys.path.insert(0, {str(HERE)!r})\n"
        "import compute_tasks as work\n"
        "from brainsim.compute.cluster import ClusterOptions, run_tasks\n"
        "if __name__ == '__main__':\n"
        "    options = ClusterOptions('local', n_workers=1, memory_per_worker='1 GiB')\n"
        f"    list(run_tasks(work.sleep_long, [work.Square(0, {str(tmp_path)!r})], options=options))\n"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}  # nobody is left to clean up
    driver = subprocess.Popen([sys.executable, "-c", script], env=environment, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while not list(tmp_path.glob("*.pid")) and time.monotonic() < until:
            time.sleep(0.05)
        workers = workers_of(psutil.Process(driver.pid))
        assert len(workers) == 1
    finally:
        driver.kill()
        driver.wait()
    gone, alive = psutil.wait_procs(workers, timeout=20)
    assert (len(gone), alive) == (1, [])


def test_a_worker_that_is_slow_to_go_does_not_undo_what_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    close, slow = Nanny.close, []

    async def close_late(self: Nanny, timeout: float = 5, reason: str = "nanny-close") -> str:
        outcome = await close(self, timeout=timeout, reason=reason)
        if not slow:
            slow.append(self)
            raise TimeoutError("the killed process was not gone in time")
        return outcome

    monkeypatch.setattr(Nanny, "close", close_late)
    receipts = dict(run_tasks(work.square, [Square(2), Square(3)], options=local(2)))
    assert sorted(receipts.values()) == [4, 9]
    assert len(slow) == 1


def test_workers_of_another_version_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brainsim.compute.dispatch.brainsim_version", lambda: "0.0.7")
    with pytest.raises(ClusterError, match=r"a worker has brainsim .*, the command that sent it work 0\.0\.7"):
        list(run_tasks(work.square, [Square(1)], options=local(1)))


def test_each_gpu_gets_a_worker_that_sees_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brainsim.compute.local._visible_devices", lambda: ["3", "GPU-8f6d"])
    options = ClusterOptions("cuda", memory_per_worker="1 GiB")
    tasks = [Square(number) for number in range(8)]
    seen = {told["gpu"] for _, told in run_tasks(work.tell_share, tasks, options=options)}
    assert seen == {"3", "GPU-8f6d"}
    with pytest.raises(DeviceError, match="torch sees 2 CUDA devices"):
        list(run_tasks(work.square, tasks, options=ClusterOptions("cuda", n_workers=3)))


def test_no_gpu_is_a_named_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(DeviceError, match="no CUDA device"):
        list(run_tasks(work.square, [Square(1)], options=ClusterOptions("cuda")))


def test_a_dashboard_that_cannot_be_shown_is_told_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        options = ClusterOptions("local", dashboard_port=taken.getsockname()[1])
        monkeypatch.setattr("importlib.util.find_spec", lambda name: name != "bokeh" or None)
        with pytest.raises(MissingDependencyError, match="bokeh"):
            list(run_tasks(work.square, [Square(1)], options=options))
        monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
        with pytest.raises(ClusterError, match="cannot be the dashboard's"):
            list(run_tasks(work.square, [Square(1)], options=options))


def test_workers_that_cannot_start_are_a_named_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brainsim.compute.local._protocol", lambda: "carrier-pigeon://")
    with pytest.raises(ClusterError, match=r"no worker process could be started: .*carrier-pigeon"):
        list(run_tasks(work.square, [Square(1)], options=local(1)))
