"""Turn run sources and what was shown in them into plans: one TR, and the volumes that saw the stimulus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from brainsim.core.errors import AlignmentError, InputFileError, InvalidValueError
from brainsim.core.runs import REPEAT_PART, group_repeats
from brainsim.core.timing import SAME_TIME_S
from brainsim.datasets.runs import Grid, RunSource, check_same_grid
from brainsim.datasets.stimulus_map import Showing

# Two accounts of a TR that differ by less are the same: 0.05 s over a run of 500 TRs.
SAME_TR_S = 1e-4
SHORTEST_TR_S, LONGEST_TR_S = 0.05, 60.0
LEAST_TRS = 2


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
    first, stop : int
        The volumes that are kept: first, and the one after the last.
    notes : tuple of str
        What a user should know.
    repeats : tuple of RunPlan
        Further viewings of the same, which are averaged with it.
    """

    source: RunSource
    grid: Grid
    n_volumes: int
    tr_s: float
    showing: Showing
    start_s: float
    first: int
    stop: int
    notes: tuple[str, ...] = ()
    repeats: tuple[RunPlan, ...] = ()

    @property
    def n_trs(self) -> int:
        """Number of volumes that are kept."""
        return self.stop - self.first

    @property
    def film(self) -> str:
        """What the run shows a part of: the film, or else the stimulus itself."""
        return self.showing.film or f"stimulus {self.showing.stimulus}"

    @property
    def film_span_s(self) -> tuple[float, float]:
        """When in the film its first kept volume begins and its last one ends, seconds."""
        begin_s = self.showing.film_start_s + self.start_s
        return begin_s, begin_s + self.n_trs * self.tr_s

    def cut(self, first: int, stop: int) -> RunPlan:
        """Return the plan with fewer volumes, counted in the file."""
        later_s = round(self.start_s + (first - self.first) * self.tr_s, 9)
        return replace(self, first=first, stop=stop, start_s=later_s)


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
    tr, notes = resolve_tr(source, header_tr_s=signal.tr_s, tr_s=tr_s, map_tr_s=showing.tr_s)
    if showing.n_volumes is not None and showing.n_volumes != signal.n_trs:
        raise AlignmentError(
            f"{source.run} of {source.subject} should have {showing.n_volumes} volumes, and {source.where} has "
            f"{signal.n_trs}.",
            hint="is it cut short, or another run? --dataset with another name and --stimulus-map take it as it is",
        )
    if signal.n_trs - drop_volumes < LEAST_TRS:
        raise InvalidValueError(
            f"{source.where} has {signal.n_trs} volumes, and {drop_volumes} are dropped; at least {LEAST_TRS} must be "
            "left.",
            hint="a smaller --drop-volumes, or leave the run out",
        )
    shift_s, told = _volume_shift(source, tr)
    plan = RunPlan(source, signal.grid, signal.n_trs, tr, showing, round(showing.begin_s + shift_s, 9), 0, signal.n_trs)
    seen_first, seen_stop = showing.showing_trs(signal.n_trs, tr_s=tr)
    first, stop = max(drop_volumes, seen_first), seen_stop
    if stop - first < LEAST_TRS:
        raise AlignmentError(
            f"{source.where} lasts {signal.n_trs * tr:g} s, and {showing.stimulus} is said to begin "
            f"{showing.onset_s:g} s "
            f"into it{_lasting(showing)}: fewer than {LEAST_TRS} volumes saw it.",
            hint="onset_s is counted from the run's first volume, offset_s from the beginning of the stimulus file",
        )
    n_before, n_after = max(0, seen_first - drop_volumes), signal.n_trs - seen_stop
    if n_before or n_after:
        told += (
            f"{source.subject} {source.run}: {n_before} volumes before {showing.stimulus} and {n_after} after it are "
            "left out.",
        )
    return replace(plan.cut(first, stop), notes=notes + told)


def _lasting(showing: Showing) -> str:
    return "" if showing.duration_s is None else f" and to last {showing.duration_s:g} s"


def _volume_shift(source: RunSource, tr_s: float) -> tuple[float, tuple[str, ...]]:
    """Return by how much a volume's moment lies from the middle of its TR, seconds, and what to tell of it.

    After slice-timing correction a volume shows the moment of its reference slice: BIDS' StartTime. fMRIPrep's default
    is the middle of the TR, as is the mean over slices of a volume that was not corrected.
    """
    value = source.sidecar.get("StartTime")
    if value is None:
        return 0.0, ()
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= tr_s:
        raise InvalidValueError(
            f"StartTime in {source.sidecar_path} is {value!r}; seconds from 0 to the TR ({tr_s:g}) are wanted.",
            hint="it is the time of the reference slice of slice-timing correction",
        )
    shift_s = float(value) - tr_s / 2
    if abs(shift_s) <= SAME_TR_S * 10:
        return 0.0, ()
    return shift_s, (
        f"volumes show the moment {value:g} s into their TR (StartTime), {abs(shift_s):g} s "
        f"{'after' if shift_s > 0 else 'before'} its middle: stimulus time is shifted by that.",
    )


