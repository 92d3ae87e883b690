"""Turn a run's source into a clean run: time checked, confounds read, values cleaned and measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from brainsim.core.errors import AlignmentError, InputFileError, InvalidValueError
from brainsim.datasets.cleaning import MASK_REASONS, CleaningOptions, clean_signals, make_basis, make_drifts
from brainsim.datasets.confounds import read_confounds
from brainsim.datasets.quality import measure_quality
from brainsim.datasets.runs import Grid, Run, RunSource, check_same_grid
from brainsim.datasets.stimulus_map import Showing
from brainsim.datasets.targets import Targets

# Two accounts of a TR that differ by less are the same: 0.05 s over a run of 500 TRs.
SAME_TR_S = 1e-4
SHORTEST_TR_S, LONGEST_TR_S = 0.05, 60.0
# A run with more than this part of its targets masked is told: something is wrong with it, or with the mask.
MANY_MASKED = 0.2


@dataclass(frozen=True)
class RunPlan:
    """A run whose header agrees with everything said about it.

    Parameters
    ----------
    source : RunSource
    grid : Grid
    n_volumes : int
        In the file, before any is dropped.
    tr_s : float
        Seconds.
    showing : Showing
        What was shown.
    start_s : float
        Stimulus time at which the first volume that is kept begins, seconds.
    notes : tuple of str
        What a user should know.
    """

    source: RunSource
    grid: Grid
    n_volumes: int
    tr_s: float
    showing: Showing
    start_s: float
    notes: tuple[str, ...] = ()


def plan_run(source: RunSource, showing: Showing, *, drop_volumes: int, tr_s: float | None) -> RunPlan:
    """Open a run and check its time.

    Parameters
    ----------
    source : RunSource
    showing : Showing
        What was shown in it.
    drop_volumes : int
        Volumes left out at the beginning.
    tr_s : float, optional
        The user's account of the TR, seconds.

    Raises
    ------
    InputFileError
        A file that cannot be opened.
    AlignmentError
        Accounts of the TR that differ.
    InvalidValueError
        No TR, an impossible one, or a run that is too short.
    """
    signal = source.open()
    tr, notes = resolve_tr(source, header_tr_s=signal.tr_s, tr_s=tr_s)
    if signal.n_trs - drop_volumes < 2:
        raise InvalidValueError(
            f"{source.where} has {signal.n_trs} volumes, and {drop_volumes} are dropped; at least 2 must be left.",
            hint="a smaller --drop-volumes, or leave the run out",
        )
    start_s = showing.start_s(drop_volumes=drop_volumes, tr_s=tr)
    return RunPlan(source, signal.grid, signal.n_trs, tr, showing, start_s, notes)


def resolve_tr(source: RunSource, *, header_tr_s: float | None, tr_s: float | None) -> tuple[float, tuple[str, ...]]:
    """Return the TR in seconds on which header, sidecar and option agree, the option's digits before the others'.

    Raises
    ------
    AlignmentError
        Where two differ: both are shown.
    InvalidValueError
        Where there is none, or one is no possible TR.
    """
    said = [("--tr-s", tr_s)]
    if "RepetitionTime" in source.sidecar:
        value = source.sidecar["RepetitionTime"]
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InputFileError(
                f"RepetitionTime in {source.sidecar_path} is {value!r}; seconds are wanted.",
                hint="write it as a number",
            )
        said.append((f"the sidecar {source.sidecar_path}", float(value)))
    said.append((f"the header of {source.where}", header_tr_s))
    known = [(who, value) for who, value in said if value is not None]
    if not known:
        raise InvalidValueError(
            f"the TR of {source.where} is unknown: its header has none (0), and no sidecar has RepetitionTime.",
            hint="--tr-s SECONDS",
        )
    for who, value in known:
        if not SHORTEST_TR_S <= value <= LONGEST_TR_S:
            unit = f"; it looks like milliseconds ({value / 1000:g} s)" if 100 <= value <= 20000 else ""
            raise InvalidValueError(
                f"TR by {who} is {value:g} s{unit}; it must lie between {SHORTEST_TR_S:g} and {LONGEST_TR_S:g} s.",
                hint="mend it there (seconds); --tr-s alone cannot overrule it",
            )
    (first, tr), *others = known
    for who, value in others:
        if abs(value - tr) > SAME_TR_S:
            raise AlignmentError(
                f"TR is {tr:g} s by {first}, and {value:g} s by {who}; they must agree.",
                hint="find out which is right, and mend the other",
            )
    lacking = source.sidecar_path is not None and "RepetitionTime" in source.sidecar and header_tr_s is None
    return tr, ((f"TR {tr:g} s is the sidecar's; headers have none.",) if lacking else ())


def check_together(plans: Sequence[RunPlan]) -> None:
    """Check that the runs of a dataset have one TR, and those of each subject one grid.

    Raises
    ------
    AlignmentError
        Both are shown.
    """
    first = plans[0]
    for plan in plans[1:]:
        if abs(plan.tr_s - first.tr_s) > SAME_TR_S:
            raise AlignmentError(
                f"TR is {first.tr_s:g} s in {first.source.where}, and {plan.tr_s:g} s in {plan.source.where}; "
                "a dataset has one TR.",
                hint="ingest them as two datasets, each with its own --dataset name",
            )
    for subject in dict.fromkeys(plan.source.subject for plan in plans):
        own = [plan for plan in plans if plan.source.subject == subject]
        for plan in own[1:]:
            check_same_grid(own[0].grid, plan.grid, what=own[0].source.where, other_what=plan.source.where)


def find_varying(plans: Sequence[RunPlan]) -> np.ndarray:
    """Return where any of a subject's runs changes over time, bool (n_places,)."""
    varying = np.zeros(plans[0].grid.n_places, bool)
    for plan in plans:
        varying |= plan.source.open().find_varying()
    return varying


