"""Turn run sources into plans that agree: what each showed, which volumes count, and which runs are repeats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from brainsim.commands.ingest_options import IngestOptions
    from brainsim.datasets.alignment import RunPlan
    from brainsim.datasets.layouts import KnownLayout
    from brainsim.datasets.runs import RunSource


def plan_runs(
    sources: Sequence[RunSource], options: IngestOptions, layout: KnownLayout | None
) -> tuple[list[RunPlan], list[str]]:
    """Say of each run what it showed and which of its volumes count, and join repeats.

    Parameters
    ----------
    sources : sequence of RunSource
        Of all subjects.
    options : IngestOptions
    layout : KnownLayout, optional
        What is known of the dataset.

    Returns
    -------
    plans : list of RunPlan
        One per run that is stored; repeats that are averaged are one.
    notes : list of str
        What a user should know.

    Raises
    ------
    AlignmentError, InputFileError, InvalidValueError
        Accounts of time that differ.
    """
    from brainsim.datasets.alignment import check_together, join_repeats, plan_run, tell_repeats, trim_overlaps
    from brainsim.datasets.events import read_events
    from brainsim.datasets.stimulus_map import find_showing, read_stimulus_map

    shown = None if options.stimulus_map is None else read_stimulus_map(Path(options.stimulus_map))
    plans = []
    for source in sources:
        showing = find_showing(shown, source) if options.events is None else read_events(source, options.events)
        if source.repeat_of and shown is None and options.events is None:
            showing = replace(showing, stimulus=source.repeat_of)
        if layout is not None:
            showing = layout.complete(showing, source)
        plans.append(plan_run(source, showing, drop_volumes=options.drop_volumes, tr_s=options.tr_s))
    check_together(plans)
    notes: list[str] = []
    if options.overlap == "trim":
        plans, notes = trim_overlaps(plans)
    if options.repeats == "mean":
        plans, joined = join_repeats(plans)
        notes += joined
    return plans, [*notes, *tell_repeats(plans, are_averaged=options.repeats == "mean")]
