"""Turn planned runs into nodes of the store: which are there, which must be made, and one subject at a time."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from brainsim.commands.ingest_writing import write_run, write_targets
from brainsim.core.errors import InputFileError, InvalidValueError
from brainsim.core.progress import Task
from brainsim.core.provenance import digest, digest_file
from brainsim.core.resources import memory_free_bytes
from brainsim.datasets.alignment import RunPlan, find_repeats
from brainsim.datasets.ceilings import ceiling_of_means
from brainsim.datasets.cleaning import CleaningOptions
from brainsim.datasets.groupings import Grouping
from brainsim.datasets.preparing import find_varying, measure_repeats, prepare_run
from brainsim.datasets.rois import RoiLabels
from brainsim.datasets.runs import Run
from brainsim.datasets.structures import describe_structures
from brainsim.datasets.targets import Targets, choose_targets
from brainsim.store import Store

# Raised when the same files and options would give other numbers: nodes of older versions are then made anew.
INGEST_VERSION = 2
# Clean runs of a subject wait in memory until all are checked, up to this part of what is free; then on disk.
MEMORY_PART = 0.25


@dataclass(frozen=True)
class Origin:
    """What all subjects of a dataset are made from, beside their own files.

    Parameters
    ----------
    rois : RoiLabels, optional
    grouping : Grouping, optional
    mask : Path, optional
    cleaning : CleaningOptions
    format : str
    resample : bool
        Whether mask and labels may be on another grid.
    select : tuple of (str, float), optional
        Array of the targets' node, and what it must exceed for a target to stay.
    """

    rois: RoiLabels | None
    grouping: Grouping | None
    mask: Path | None
    cleaning: CleaningOptions
    format: str
    resample: bool = False
    select: tuple[str, float] | None = None


@dataclass(frozen=True)
class SubjectJob:
    """One subject: what its nodes are to be, and which are there.

    Parameters
    ----------
    dataset, subject : str
    plans : tuple of RunPlan
        In order of the runs.
    origin : Origin
    targets_key : dict
        Key of its targets node.
    run_keys : tuple of dict
        Key of each run's node.
    missing : frozenset of str
        Nodes that are not there, or are to be made anew.
    """

    dataset: str
    subject: str
    plans: tuple[RunPlan, ...]
    origin: Origin
    targets_key: Mapping[str, Any]
    run_keys: tuple[Mapping[str, Any], ...]
    missing: frozenset[str] = frozenset()

    @property
    def targets_node(self) -> str:
        """Path of the targets."""
        return f"rois/{self.dataset}/{self.subject}"

    @property
    def run_nodes(self) -> tuple[str, ...]:
        """Paths of the runs."""
        return tuple(f"bold/{self.dataset}/{self.subject}/{plan.source.run}" for plan in self.plans)

    @property
    def keys(self) -> dict[str, Mapping[str, Any]]:
        """Node -> key."""
        return {**dict(zip(self.run_nodes, self.run_keys, strict=True)), self.targets_node: self.targets_key}

    @property
    def is_done(self) -> bool:
        """Whether nothing is to be made."""
        return not self.missing

    @property
    def n_missing(self) -> int:
        """How many nodes are to be made."""
        return len(self.missing)


def open_store(path: Path, *, dry_run: bool) -> Store | None:
    """Open the store for writing; in a dry run for reading, None where there is none."""
    if not dry_run:
        return Store(path, mode="a")
    return Store(path, mode="r") if path.exists() else None


def plan_subjects(
    plans: Sequence[RunPlan], origin: Origin, dataset: str, store: Store | None, *, overwrite: bool
) -> list[SubjectJob]:
    """Make the key of every node, and look which nodes are there.

    Raises
    ------
    InvalidValueError
        A node that is there and was made otherwise, unless `overwrite`.
    InputFileError
        Two runs of a subject that are the same file.
    """
    file_digests = _digest_files(plans)
    jobs = []
    for subject in dict.fromkeys(plan.source.subject for plan in plans):
        own = tuple(plan for plan in plans if plan.source.subject == subject)
        _check_copies(own, file_digests)
        targets_key = _make_targets_key(own, origin, file_digests)
        run_keys = tuple(_make_run_key(plan, origin, digest(targets_key), file_digests) for plan in own)
        job = SubjectJob(dataset, subject, own, origin, targets_key, run_keys)
        missing = frozenset(n for n, key in job.keys.items() if overwrite or not _is_there(store, n, key))
        jobs.append(SubjectJob(dataset, subject, own, origin, targets_key, run_keys, missing))
    return jobs


def ingest_subject(job: SubjectJob, store: Store, *, overwrite: bool, bar: Task) -> list[str]:
    """Clean all of a subject's runs, then write its nodes, the targets last.

    Returns
    -------
    list of str
        What the user must see.
    """
    origin, first = job.origin, job.plans[0]
    varying = find_varying(job.plans) if _runs_decide(job.plans, origin) else None
    targets = choose_targets(
        first.grid,
        where=first.source.where,
        mask=origin.mask,
        rois=origin.rois,
        grouping=origin.grouping,
        varying=varying,
        resample=origin.resample,
    )
    measured, ceilings = _measure_ceilings(job, targets)
    if origin.select is not None:
        targets, measured = _select(job, targets, measured)
    todo = [(n, k, p) for n, k, p in zip(job.run_nodes, job.run_keys, job.plans, strict=True) if n in job.missing]
    n_bytes = sum(plan.n_trs for _, _, plan in todo) * targets.n_targets * 4
    with ExitStack() as stack:
        folder = None
        if n_bytes > MEMORY_PART * memory_free_bytes():
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=".ingest-", dir=store.path.parent)))
        ready: list[tuple[Run, tuple[str, ...]]] = []
        for _, _, plan in todo:
            run, notes = prepare_run(plan, targets, origin.cleaning)
            ready.append((run if folder is None else _put_aside(run, folder / f"{len(ready)}.npy"), notes))
            bar.advance()
        warnings = _clear_old(job, store, overwrite=overwrite)
        for (node, key, plan), (run, notes) in zip(todo, ready, strict=True):
            write_run(store, node, key, plan, run, job, notes)
        if job.targets_node in job.missing:
            write_targets(store, job, targets, measured, ceilings)
    return warnings


def _repeat_groups(plans: Sequence[RunPlan]) -> list[list[RunPlan]]:
    """Return the viewings of each stimulus of a subject, averaged or not."""
    return [[one for k in group for one in (plans[k], *plans[k].repeats)] for group in find_repeats(plans)]


def _measure_ceilings(job: SubjectJob, targets: Targets) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return what repeats tell of each target, by the names of arrays, and what each is a ceiling of.

    `ceiling` is only written where it is that of the very data that are stored: results are divided by it.
    """
    groups = _repeat_groups(job.plans)
    counts = [len(group) for group in groups]
    if max(counts) < 2:
        return {}, {}
    statistics, _ = measure_repeats(groups, targets, job.origin.cleaning)
    explainable = statistics.explainable
    measured = {"explainable_variance": explainable, "reliability": statistics.reliability}
    shown = sum(count > 1 for count in counts)
    told = {
        "explainable_variance": f"R2 of single viewings, from {shown} stimuli that were shown "
        f"{min(count for count in counts if count > 1)} to {max(counts)} times",
        "reliability": "no R2: correlation of the means of odd and even viewings",
    }
    if all(plan.repeats for plan in job.plans) and len(set(counts)) == 1:
        measured["ceiling"] = ceiling_of_means(explainable, counts[0])
        told["ceiling"] = f"R2 of means of {counts[0]} viewings, which all runs are"
    elif min(counts) > 1 and not any(plan.repeats for plan in job.plans):
        measured["ceiling"] = ceiling_of_means(explainable, 1)
        told["ceiling"] = "R2 of single viewings, which all runs are"
    return measured, told


