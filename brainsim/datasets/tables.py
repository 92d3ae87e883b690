"""Turn tables and arrays (.tsv, .csv, .npy, .npz, .h5; time first) into signals, one per table in the file."""

from __future__ import annotations

import gzip
import io
import math
import zlib
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np

from brainsim.core.checks import check_file
from brainsim.core.errors import AlignmentError, InputFileError
from brainsim.core.registry import unknown_name
from brainsim.datasets.runs import Grid

TEXT_SUFFIXES = (".tsv", ".tsv.gz", ".csv", ".csv.gz")
ARRAY_SUFFIXES = (".npy",)
CONTAINER_SUFFIXES = (".npz", ".h5", ".hdf5", ".hdf", ".mat")
SUFFIXES = (*TEXT_SUFFIXES, *ARRAY_SUFFIXES, *CONTAINER_SUFFIXES)
TIME_COLUMN = "time"
# Steps of a time column may differ by this part: 6 printed digits.
SAME_STEP = 1e-3
_LAYOUT = "rows are TRs, columns are targets; tabs between cells (.tsv) or commas (.csv)"
_MISSING = ("n/a", "N/A", "NA", "")
_NPY_MAGIC = b"\x93NUMPY"


def is_table(path: Path) -> bool:
    """Return whether a name is that of a table or array file."""
    return path.name.endswith(SUFFIXES)


