"""Turn jobs into tasks that run elsewhere: one model on one movie, on any worker that sees the files and the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainsim.commands.extract_jobs import Job, find_models, plan_jobs
from brainsim.commands.extract_options import ExtractOptions
from brainsim.commands.extract_sizes import describe_jobs, group_jobs
from brainsim.core.errors import InputFileError
from brainsim.core.progress import SILENT, Progress
from brainsim.stimuli import open_stimulus
from brainsim.store import Store

if TYPE_CHECKING:
    from brainsim.compute.cluster import ClusterOptions


@dataclass(frozen=True)
class ExtractTask:
    """One model on one movie.

    A worker that dies is charged to this task alone; who runs it next goes on from the clips that are written.

    Parameters
    ----------
    store : Path
        The store.
    model : str
        What finds the model's row.
    stimulus : dict
        What `open_stimulus` is called with.
    digest : str
        The stimulus's digest: the worker must see the same movie.
    options : ExtractOptions
        With the layers by name, and the size of the sketch.
    n_clips : int
        Clips, for the bar that counts those of all tasks.
    """

    store: Path
    model: str
    stimulus: dict[str, Any]
    digest: str
    options: ExtractOptions
    n_clips: int = 0

    @property
    def label(self) -> str:
        """What a person calls it."""
        return f"{self.model} on {self.stimulus['name']}"


def make_tasks(
    jobs: Sequence[Job], opened: Sequence[dict[str, Any]], options: ExtractOptions, store: Store
) -> list[ExtractTask]:
    """Return one task per job; `opened` holds what each stimulus was opened with, `name` among it."""
    by_name = {words["name"]: words for words in opened}
    path = None if options.checkpoint is None else options.checkpoint.absolute()
    options = replace(options, checkpoint=path)
    return [
        ExtractTask(
            store=store.path,
            model=job.row.address or job.row.name,
            stimulus=by_name[job.stimulus.name],
            digest=job.stimulus.digest,
            options=replace(options.with_sketch(job.sketch), layers=job.layers),
            n_clips=job.plan.n_clips,
        )
        for job in jobs
    ]


def run_task(task: ExtractTask) -> tuple[int, tuple[str, ...]]:
    """Extract one model's layers to one movie; return the bytes of activations written, and warnings.

    Raises
    ------
    InputFileError
        Where this machine sees another movie at that path.
    """
    from brainsim.commands.extract_run import load_models, run_jobs

    stimulus = open_stimulus(**task.stimulus)
    if stimulus.digest != task.digest:
        raise InputFileError(
            f"{stimulus.path} is another file for the worker than for who planned the extraction.",
            hint="give movies by a path that all machines share",
        )
    store = Store(task.store, "a")
    jobs = [j for j in plan_jobs(find_models([task.model], task.options), [stimulus], task.options, store) if j.missing]
    if not jobs:
        return 0, ()
    loaded = load_models(jobs, task.options, SILENT)
    sizes = describe_jobs(jobs, task.options)
    done = [run_jobs(group, loaded, task.options, store, SILENT) for group in group_jobs(jobs, sizes)]
    return sum(written.n_bytes for written in done), tuple(w for written in done for w in written.warnings)


def run_on_cluster(
    tasks: Sequence[ExtractTask], cluster: ClusterOptions, progress: Progress
) -> tuple[int, tuple[str, ...]]:
    """Run tasks on workers; return the bytes of activations written, and what the tasks warn of.

    One bar counts tasks and one the clips of those that are done, whatever worker did them: movies differ in length.
    """
    from brainsim.compute.cluster import run_tasks

    n_bytes, warnings = 0, list[str]()
    with progress.task("clips of all tasks", total=sum(task.n_clips for task in tasks), unit="clips") as bar:
        for task, (written, told) in run_tasks(run_task, tasks, options=cluster, progress=progress):
            n_bytes += written
            for warning in told:
                progress.warn(warning)
            warnings += told
            bar.advance(task.n_clips)
    return n_bytes, tuple(warnings)
