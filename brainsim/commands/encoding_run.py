"""Turn a plan into tasks, run those that are missing, and put each subject together when its tasks are done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from brainsim.commands.cluster_words import read_cluster_words
from brainsim.commands.encoding_data import SubjectGroup
from brainsim.commands.encoding_plan import EncodingPlan, result_is_done
from brainsim.commands.encoding_results import assemble
from brainsim.commands.encoding_targets import pack_parts
from brainsim.commands.encoding_tasks import EncodingTask, Receipt, run_task
from brainsim.commands.kernel_tasks import ensure_kernels
from brainsim.core.progress import SILENT, Progress, progress_of_tasks
from brainsim.core.provenance import digest
from brainsim.core.resources import n_cores

if TYPE_CHECKING:
    from brainsim.compute.cluster import ClusterOptions
    from brainsim.store import Store


@dataclass(frozen=True)
class Written:
    """What was done.

    Parameters
    ----------
    keys : dict of str to dict
        Subject -> what makes its result.
    n_written, n_reused : int
        Nodes made now, and found complete.
    """

    keys: dict[str, dict[str, Any]]
    n_written: int
    n_reused: int


@dataclass(frozen=True)
class Analysis:
    """What a verb adds to the plan.

    Parameters
    ----------
    kind : str
        Type of its nodes, and of its tasks.
    paths : mapping of str to str
        Subject -> node.
    options : mapping
        Its own options, for the key, the page and the tasks.
    describe : mapping
        Attributes that are the same for all subjects.
    wants_layers : bool
        Whether single layers are scored too.
    """

    kind: str
    paths: Mapping[str, str]
    options: Mapping[str, Any]
    describe: Mapping[str, Any]
    wants_layers: bool = False


def result_keys(plan: EncodingPlan, analysis: Analysis) -> dict[str, dict[str, Any]]:
    """Return what makes each subject's result."""
    return {
        subject.name: plan.result_key(analysis.kind, group, subject, analysis.options)
        for group in plan.groups
        for subject in group.subjects
    }


def write_missing(
    store: Store,
    plan: EncodingPlan,
    analysis: Analysis,
    *,
    overwrite: bool,
    dry_run: bool,
    progress: Progress = SILENT,
) -> Written:
    """Run the tasks of the subjects whose result is missing, and write each subject when its tasks are done.

    Raises
    ------
    InvalidValueError
        Where a name is taken by another result, before anything is computed.
    """
    keys = result_keys(plan, analysis)
    todo: list[SubjectGroup] = []
    for group in plan.groups:
        missing = tuple(
            subject
            for subject in group.subjects
            if not result_is_done(store, analysis.paths[subject.name], keys[subject.name], overwrite=overwrite)
        )
        if missing:
            todo.append(SubjectGroup(group.timing, missing))
    n_todo = sum(len(group.subjects) for group in todo)
    n_reused = len(plan.subjects) - n_todo
    cluster = cluster_options(plan)
    if dry_run or not todo:
        return Written(keys, 0, n_reused)
    wanted = {subject.name for group in todo for subject in group.subjects}
    groups = [group for group in plan.groups if wanted & {subject.name for subject in group.subjects}]
    kernels = ensure_kernels(store, plan.bands, groups, plan.kernel_options, cluster=cluster, progress=progress)
    tasks = [
        task
        for group, nodes in zip(groups, kernels, strict=True)
        for task in _group_tasks(store, plan, group, nodes, wanted, analysis, keys)
    ]
    tasks = _share_budget(plan, tasks)
    _run(store, plan, todo, tasks, analysis, keys, cluster, overwrite=overwrite, progress=progress)
    return Written(keys, n_todo, n_reused)


def cluster_options(plan: EncodingPlan) -> ClusterOptions:
    """Return where the tasks run.

    Raises
    ------
    InvalidValueError
        Words that the cluster does not know.
    """
    options = plan.options
    n_workers = 0 if options.cluster == "threads" else options.n_workers
    return read_cluster_words(options.cluster, n_workers, options.cluster_options)


