"""Turn scans or tables into clean runs, ROIs and streams in the store."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainsim.core.checks import check_file, check_node_name, check_number
from brainsim.core.errors import InvalidValueError
from brainsim.core.progress import SILENT, Progress

if TYPE_CHECKING:
    from brainsim.commands.ingest_nodes import SubjectJob
    from brainsim.datasets.preparing import RunPlan
    from brainsim.datasets.runs import RunSource
    from brainsim.datasets.stimulus_map import Showing


@dataclass(frozen=True)
class IngestSummary:
    """What an ingestion did, or would do.

    Parameters
    ----------
    dataset, store, format : str
        Name of the dataset, the store's path, and the format in which the source was read.
    subjects : tuple of str
        Subjects ingested.
    n_runs : int
        Runs over all subjects.
    n_targets : dict
        Subject -> number of targets; without subjects that a dry run has not looked into.
    tr_s : float
        Repetition time in seconds.
    rois, streams : dict
        Subject -> {ROI or stream: number of targets}.
    masked : dict
        Reason -> number of targets masked for it, over all runs.
    qc : tuple of dict
        One row per run: subject, run, stimulus, n_trs, start_s, n_targets, n_masked and the quality figures.
    n_nodes_written, n_nodes_reused : int
        Nodes made (to be made, in a dry run) and found complete.
    warnings : tuple of str
        What the user must see.
    seconds : float
        Wall time.
    dry_run : bool
        Whether nothing was written.
    plan : tuple of dict
        In a dry run: one row per run: {node, source, n_volumes, tr_s, stimulus, start_s, state}.
    """

    dataset: str
    store: str
    format: str
    subjects: tuple[str, ...]
    n_runs: int
    n_targets: dict[str, int]
    tr_s: float
    rois: dict[str, dict[str, int]]
    streams: dict[str, dict[str, int]]
    masked: dict[str, int]
    qc: tuple[dict[str, Any], ...]
    n_nodes_written: int
    n_nodes_reused: int
    warnings: tuple[str, ...]
    seconds: float
    dry_run: bool = False
    plan: tuple[dict[str, Any], ...] = field(default=())


def ingest(
    source: str | Path | Sequence[str | Path],
    *,
    dataset: str,
    store: str | Path = "store/brainsim.zarr",
    format: str = "auto",
    subjects: Sequence[str] = (),
    task: str | None = None,
    space: str | None = None,
    tr_s: float | None = None,
    rois: Path | None = None,
    streams: Mapping[str, Sequence[str]] | Path | None = None,
    mask: Path | None = None,
    confounds: str = "none",
    high_pass_s: float | None = 128.0,
    drop_volumes: int = 0,
    standardize: str = "zscore",
    stimulus_map: Path | None = None,
    dry_run: bool = False,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> IngestSummary:
    """Clean the runs of a dataset and put them into the store, with their ROIs, streams and quality figures.

    All runs of a subject are read to their end, checked and cleaned before anything of that subject is written; its
    targets are written last, so that an unfinished subject is never taken for a whole one. The same command run twice
    does nothing the second time.

    Parameters
    ----------
    source : path, or sequence of path
        A BIDS tree (raw or fMRIPrep's), NIfTI files or a folder of them, tables or arrays with one row per TR.
    dataset : str
        Name of the dataset in the store.
    store : path
        The store; made where there is none.
    format : str
        "auto", "bids", "nifti", "table", or one that a plug-in brings.
    subjects : sequence of str
        Subjects wanted, with or without "sub-"; all by default.
    task : str, optional
        Task wanted, where there are several; a pattern such as "MOVIE*" takes several as runs.
    space : str, optional
        Space wanted, where there are several; "native" for images that name none.
    tr_s : float, optional
        Repetition time where files do not say it; must agree where they do.
    rois : path, optional
        Label image in the space of the runs, with a TSV of names (index, name) beside it; for tables a TSV with a
        column roi, one row per target.
    streams : mapping or path, optional
        Streams as unions of ROIs: a TOML, JSON or TSV file, or a grouping that ships (wang2015-four, wang2015-study,
        glasser2016-four); without it every ROI is a stream.
    mask : path, optional
        Image whose voxels above 0 are targets; without it the ROIs' voxels, else all voxels that change over time. Of
        tables every column is a target.
    confounds : str
        "none", "motion6", "motion24", "acompcor5", or columns of the confounds table with commas between.
    high_pass_s : float or None
        Longest period that is kept; None for no high-pass.
    drop_volumes : int
        Volumes left out at the beginning of each run.
    standardize : str
        "zscore", "psc" (percent signal change) or "none" (centred), per run.
    stimulus_map : path, optional
        TSV with the columns run, stimulus, onset_s (into the run) and offset_s (into the stimulus); without it each
        run's stimulus is called like the run and began with it.
    dry_run : bool
        Say what would be done.
    overwrite : bool
        Make nodes anew, also those made with other options.
    progress : Progress
        Told about each run.

    Returns
    -------
    IngestSummary

    Raises
    ------
    InputFileError
        A file that is missing, damaged or of another kind.
    AlignmentError
        Grids, TRs or lengths that differ: both are shown.
    InvalidValueError, UnknownNameError
        An option or a name that is not right; nodes made with other options.
    """
    from brainsim.commands import ingest_nodes as nodes
    from brainsim.datasets.catalogue import find_runs
    from brainsim.datasets.cleaning import CleaningOptions
    from brainsim.datasets.confounds import parse_strategy
    from brainsim.datasets.groupings import read_grouping
    from brainsim.datasets.runs import Selection
    from brainsim.datasets.rois import read_rois

    begin_s = time.perf_counter()
    _check_dataset_name(dataset)
    cleaning = CleaningOptions(parse_strategy(confounds), high_pass_s, drop_volumes, standardize)
    if tr_s is not None:
        check_number("tr_s", tr_s, above=0, unit="s", hint="--tr-s 2")
    paths = [Path(source)] if isinstance(source, str | Path) else [Path(path) for path in source]
    chosen, found = find_runs(paths, format=format, selection=Selection(tuple(subjects), task, space))
    made_from = nodes.Origin(
        rois=None if rois is None else read_rois(Path(rois)),
        grouping=None if streams is None else read_grouping(streams),
        mask=None if mask is None else check_file(mask, what="mask"),
        cleaning=cleaning,
        format=chosen.name,
    )
    plans = _plan_runs(found.runs, stimulus_map, drop_volumes=drop_volumes, tr_s=tr_s)
    box = nodes.open_store(Path(store), dry_run=dry_run)
    jobs = nodes.plan_subjects(plans, made_from, dataset, box, overwrite=overwrite)
    warnings = list(dict.fromkeys([*found.notes, *(note for plan in plans for note in plan.notes)]))
    n_done = 0
    if box is not None and not dry_run:
        with progress.task("ingesting", total=sum(len(j.plans) for j in jobs if not j.is_done), unit="runs") as bar:
            for job in jobs:
                if not job.is_done:
                    n_done += job.n_missing
                    warnings += nodes.ingest_subject(job, box, overwrite=overwrite, bar=bar)
        found_rows = [nodes.describe_subject(job, box) for job in jobs]
    else:
        found_rows = [nodes.describe_subject(job, box) for job in jobs if job.is_done and box is not None]
        n_done = sum(job.n_missing for job in jobs)
    warnings = list(dict.fromkeys([*warnings, *(note for row in found_rows for note in row.notes)]))
    for warning in warnings:
        progress.warn(warning)
    return IngestSummary(
        dataset=dataset,
        store=str(store),
        format=chosen.name,
        subjects=tuple(job.subject for job in jobs),
        n_runs=len(plans),
        n_targets={row.subject: row.n_targets for row in found_rows},
        tr_s=plans[0].tr_s,
        rois={row.subject: row.rois for row in found_rows},
        streams={row.subject: row.streams for row in found_rows},
        masked=_add_up([run["masked"] for row in found_rows for run in row.runs]),
        qc=tuple({k: v for k, v in run.items() if k != "masked"} for row in found_rows for run in row.runs),
        n_nodes_written=n_done,
        n_nodes_reused=sum(len(job.plans) + 1 for job in jobs) - n_done,
        warnings=tuple(warnings),
        seconds=time.perf_counter() - begin_s,
        dry_run=dry_run,
        plan=tuple(row for job in jobs for row in _describe_plan(job)) if dry_run else (),
    )


def _check_dataset_name(dataset: str) -> None:
    try:
        check_node_name(dataset, what="the dataset's name")
    except InvalidValueError as error:
        raise InvalidValueError(error.message, hint="--dataset studyforrest") from None


def _plan_runs(
    sources: Sequence[RunSource], stimulus_map: Path | None, *, drop_volumes: int, tr_s: float | None
) -> list[RunPlan]:
    from brainsim.datasets.preparing import check_together, plan_run
    from brainsim.datasets.stimulus_map import find_showing, read_stimulus_map

    shown: dict[tuple[str, str], Showing] | None = None
    if stimulus_map is not None:
        shown = read_stimulus_map(Path(stimulus_map))
    plans = [plan_run(s, find_showing(shown, s), drop_volumes=drop_volumes, tr_s=tr_s) for s in sources]
    check_together(plans)
    return plans


def _describe_plan(job: SubjectJob) -> list[dict[str, Any]]:
    return [
        {
            "node": node,
            "source": plan.source.where,
            "n_volumes": plan.n_volumes,
            "tr_s": plan.tr_s,
            "stimulus": plan.showing.stimulus,
            "start_s": plan.start_s,
            "state": "there" if job.is_done else "write",
        }
        for node, plan in zip(job.run_nodes, job.plans, strict=True)
    ]


def _add_up(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for count in counts:
        for reason, n in count.items():
            total[reason] = total.get(reason, 0) + n
    return {reason: n for reason, n in total.items() if n}
