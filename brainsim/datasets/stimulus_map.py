"""Turn a TSV of runs and movies into the stimulus of each run and the stimulus time at which its first TR begins."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from brainsim.core.checks import check_file, check_node_name
from brainsim.core.errors import AlignmentError, InputFileError
from brainsim.core.timing import SAME_TIME_S
from brainsim.datasets.runs import RunSource, plain_number

COLUMNS = ("run", "stimulus", "onset_s", "offset_s", "duration_s", "tr_s", "n_volumes", "film", "film_start_s")


@dataclass(frozen=True)
class Showing:
    """What was shown in a run.

    Parameters
    ----------
    stimulus : str
        Name of the stimulus in the store.
    onset_s : float
        Seconds into the run, from its first volume, at which the stimulus begins.
    offset_s : float
        Seconds into the stimulus file at which it was begun.
    duration_s : float, optional
        How long it was shown, seconds.
    tr_s : float, optional
        The TR that the run must have, seconds.
    n_volumes : int, optional
        The number of volumes that the run must have.
    film : str
        A longer whole that the stimulus is a part of; empty where it is none.
    film_start_s : float
        Where in the film the stimulus file begins, seconds.
    """

    stimulus: str
    onset_s: float = 0.0
    offset_s: float = 0.0
    duration_s: float | None = None
    tr_s: float | None = None
    n_volumes: int | None = None
    film: str = ""
    film_start_s: float = 0.0

    @property
    def begin_s(self) -> float:
        """Stimulus time at which the run's first volume begins, seconds."""
        return self.offset_s - self.onset_s

    def showing_trs(self, n_volumes: int, *, tr_s: float) -> tuple[int, int]:
        """Return the first volume whose middle saw the stimulus, and the one after the last."""
        middle_s = self.begin_s + (np.arange(n_volumes) + 0.5) * tr_s
        end_s = np.inf if self.duration_s is None else self.offset_s + self.duration_s
        seen = np.flatnonzero((middle_s >= self.offset_s - SAME_TIME_S) & (middle_s <= end_s + SAME_TIME_S))
        return (int(seen[0]), int(seen[-1]) + 1) if len(seen) else (0, 0)


def read_stimulus_map(path: Path) -> dict[tuple[str, str], Showing]:
    """Read a stimulus map.

    Parameters
    ----------
    path : Path
        TSV with the columns run and stimulus, and any of: onset_s and offset_s (0 where left out), duration_s, tr_s,
        n_volumes, film and film_start_s (see `Showing`), and, where subjects differ, subject.

    Returns
    -------
    dict of (subject or "", run) to Showing

    Raises
    ------
    InputFileError
        No such file, no such columns, cells that are no numbers, a run twice.
    """
    check_file(path, what="stimulus map")
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines(), delimiter="\t"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputFileError(f"the stimulus map {path} cannot be read: {error}.", hint=f"file {path}") from error
    lacking = [name for name in COLUMNS[:2] if not rows or name not in rows[0]]
    if lacking:
        raise InputFileError(
            f"the stimulus map {path} has no column {' and no column '.join(lacking)}; wanted: {', '.join(COLUMNS)}.",
            hint="columns are separated by tabs",
        )
    shown: dict[tuple[str, str], Showing] = {}
    for number, row in enumerate(rows, start=1):
        subject = (row.get("subject") or "").strip()
        key = (f"sub-{subject.removeprefix('sub-')}" if subject else "", _as_run(row["run"] or ""))
        if key in shown:
            raise InputFileError(
                f"row {number} of {path} has {row['run']!r} a second time; one row per run is wanted.",
                hint="a column subject tells the runs of subjects apart",
            )
        name = check_node_name((row["stimulus"] or "").strip(), what=f"the stimulus in row {number} of {path}")
        n_volumes = _as_number(row, "n_volumes", path, number)
        shown[key] = Showing(
            name,
            onset_s=_as_number(row, "onset_s", path, number) or 0.0,
            offset_s=_as_number(row, "offset_s", path, number) or 0.0,
            duration_s=_as_number(row, "duration_s", path, number),
            tr_s=_as_number(row, "tr_s", path, number),
            n_volumes=None if n_volumes is None else int(n_volumes),
            film=(row.get("film") or "").strip(),
            film_start_s=_as_number(row, "film_start_s", path, number) or 0.0,
        )
    return shown


def find_showing(shown: dict[tuple[str, str], Showing] | None, source: RunSource) -> Showing:
    """Return what was shown in a run; without a map the stimulus is called as the run is, and began with it.

    Raises
    ------
    AlignmentError
        Where the map has no such run.
    """
    if shown is None:
        return Showing(source.run)
    found = shown.get((source.subject, source.run)) or shown.get(("", source.run))
    if found is None:
        raise AlignmentError(
            f"the stimulus map has no row for {source.run} of {source.subject} ({source.path.name}); it has "
            f"{_list_runs([run for _, run in shown])}.",
            hint="add the row, or choose runs with --task and --subjects",
        )
    return found


def _list_runs(runs: Sequence[str]) -> str:
    return ", ".join(runs[:12]) + (", …" if len(runs) > 12 else "") if runs else "none"


def _as_run(label: str) -> str:
    label = label.strip()
    head, dash, number = label.rpartition("run-")
    return f"{head}run-{plain_number(number)}" if dash or number.isdecimal() else label


def _as_number(row: dict[str, str], column: str, path: Path, number: int) -> float | None:
    """Return a cell's number; None where the column is not there, or the cell of an optional one is empty."""
    text = (row.get(column) or "").strip()
    if column not in row or (text in ("", "n/a") and column not in ("onset_s", "offset_s")):
        return None
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    positive = column in ("duration_s", "tr_s", "n_volumes")
    if not abs(value) < 1e6 or (positive and value <= 0) or (column == "n_volumes" and value != int(value)):
        wanted = "a whole number above 0 is" if column == "n_volumes" else "seconds are"
        raise InputFileError(
            f"{column} in row {number} of {path} is {text!r}; {wanted} wanted.",
            hint="onset_s and offset_s are 0 where run and stimulus begin together",
        )
    if column == "offset_s" and value < 0:
        raise InputFileError(
            f"offset_s in row {number} of {path} is {text!r}; a place in the stimulus, 0 s or later, is wanted.",
            hint="onset_s says how long after the run's begin the stimulus began",
        )
    return value
