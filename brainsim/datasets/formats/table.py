"""Turn tables and arrays whose rows are TRs and whose columns are targets into runs."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

from brainsim.core.errors import InputFileError, InvalidValueError
from brainsim.datasets.dataset_format import DatasetFormat
from brainsim.datasets.entities import parse_name
from brainsim.datasets.naming import name_runs
from brainsim.datasets.runs import FoundRuns, RunSource, Selection
from brainsim.datasets.tables import CONTAINER_SUFFIXES, ArraySignal, is_table, list_items

SPACE = "table"
# Tables that lie beside runs and are none, by the end of their names.
_NO_RUNS = ("_events", "_confounds", "_timeseries", "_regressors", "_dseg", "participants", "stimulus_map", "_channels")


def recognises(paths: Sequence[Path]) -> bool:
    """Return whether the source is tables or arrays, or a folder with some in it."""
    files = _list_files(paths)
    return bool(files) and all(map(is_table, files))


def find(paths: Sequence[Path], selection: Selection) -> FoundRuns:
    """Take every table, and every 2-D array of a container file, as a run."""
    files = [path for path in _list_files(paths) if is_table(path)]
    if not files:
        raise InputFileError(
            f"{', '.join(map(str, paths))} holds no table.", hint="name .tsv, .csv, .npy, .npz or .h5 files"
        )
    if selection.space is not None:
        raise InvalidValueError(f"space is {selection.space!r}, and tables lie in none.", hint="leave --space out")
    items: list[tuple[Path, str]] = []
    notes = []
    for path in files:
        if not path.name.endswith(CONTAINER_SUFFIXES):
            items.append((path, ""))
            continue
        shapes = list_items(path)
        items += [(path, name) for name, shape in shapes.items() if len(shape) == 2]
        others = [f"{name} {shape}" for name, shape in shapes.items() if len(shape) != 2]
        if others:
            notes.append(f"{path} also holds arrays that are not 2-D and are left: {', '.join(others)}.")
        if len(others) == len(shapes):
            raise InputFileError(
                f"{path} holds no 2-D array ({', '.join(others) or 'it is empty'}); (n_trs, n_targets) is wanted.",
                hint="save one 2-D array per run, time first",
            )
    items = _choose_tasks(items, selection.task, paths)
    labels = name_runs(items, selection)
    runs = [
        RunSource(subject, run, path, partial(ArraySignal, path, item), item=item, space=SPACE)
        for (path, item), (subject, run) in zip(items, labels, strict=True)
    ]
    return FoundRuns(tuple(runs), tuple(notes))


def _choose_tasks(items: list[tuple[Path, str]], task: str | None, paths: Sequence[Path]) -> list[tuple[Path, str]]:
    if task is None:
        return items
    wanted = task.removeprefix("task-")
    chosen = [
        (path, item)
        for path, item in items
        if fnmatchcase(parse_name(Path(item or path.name)).entities.get("task", ""), wanted)
    ]
    if not chosen:
        raise InputFileError(f"no table of task {wanted!r} in {', '.join(map(str, paths))}.", hint="leave --task out")
    return chosen


def _list_files(paths: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.is_file() and is_table(p) and not p.name.startswith("."))
            files += [p for p in inside if not p.name.split(".")[0].endswith(_NO_RUNS)]
        else:
            files.append(path)
    return files


FORMAT = DatasetFormat(
    name="table",
    summary=".tsv, .csv, .npy, .npz or .h5: rows are TRs, columns are targets",
    recognises=recognises,
    find=find,
    rank=30,
)
