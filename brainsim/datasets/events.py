"""Turn the events table of a run into what was shown in it, and when."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from brainsim.core.checks import check_file, check_node_name
from brainsim.core.errors import AlignmentError, InputFileError
from brainsim.datasets.runs import RunSource
from brainsim.datasets.stimulus_map import Showing

_MISSING = ("", "n/a", "N/A", "NA", "nan")
# Parts of a movie that follow one another within this time are one showing.
SAME_TIME_S = 0.1


def read_events(source: RunSource, column: str) -> Showing:
    """Return the only stimulus that a run's events table names.

    Rows of the same stimulus that follow one another without a pause are one showing; rows without a stimulus are
    passed by.

    Parameters
    ----------
    source : RunSource
        The run.
    column : str
        Column that names the stimulus; of a path the stem of its last part counts: "stimuli/film-1.mp4" is film-1.

    Raises
    ------
    InputFileError
        No table, no such column, times that are no numbers.
    AlignmentError
        No stimulus, several, or one with pauses.
    """
    if source.events is None:
        raise InputFileError(
            f"no events table beside {source.where}.", hint="name it like the run, ending in _events.tsv"
        )
    path = check_file(source.events, what="events table")
    rows = [row for row in _read_rows(path, column) if (row[column] or "").strip() not in _MISSING]
    names = list(dict.fromkeys(_stem(row[column]) for row in rows))
    if len(names) != 1:
        shown = ", ".join(names[:6]) + (", …" if len(names) > 6 else "")
        raise AlignmentError(
            f"column {column} of {path} names {len(names)} stimuli ({shown or 'none'}); one per run is wanted.",
            hint="--stimulus-map names one movie per run; join several into one file, with what was shown between them",
        )
    check_node_name(names[0], what=f"the stimulus in {path}")
    times = sorted((_seconds(row, "onset", path), _seconds(row, "duration", path)) for row in rows)
    onset_s = times[0][0]
    end_s: float | None = onset_s
    for begin_s, duration_s in times:
        if end_s is not None and begin_s > end_s + SAME_TIME_S:
            raise AlignmentError(
                f"{names[0]} pauses in {path}: {end_s:g} s is its end, and at {begin_s:g} s it goes on.",
                hint="--stimulus-map with a movie that holds the pause too",
            )
        end_s = None if duration_s != duration_s or end_s is None else max(end_s, begin_s + duration_s)
    shown_s = None if end_s is None or end_s <= onset_s else end_s - onset_s
    return Showing(names[0], onset_s=onset_s, duration_s=shown_s)


def _read_rows(path: Path, column: str) -> Sequence[Mapping[str, str]]:
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines(), delimiter="\t"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputFileError(f"the events table {path} cannot be read: {error}.", hint=f"file {path}") from error
    has = list(rows[0]) if rows else []
    for wanted in ("onset", column):
        if wanted not in has:
            raise InputFileError(
                f"the events table {path} has no column {wanted}; it has {', '.join(has) or 'no rows'}.",
                hint="--events COLUMN names the column with the stimulus",
            )
    return rows


def _stem(name: str) -> str:
    last = PurePosixPath(name.strip().replace("\\", "/")).name
    return last.rsplit(".", 1)[0] if "." in last else last


def _seconds(row: Mapping[str, str], column: str, path: Path) -> float:
    text = (row.get(column) or "").strip()
    if column == "duration" and text in _MISSING:
        return float("nan")
    try:
        seconds = float(text)
    except ValueError:
        seconds = float("inf")
    if not abs(seconds) < 1e6:
        raise InputFileError(f"{column} of an event in {path} is {text!r}; seconds are wanted.", hint=f"head {path}")
    return seconds
