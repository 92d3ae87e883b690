"""Turn a confounds table and the word for a strategy into regressors, one row per volume."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from brainsim.core.checks import check_file
from brainsim.core.errors import AlignmentError, InputFileError, InvalidValueError, UnknownNameError
from brainsim.core.registry import suggest
from brainsim.datasets.tables import read_text_table

MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
N_COMPCOR = 5
DISPLACEMENT = "framewise_displacement"
# What fMRIPrep before 1.2 called its columns.
OLD_NAMES = {
    "X": "trans_x", "Y": "trans_y", "Z": "trans_z", "RotX": "rot_x", "RotY": "rot_y", "RotZ": "rot_z",
    "FramewiseDisplacement": DISPLACEMENT, **{f"aCompCor{k:02d}": f"a_comp_cor_{k:02d}" for k in range(10)},
}  # fmt: skip
STRATEGIES = ("none", "motion6", "motion24", "acompcor5")


@dataclass(frozen=True)
class Confounds:
    """Regressors of one run.

    Parameters
    ----------
    values : ndarray of float64, (n_trs, n_confounds)
        As in the file; missing first rows are 0.
    names : tuple of str
        One per column.
    displacement_mm : ndarray of float64, (n_trs,), optional
        Framewise displacement; NaN where the file says n/a.
    filled : tuple of str
        Columns whose first row was missing and became 0.
    extra : mapping of str to ndarray of float64, (n_trs,)
        Columns that are read and not regressed out.
    """

    values: np.ndarray
    names: tuple[str, ...]
    displacement_mm: np.ndarray | None = None
    filled: tuple[str, ...] = ()
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)


def parse_strategy(confounds: str) -> tuple[str, ...]:
    """Return the one word of a strategy, or the column names of a comma list.

    Raises
    ------
    InvalidValueError
        For an empty word.
    """
    words = tuple(word.strip() for word in confounds.split(",") if word.strip())
    if not words:
        raise InvalidValueError(
            f"confounds is {confounds!r}; allowed: {', '.join(STRATEGIES)}, or column names with commas between.",
            hint="--confounds motion6",
        )
    return words


def read_confounds(
    path: Path | None, strategy: Sequence[str], *, n_trs: int, where: str, extra: Sequence[str] = ()
) -> Confounds:
    """Read the regressors of one run.

    Parameters
    ----------
    path : Path or None
        The run's table; None where the format found none.
    strategy : sequence of str
        As `parse_strategy` gives it. Column names may hold * and ?.
    n_trs : int
        Number of volumes of the run, before any is dropped.
    where : str
        The run's file, for errors.
    extra : sequence of str
        Columns that are read beside; a pattern may match none.

    Returns
    -------
    Confounds

    Raises
    ------
    InputFileError
        No table where one is needed; a damaged one; missing values after the first row.
    AlignmentError
        Where rows and volumes differ in number.
    UnknownNameError
        For a column that is not there.
    """
    asked = [word for word in strategy if word != "none"] + list(extra)
    wanted = bool(asked)
    if path is None:
        if wanted:
            raise InputFileError(
                f"no confounds table beside {where}, and confounds {','.join(asked)} are asked for.",
                hint="name it like the run, ending in _desc-confounds_timeseries.tsv; or --confounds none --scrub none",
            )
        return Confounds(np.empty((n_trs, 0)), ())
    values, header = read_text_table(check_file(path, what="confounds table"))
    if not header:
        raise InputFileError(
            f"the confounds table {path} has no header; names of columns are wanted in its first row.",
            hint=f"head -1 {path}",
        )
    if len(values) != n_trs:
        if not wanted:  # nothing depends on it
            return Confounds(np.empty((n_trs, 0)), ())
        raise AlignmentError(
            f"the confounds table {path} has {len(values)} rows, and {where} has {n_trs} volumes; "
            "one row per volume is wanted.",
            hint="is one of the two cut short, or the table of another run?",
        )
    columns = {OLD_NAMES.get(name, name): values[:, index] for index, name in enumerate(header)}
    names, chosen = _choose_columns(columns, strategy, path)
    matrix = np.stack(chosen, axis=1) if chosen else np.empty((n_trs, 0))
    filled = tuple(name for name, first in zip(names, matrix[0], strict=True) if np.isnan(first))
    matrix[0] = np.where(np.isnan(matrix[0]), 0.0, matrix[0])
    wrong = np.argwhere(~np.isfinite(matrix))
    if len(wrong):
        row, column = wrong[0]
        raise InputFileError(
            f"the confounds table {path} has {len(wrong)} missing or infinite values that are used (first: column "
            f"{names[column]!r}, row {row + 1}); only a first row may be n/a.",
            hint="choose other columns with --confounds",
        )
    beside = {name: columns[name] for word in extra for name in _extra_names(columns, word, path)}
    return Confounds(matrix, names, columns.get(DISPLACEMENT), filled, beside)


def _choose_columns(
    columns: Mapping[str, np.ndarray], strategy: Sequence[str], path: Path
) -> tuple[tuple[str, ...], list[np.ndarray]]:
    names: list[str] = []
    if tuple(strategy) == ("none",):
        return (), []
    for word in strategy:
        if word in ("motion6", "motion24"):
            names += _motion_names(columns, word == "motion24", path)
        elif word == "acompcor5":
            names += _compcor_names(columns, path)
        elif word == "none":
            raise InvalidValueError(
                f"confounds are {','.join(strategy)}; 'none' stands alone.", hint="--confounds none, or the others"
            )
        else:
            names += _matching_names(columns, word, path)
    names = list(dict.fromkeys(names))
    return tuple(names), [columns[name] if name in columns else _derive(columns, name) for name in names]


def _matching_names(columns: Mapping[str, np.ndarray], word: str, path: Path) -> list[str]:
    found = [name for name in columns if fnmatchcase(name, OLD_NAMES.get(word, word))]
    if not found:
        raise UnknownNameError(
            f"no column {word!r} in {path}; {suggest(word, [*columns, *STRATEGIES])}",
            hint=f"head -1 {path} lists its columns",
        )
    return found


def _extra_names(columns: Mapping[str, np.ndarray], word: str, path: Path) -> list[str]:
    is_pattern = any(sign in word for sign in "*?[")
    found = [name for name in columns if fnmatchcase(name, OLD_NAMES.get(word, word))]
    return found if is_pattern or found else _matching_names(columns, word, path)


def _motion_names(columns: Mapping[str, np.ndarray], expanded: bool, path: Path) -> list[str]:
    lacking = [name for name in MOTION if name not in columns]
    if lacking:
        raise UnknownNameError(
            f"{path} has no {', '.join(lacking)}; motion confounds need {', '.join(MOTION)}.",
            hint=f"head -1 {path} lists its columns",
        )
    if not expanded:
        return list(MOTION)
    return [f"{name}{ending}" for ending in ("", "_derivative1", "_power2", "_derivative1_power2") for name in MOTION]


def _derive(columns: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """Return a column of the 24-parameter set that the file lacks (Friston 1996 as fMRIPrep writes it)."""
    motion = columns[next(m for m in MOTION if name.startswith(m))]
    if "_derivative1" in name:
        motion = np.concatenate([[0.0], np.diff(motion)])
    return motion**2 if name.endswith("_power2") else motion


def _compcor_names(columns: Mapping[str, np.ndarray], path: Path) -> list[str]:
    """Return the first components; those of the combined mask where the table's JSON says which mask each is of."""
    names = sorted(name for name in columns if name.startswith("a_comp_cor_"))
    described = path.with_suffix("").with_suffix(".json") if path.suffix == ".gz" else path.with_suffix(".json")
    if described.is_file():
        try:
            masks = {
                k: v.get("Mask") for k, v in json.loads(described.read_text("utf-8")).items() if isinstance(v, dict)
            }
        except (ValueError, OSError) as error:
            raise InputFileError(
                f"{described} is no JSON file: {error}.", hint=f"python -m json.tool {described}"
            ) from error
        combined = [name for name in names if masks.get(name) == "combined"]
        names = combined or names
    if len(names) < N_COMPCOR:
        raise UnknownNameError(
            f"{path} has {len(names)} columns a_comp_cor_…; acompcor5 needs {N_COMPCOR}.",
            hint=f"head -1 {path} lists its columns",
        )
    return names[:N_COMPCOR]
