"""Turn a Dask cluster into workers that take one task at a time, leave nothing behind, and keep their manners."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import resource_tracker
from types import FrameType
from typing import Any

from brainsim.compute.options import ClusterError
from brainsim.core.resources import CORES_VARIABLE, MEMORY_VARIABLE

# What Dask would do and we do not want, under the names of its configuration.
DASK_SETTINGS: dict[str, Any] = {
    # The dispatcher counts deaths itself, so Dask tells it of the first.
    "distributed.scheduler.allowed-failures": 0,
    # A worker holds one small parcel: nothing to spill, and a pause would wait for memory that the task itself needs.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    # Its sampling takes Python's lock a hundred times a second.
    "distributed.worker.profile.enabled": False,
}

# What sizes the thread pools of the numeric libraries, read when they are imported.
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)

# Dask's nannies leave this in the environment of their own process as well.
_LEFT_BY_NANNIES = ("MALLOC_TRIM_THRESHOLD_", "PYTHONHASHSEED", "__DASK_PARENT_PID")

# How often lost workers are looked after, s, and how long none may be there on one machine, s.
KEEP_UP_S = 5.0
NO_WORKERS_S = 120.0

# How long a cluster may take to close once its workers have ended, s.
CLOSE_S = 20.0


class DaskWorkers:
    """The workers of a running Dask cluster (see `dispatch.Workers`)."""

    def __init__(
        self,
        cluster: Any,
        client: Any,
        *,
        n_wanted: int,
        killed_cause: str,
        killed_hint: str,
        look_after: Callable[[DaskWorkers], None],
    ) -> None:
        self.cluster = cluster
        self.client = client
        self.n_wanted = n_wanted
        self.killed_cause = killed_cause
        self.killed_hint = killed_hint
        self.seen: set[str] = set()  # names of workers that came, be they gone or not
        self._look_after = look_after
        self._looked_s = time.monotonic()

    def alive(self) -> list[str]:
        """Return the addresses of the workers that can take a task now."""
        # The scheduler lives in this process: its own list is never stale.
        states = {a: s for a, s in list(self.cluster.scheduler.workers.items()) if s.status.name == "running"}
        self.seen.update(str(state.name) for state in states.values())
        return list(states)

    def present(self) -> list[str]:
        """Return the addresses of all workers that are not gone, those that are leaving among them."""
        return list(self.cluster.scheduler.workers)

    def keep_up(self) -> None:
        """Replace lost workers; raise ClusterError where none can be expected any more."""
        if time.monotonic() - self._looked_s >= KEEP_UP_S:
            self._looked_s = time.monotonic()
            self._look_after(self)


@contextmanager
def dask_session(
    make_cluster: Callable[[], Any], *, stop: Callable[[Any], None], environment: dict[str, str]
) -> Iterator[tuple[Any, Any]]:
    """Make a cluster and its client, and take both down whatever happens.

    Parameters
    ----------
    make_cluster : callable
        Returns a started cluster (a distributed.SpecCluster).
    stop : callable
        Ends the cluster's workers at once, without asking them.
    environment : dict
        Variables that child processes must find when they start.

    Yields
    ------
    cluster, client
    """
    import dask
    from distributed import Client

    with ExitStack() as stack:
        stack.enter_context(dask.config.set(DASK_SETTINGS))
        stack.enter_context(_changed_environment(environment))
        stack.enter_context(_quiet_logs())
        stack.enter_context(_end_on_sigterm())
        cluster = client = None
        try:
            with _interrupts_held_back():
                cluster = make_cluster()
                client = Client(cluster, set_as_default=False)
            yield cluster, client
        finally:
            with _interrupts_held_back():
                if cluster is not None:
                    stop(cluster)
                if client is not None:
                    client.close()
                if cluster is not None:
                    # Its workers have ended. distributed waited forever for a nanny whose process died while it
                    # started, up to 2026.6 at least.
                    with suppress(TimeoutError):
                        cluster.close(timeout=CLOSE_S)


def worker_environment(*, n_cores: int, memory_bytes: int) -> dict[str, str]:
    """Return the variables that tell a worker its share of a machine."""
    threads = {name: str(min(n_cores, _told_threads(name) or n_cores)) for name in _THREAD_VARIABLES}
    return {**threads, CORES_VARIABLE: str(n_cores), MEMORY_VARIABLE: str(memory_bytes)}


def thread_environment(environment: dict[str, str]) -> dict[str, str]:
    """Return the part of a worker's environment that must be there before its process starts."""
    return {name: environment[name] for name in _THREAD_VARIABLES}


def _told_threads(name: str) -> int:
    told = os.environ.get(name, "")
    return int(told) if told.isdecimal() else 0


@contextmanager
def _changed_environment(variables: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in (*_THREAD_VARIABLES, *_LEFT_BY_NANNIES, *variables)}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Let Ctrl-C wait until the end of the block, and let what Dask starts meanwhile never see it.

    A terminal sends Ctrl-C to every process of the command, and workers would each print a traceback of their own. Who
    inherits a blocked signal never gets it; this process ends them. It waits itself because a cluster that is half
    started, or half closed, leaves processes behind.
    """
    caught: list[tuple[int, FrameType | None]] = []
    handler = signal.getsignal(signal.SIGINT)
    is_ours = threading.current_thread() is threading.main_thread() and callable(handler)
    resource_tracker.ensure_running()  # its start unblocks signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    if is_ours:
        signal.signal(signal.SIGINT, lambda number, frame: caught.append((number, frame)))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if is_ours:
            signal.signal(signal.SIGINT, handler)
        if caught and callable(handler):
            handler(*caught[0])


@contextmanager
def _end_on_sigterm() -> Iterator[None]:
    """Make a SIGTERM (a driver's own time limit) end the workers too, where nobody else listens to it."""

    def leave(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def _quiet_logs() -> Iterator[None]:
    """Keep Dask's own log from the terminal: what a user must know arrives as an error or a note of ours."""
    loggers = [logging.getLogger(name) for name in ("distributed", "dask_jobqueue", "bokeh")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def check_dashboard(port: int) -> None:
    """Refuse a dashboard that could not be shown.

    Raises
    ------
    ClusterError
        Where the port is taken or may not be used.
    MissingDependencyError
        Where Dask's dashboard is not installed.
    """
    import importlib.util
    import socket

    from brainsim.core.errors import MissingDependencyError

    if not port:
        return
    if importlib.util.find_spec("bokeh") is None:
        raise MissingDependencyError("Dask's dashboard needs the package bokeh.", hint="pip install bokeh")
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ClusterError(
                f"port {port} cannot be the dashboard's: {error.strerror}.", hint="another port, or leave it out"
            ) from error
