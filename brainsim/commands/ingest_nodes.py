"""Turn planned runs into nodes of the store: which are there, which must be made, and one subject at a time."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from brainsim.core.errors import InputFileError, InvalidValueError
from brainsim.core.progress import Task
from brainsim.core.provenance import digest, digest_file
from brainsim.core.resources import memory_free_bytes
from brainsim.datasets.cleaning import CleaningOptions
from brainsim.datasets.groupings import Grouping
from brainsim.datasets.preparing import RunPlan, find_varying, prepare_run
from brainsim.datasets.runs import Run
from brainsim.datasets.rois import RoiLabels
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
    """

    rois: RoiLabels | None
    grouping: Grouping | None
    mask: Path | None
    cleaning: CleaningOptions
    format: str


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


@dataclass(frozen=True)
class SubjectRow:
    """What the store holds of a subject; counts are of targets."""

    subject: str
    n_targets: int
    rois: dict[str, int]
    streams: dict[str, int]
    runs: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = field(default=())


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
    )
    todo = [(n, k, p) for n, k, p in zip(job.run_nodes, job.run_keys, job.plans, strict=True) if n in job.missing]
    n_bytes = sum(plan.n_volumes for _, _, plan in todo) * targets.n_targets * 4
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
            _write_run(store, node, key, plan, run, job, notes)
        if job.targets_node in job.missing:
            _write_targets(store, job, targets)
    return warnings


def describe_subject(job: SubjectJob, store: Store) -> SubjectRow:
    """Return what the store holds of a subject, from the attributes of its nodes."""
    targets = store.info(job.targets_node).attributes
    runs: list[dict[str, Any]] = []
    notes = list(targets["notes"])
    for node in job.run_nodes:
        info = store.info(node)
        notes += info.attributes["notes"]
        a, (n_trs, n_targets) = info.attributes, info.arrays["values"][0]
        runs.append(
            {
                "subject": a["subject"],
                "run": a["run"],
                "stimulus": a["stimulus"],
                "n_trs": n_trs,
                "start_s": a["start_s"],
                "n_targets": n_targets,
                "n_masked": sum(a["masked"].values()),
                **a["qc"],
                "masked": a["masked"],
            }
        )
    return SubjectRow(
        subject=job.subject,
        n_targets=int(targets["n_targets"]),
        rois=dict(targets["roi_counts"]),
        streams=dict(targets["stream_counts"]),
        runs=tuple(runs),
        notes=tuple(notes),
    )


def _digest_files(plans: Sequence[RunPlan]) -> dict[Path, str]:
    paths = [
        path
        for plan in plans
        for path in (plan.source.path, plan.source.confounds, *plan.source.beside)
        if path is not None
    ]
    try:
        return {path: digest_file(path) for path in dict.fromkeys(paths)}
    except OSError as error:
        raise InputFileError(f"{error.filename} cannot be read: {error.strerror}.") from error


def _check_copies(plans: Sequence[RunPlan], file_digests: Mapping[Path, str]) -> None:
    seen: dict[tuple[str, str], RunPlan] = {}
    for plan in plans:
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
    if _runs_decide(plans, origin):
        key["runs"] = [[file_digests[plan.source.path], plan.source.item] for plan in plans]
    return key


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


def _write_run(
    store: Store,
    node: str,
    key: Mapping[str, Any],
    plan: RunPlan,
    run: Run,
    job: SubjectJob,
    notes: Sequence[str],
) -> None:
    store.write(
        node,
        type="bold",
        key=key,
        arrays={"values": run.bold, "valid": run.valid.astype(np.uint8)},
        attributes={
            "dataset": job.dataset,
            "subject": run.subject,
            "run": run.run,
            "stimulus": run.stimulus,
            "tr_s": run.tr_s,
            "start_s": run.start_s,
            "cleaning": job.origin.cleaning.describe(),
            "qc": dict(run.quality),
            "masked": dict(run.masked),
            "source": plan.source.where,
            "confounds_source": None if plan.source.confounds is None else str(plan.source.confounds),
            "format": job.origin.format,
            "notes": list(notes),
        },
    )


def _write_targets(store: Store, job: SubjectJob, targets: Targets) -> None:
    grid = targets.grid
    origin = job.origin
    arrays, structures = describe_structures(grid) if grid.structures else ({}, {})
    store.write(
        job.targets_node,
        type="targets",
        key=job.targets_key,
        arrays={"ijk": targets.ijk, "membership": targets.membership, **arrays},
        attributes={
            "dataset": job.dataset,
            "subject": job.subject,
            "roi_names": list(targets.roi_names),
            "streams": {stream: list(rois) for stream, rois in targets.streams.items()},
            "roi_counts": targets.count_rois(),
            "stream_counts": targets.count_streams(),
            "affine": grid.affine,
            "volume_shape": None if grid.affine is None else list(grid.shape),
            **structures,
            "space": job.plans[0].source.space,
            "n_targets": targets.n_targets,
            "rois_source": None if origin.rois is None else str(origin.rois.path),
            "mask_source": None if origin.mask is None else str(origin.mask),
            "grouping": None if origin.grouping is None else origin.grouping.name,
            "notes": list(targets.notes),
        },
    )