class ArraySignal:
    """A 2-D array as a `Signal`: rows are TRs, columns are targets.

    Parameters
    ----------
    path : Path
        The file.
    item : str
        Name of the array in a container file (.npz, .h5).

    Raises
    ------
    InputFileError
        No file, a damaged one, not 2-D, not numbers.
    AlignmentError
        A time column whose steps differ.
    """

    def __init__(self, path: Path, item: str = "") -> None:
        self.path = check_file(path, what="table")
        self.item = item
        values, self._time = self._load()
        self._shape: tuple[int, int] = (values.shape[0], values.shape[1])

    @property
    def grid(self) -> Grid:
        """One place per column."""
        return Grid((self._shape[1],))

    @property
    def n_trs(self) -> int:
        """Number of rows."""
        return self._shape[0]

    @property
    def tr_s(self) -> float | None:
        """Step of the time column where that counts seconds; None where it counts rows, and where there is none."""
        step = self.time_step
        return None if step is None or self.counts_rows else step

    @property
    def counts_rows(self) -> bool:
        """Whether the time column counts rows, 0, 1, 2 … or 1, 2, 3 …"""
        time = self._time
        return time is not None and time[0] in (0, 1) and bool((np.diff(time) == 1).all())

    @property
    def time_step(self) -> float | None:
        """Step of the time column."""
        if self._time is None or len(self._time) < 2:
            return None
        return float(f"{(self._time[-1] - self._time[0]) / (len(self._time) - 1):.7g}")

    def read(self, places: np.ndarray) -> np.ndarray:
        """Return some columns, float32 (n_trs, n_places); values beyond float32 become Inf."""
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(self._load()[0][:, places], dtype=np.float32)

    def find_varying(self) -> np.ndarray:
        """Return which columns change over time, bool (n_columns,)."""
        values = self._load()[0]
        changed = (values != values[:1]) & ~(np.isnan(values) & np.isnan(values[:1]))
        varying: np.ndarray = changed.any(axis=0)
        return varying

    def _load(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the values (n_trs, n_targets) and the time column."""
        where = f"{self.path}[{self.item}]" if self.item else str(self.path)
        time = None
        if self.path.name.endswith(TEXT_SUFFIXES):
            values, names = read_text_table(self.path)
            if names and names[0].strip().lower() == TIME_COLUMN:
                time, values = values[:, 0], values[:, 1:]
                _check_steps(self.path, time)
        else:
            values = load_array(self.path, self.item)
        if values.ndim != 2 or 0 in values.shape:
            raise InputFileError(
                f"{where} has shape {values.shape}; a table (n_trs, n_targets) is wanted.",
                hint="save one 2-D array per run, time first",
            )
        if values.dtype.kind not in "iuf":
            raise InputFileError(
                f"{where} holds values of type {values.dtype}; real numbers are wanted.", hint="save it as float32"
            )
        return values if values.dtype.kind == "f" else values.astype(np.float64), time


def list_items(path: Path) -> dict[str, tuple[int, ...]]:
    """Return name -> shape of the arrays in a container file (.npz, .h5), groups included.

    Raises
    ------
    InputFileError
        No such file, or a damaged one.
    """
    check_file(path, what="table")
    if path.suffix == ".npz":
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return {name: arrays[name].shape for name in arrays.files}
        except Exception as error:  # zipfile, zlib and pickle all have errors of their own here
            raise _damaged(path, error) from error
    shapes: dict[str, tuple[int, ...]] = {}

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            shapes[name] = tuple(item.shape or ())

    try:
        with h5py.File(path, "r") as file:
            file.visititems(visit)
    except OSError as error:
        raise _damaged(path, error) from error
    return shapes


def read_text_table(path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """Read a text table of numbers.

    A first line that is not all numbers is a header; so is one that counts columns from 0 or 1. "n/a", "NA" and empty
    cells are NaN.

    Parameters
    ----------
    path : Path
        .tsv (tabs) or .csv (commas), or one of these with .gz.

    Returns
    -------
    values : ndarray of float64, (n_rows, n_columns)
    names : tuple of str
        Empty where there is no header.

    Raises
    ------
    InputFileError
        A damaged file, an empty one, rows of differing length, a cell that is no number.
    """
    delimiter = "," if ".csv" in path.suffixes else "\t"
    text = _read_text(path)
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise InputFileError(f"{path} is empty; a table of numbers is wanted.", hint=_LAYOUT)
    first = [cell.strip().strip('"') for cell in lines[0].split(delimiter)]
    names = tuple(first) if _is_header(first) else ()
    rows = lines[1:] if names else lines
    if not rows:
        raise InputFileError(f"{path} has a header and no rows; a table of numbers is wanted.", hint=_LAYOUT)
    lengths = {line.count(delimiter) + 1 for line in rows} | {len(first)}
    if len(lengths) > 1:
        raise InputFileError(
            f"the rows of {path} have between {min(lengths)} and {max(lengths)} cells; all must have the same number.",
            hint=_LAYOUT,
        )
    try:
        values = np.loadtxt(io.StringIO("\n".join(rows)), delimiter=delimiter, ndmin=2, comments=None)
    except ValueError:
        values = _parse_cells(path, rows, delimiter)
    return values, names


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig")
    except (EOFError, gzip.BadGzipFile, zlib.error, UnicodeDecodeError) as error:
        raise _damaged(path, error) from error
    except OSError as error:
        raise InputFileError(f"{path} cannot be read: {error.strerror or error}.", hint=f"ls -l {path}") from error


def _is_header(cells: list[str]) -> bool:
    if not all(cell in _MISSING or _is_number(cell) for cell in cells):
        return True
    counted = [str(k) for k in range(len(cells) + 1)]
    return len(cells) > 1 and cells in (counted[:-1], counted[1:])


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _parse_cells(path: Path, rows: list[str], delimiter: str) -> np.ndarray:
    """Parse tables with missing cells, and find the cell that is no number: the slow way."""
    table = []
    for number, line in enumerate(rows, start=1):
        cells = [cell.strip().strip('"') for cell in line.split(delimiter)]
        try:
            table.append([math.nan if cell in _MISSING else float(cell) for cell in cells])
        except ValueError:
            wrong = next(c for c in cells if c not in _MISSING and not _is_number(c))
            raise InputFileError(
                f"row {number} of {path} holds {wrong!r}; numbers and n/a are wanted.", hint=_LAYOUT
            ) from None
    return np.array(table)


def _check_steps(path: Path, time: np.ndarray) -> None:
    steps = np.diff(time)
    if not np.isfinite(time).all() or (steps <= 0).any():
        raise AlignmentError(
            f"the time column of {path} does not increase throughout; one row per TR is wanted.", hint=_LAYOUT
        )
    if len(steps) and not 0 <= time[0] <= steps.min() * (1 + SAME_STEP):
        raise AlignmentError(
            f"the time column of {path} begins at {time[0]:g}, more than one step ({steps.min():g}) into the run.",
            hint="leave the column out, and say with --stimulus-map (onset_s) when the stimulus began",
        )
    if len(steps) and steps.max() - steps.min() > SAME_STEP * steps.min() + 1e-6:
        row = int(np.argmax(np.abs(steps - np.median(steps)))) + 1
        raise AlignmentError(
            f"the time column of {path} has steps from {steps.min():g} to {steps.max():g} (before row {row}); TRs are "
            "missing or the steps are not those of TRs.",
            hint="keep every TR as a row (NaN is masked), or leave the time column out",
        )


def load_array(path: Path, item: str) -> np.ndarray:
    """Read an array, or the array of that name in a container file (.npz, HDF5).

    Raises
    ------
    InputFileError
        A damaged file.
    UnknownNameError
        No such array in it.
    """
    if path.suffix in (".h5", ".hdf5", ".hdf", ".mat"):
        names = list_items(path)
        if item not in names:
            raise unknown_name(f"array of {path}:", item, list(names))
        try:
            with h5py.File(path, "r") as file:
                values: np.ndarray = np.asarray(file[item][()])
                return values
        except OSError as error:
            raise _damaged(path, error) from error
    try:
        if path.suffix == ".npy":
            with path.open("rb") as file:
                if file.read(len(_NPY_MAGIC)) != _NPY_MAGIC:
                    raise InputFileError(f"{path} is no .npy file: its first bytes are others.", hint=f"file {path}")
            return np.asarray(np.load(path, allow_pickle=False))
        with np.load(path, allow_pickle=False) as arrays:
            loaded: Mapping[str, np.ndarray] = arrays
            return np.asarray(loaded[item])
    except InputFileError:
        raise
    except Exception as error:  # zipfile, zlib and pickle all have errors of their own here
        raise _damaged(path, error) from error


def _damaged(path: Path, error: BaseException) -> InputFileError:
    reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return InputFileError(f"{path} is damaged or is not what its name says: {reason}.", hint=f"file {path}")