def _group_tasks(
    store: Store,
    plan: EncodingPlan,
    group: SubjectGroup,
    nodes: tuple[Sequence[str], Sequence[str]],
    wanted: Set[str],
    analysis: Analysis,
    keys: Mapping[str, dict[str, Any]],
) -> Iterator[EncodingTask]:
    """Yield the tasks of the subjects that are wanted; `nodes` are the kernels of the group's bands and of its layers.

    Subjects are packed as if all were, so that a run that was interrupted finds the work nodes that it left.
    """
    kernels, layers = nodes
    for parts in pack_parts(store, group, rois=plan.options.rois, n_targets_batch=plan.options.n_targets_batch):
        names = list(dict.fromkeys(part.subject for part in parts))
        if not wanted & set(names):
            continue
        key = digest(
            {
                "results": [keys[name] for name in names],
                # Two fits of the same options and different names may run side by side: each has its own work.
                "paths": [analysis.paths[name] for name in names],
                "parts": [[part.subject, part.start, part.stop] for part in parts],
            }
        )
        span = f" {parts[0].start + 1:,}-{parts[0].stop:,}" if len(parts) == 1 else ""
        yield EncodingTask(
            label=f"{analysis.kind} of {', '.join(names)}{span}",
            kind=analysis.kind,
            store=str(store.path.absolute()),
            work=f"work/{key[:16]}",
            results=tuple(analysis.paths[name] for name in names),
            key=key,
            parts=parts,
            layout=group.fit_layout,
            left_out=group.left_out,
            tr_s=group.timing[0].grid.tr_s,
            kernels=tuple(kernels),
            layer_kernels=tuple(layers) if analysis.wants_layers else (),
            band_groups=tuple(plan.band_groups()),
            options=plan.options,
            analysis=dict(analysis.options),
        )


def _share_budget(plan: EncodingPlan, tasks: Sequence[EncodingTask]) -> list[EncodingTask]:
    """Divide the time over the tasks; workers that were not counted finish early rather than late."""
    budget_s = plan.options.budget_s
    if budget_s is None:
        return list(tasks)
    at_once = {"threads": 1, "local": plan.options.n_workers or n_cores()}
    n_at_once = at_once.get(plan.options.cluster, max(plan.options.n_workers, 1))
    share = budget_s * min(n_at_once, len(tasks)) / len(tasks)
    return [replace(task, budget_s=share) for task in tasks]


def _run(
    store: Store,
    plan: EncodingPlan,
    groups: Sequence[SubjectGroup],
    tasks: Sequence[EncodingTask],
    analysis: Analysis,
    keys: Mapping[str, dict[str, Any]],
    cluster: ClusterOptions,
    *,
    overwrite: bool,
    progress: Progress,
) -> None:
    """Run tasks, and assemble every subject whose tasks are all done; work nodes go when nobody needs them any more."""
    from brainsim.compute.cluster import run_tasks

    group_of = {subject.name: group for group in groups for subject in group.subjects}
    subject_of = {subject.name: subject for group in groups for subject in group.subjects}
    tasks_of: dict[str, list[EncodingTask]] = {name: [] for name in subject_of}
    needed = {task.work: {part.subject for part in task.parts} & subject_of.keys() for task in tasks}
    for task in tasks:
        for name in needed[task.work]:
            tasks_of[name].append(task)
    waiting = {name: {task.work for task in own} for name, own in tasks_of.items()}

    def finish(receipt: Receipt) -> None:
        for name in sorted(needed[receipt.work]):
            waiting[name].discard(receipt.work)
            if waiting[name]:
                continue
            assemble(
                store,
                plan,
                group_of[name],
                subject_of[name],
                path=analysis.paths[name],
                kind=analysis.kind,
                key=keys[name],
                tasks=tasks_of[name],
                attributes={**analysis.describe, "options": {**plan.record(), **analysis.options}},
                overwrite=overwrite,
            )
            for own in tasks_of[name]:
                needed[own.work].discard(name)
                if not needed[own.work]:
                    store.delete(own.work)

    with progress_of_tasks(progress):
        for _, receipt in run_tasks(run_task, tasks, options=cluster, progress=progress):
            finish(receipt)
    _sweep(store, {analysis.paths[name] for name in subject_of})


def _sweep(store: Store, written: Set[str]) -> None:
    """Delete the work nodes that interrupted runs with other options left for results that are now written."""
    for node in store.nodes("work", type="work"):
        if set(node.attributes["results"]) <= written:
            store.delete(node.path)
