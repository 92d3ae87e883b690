"""Turn run lengths into row ranges, and runs or blocks into cross-validation folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from brainsim.core.errors import InvalidValueError
from brainsim.core.timing import SAME_TIME_S


@dataclass(frozen=True)
class RunLayout:
    """Which rows of a stacked time axis belong to which run.

    Parameters
    ----------
    names : tuple of str
        One name per run, in row order.
    n_trs : tuple of int
        Number of rows (TRs) of each run.
    units : tuple of int, optional
        Number of the unit that each run belongs to, from 0, in order: runs of a unit are held out together. By default
        every run is one.
    """

    names: tuple[str, ...]
    n_trs: tuple[int, ...]
    units: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.units and (len(self.units) != len(self.names) or list(self.units) != sorted(self.units)):
            raise InvalidValueError(f"units of {len(self.names)} runs are {self.units}; one each, in order, is wanted.")
        if len(self.names) != len(self.n_trs) or not self.names:
            raise InvalidValueError(
                f"{len(self.names)} run names for {len(self.n_trs)} run lengths; one each is wanted."
            )
        if len(set(self.names)) != len(self.names):
            raise InvalidValueError(f"run names repeat: {', '.join(self.names)}; each run needs a name of its own.")
        if min(self.n_trs) < 1:
            raise InvalidValueError(f"a run of {min(self.n_trs)} TRs; every run needs at least 1.")

    @property
    def n_rows(self) -> int:
        """Total number of rows."""
        return sum(self.n_trs)

    @property
    def starts(self) -> tuple[int, ...]:
        """First row of each run."""
        return tuple(int(s) for s in np.cumsum([0, *self.n_trs[:-1]]))

    @property
    def slices(self) -> tuple[slice, ...]:
        """Rows of each run."""
        return tuple(slice(s, s + n) for s, n in zip(self.starts, self.n_trs, strict=True))

    @property
    def together(self) -> tuple[tuple[int, ...], ...]:
        """Runs of each unit."""
        units = self.units or tuple(range(len(self.names)))
        return tuple(tuple(k for k, own in enumerate(units) if own == unit) for unit in dict.fromkeys(units))


# Runs that show more than this part of the same seconds are repeats, not neighbours that overlap.
REPEAT_PART = 0.5


def find_shared(shown: Sequence[tuple[str, float, float]]) -> list[tuple[int, int, float, bool]]:
    """Return which runs show the same seconds.

    Parameters
    ----------
    shown : sequence of (str, float, float)
        What each run shows, and the first and the last of its seconds.

    Returns
    -------
    list of (int, int, float, bool)
        Two runs, the seconds that both show, and whether that makes them repeats.
    """
    shared = []
    for k, (film, begin_s, end_s) in enumerate(shown):
        for j, (other, from_s, to_s) in enumerate(shown[:k]):
            both_s = min(end_s, to_s) - max(begin_s, from_s)
            if film == other and both_s > SAME_TIME_S:
                shared.append((j, k, both_s, both_s > REPEAT_PART * min(end_s - begin_s, to_s - from_s)))
    return shared


def group_repeats(shown: Sequence[tuple[str, float, float]]) -> list[list[int]]:
    """Return the runs in groups that mostly show the same seconds, in order of the first of each; see `find_shared`."""
    first = list(range(len(shown)))
    for one, other, _, is_repeat in find_shared(shown):
        if is_repeat:
            low, high = sorted((first[one], first[other]))
            first = [low if f == high else f for f in first]
    return [[k for k, f in enumerate(first) if f == own] for own in sorted(set(first))]


@dataclass(frozen=True)
class Fold:
    """One held-out part: rows that are scored, and the rows that training must not see.

    Parameters
    ----------
    name : str
        The run's name, or "block-1" and so on.
    test : ndarray of int64, (n_test,)
        Rows that are scored, increasing.
    excluded : ndarray of int64, (n_excluded,)
        Rows left out of training: `test` and the gap around it, increasing.
    """

    name: str
    test: np.ndarray
    excluded: np.ndarray


def folds_by_run(layout: RunLayout) -> tuple[Fold, ...]:
    """Return one fold per run (leave-one-run-out); runs that show the same are one fold."""
    n_units = len(layout.together)
    if n_units < 3:
        alike = "" if n_units == len(layout.names) else f" that show {n_units} different films"
        raise InvalidValueError(
            f"{len(layout.names)} run(s){alike} cannot be cross-validated by run; nested leave-one-run-out needs at "
            "least 3.",
            hint="use --cv blocks (contiguous blocks inside runs, with --gap)"
            if not alike
            else "ingest --repeats mean, and --cv blocks",
        )
    return folds_by_group(layout, n_folds=n_units)


def folds_by_group(layout: RunLayout, *, n_folds: int) -> tuple[Fold, ...]:
    """Return k folds of whole neighbouring runs: fewer models to fit than leaving out run by run.

    Runs that show the same are never in different folds: what is learned from one would be tested on the other.

    Parameters
    ----------
    layout : RunLayout
        Runs of the stacked axis.
    n_folds : int
        Number of groups, from 2 to the number of runs (that show different films); their numbers of runs differ by one
        at most.
    """
    units = layout.together
    if not 2 <= n_folds <= len(units):
        alike = "runs" if len(units) == len(layout.names) else "runs with different films"
        raise InvalidValueError(
            f"--folds is {n_folds}; it must be at least 2 and at most the {len(units)} {alike} there are.",
            hint="--cv runs leaves out run by run; --cv blocks divides runs",
        )
    folds = []
    for own in np.array_split(np.arange(len(units)), n_folds):
        runs = [run for unit in own for run in units[unit]]
        rows = np.arange(layout.slices[runs[0]].start, layout.slices[runs[-1]].stop)
        folds.append(Fold("+".join(layout.names[run] for run in runs), rows, rows))
    return tuple(folds)


def folds_by_block(layout: RunLayout, *, n_blocks: int, gap: int) -> tuple[Fold, ...]:
    """Return contiguous blocks of rows as folds, with `gap` rows on either side kept out of training.

    Parameters
    ----------
    layout : RunLayout
        Runs of the stacked axis. A gap stays inside its run: rows of another run are not neighbours in time.
    n_blocks : int
        Number of blocks over all rows; at least 3. A block may span a run boundary.
    gap : int
        TRs on either side of a block that training must not see.
    """
    if not 3 <= n_blocks <= layout.n_rows:
        raise InvalidValueError(
            f"--blocks is {n_blocks}; it must be at least 3 and at most the {layout.n_rows} TRs there are."
        )
    if gap < 0:
        raise InvalidValueError(f"--gap is {gap} TRs; it must be 0 or more.")
    for runs in layout.together:
        if len(runs) > 1:
            raise InvalidValueError(
                f"{' and '.join(layout.names[run] for run in runs)} show the same; what is learned from a block of one "
                "would be tested on the other.",
                hint="ingest --repeats mean averages them; --cv runs leaves them out together",
            )
    run_of_row = np.repeat(np.arange(len(layout.n_trs)), layout.n_trs)
    folds = []
    for index, test in enumerate(np.array_split(np.arange(layout.n_rows), n_blocks)):
        near = np.arange(max(test[0] - gap, 0), min(test[-1] + gap + 1, layout.n_rows))
        same_run = np.isin(run_of_row[near], run_of_row[test])
        folds.append(Fold(f"block-{index + 1}", test, near[same_run]))
        if len(folds[-1].excluded) * 2 >= layout.n_rows:
            raise InvalidValueError(
                f"--blocks {n_blocks} with --gap {gap} leaves {layout.n_rows - len(folds[-1].excluded)} of "
                f"{layout.n_rows} TRs for training; use more blocks or a smaller gap."
            )
    return tuple(folds)
