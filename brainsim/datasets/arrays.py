"""Turn slices of HDF5 and NumPy arrays with more than two axes into signals: one repeat, or some rows, of one array."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from brainsim.core.errors import InputFileError
from brainsim.datasets.runs import Grid
from brainsim.datasets.tables import load_array

# Columns that are read at once from HDF5: 600 rows of them are some tens of MB.
COLUMNS_AT_ONCE = 8192
HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf", ".mat")


@dataclass(frozen=True)
class SliceSignal:
    """Some rows of one repeat of an array as a `Signal`.

    Parameters
    ----------
    path : Path
        .npy, .npz or HDF5 file.
    item : str
        Array in a container file.
    shape : tuple of int
        The array's.
    row_axis, target_axis : int
        Its axes of time (or stimuli) and of targets.
    rows : sequence of int
        Rows, in order.
    repeat : int, optional
        Index on the third axis, where there is one.
    tr_s : float, optional
        Seconds per row.
    """

    path: Path
    item: str
    shape: tuple[int, ...]
    row_axis: int
    target_axis: int
    rows: Sequence[int]
    repeat: int | None = None
    tr_s: float | None = None

    @property
    def grid(self) -> Grid:
        """One place per target."""
        return Grid((self.shape[self.target_axis],))

    @property
    def n_trs(self) -> int:
        """Number of rows."""
        return len(self.rows)

    def read(self, places: np.ndarray) -> np.ndarray:
        """Return some targets, float32 (n_rows, n_places); HDF5 is read in blocks of targets."""
        out = np.empty((len(self.rows), len(places)), np.float32)
        for first, block in self._blocks():
            chosen = np.flatnonzero((places >= first) & (places < first + block.shape[1]))
            with np.errstate(over="ignore", invalid="ignore"):
                out[:, chosen] = block[:, places[chosen] - first]
        return out

    def find_varying(self) -> np.ndarray:
        """Return which targets change over rows, bool (n_targets,)."""
        found = []
        for _, block in self._blocks():
            found.append(((block != block[:1]) & ~(np.isnan(block) & np.isnan(block[:1]))).any(axis=0))
        return np.concatenate(found)

    def _blocks(self) -> Any:
        """Yield (first target, values (n_rows, n_block))."""
        if self.path.name.endswith(HDF5_SUFFIXES):
            try:
                with h5py.File(self.path, "r") as file:
                    for first in range(0, self.grid.n_places, COLUMNS_AT_ONCE):
                        yield first, self._take(file[self.item], slice(first, first + COLUMNS_AT_ONCE))
            except OSError as error:
                raise InputFileError(
                    f"{self.path} is damaged: {error}.", hint="get the file again; h5dump says what it holds"
                ) from error
        else:
            yield 0, self._take(load_array(self.path, self.item), slice(None))

    def _take(self, array: Any, columns: slice) -> np.ndarray:
        lo, hi = min(self.rows), max(self.rows) + 1
        index: list[Any] = [self.repeat] * len(self.shape)
        index[self.row_axis], index[self.target_axis] = slice(lo, hi), columns
        values = np.asarray(array[tuple(index)], dtype=np.float64)
        if self.row_axis > self.target_axis:
            values = values.T
        return np.asarray(values[np.asarray(self.rows) - lo])
