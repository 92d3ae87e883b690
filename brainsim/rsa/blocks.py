"""Turn the runs of a movie into blocks of pairs of TRs: what is held out together, without near pairs and run edges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from brainsim.core.checks import check_choice
from brainsim.core.errors import InvalidValueError

# Fewer TRs have no geometry worth a score.
MIN_ROWS = 8


@dataclass(frozen=True)
class PairBlock:
    """Pairs of rows that are held out together.

    Parameters
    ----------
    name : str
        The run, or the runs joined by +.
    runs : tuple of int
        Runs whose rows it pairs; rows are counted from the first row of the first of them.
    rows : ndarray of int, (n_rows,)
        Rows that are left after the edges, the runs stacked.
    i, j : ndarray of int, (n_pairs,)
        Places in `rows`, ordered as the upper triangle is.
    lag : ndarray of int, (n_pairs,)
        Number of the pair's run and time between its TRs, taken together; -1 between runs.
    """

    name: str
    runs: tuple[int, ...]
    rows: np.ndarray
    i: np.ndarray
    j: np.ndarray
    lag: np.ndarray

    @property
    def n_pairs(self) -> int:
        """Number of pairs."""
        return len(self.i)


def make_blocks(
    names: Sequence[str],
    n_trs: Sequence[int],
    tr_s: Sequence[float],
    *,
    pairs: str = "within-run",
    min_lag_s: float = 0.0,
    trim_s: float = 0.0,
    left_out: Sequence[Sequence[int]] = (),
) -> list[PairBlock]:
    """Return the blocks of pairs of a movie's runs.

    Within runs a block is a run. Between runs a block is two neighbouring runs (three at the end of an odd number), so
    that no TR is in two blocks: what is fitted on some blocks never saw a TR of another.

    Parameters
    ----------
    names, n_trs, tr_s : sequences
        Label, length and repetition time (s) of each run.
    pairs : {"within-run", "between-run", "all"}
        Which pairs count.
    min_lag_s : float
        Least time between two TRs of one run, in seconds.
    trim_s : float
        Time that is cut from both edges of every run, in seconds: whole TRs, rounded up.
    left_out : sequence of sequence of int, optional
        TRs of each run that take no part: those that ingest scrubbed.

    Raises
    ------
    InvalidValueError
        Runs that are too short, too few runs for pairs between them.
    """
    check_choice("--pairs", pairs, ("within-run", "between-run", "all"))
    n_runs = len(names)
    if pairs == "within-run":
        groups: list[tuple[int, ...]] = [(run,) for run in range(n_runs)]
    else:
        if n_runs < 2:
            raise InvalidValueError(f"{n_runs} run; --pairs {pairs} needs at least 2.", hint="--pairs within-run")
        starts = list(range(0, n_runs - 1, 2))
        groups = [tuple(range(a, b)) for a, b in zip(starts, [*starts[1:], n_runs], strict=True)]
    kept = []
    for run in range(n_runs):
        cut = _whole_trs(trim_s, tr_s[run])
        rows = np.setdiff1d(np.arange(cut, n_trs[run] - cut), left_out[run] if left_out else ())
        if len(rows) < MIN_ROWS:
            raise InvalidValueError(
                f"run {names[run]} has {n_trs[run]} TRs; {len(rows)} are left without {trim_s:g} s at both edges and "
                f"without scrubbed TRs, and at least {MIN_ROWS} are needed.",
                hint="--trim-s 0 keeps the edges",
            )
        kept.append(rows)
    return [_block(group, names, n_trs, tr_s, kept, pairs, min_lag_s) for group in groups]


def _block(
    group: tuple[int, ...],
    names: Sequence[str],
    n_trs: Sequence[int],
    tr_s: Sequence[float],
    kept: Sequence[np.ndarray],
    pairs: str,
    min_lag_s: float,
) -> PairBlock:
    rows, run_of, time_s = [], [], []
    start = 0
    for run in group:
        rows.append(start + kept[run])
        run_of.append(np.full(len(kept[run]), run))
        time_s.append(kept[run] * tr_s[run])
        start += n_trs[run]
    stacked, runs, time = np.concatenate(rows), np.concatenate(run_of), np.concatenate(time_s)
    i, j = np.triu_indices(len(stacked), k=1)
    same = runs[i] == runs[j]
    keep = ~same | (np.abs(time[j] - time[i]) >= min_lag_s - 1e-9)
    if pairs == "between-run":
        keep &= ~same
    if keep.sum() < MIN_ROWS:
        raise InvalidValueError(
            f"run {names[group[0]]} has {int(keep.sum())} pairs of TRs at least {min_lag_s:g} s apart; at least "
            f"{MIN_ROWS} are needed.",
            hint="--min-lag-s 0 keeps all",
        )
    name = "+".join(names[run] for run in group)
    i, j, same = i[keep], j[keep], same[keep]
    # Within a run TRs are evenly spaced: their numbers tell their time apart.
    lag = np.where(same, (runs[i] - runs[0]) * start + stacked[j] - stacked[i], -1)
    return PairBlock(name, group, stacked, i.astype(np.int32), j.astype(np.int32), lag.astype(np.int32))


def remove_lag_means(rdms: np.ndarray, lag: np.ndarray) -> np.ndarray:
    """Return RDMs without what depends on the time between TRs alone.

    What is slow is alike when it is near in time, whatever it is: two unrelated slow series have alike RDMs (with a
    correlation of 0.9 from TR to TR, null models came out at 0.27 with pairs 16 s apart and more). So from every pair
    the mean of all pairs of the same run and lag is taken away, and the mean of all pairs is put back.

    Parameters
    ----------
    rdms : ndarray, (n, n_pairs)
        RDMs of one block.
    lag : ndarray of int, (n_pairs,)
        As `PairBlock.lag`; pairs between runs stay as they are.

    Returns
    -------
    ndarray of float32, (n, n_pairs)
    """
    timed = lag >= 0
    out = rdms.astype(np.float32)
    counts = np.maximum(np.bincount(lag[timed]), 1)
    for row, rdm in zip(out, rdms, strict=True):
        own = rdm[timed].astype(np.float64)
        means = np.bincount(lag[timed], weights=own) / counts
        row[timed] = own - means[lag[timed]] + (own.mean() if len(own) else 0.0)
    return out


def _whole_trs(seconds: float, tr_s: float) -> int:
    return int(np.ceil(seconds / tr_s - 1e-9))
