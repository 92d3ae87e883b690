"""Turn seconds into TRs and back, without ever letting a TR see its future."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from brainsim.core.errors import AlignmentError, InvalidValueError

# Two times closer than this are the same time: far above float64 rounding of hours, far below a video frame.
SAME_TIME_S = 1e-4


@dataclass(frozen=True)
class TrGrid:
    """The sampling times of one run.

    TR k covers the stimulus from `start_s + k * tr_s` to `start_s + (k + 1) * tr_s`; times are those of the stimulus.

    Parameters
    ----------
    n_trs : int
        Number of TRs.
    tr_s : float
        Repetition time in seconds.
    start_s : float
        Stimulus time at which TR 0 begins, in seconds (negative where the scan began before the movie).
    """

    n_trs: int
    tr_s: float
    start_s: float = 0.0

    def __post_init__(self) -> None:
        if self.n_trs < 1:
            raise InvalidValueError(f"a run of {self.n_trs} TRs; at least 1 is needed.")
        if not 0.05 <= self.tr_s <= 60:
            raise InvalidValueError(
                f"TR is {self.tr_s:g} s; it must lie between 0.05 and 60 s.",
                hint="a TR in milliseconds must be divided by 1000 (--tr-s)",
            )

    def tr_of(self, time_s: np.ndarray) -> np.ndarray:
        """Return the TR whose interval (begin, end] holds each time; -1 or n_trs where outside.

        The end belongs to the TR: a clip that ends exactly at a TR's end has been seen in full by then.
        """
        position = (np.asarray(time_s, np.float64) - self.start_s - SAME_TIME_S) / self.tr_s
        return np.clip(np.floor(position).astype(np.int64), -1, self.n_trs)


def average_weights(
    time_s: np.ndarray, grid: TrGrid, *, what: str = "clips"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the entries of the matrix, (n_trs, n_clips), that averages clips at `time_s` into TRs.

    Parameters
    ----------
    time_s : ndarray, (n_clips,)
        End of each clip's window in stimulus seconds.
    grid : TrGrid
        The run's TRs.
    what : str
        What the rows are, for the error.

    Returns
    -------
    trs, clips : ndarray of int64, (n_entries,)
        Row and column of each entry; clips outside the run have none.
    weights : ndarray of float32, (n_entries,)
        Those of a row sum to 1.

    Raises
    ------
    AlignmentError
        Where a TR has no clip.
    """
    tr = grid.tr_of(time_s)
    clips = np.flatnonzero((tr >= 0) & (tr < grid.n_trs))
    counts = np.bincount(tr[clips], minlength=grid.n_trs)
    if (counts == 0).any():
        empty = np.flatnonzero(counts == 0)
        raise AlignmentError(
            f"{len(empty)} of {grid.n_trs} TRs have no {what} (first: TR {empty[0]}, ending at "
            f"{grid.start_s + (empty[0] + 1) * grid.tr_s:.3f} s of the stimulus; {what} end between "
            f"{np.min(time_s):.3f} and {np.max(time_s):.3f} s).",
            hint=f"extract with --step-s {grid.tr_s:g} or less, or cut the run (ingest --drop-volumes, --stimulus-map)",
        )
    return tr[clips], clips, (1 / counts[tr[clips]]).astype(np.float32)
