"""Turn a list of independent tasks into results, in this process, on local processes, on SLURM or on GPUs.

Handles travel, never arrays: a task names what it reads and writes in the store, and its result says what was done.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from importlib import import_module
from typing import TypeVar

from brainsim.compute.options import CLUSTERS, ClusterError, ClusterOptions, WorkerKilledError
from brainsim.compute.parcels import describe_task, pack, pack_task
from brainsim.core.checks import check_count
from brainsim.core.progress import SILENT, Progress

Task = TypeVar("Task")
Result = TypeVar("Result")

__all__ = ["CLUSTERS", "ClusterError", "ClusterOptions", "WorkerKilledError", "run_tasks"]

# A task whose worker dies this often is at fault itself.
DEFAULT_RETRIES = 3


def run_tasks(
    function: Callable[[Task], Result],
    tasks: Iterable[Task],
    *,
    options: ClusterOptions,
    on_start: Callable[[Task], None] | None = None,
    progress: Progress = SILENT,
    retries: int = DEFAULT_RETRIES,
) -> Generator[tuple[Task, Result], None, None]:
    """Yield (task, function(task)) as they complete: in the order of the tasks with threads, in any order otherwise.

    Workers are gone when the generator ends, is closed, or raises (Ctrl-C too).

    Parameters
    ----------
    function : callable
        Importable by name: workers import it.
    tasks : iterable
        Small picklable values; one with a `label` is called by it in messages.
    options : ClusterOptions
        Where they run.
    on_start : callable, optional
        Called here with each task when it is first sent to a worker.
    progress : Progress
        Gets one bar of tasks, and a note whenever the number of running workers changes.
    retries : int
        How often the worker of one task may die before that is an error.

    Raises
    ------
    WorkerKilledError
        Where one task's workers died `retries` times.
    ClusterError
        Where workers cannot be started, or run another version of brainsim.
    MissingDependencyError, DeviceError
        Where SLURM or CUDA is asked for and a package or every GPU is missing.
    InvalidValueError
        Where a task, a result or the function cannot travel.
    Exception
        Whatever the function raises, as it is; all other tasks are dropped.
    """
    check_count("the number of tries", retries)
    todo = list(tasks)
    with progress.task("tasks", total=len(todo), unit="tasks") as bar:
        if CLUSTERS[options.kind].start and todo:
            results = _run_on_workers(function, todo, options, on_start, progress, retries)
        else:
            results = _run_here(function, todo, on_start)
        with closing(results):
            for done in results:
                bar.advance()
                yield done


def _run_here(
    function: Callable[[Task], Result], tasks: Iterable[Task], on_start: Callable[[Task], None] | None
) -> Generator[tuple[Task, Result], None, None]:
    for task in tasks:
        pack_task(function, task)  # so that what cannot travel is found on a laptop, not on the cluster
        if on_start is not None:
            on_start(task)
        result = function(task)
        pack(result, what=f"the result of {describe_task(task)}")
        yield task, result


def _run_on_workers(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    options: ClusterOptions,
    on_start: Callable[[Task], None] | None,
    progress: Progress,
    retries: int,
) -> Generator[tuple[Task, Result], None, None]:
    from brainsim.compute.dispatch import Dispatcher

    module, _, name = CLUSTERS[options.kind].start.partition(":")
    start = getattr(import_module(module), name)
    parcels = [pack_task(function, task) for task in tasks]  # before anything is started
    with start(options, n_tasks=len(tasks), progress=progress) as workers:
        yield from Dispatcher(workers, tasks, parcels, retries=retries).run(on_start=on_start, progress=progress)
