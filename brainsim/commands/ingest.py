"""Turn scans or tables into clean runs, ROIs and streams in the store."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainsim.commands.ingest_figure import check_figure, write_figure
from brainsim.commands.ingest_options import IngestOptions, parse_select
from brainsim.commands.ingest_plan import plan_runs
from brainsim.commands.words import takes_words
from brainsim.core.checks import check_file, check_node_name
from brainsim.core.errors import InvalidValueError
from brainsim.core.progress import SILENT, Progress

if TYPE_CHECKING:
    from brainsim.commands.ingest_nodes import SubjectJob


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
        In a dry run: one row per run: {node, source, n_volumes, first_volume, n_trs, n_repeats, tr_s, stimulus,
        start_s, state}.
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


@takes_words(IngestOptions)
def ingest(
    source: str | Path | Sequence[str | Path],
    *,
    dataset: str,
    store: str | Path = "store/brainsim.zarr",
    figure: str | Path | None = None,
    dry_run: bool = False,
    overwrite: bool = False,
    progress: Progress = SILENT,
    **words: Any,
) -> IngestSummary:
    """Clean the runs of a dataset and put them into the store, with their ROIs, streams and quality figures.

    All runs of a subject are read to their end, checked and cleaned before anything of that subject is written; its
    targets are written last, so that an unfinished subject is never taken for a whole one. The same command run twice
    does nothing the second time.

    Parameters
    ----------
    source : path, or sequence of path
        A BIDS tree (raw or fMRIPrep's), NIfTI, CIFTI or GIFTI files or a folder of them, tables or arrays with one row
        per TR.
    dataset : str
        Name of the dataset in the store; that of a public one whose layout is known (studyforrest) has its runs
        checked.
    store : path
        The store; made where there is none.
    words : options
        Shared.
    figure : path, optional
        File for a figure of the quality of every run (.png, .svg or .pdf); none by default.
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
    from brainsim.commands.ingest_between import write_between
    from brainsim.commands.ingest_writing import describe_subject
    from brainsim.datasets.catalogue import find_runs
    from brainsim.datasets.groupings import read_grouping
    from brainsim.datasets.layouts import find_layout
    from brainsim.datasets.rois import read_rois

    begin_s = time.perf_counter()
    options = IngestOptions(**words)
    drawn = None if figure is None else check_figure(figure)
    _check_dataset_name(dataset)
    layout = find_layout(dataset)
    cleaning = options.make_cleaning()
    selection = options.make_selection(default_task=None if layout is None else layout.task)
    paths = [Path(source)] if isinstance(source, str | Path) else [Path(path) for path in source]
    chosen, found = find_runs(paths, format=options.format, selection=selection)
    made_from = nodes.Origin(
        rois=None if options.rois is None else read_rois(Path(options.rois)),
        grouping=None if options.streams is None else read_grouping(options.streams),
        mask=None if options.mask is None else check_file(options.mask, what="mask"),
        cleaning=cleaning.for_betas() if chosen.is_betas else cleaning,
        format=chosen.name,
        resample=options.resample,
        select=parse_select(options.select),
    )
    plans, notes = plan_runs(found.runs, options, layout)
    box = nodes.open_store(Path(store), dry_run=dry_run)
    jobs = nodes.plan_subjects(plans, made_from, dataset, box, overwrite=overwrite)
    warnings = list(dict.fromkeys([*found.notes, *notes, *(note for plan in plans for note in plan.notes)]))
    n_done = 0
    if box is not None and not dry_run:
        with progress.task("ingesting", total=sum(len(j.plans) for j in jobs if not j.is_done), unit="runs") as bar:
            for job in jobs:
                if not job.is_done:
                    n_done += job.n_missing
                    warnings += nodes.ingest_subject(job, box, overwrite=overwrite, bar=bar)
        found_rows = [describe_subject(job, box) for job in jobs]
        if options.between_subjects:
            told = write_between(box, dataset, jobs, overwrite=overwrite)
            warnings += [] if told is None else [told]
        if drawn is not None:
            write_figure(drawn, box, dataset, {job.subject for job in jobs})
    else:
        found_rows = [describe_subject(job, box) for job in jobs if job.is_done and box is not None]
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


def _describe_plan(job: SubjectJob) -> list[dict[str, Any]]:
    return [
        {
            "node": node,
            "source": plan.source.where,
            "n_volumes": plan.n_volumes,
            "first_volume": plan.first,
            "n_trs": plan.n_trs,
            "n_repeats": 1 + len(plan.repeats),
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
