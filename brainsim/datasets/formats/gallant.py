"""Turn HDF5 files of the Gallant lab's movie data (shortclips, vim-2) into runs, and their repeats into viewings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from brainsim.core.errors import InputFileError
from brainsim.datasets.arrays import HDF5_SUFFIXES, SliceSignal
from brainsim.datasets.dataset_format import DatasetFormat
from brainsim.datasets.naming import name_runs, refuse_entities
from brainsim.datasets.runs import FoundRuns, RunSource, Selection
from brainsim.datasets.tables import list_items

SPACE = "table"
TRAIN, TEST, ONSETS = "Y_train", "Y_test", "run_onsets"  # shortclips: Huth et al. 2012, by the lab's tutorials
MATLAB_TRAIN, MATLAB_TEST, MATLAB_REPEATS = "rt", "rv", "rva"  # vim-2: Nishimoto et al. 2011, CRCNS
# The training movie of vim-2 was shown in twelve runs of ten minutes, one row per second.
VIM2_RUN_TRS = 600
TR_S = {TRAIN: 2.0, MATLAB_TRAIN: 1.0}


def recognises(paths: Sequence[Path]) -> bool:
    """Return whether the source is HDF5 files with the arrays of these data; looks into them."""
    files = _list_files(paths)
    return bool(files) and all(path.name.endswith(HDF5_SUFFIXES) and _layout(path) is not None for path in files)


def find(paths: Sequence[Path], selection: Selection) -> FoundRuns:
    """Take the parts of the training array as runs, and each repeat of the test array as a viewing of one run."""
    refuse_entities(selection, "gallant")
    runs: list[RunSource] = []
    files = _list_files(paths)
    subjects = [subject for subject, _ in name_runs([(path, "") for path in files], selection)]
    for path, subject in zip(files, subjects, strict=True):
        layout = _layout(path)
        if layout is None:
            raise InputFileError(
                f"{path} has neither {TRAIN} and {TEST} (shortclips) nor {MATLAB_TRAIN} and {MATLAB_REPEATS} (vim-2); "
                f"it "
                f"has {', '.join(list_items(path)) or 'no array'}.",
                hint="--format table takes any 2-D arrays, time first",
            )
        shapes = list_items(path)
        runs += _shortclips(path, subject, shapes) if layout == TRAIN else _vim2(path, subject, shapes)
    return FoundRuns(tuple(runs))


def _shortclips(path: Path, subject: str, shapes: Mapping[str, tuple[int, ...]]) -> list[RunSource]:
    train, test = shapes[TRAIN], shapes[TEST]
    if len(train) != 2 or len(test) != 3 or train[1] != test[2]:
        raise InputFileError(
            f"{path} has {TRAIN} {train} and {TEST} {test}; (n_trs, n_targets) and "
            "(n_repeats, n_trs, n_targets) are wanted.",
            hint="time first, targets last",
        )
    onsets = [0]
    if ONSETS in shapes:
        with h5py.File(path, "r") as file:
            onsets = [int(onset) for onset in np.asarray(file[ONSETS][()]).ravel()]
    if onsets[0] != 0 or sorted(set(onsets)) != onsets or onsets[-1] >= train[0]:
        raise InputFileError(
            f"{ONSETS} of {path} are {onsets[:6]}; increasing rows of {TRAIN} from 0 to below {train[0]} are wanted.",
            hint="the first run begins in row 0",
        )
    parts = zip(onsets, [*onsets[1:], train[0]], strict=True)
    found = [_source(path, subject, f"run-{k}", TRAIN, train, (0, 1), range(*part)) for k, part in enumerate(parts, 1)]
    return found + [
        _source(path, subject, f"test-{k + 1}", TEST, test, (1, 2), range(test[1]), repeat=k) for k in range(test[0])
    ]


def _vim2(path: Path, subject: str, shapes: Mapping[str, tuple[int, ...]]) -> list[RunSource]:
    train, repeats = shapes[MATLAB_TRAIN], shapes[MATLAB_REPEATS]
    shared = [n for n in train if n in repeats]
    if len(train) != 2 or len(repeats) != 3 or not shared:
        raise InputFileError(
            f"{path} has {MATLAB_TRAIN} {train} and {MATLAB_REPEATS} {repeats}; (n_targets, n_trs) and "
            "(n_targets, n_repeats, n_trs) are wanted.",
            hint="save the arrays of the data set unchanged, as MATLAB 7.3",
        )
    n_targets = max(shared)
    target, of_repeats = train.index(n_targets), repeats.index(n_targets)
    # MATLAB and HDF5 count axes from opposite ends: of the other two the longer one is time.
    first, second = (axis for axis in range(3) if axis != of_repeats)
    time, repeat_axis = (first, second) if repeats[first] > repeats[second] else (second, first)
    n_trs = train[1 - target]
    starts = range(0, n_trs, VIM2_RUN_TRS)
    found = [
        _source(
            path, subject, f"run-{k}", MATLAB_TRAIN, train, (1 - target, target), range(s, min(s + VIM2_RUN_TRS, n_trs))
        )
        for k, s in enumerate(starts, 1)
    ]
    return found + [
        _source(
            path,
            subject,
            f"test-{k + 1}",
            MATLAB_REPEATS,
            repeats,
            (time, of_repeats),
            range(repeats[time]),
            repeat=k,
        )
        for k in range(repeats[repeat_axis])
    ]


def _source(
    path: Path,
    subject: str,
    run: str,
    item: str,
    shape: tuple[int, ...],
    axes: tuple[int, int],
    rows: range,
    *,
    repeat: int | None = None,
) -> RunSource:
    tr_s = TR_S[MATLAB_TRAIN if item in (MATLAB_TRAIN, MATLAB_REPEATS) else TRAIN]
    opener = partial(SliceSignal, path, item, shape, *axes, rows, repeat, tr_s)
    where = f"{item}[{repeat}]" if repeat is not None else f"{item}[{rows.start}:{rows.stop}]"
    stimulus = "" if repeat is None else "test"
    return RunSource(subject, run, path, opener, item=where, space=SPACE, repeat_of=stimulus)


def _layout(path: Path) -> str | None:
    if not path.name.endswith(HDF5_SUFFIXES):
        return None
    try:
        names = list_items(path)
    except InputFileError:
        return None
    if {TRAIN, TEST} <= set(names):
        return TRAIN
    return MATLAB_TRAIN if {MATLAB_TRAIN, MATLAB_REPEATS} <= set(names) else None


def _list_files(paths: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        inside = path.iterdir() if path.is_dir() else [path]
        files += sorted(p for p in inside if p == path or p.name.endswith(HDF5_SUFFIXES))
    return files


FORMAT = DatasetFormat(
    name="gallant",
    summary=f"HDF5 with {TRAIN} and {TEST} (shortclips), or {MATLAB_TRAIN} and {MATLAB_REPEATS} (vim-2)",
    recognises=recognises,
    find=find,
    rank=25,
)