def _select(
    job: SubjectJob, targets: Targets, measured: dict[str, np.ndarray]
) -> tuple[Targets, dict[str, np.ndarray]]:
    """Keep the targets whose repeats agree enough.

    Raises
    ------
    InvalidValueError
        Nothing was repeated, or no target is left.
    """
    assert job.origin.select is not None
    name, threshold = job.origin.select
    if name not in measured:
        raise InvalidValueError(
            f"targets are to be selected by {name}, and {job.subject} saw no stimulus twice at the same times.",
            hint="--select all; a stimulus map says which runs are repeats",
        )
    stays = np.nan_to_num(measured[name], nan=-np.inf) > threshold
    if not stays.any():
        raise InvalidValueError(
            f"none of the {targets.n_targets} targets of {job.subject} has {name} above {threshold:g}; the highest is "
            f"{np.nanmax(measured[name]):.3g}.",
            hint="a lower threshold in --select",
        )
    note = f"{job.subject}: {int(stays.sum())} of {targets.n_targets} targets have {name} above {threshold:g}."
    kept = replace(
        targets,
        places=targets.places[stays],
        membership=targets.membership[:, stays],
        notes=(*targets.notes, note),
    )
    return kept, {key: values[stays] for key, values in measured.items()}


def _digest_files(plans: Sequence[RunPlan]) -> dict[Path, str]:
    paths = [
        path
        for joined in plans
        for plan in (joined, *joined.repeats)
        for path in (plan.source.path, plan.source.confounds, *plan.source.beside)
        if path is not None
    ]
    try:
        return {path: digest_file(path) for path in dict.fromkeys(paths)}
    except OSError as error:
        raise InputFileError(f"{error.filename} cannot be read: {error.strerror}.") from error


