"""Turn SLURM jobs into workers: one job each, submitted by dask-jobqueue from the machine that runs the command.

Whatever the user wrote for dask-jobqueue (~/.config/dask/jobqueue.yaml, jobqueue.slurm) holds where no option says
otherwise.
"""

from __future__ import annotations

import getpass
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from brainsim.compute.options import ClusterError, ClusterOptions, read_bytes
from brainsim.compute.workers import DASK_SETTINGS, DaskWorkers, check_dashboard, dask_session, worker_environment
from brainsim.core.errors import InvalidValueError, MissingDependencyError
from brainsim.core.progress import Progress

# Jobs at once, cores and memory of each, where neither an option nor the dask configuration says: modest enough for
# any queue, and four times what a task needs.
_N_JOBS = 8
_N_CORES = 4
_MEMORY = "16 GB"
_LOG_DIRECTORY = "brainsim-slurm-logs"

# Jobs that may end before their worker came: what fails so often fails always.
_MAX_FAILED_JOBS = 3

# How long squeue and scancel may take, s; a busy controller takes its time.
_ANSWER_S = 60.0

_KILLED_HINT = "more memory or time for each job (memory per worker, walltime), or a smaller --n-targets-batch"


def job_script(options: ClusterOptions) -> str:
    """Return the script that would be submitted for each worker; nothing is started or written.

    Raises
    ------
    MissingDependencyError
        Without dask-jobqueue.
    InvalidValueError
        Where the options and the dask configuration cannot make a job.
    """
    jobqueue = _import_jobqueue()
    described = _describe_job(options)
    folder = described.pop("log_directory")
    with tempfile.TemporaryDirectory() as stand_in:  # making a job makes its folder
        job = jobqueue.slurm.SLURMJob("tcp://SCHEDULER:PORT", name="brainsim-0", log_directory=stand_in, **described)
        script: str = job.job_script()
    return script.replace(stand_in, folder)


@contextmanager
def start_slurm(options: ClusterOptions, *, n_tasks: int, progress: Progress) -> Iterator[DaskWorkers]:
    """Submit one job per worker and cancel them all at the end."""
    jobqueue = _import_jobqueue()
    for program in ("sbatch", "scancel"):
        if shutil.which(program) is None:
            raise ClusterError(
                f"--cluster slurm: there is no program {program} on this machine.",
                hint="run the command on a login node, or --cluster local",
            )
    check_dashboard(options.dashboard_port)
    n = min(options.n_workers or _N_JOBS, n_tasks)
    described = _describe_job(options)
    with dask_session(
        lambda: _make_cluster(jobqueue, described, options.dashboard_port), stop=_cancel_jobs, environment={}
    ) as (cluster, client):
        if options.dashboard_port:
            progress.note(f"Dask's dashboard: {cluster.dashboard_link}")
        keeper = _Keeper(cluster, n, described["log_directory"], progress)
        keeper.submit()
        progress.note(
            f"{n} SLURM jobs submitted: {', '.join(_job_ids(cluster))}; their output goes to {keeper.folder}."
        )
        yield DaskWorkers(
            cluster,
            client,
            n_wanted=n,
            killed_cause="it ran out of memory, or its job out of time",
            killed_hint=_KILLED_HINT,
            look_after=keeper.look_after,
        )


def _import_jobqueue() -> Any:
    try:
        import dask_jobqueue.slurm
    except ImportError as error:
        raise MissingDependencyError(
            "--cluster slurm needs the package dask-jobqueue, which is not installed.",
            hint="pip install 'brainsim-toolkit[slurm]'",
        ) from error
    return dask_jobqueue


def _describe_job(options: ClusterOptions) -> dict[str, Any]:
    """Return the arguments of dask-jobqueue's job: one worker with one task at a time on all the job's cores."""
    import dask

    def configured(name: str) -> Any:
        return dask.config.get(f"jobqueue.slurm.{name}", None)

    cores = options.cores_per_worker or int(configured("job-cpu") or configured("cores") or _N_CORES)
    memory = options.memory_per_worker or str(configured("memory") or _MEMORY)
    share = worker_environment(n_cores=cores, memory_bytes=read_bytes(memory))
    settings = {f"DASK_{name.upper().replace('.', '__').replace('-', '_')}": v for name, v in DASK_SETTINGS.items()}
    prologue = [*(options.prologue or configured("job-script-prologue") or ())]
    told = {
        "queue": options.queue,
        "account": options.account,
        "walltime": options.walltime,
        "interface": options.interface,
        "job_extra_directives": list(options.directives),
    }
    return {
        "job_name": "brainsim",
        "cores": 1,  # Dask's word for tasks at once
        "processes": 1,
        "job_cpu": cores,
        "memory": str(read_bytes(memory)),
        "log_directory": str(Path(options.log_directory or configured("log-directory") or _LOG_DIRECTORY).absolute()),
        "job_script_prologue": [
            *prologue,
            *(f"export {name}={value}" for name, value in {**share, **settings}.items()),
        ],
        **{name: value for name, value in told.items() if value},
    }


