"""Turn a run's source into a clean run: confounds read, TRs scrubbed, values cleaned and measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from brainsim.core.errors import InvalidValueError
from brainsim.datasets.alignment import RunPlan
from brainsim.datasets.ceilings import RepeatStatistics
from brainsim.datasets.cleaning import MASK_REASONS, CleaningOptions, clean_signals, make_basis, make_drifts
from brainsim.datasets.confounds import read_confounds
from brainsim.datasets.quality import find_outliers, measure_quality
from brainsim.datasets.runs import Run, RunSource
from brainsim.datasets.scrubbing import find_scrubbed, scrub_columns
from brainsim.datasets.targets import Targets
from brainsim.datasets.volumes import VolumeSignal

# A run with more than this part of its targets masked is told: something is wrong with it, or with the mask.
MANY_MASKED = 0.2
# A run of which scrubbing leaves less than half says little, and its drifts cannot be told from what is left.
MOST_SCRUBBED = 0.5


def find_varying(plans: Sequence[RunPlan]) -> np.ndarray:
    """Return where any of a subject's runs changes over time, bool (n_places,)."""
    varying = np.zeros(plans[0].grid.n_places, bool)
    for plan in plans:
        varying |= plan.source.open().find_varying()
    return varying


def prepare_run(plan: RunPlan, targets: Targets, options: CleaningOptions) -> tuple[Run, tuple[str, ...]]:
    """Read, clean and measure a run; of repeats each, and average them.

    The mean of z-scored repeats is z-scored again; a TR is scrubbed where it is in any of them, a target masked
    likewise.
    """
    run, notes = prepare_one(plan, targets, options)
    if not plan.repeats:
        return run, notes
    total = run.bold.astype(np.float64)
    others = []
    for repeat in plan.repeats:
        other, told = prepare_one(repeat, targets, options)
        total += other.bold
        notes += told
        others.append(replace(other, bold=np.empty((0, 0), np.float32)))
    everyone = [run, *others]
    valid = np.logical_and.reduce([one.valid for one in everyone])
    masks = [one.scrubbed for one in everyone if one.scrubbed is not None]
    scrubbed = np.logical_or.reduce(masks) if masks else None
    mean = total / len(everyone)
    if scrubbed is not None:
        mean[scrubbed] = np.where(valid, 0.0, np.nan)
    if options.standardize == "zscore":
        kept = slice(None) if scrubbed is None else ~scrubbed
        mean[kept] -= mean[kept].mean(axis=0)
        mean[kept] /= mean[kept].std(axis=0)
    mean[:, ~valid] = np.nan
    joined = replace(
        run,
        bold=mean.astype(np.float32),
        valid=valid,
        scrubbed=scrubbed,
        masked={**{reason: max(one.masked[reason] for one in everyone) for reason in run.masked}},
        quality=_mean_quality([one.quality for one in everyone]),
        traces={name: np.mean([one.traces[name] for one in everyone], axis=0) for name in run.traces},
    )
    return joined, tuple(dict.fromkeys(notes))


def _mean_quality(figures: Sequence[Mapping[str, float | int | None]]) -> dict[str, float | int | None]:
    """Return means of figures over repeats, and the largest of counts."""
    mean: dict[str, float | int | None] = {}
    for name, first in figures[0].items():
        known = [value for one in figures if (value := one[name]) is not None]
        if isinstance(first, int):
            mean[name] = max(int(value) for value in known)
        else:
            mean[name] = float(np.mean(known)) if known else None
    return mean


def prepare_one(plan: RunPlan, targets: Targets, options: CleaningOptions) -> tuple[Run, tuple[str, ...]]:
    """Read, clean and measure a single run.

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
    confounds = read_confounds(
        source.confounds,
        options.confounds,
        n_trs=plan.n_volumes,
        where=source.where,
        extra=scrub_columns(options.scrub),
    )
    rows = slice(plan.first, plan.stop)
    raw = _read(source, targets.places, options)[rows]  # (n_trs, n_targets)
    drifts = make_drifts(len(raw), tr_s=plan.tr_s, high_pass_s=options.high_pass_s, detrend=options.detrend)
    scrubbed = find_scrubbed(confounds, options.scrub, where=source.where)[rows]
    if scrubbed.mean() > MOST_SCRUBBED:
        raise InvalidValueError(
            f"scrubbing ({','.join(options.scrub)}) takes {int(scrubbed.sum())} of {len(raw)} TRs of {source.where}; "
            f"at "
            f"most {MOST_SCRUBBED:.0%} may go.",
            hint="a milder --scrub, or leave the run out",
        )
    kept = ~scrubbed if scrubbed.any() else None
    basis = make_basis(confounds.values[rows], drifts, where=source.where, kept=kept)
    cleaned = clean_signals(raw, basis, standardize=options.standardize, kept=kept, out=raw)
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
    if scrubbed.any():
        notes.append(
            f"{source.subject} {source.run}: {int(scrubbed.sum())} of {len(raw)} TRs are scrubbed; they keep their "
            f"place "
            "in time, and take no part in fits."
        )
    displacement = None if confounds.displacement_mm is None else confounds.displacement_mm[rows]
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
        scrubbed=scrubbed if options.scrub else None,
        traces={
            "dvars": cleaned.dvars.astype(np.float32),
            "outlier": find_outliers(cleaned.dvars).astype(np.uint8),
            **({} if displacement is None else {"displacement_mm": displacement.astype(np.float32)}),
        },
    )
    return run, tuple(notes)


def _read(source: RunSource, places: np.ndarray, options: CleaningOptions) -> np.ndarray:
    signal = source.open()
    if options.smooth_mm is None:
        return signal.read(places)
    if not isinstance(signal, VolumeSignal):
        raise InvalidValueError(
            f"smooth_mm is {options.smooth_mm:g}, and {source.where} is no volume; only volumes are smoothed.",
            hint="smooth surfaces along their mesh first (wb_command -cifti-smoothing, mri_surf2surf)",
        )
    return signal.read(places, smooth_mm=options.smooth_mm)


def measure_repeats(
    groups: Sequence[Sequence[RunPlan]], targets: Targets, options: CleaningOptions
) -> tuple[RepeatStatistics, list[int]]:
    """Measure what of each target's variance repeats of the same stimulus share.

    Parameters
    ----------
    groups : sequence of sequence of RunPlan
        Viewings of one stimulus each; those of one viewing are passed by.
    targets : Targets
    options : CleaningOptions

    Returns
    -------
    RepeatStatistics
    list of int
        Number of viewings of each group.
    """
    statistics = RepeatStatistics(targets.n_targets)

    def viewings(group: Sequence[RunPlan]) -> Iterator[np.ndarray]:
        for plan in group:
            yield prepare_one(replace(plan, repeats=()), targets, options)[0].bold

    counts = [statistics.add(viewings(group)) if len(group) > 1 else len(group) for group in groups]
    return statistics, counts


def describe_masked(masked: dict[str, int]) -> str:
    """Return "12 NaN or infinite in some volume, 3 does not change over time"."""
    return ", ".join(f"{n} {MASK_REASONS[reason]}" for reason, n in masked.items() if n) or "0"
