"""Turn a TSV of runs and movies into the stimulus of each run and the stimulus time at which its first TR begins."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from brainsim.core.checks import check_file, check_node_name
from brainsim.core.errors import AlignmentError, InputFileError
from brainsim.datasets.runs import RunSource, plain_number

COLUMNS = ("run", "stimulus", "onset_s", "offset_s")


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
    """

    stimulus: str
    onset_s: float = 0.0
    offset_s: float = 0.0

    def start_s(self, *, drop_volumes: int, tr_s: float) -> float:
        """Return the stimulus time at which the first volume that is kept begins, seconds."""
        return round(self.offset_s - self.onset_s + drop_volumes * tr_s, 9)


def read_stimulus_map(path: Path) -> dict[tuple[str, str], Showing]:
    """Read a stimulus map.

    Parameters
    ----------
    path : Path
        TSV with the columns run, stimulus, onset_s and offset_s (the last two may be left out: 0), and, where subjects
        differ, subject.

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
        shown[key] = Showing(
            name, _as_seconds(row, "onset_s", path, number), _as_seconds(row, "offset_s", path, number)
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


def _as_seconds(row: dict[str, str], column: str, path: Path, number: int) -> float:
    if column not in row:
        return 0.0
    text = (row[column] or "").strip()
    try:
        seconds = float(text)
    except ValueError:
        seconds = float("nan")
    if not abs(seconds) < 1e6:
        raise InputFileError(
            f"{column} in row {number} of {path} is {text!r}; seconds are wanted.",
            hint="0 where run and stimulus begin together",
        )
    return seconds