def _make_cluster(jobqueue: Any, described: dict[str, Any], dashboard_port: int) -> Any:
    import dask

    configured = dask.config.get("jobqueue.slurm.scheduler-options", None) or {}
    dashboard = {
        "dashboard": bool(dashboard_port),
        "dashboard_address": f":{dashboard_port}",
    }
    try:
        return jobqueue.SLURMCluster(scheduler_options={**dashboard, **configured}, silence_logs=False, **described)
    except (RuntimeError, OSError) as error:
        raise ClusterError(
            f"Dask's scheduler could not be started here: {str(error).removeprefix('Cluster failed to start: ')}",
            hint="an interface is named as `ip address` shows it",
        ) from error
    except ValueError as error:  # dask-jobqueue's and psutil's word for options that cannot be
        raise InvalidValueError(f"no SLURM job can be made of these options: {error}") from error


def _job_ids(cluster: Any) -> list[str]:
    return sorted(str(job.job_id) for job in list(cluster.workers.values()) if job.job_id)


def _cancel_jobs(cluster: Any) -> None:
    from distributed.core import Status

    jobs = _job_ids(cluster)
    if jobs:  # Dask asks each worker first, and cancels job by job; this is sooner and takes those that wait as well
        subprocess.run(["scancel", *jobs], capture_output=True, check=False, timeout=_ANSWER_S)
    for job in list(cluster._created):  # those that SLURM refused or ended as well: Dask insists on it
        job.status = Status.closed


class _Keeper:
    """Submit jobs, submit again those whose worker is gone, and notice jobs that end before they brought a worker."""

    def __init__(self, cluster: Any, n_wanted: int, folder: str, progress: Progress) -> None:
        self.cluster = cluster
        self.n_wanted = n_wanted
        self.folder = folder
        self.progress = progress
        self.n_failed = 0

    def submit(self) -> None:
        """Submit a job for every worker that has none.

        Raises
        ------
        ClusterError
            Where sbatch refuses it.
        """
        while len(self.cluster.worker_spec) < self.n_wanted:
            self.cluster.worker_spec.update(self.cluster.new_worker_spec())
        try:
            self.cluster.sync(self.cluster._correct_state)  # scale() would submit later and keep a refusal to itself
        except (RuntimeError, ValueError, OSError) as error:
            raise ClusterError(
                f"SLURM refused a job: {_last_words(error)}", hint="check queue, account, walltime, cores and memory"
            ) from error

    def look_after(self, workers: DaskWorkers) -> None:
        """Replace jobs that ended.

        Raises
        ------
        ClusterError
            Where several jobs ended before a worker came of them.
        """
        queued = _queued_jobs() if len(workers.alive()) < self.n_wanted else None
        if queued is None:
            return
        names = {str(state.name) for state in list(self.cluster.scheduler.workers.values())}
        for name, job in list(self.cluster.workers.items()):
            if str(job.job_id) in queued or str(name) in names:
                continue
            if str(name) not in workers.seen:
                self._count_failure(str(job.job_id))
            workers.seen.discard(str(name))
            self.cluster.workers.pop(name, None)
        self.submit()

    def _count_failure(self, job_id: str) -> None:
        self.n_failed += 1
        log = Path(self.folder) / f"brainsim-{job_id}.err"
        if self.n_failed >= min(_MAX_FAILED_JOBS, self.n_wanted):
            raise ClusterError(
                f"{self.n_failed} SLURM jobs ended before they brought a worker, last {job_id}.",
                hint=f"read {log}: the Python of the jobs must have brainsim and reach this machine",
            )
        self.progress.warn(f"SLURM job {job_id} ended before it brought a worker (see {log}); another is submitted.")


def _queued_jobs() -> set[str] | None:
    """Return the numbers of this user's jobs that wait or run; None where SLURM does not say."""
    try:
        done = subprocess.run(
            ["squeue", "--noheader", "--format=%A", f"--user={getpass.getuser()}"],
            capture_output=True,
            text=True,
            check=True,
            timeout=_ANSWER_S,
        )
    except (OSError, subprocess.SubprocessError, KeyError):
        return None
    return set(done.stdout.split())


def _last_words(error: Exception) -> str:
    """Return what a refusing program said last, out of dask-jobqueue's account of it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.strip().endswith(":")]
    return lines[-1] if lines else type(error).__name__