def resolve_tr(
    source: RunSource, *, header_tr_s: float | None, tr_s: float | None, map_tr_s: float | None = None
) -> tuple[float, tuple[str, ...]]:
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
    said.append(("what is known of the run (stimulus map or data set)", map_tr_s))
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


def trim_overlaps(plans: Sequence[RunPlan]) -> tuple[list[RunPlan], list[str]]:
    """Divide the TRs of seconds that two runs of a subject both show between them, so that none leaks into the other.

    A model that is trained on one run has seen the frames of the other run's edge. The earlier run keeps the first
    half of what both show, the later one the second half.

    Parameters
    ----------
    plans : sequence of RunPlan
        Of all subjects.

    Returns
    -------
    plans : list of RunPlan
        In the same order.
    notes : list of str
        What was trimmed.
    """
    trimmed = list(plans)
    told: dict[str, list[str]] = {}
    for subject, film in dict.fromkeys((plan.source.subject, plan.film) for plan in plans):
        own = [k for k, p in enumerate(plans) if (p.source.subject, p.film) == (subject, film)]
        own.sort(key=lambda k: plans[k].film_span_s)
        for earlier, later in pairwise(own):
            one, other = trimmed[earlier], trimmed[later]
            shared_s = one.film_span_s[1] - other.film_span_s[0]
            shortest_s = min(one.n_trs * one.tr_s, other.n_trs * other.tr_s)
            if shared_s <= SAME_TIME_S or shared_s > REPEAT_PART * shortest_s:
                continue
            middle_s = other.film_span_s[0] + shared_s / 2
            n_kept = int(np.floor((middle_s - one.film_span_s[0]) / one.tr_s + SAME_TIME_S))
            n_cut = int(np.ceil((middle_s - other.film_span_s[0]) / other.tr_s - SAME_TIME_S))
            trimmed[earlier] = one.cut(one.first, one.first + n_kept)
            trimmed[later] = other.cut(other.first + n_cut, other.stop)
            said = f"{one.source.run} and {other.source.run} ({shared_s:.3g} s)"
            told.setdefault(film, [])
            if said not in told[film]:
                told[film].append(said)
    notes = [
        f"these runs show the same seconds of {film}, whose TRs were divided between them: {', '.join(said)}; "
        "--overlap keep leaves them in both."
        for film, said in told.items()
    ]
    return trimmed, notes


def find_repeats(plans: Sequence[RunPlan]) -> list[list[int]]:
    """Return groups of places in `plans` that showed one subject the same at the same times, in order."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for k, plan in enumerate(plans):
        same = (plan.source.subject, plan.showing.stimulus, plan.showing.film, plan.start_s, plan.n_trs)
        groups.setdefault(same, []).append(k)
    return list(groups.values())


def join_repeats(plans: Sequence[RunPlan]) -> tuple[list[RunPlan], list[str]]:
    """Make one plan of the repeats of a stimulus, called as the first of them, and say so."""
    joined, notes = [], []
    for group in find_repeats(plans):
        first, *others = (plans[k] for k in group)
        joined.append(replace(first, repeats=tuple(others)))
        if others:
            notes.append(
                f"{first.source.subject}: {len(group)} viewings of {first.showing.stimulus} are averaged into "
                f"{first.source.run}; --repeats keep keeps each as a run."
            )
    return joined, notes


def tell_repeats(plans: Sequence[RunPlan], *, are_averaged: bool) -> list[str]:
    """Return which runs of a subject mostly show the same seconds and stay runs of their own.

    Parameters
    ----------
    plans : sequence of RunPlan
        What is stored.
    are_averaged : bool
        Whether viewings of the same length at the same times are one plan by now: others are told why they are not.
    """
    notes = []
    for subject in dict.fromkeys(plan.source.subject for plan in plans):
        own = [plan for plan in plans if plan.source.subject == subject]
        for group in group_repeats([(plan.film, *plan.film_span_s) for plan in own]):
            if len(group) < 2:
                continue
            runs = ", ".join(own[k].source.run for k in group)
            times = sorted({f"{own[k].n_trs} TRs from {own[k].start_s:g} s" for k in group})
            why = f", and are not averaged, because their times differ ({'; '.join(times)})" if are_averaged else ""
            notes.append(
                f"{subject}: {runs} show the same seconds of {own[group[0]].film}{why}; they stay runs of their own, "
                "which fit and partition leave out together."
            )
    return notes