def prepare_run(plan: RunPlan, targets: Targets, options: CleaningOptions) -> tuple[Run, tuple[str, ...]]:
    """Read, clean and measure a run.

    Parameters
    ----------
    plan : RunPlan
    targets : Targets
        The subject's.
    options : CleaningOptions

    Returns
    -------
    run : Run
    notes : tuple of str
        What a user should know.

    Raises
    ------
    InputFileError
        A damaged file; no confounds where some are asked for.
    AlignmentError
        Confounds with another number of rows.
    InvalidValueError
        A run without a usable target.
    """
    source = plan.source
    confounds = read_confounds(source.confounds, options.confounds, n_trs=plan.n_volumes, where=source.where)
    kept = slice(options.drop_volumes, None)
    raw = source.open().read(targets.places)[kept]  # (n_trs, n_targets)
    drifts = make_drifts(len(raw), tr_s=plan.tr_s, high_pass_s=options.high_pass_s)
    basis = make_basis(confounds.values[kept], drifts, where=source.where)
    cleaned = clean_signals(raw, basis, standardize=options.standardize, out=raw)
    masked = {reason: int(where.sum()) for reason, where in cleaned.masked.items()}
    if not cleaned.valid.any():
        raise InvalidValueError(
            f"none of the {targets.n_targets} targets of {source.where} is usable: {describe_masked(masked)}.",
            hint="is it the right image, and the mask inside the brain?",
        )
    notes = []
    n_masked = targets.n_targets - int(cleaned.valid.sum())
    if n_masked > MANY_MASKED * targets.n_targets:
        notes.append(
            f"{source.subject} {source.run}: {n_masked} of {targets.n_targets} targets are masked: "
            f"{describe_masked(masked)}."
        )
    if confounds.filled:
        notes.append(f"confounds without a first value (n/a) have 0 there: {', '.join(confounds.filled)}.")
    displacement = None if confounds.displacement_mm is None else confounds.displacement_mm[kept]
    run = Run(
        subject=source.subject,
        run=source.run,
        stimulus=plan.showing.stimulus,
        bold=cleaned.bold,
        valid=cleaned.valid,
        tr_s=plan.tr_s,
        start_s=plan.start_s,
        masked=masked,
        quality=measure_quality(cleaned, displacement_mm=displacement),
    )
    return run, tuple(notes)


def describe_masked(masked: dict[str, int]) -> str:
    """Return "12 NaN or infinite in some volume, 3 does not change over time"."""
    return ", ".join(f"{n} {MASK_REASONS[reason]}" for reason, n in masked.items() if n) or "0"
