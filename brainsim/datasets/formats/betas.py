"""Turn responses to single stimuli, one row each, and their repeats into runs whose rows are stimuli."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from brainsim.core.errors import AlignmentError, InputFileError
from brainsim.datasets.arrays import SliceSignal
from brainsim.datasets.dataset_format import DatasetFormat
from brainsim.datasets.naming import name_runs, refuse_entities
from brainsim.datasets.runs import FoundRuns, RunSource, Selection
from brainsim.datasets.tables import ARRAY_SUFFIXES, CONTAINER_SUFFIXES, list_items, load_array

SPACE = "table"
# Rows are stimuli: row k stands for second k to k + 1 of a stimulus that shows each for a second.
ROW_S = 1.0
_LAYOUT = "save (n_repeats, n_stimuli, n_targets), or (n_trials, n_targets) with a FILE_trials.tsv (column stimulus)"


def recognises(paths: Sequence[Path]) -> bool:
    """Return False: rows of a table are TRs unless the user says that they are stimuli."""
    return False


def find(paths: Sequence[Path], selection: Selection) -> FoundRuns:
    """Take every array (n_repeats, n_stimuli, n_targets), or (n_trials, n_targets) with its table of trials."""
    refuse_entities(selection, "betas")
    items: list[tuple[Path, str, tuple[int, ...]]] = []
    notes: list[str] = []
    for path in _list_files(paths):
        shapes = list_items(path) if path.name.endswith(CONTAINER_SUFFIXES) else {"": load_array(path, "").shape}
        items += [(path, name, shape) for name, shape in shapes.items() if len(shape) in (2, 3)]
    if not items:
        raise InputFileError(f"{', '.join(map(str, paths))} holds no array of 2 or 3 axes.", hint=_LAYOUT)
    labels = name_runs([(path, item) for path, item, _ in items], selection)
    runs: list[RunSource] = []
    for (path, item, shape), (subject, run) in zip(items, labels, strict=True):
        where = f"{path}[{item}]" if item else str(path)
        if len(shape) == 3:
            viewings: list[tuple[int | None, Sequence[int]]] = [(k, range(shape[1])) for k in range(shape[0])]
            axes = (1, 2)
        else:
            rows, told = _read_trials(path, where, shape[0])
            notes += told
            viewings = [(None, trials) for trials in rows]
            axes = (0, 1)
        for number, (repeat, trials) in enumerate(viewings, start=1):
            name = run if len(viewings) == 1 else f"{run}_rep-{number}"
            opener = partial(SliceSignal, path, item, shape, *axes, trials, repeat, ROW_S)
            runs.append(
                RunSource(
                    subject, name, path, opener, item=f"{item or 'array'}, repeat {number}", space=SPACE, repeat_of=run
                )
            )
    return FoundRuns(tuple(runs), tuple(notes))


def _read_trials(path: Path, where: str, n_trials: int) -> tuple[list[tuple[int, ...]], list[str]]:
    """Return, for each repeat, the trial of every stimulus, stimuli in order of their names."""
    table = path.with_name(f"{path.name.split('.')[0]}_trials.tsv")
    if not table.is_file():
        return [tuple(range(n_trials))], []
    try:
        rows = list(csv.DictReader(table.read_text(encoding="utf-8-sig").splitlines(), delimiter="\t"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputFileError(f"the table of trials {table} cannot be read: {error}.", hint=_LAYOUT) from error
    if not rows or "stimulus" not in rows[0]:
        raise InputFileError(
            f"the table of trials {table} has no column stimulus; it has {', '.join(rows[0]) if rows else 'no rows'}.",
            hint=_LAYOUT,
        )
    if len(rows) != n_trials:
        raise AlignmentError(
            f"{table} has {len(rows)} rows, and {where} has {n_trials}; one row per trial is wanted.", hint=_LAYOUT
        )
    trials: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        trials.setdefault((row["stimulus"] or "").strip(), []).append(number)
    if "" in trials:
        raise InputFileError(f"row {trials[''][0] + 1} of {table} names no stimulus.", hint=_LAYOUT)
    counts = np.array([len(found) for found in trials.values()])
    n_repeats = int(counts.min())
    notes = []
    if counts.max() > n_repeats:
        notes.append(
            f"stimuli of {table} have {n_repeats} to {counts.max()} trials; the first {n_repeats} of each are used, so "
            f"that all means are alike ({int((counts - n_repeats).sum())} trials are left out)."
        )
    ordered = sorted(trials)
    return [tuple(trials[name][k] for name in ordered) for k in range(n_repeats)], notes


def _list_files(paths: Sequence[Path]) -> list[Path]:
    suffixes = (*ARRAY_SUFFIXES, *CONTAINER_SUFFIXES)
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += sorted(p for p in path.iterdir() if p.name.endswith(suffixes))
        elif path.name.endswith(suffixes):
            files.append(path)
        else:
            raise InputFileError(f"{path} is no .npy, .npz or HDF5 file.", hint=_LAYOUT)
    return files


FORMAT = DatasetFormat(
    name="betas",
    summary=".npy, .npz or .h5 with a row per stimulus, and repeats: (n_repeats, n_stimuli, n_targets); only if named",
    recognises=recognises,
    find=find,
    rank=90,
    is_betas=True,
)
