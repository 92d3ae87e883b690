"""SLURM through dask-jobqueue itself, with SLURM's programs replaced by scripts that start the jobs here."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import compute_tasks as work
import dask
import pytest
from compute_tasks import Notes, Square
from fake_slurm import FakeSlurm

from brainsim.compute.cluster import ClusterError, ClusterOptions, run_tasks
from brainsim.compute.slurm import job_script
from brainsim.core.errors import MissingDependencyError

HERE = Path(__file__).parent


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSlurm]:
    """Return a SLURM of this machine, and see that no job of it is left."""
    fake = FakeSlurm(tmp_path)
    monkeypatch.setenv("PATH", f"{fake.programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("brainsim.compute.workers.KEEP_UP_S", 0.3)
    yield fake
    # scancel returns before the kernel has taken a killed job's processes away.
    deadline = time.monotonic() + 20
    while (left := fake.running()) and time.monotonic() < deadline:
        time.sleep(0.05)
    for number in left:
        fake.end(number)
    assert left == []


def jobs(tmp_path: Path, n_workers: int, **more: object) -> ClusterOptions:
    """Return options of small jobs whose output goes to the test's folder."""
    told = {"queue": "short", "prologue": (f"export PYTHONPATH={HERE}",), **more}
    return ClusterOptions(
        "slurm",
        n_workers=n_workers,
        cores_per_worker=1,
        memory_per_worker="1 GiB",
        log_directory=str(tmp_path / "logs"),
        **told,  # type: ignore[arg-type]  # each test says what it tries
    )


def test_jobs_give_what_threads_give_and_are_cancelled(tmp_path: Path, slurm: FakeSlurm) -> None:
    tasks = [Square(number) for number in range(5)]
    progress = Notes()
    options = jobs(tmp_path, 2, account="vision", walltime="00:20:00", directives=("--gres=gpu:1",))
    assert dict(run_tasks(work.square, tasks, options=options, progress=progress)) == {t: t.number**2 for t in tasks}
    assert slurm.submitted() == slurm.cancelled() == ["1001", "1002"]
    assert any("2 SLURM jobs submitted: 1001, 1002" in note for note in progress.notes)
    header = [line.removeprefix("#SBATCH ") for line in slurm.script("1001").splitlines() if "#SBATCH" in line]
    asked = {"-p short", "-A vision", "-t 00:20:00", "--gres=gpu:1", "--cpus-per-task=1", "--mem=1G", "-n 1"}
    assert asked <= set(header)


@pytest.mark.slow
def test_a_worker_that_kills_itself_and_a_job_that_ends_cost_only_their_tasks(tmp_path: Path, slurm: FakeSlurm) -> None:
    tasks = [Square(number, str(tmp_path)) for number in range(6)]
    done = {}
    for task, result in run_tasks(work.square_after_a_kill, tasks, options=jobs(tmp_path, 1)):
        if not done:
            slurm.end("1001")
        done[task.number] = result
    assert done == {number: number**2 for number in range(6)}
    assert (tmp_path / "killed").exists()
    assert slurm.submitted() == ["1001", "1002"]


def test_jobs_that_never_bring_a_worker_are_an_error(tmp_path: Path, slurm: FakeSlurm) -> None:
    progress = Notes()
    options = jobs(tmp_path, 3, prologue=("exit 1",))
    with pytest.raises(ClusterError, match=r"3 SLURM jobs ended before they brought a worker, last 100\d") as error:
        list(run_tasks(work.square, [Square(number) for number in range(9)], options=options, progress=progress))
    assert error.value.hint is not None
    assert str(tmp_path / "logs") in error.value.hint
    assert len(progress.warnings) == 2


def test_a_refusal_is_told_in_the_words_of_slurm(tmp_path: Path, slurm: FakeSlurm) -> None:
    with pytest.raises(ClusterError, match="invalid partition specified: closed"):
        list(run_tasks(work.square, [Square(1)], options=jobs(tmp_path, 1, queue="closed")))
    assert slurm.submitted() == []


def test_a_worker_with_an_older_brainsim_is_named(tmp_path: Path, slurm: FakeSlurm) -> None:
    (tmp_path / "old" / "brainsim").mkdir(parents=True)
    (tmp_path / "old" / "brainsim" / "__init__.py").touch()
    options = jobs(tmp_path, 1, prologue=(f"cd {tmp_path / 'old'}", "export PYTHONPATH=."))
    with pytest.raises(
        ClusterError, match=r"has not the brainsim of this process: No module named 'brainsim\."
    ) as error:
        list(run_tasks(work.square, [Square(1)], options=options))
    assert "install the same brainsim" in str(error.value.hint)


def test_an_interrupt_cancels_jobs(tmp_path: Path, slurm: FakeSlurm) -> None:
    results = run_tasks(work.square, [Square(number) for number in range(9)], options=jobs(tmp_path, 1))
    next(results)
    with pytest.raises(KeyboardInterrupt):
        results.throw(KeyboardInterrupt())
    assert slurm.submitted() == slurm.cancelled() == ["1001"]


def test_the_script_of_a_job_can_be_seen_without_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    script = job_script(ClusterOptions("slurm", cores_per_worker=6, memory_per_worker="24 GiB", queue="gpu"))
    for part in (
        "#SBATCH -p gpu",
        "--cpus-per-task=6",
        "--mem=24G",
        f"#SBATCH -o {tmp_path}/brainsim-slurm-logs/brainsim-%J.out",
        "export BRAINSIM_N_CORES=6",
        "export BRAINSIM_MEMORY_BYTES=25769803776",
        "--nthreads 1",
        "--memory-limit 24.00GiB",
        sys.executable,
    ):
        assert part in script
    assert list(tmp_path.iterdir()) == []


def test_what_the_user_told_dask_holds_where_no_option_says_otherwise() -> None:
    mine = {
        "queue": "own",
        "account": "lab",
        "cores": 12,
        "memory": "30 GB",
        "walltime": "08:00:00",
        "job-extra-directives": ["--exclusive"],
        "job-script-prologue": ["module load python"],
        "log-directory": "/scratch/logs",
    }
    with dask.config.set({"jobqueue.slurm": {**dask.config.get("jobqueue.slurm"), **mine}}):
        own, told = (job_script(options) for options in (ClusterOptions("slurm"), ClusterOptions("slurm", queue="gpu")))
    for part in ("-p own", "-A lab", "--cpus-per-task=12", "--mem=28G", "-t 08:00:00", "--exclusive", "module load"):
        assert part in own
    assert "/scratch/logs" in own
    assert own.replace("-p own", "-p gpu") == told


def test_an_interface_that_is_not_there_is_named(tmp_path: Path, slurm: FakeSlurm) -> None:
    with pytest.raises(ClusterError, match="'lo0x' is not a valid network interface"):
        list(run_tasks(work.square, [Square(1)], options=jobs(tmp_path, 1, interface="lo0x")))


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClusterError, match="no program sbatch"):
        list(run_tasks(work.square, [Square(1)], options=ClusterOptions("slurm")))
    monkeypatch.setitem(sys.modules, "dask_jobqueue.slurm", None)
    with pytest.raises(MissingDependencyError) as error:
        job_script(ClusterOptions("slurm"))
    assert error.value.hint == "pip install 'brainsim-toolkit[slurm]'"
