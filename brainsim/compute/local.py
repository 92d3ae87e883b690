"""Turn this machine's cores or GPUs into worker processes."""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from brainsim.compute.options import ClusterError, ClusterOptions
from brainsim.compute.workers import (
    NO_WORKERS_S,
    DaskWorkers,
    check_dashboard,
    dask_session,
    thread_environment,
    worker_environment,
)
from brainsim.core.errors import DeviceError
from brainsim.core.progress import Progress
from brainsim.core.resources import format_bytes, memory_free_bytes, n_cores

# What a task of fit or partition needs at most, besides the store: sets how many workers memory allows by default.
_TASK_BYTES = 4 * 2**30

# What workers may take of the memory that is free: the rest is for this process and for the system.
_MEMORY_SHARE = 0.9

# How long a worker is given to end by itself, s: it holds nothing that is worth more.
_STOP_S = 0.5

_KILLED_HINT = "fewer workers (--n-workers), so that each has more memory, or a smaller --n-targets-batch"


@contextmanager
def start_local(options: ClusterOptions, *, n_tasks: int, progress: Progress) -> Iterator[DaskWorkers]:
    """Start worker processes on this machine, each with its share of cores and memory."""
    cores, free = n_cores(), memory_free_bytes()
    by_memory = free // (options.memory_bytes or _TASK_BYTES)
    n = options.n_workers or max(1, min(cores // (options.cores_per_worker or 1), by_memory))
    with _start_processes(options, [{}] * min(n, n_tasks), progress) as workers:
        yield workers


@contextmanager
def start_cuda(options: ClusterOptions, *, n_tasks: int, progress: Progress) -> Iterator[DaskWorkers]:
    """Start one worker process per GPU, each of which sees no other GPU.

    dask-cuda does this too, but it pins one version of Dask, and what it adds (spilling GPU memory, UCX) has no use
    here: nothing of a task outlives it, and nothing but handles travels.
    """
    devices = _visible_devices()
    if not devices:
        raise DeviceError("--cluster cuda: torch sees no CUDA device here.", hint="brainsim doctor, or --cluster local")
    if options.n_workers > len(devices):
        raise DeviceError(
            f"--n-workers is {options.n_workers}; torch sees {len(devices)} CUDA devices here, one for each worker.",
            hint="brainsim doctor",
        )
    n = min(options.n_workers or len(devices), n_tasks)
    with _start_processes(options, [{"CUDA_VISIBLE_DEVICES": device} for device in devices[:n]], progress) as workers:
        yield workers


def _visible_devices() -> list[str]:
    """Return the GPUs of this process as CUDA_VISIBLE_DEVICES names them."""
    import torch

    n_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    told = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return told[:n_devices] if told else [str(number) for number in range(n_devices)]


@contextmanager
def _start_processes(
    options: ClusterOptions, environments: list[dict[str, str]], progress: Progress
) -> Iterator[DaskWorkers]:
    check_dashboard(options.dashboard_port)
    n = len(environments)
    cores = options.cores_per_worker or max(1, n_cores() // n)
    free = memory_free_bytes()
    memory = options.memory_bytes or int(_MEMORY_SHARE * free / n)
    if memory * n > free:
        progress.warn(
            f"{n} workers of {format_bytes(memory)} are told to use more memory than is free ({format_bytes(free)})."
        )
    share = worker_environment(n_cores=cores, memory_bytes=memory)
    with tempfile.TemporaryDirectory(prefix="brainsim-workers-", ignore_cleanup_errors=True) as folder:
        specifications = [_worker_specification({**share, **own}, memory, folder) for own in environments]
        with dask_session(
            lambda: _make_cluster(specifications, options.dashboard_port),
            stop=_stop_processes,
            environment=thread_environment(share),
        ) as (cluster, client):
            if options.dashboard_port:
                progress.note(f"Dask's dashboard: {cluster.dashboard_link}")
            keeper = _Keeper(cluster, n)
            yield DaskWorkers(
                cluster,
                client,
                n_wanted=n,
                killed_cause=f"it needs more than the {format_bytes(memory)} that a worker has, and ran out of memory",
                killed_hint=_KILLED_HINT,
                look_after=keeper.look_after,
            )


def _worker_specification(environment: dict[str, str], memory: int, folder: str) -> dict[str, Any]:
    from distributed import Nanny

    return {
        "cls": Nanny,
        "options": {
            "nthreads": 1,  # one task at a time: its threads are its own
            "memory_limit": memory,
            "env": environment,
            "local_directory": folder,
            "host": "127.0.0.1",
            "protocol": _protocol(),
            "dashboard": False,
            "silence_logs": logging.CRITICAL,
        },
    }


def _protocol() -> str:
    """Return tcp://, or tls:// where the user's dask configuration wants it."""
    import dask

    return f"{dask.config.get('distributed.comm.default-scheme', 'tcp')}://"


def _make_cluster(specifications: list[dict[str, Any]], dashboard_port: int) -> Any:
    from distributed import Scheduler, SpecCluster

    scheduler = {
        "cls": Scheduler,
        "options": {
            "host": "127.0.0.1",
            "protocol": _protocol(),
            "port": 0,
            "dashboard": bool(dashboard_port),
            "dashboard_address": f"127.0.0.1:{dashboard_port}",  # any free port where none is asked for
        },
    }
    try:
        return SpecCluster(workers=dict(enumerate(specifications)), scheduler=scheduler, silence_logs=False)
    except (RuntimeError, OSError) as error:
        raise ClusterError(
            f"no worker process could be started: {str(_first_cause(error)).rstrip('.')}.",
            hint="a script that calls brainsim must do so under `if __name__ == '__main__':`; workers import it",
        ) from error


def _first_cause(error: BaseException) -> BaseException:
    return error if error.__cause__ is None else _first_cause(error.__cause__)


def _stop_processes(cluster: Any) -> None:
    async def stop() -> None:
        closing = (nanny.close(timeout=_STOP_S) for nanny in cluster.workers.values())
        for outcome in await asyncio.gather(*closing, return_exceptions=True):
            # On a busy machine a killed process takes its time to go; it has done its work and holds nothing.
            if isinstance(outcome, BaseException) and not isinstance(outcome, TimeoutError):
                raise outcome

    cluster.sync(stop)


class _Keeper:
    """Start processes again whose nanny went too, and notice when none comes."""

    def __init__(self, cluster: Any, n_wanted: int) -> None:
        self.cluster = cluster
        self.n_wanted = n_wanted
        self.seen_s = time.monotonic()

    def look_after(self, workers: DaskWorkers) -> None:
        n_alive = len(workers.alive())
        if n_alive:
            self.seen_s = time.monotonic()
        if n_alive < self.n_wanted:
            self.cluster.scale(self.n_wanted)
        if time.monotonic() - self.seen_s > NO_WORKERS_S:
            raise ClusterError(
                f"no worker process came up for {NO_WORKERS_S:.0f} s.", hint="--cluster threads, or fewer --n-workers"
            )
