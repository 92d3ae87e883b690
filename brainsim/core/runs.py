"""Turn run lengths into row ranges, and runs or blocks into cross-validation folds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from brainsim.core.errors import InvalidValueError


@dataclass(frozen=True)
class RunLayout:
    """Which rows of a stacked time axis belong to which run.

    Parameters
    ----------
    names : tuple of str
        One name per run, in row order.
    n_trs : tuple of int
        Number of rows (TRs) of each run.
    """

    names: tuple[str, ...]
    n_trs: tuple[int, ...]

    def __post_init__(self) -> None:
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
    """Return one fold per run (leave-one-run-out)."""
    if len(layout.names) < 3:
        raise InvalidValueError(
            f"{len(layout.names)} run(s) cannot be cross-validated by run; nested leave-one-run-out needs at least 3.",
            hint="use --cv blocks (contiguous blocks inside runs, with --gap)",
        )
    rows = np.arange(layout.n_rows)
    return tuple(Fold(name, rows[s], rows[s]) for name, s in zip(layout.names, layout.slices, strict=True))


def folds_by_group(layout: RunLayout, *, n_folds: int) -> tuple[Fold, ...]:
    """Return k folds of whole neighbouring runs: fewer models to fit than leaving out run by run.

    Parameters
    ----------
    layout : RunLayout
        Runs of the stacked axis.
    n_folds : int
        Number of groups, from 2 to the number of runs; their numbers of runs differ by one at most.
    """
    n_runs = len(layout.names)
    if not 2 <= n_folds <= n_runs:
        raise InvalidValueError(
            f"--folds is {n_folds}; it must be at least 2 and at most the {n_runs} runs there are.",
            hint="--cv runs leaves out run by run; --cv blocks divides runs",
        )
    folds = []
    for runs in np.array_split(np.arange(n_runs), n_folds):
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