def _check_copies(plans: Sequence[RunPlan], file_digests: Mapping[Path, str]) -> None:
    seen: dict[tuple[str, str], RunPlan] = {}
    for plan in (one for joined in plans for one in (joined, *joined.repeats)):
        twin = seen.setdefault((file_digests[plan.source.path], plan.source.item), plan)
        if twin is not plan:
            raise InputFileError(
                f"{twin.source.where} and {plan.source.where} are the same file byte by byte; copies of a run leak "
                "across cross-validation.",
                hint="take one of them out",
            )


def _make_targets_key(plans: Sequence[RunPlan], origin: Origin, file_digests: Mapping[Path, str]) -> dict[str, Any]:
    rois = origin.rois
    key: dict[str, Any] = {
        "version": INGEST_VERSION,
        "subject": plans[0].source.subject,
        "shape": list(plans[0].grid.shape),
        "affine": plans[0].grid.affine,
        "space": plans[0].source.space,
        "mask": None if origin.mask is None else digest_file(origin.mask),
        "rois": None,
        "streams": None if origin.grouping is None else dict(origin.grouping.streams),
    }
    if plans[0].grid.structures:
        arrays, record = describe_structures(plans[0].grid)
        key["structures"] = {**record, "index": hashlib.sha256(arrays["place_index"].tobytes()).hexdigest()}
    if rois is not None:
        names = {str(label): name for label, name in rois.names.items()}
        labels = hashlib.sha256(np.ascontiguousarray(rois.labels, dtype=np.int64).tobytes()).hexdigest()
        key["rois"] = {"labels": labels, "names": names}
    if origin.resample:
        key["resample"] = True
    if any(len(group) > 1 for group in _repeat_groups(plans)):
        viewings = [[_viewing(one, file_digests) for one in group] for group in _repeat_groups(plans)]
        key["repeats"] = {"viewings": viewings, "cleaning": origin.cleaning.describe(), "select": origin.select}
    if _runs_decide(plans, origin):
        key["runs"] = [[file_digests[plan.source.path], plan.source.item] for plan in plans]
    return key


def _viewing(plan: RunPlan, file_digests: Mapping[Path, str]) -> list[Any]:
    source = plan.source
    table = None if source.confounds is None else file_digests[source.confounds]
    return [
        file_digests[source.path],
        source.item,
        [file_digests[p] for p in source.beside],
        table,
        plan.first,
        plan.stop,
    ]


def _runs_decide(plans: Sequence[RunPlan], origin: Origin) -> bool:
    """Return whether the runs say which voxels are targets; of a table every column is one."""
    return origin.rois is None and origin.mask is None and not plans[0].grid.is_table


def _make_run_key(
    plan: RunPlan, origin: Origin, targets_digest: str, file_digests: Mapping[Path, str]
) -> dict[str, Any]:
    source = plan.source
    return {
        "version": INGEST_VERSION,
        "file": file_digests[source.path],
        "item": source.item,
        "beside": [file_digests[path] for path in source.beside],
        "confounds_file": None if source.confounds is None else file_digests[source.confounds],
        "cleaning": origin.cleaning.describe(),
        "tr_s": plan.tr_s,
        "start_s": plan.start_s,
        "volumes": [plan.first, plan.stop],
        "repeats": [_viewing(repeat, file_digests) for repeat in plan.repeats],
        "stimulus": plan.showing.stimulus,
        "targets": targets_digest,
    }


def _is_there(store: Store | None, node: str, key: Mapping[str, Any]) -> bool:
    if store is None or not store.has(node):
        return False
    if store.has(node, key=key):
        return True
    there = store.info(node).key
    differing = sorted(name for name in {*there, *key} if digest(there.get(name)) != digest(key.get(name)))
    raise InvalidValueError(
        f"{node} is in {store.path} and was made otherwise ({', '.join(differing)} differ).",
        hint="--overwrite makes it anew; --dataset with another name keeps both",
    )


def _put_aside(run: Run, path: Path) -> Run:
    """Return the run with its values in a file, read when they are written."""
    np.save(path, run.bold)
    values = {name: getattr(run, name) for name in run.__dataclass_fields__}
    return Run(**{**values, "bold": np.load(path, mmap_mode="r")})


def _clear_old(job: SubjectJob, store: Store, *, overwrite: bool) -> list[str]:
    """Remove what the new nodes replace, the targets first: a subject without targets is no subject."""
    if not overwrite:
        return []
    if store.has(job.targets_node):
        store.delete(job.targets_node)
    targets_digest = digest(dict(job.targets_key))
    gone = []
    for info in store.nodes(f"bold/{job.dataset}/{job.subject}", type="bold"):
        if info.path in job.missing:
            store.delete(info.path)
        elif info.key.get("targets") != targets_digest:
            store.delete(info.path)
            gone.append(info.path.rsplit("/", 1)[-1])
    if not gone:
        return []
    return [
        f"{job.dataset} {job.subject}: {', '.join(gone)} had other targets and were removed; ingest them again with "
        "the same mask and ROIs."
    ]
