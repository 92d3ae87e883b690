"""Turn CIFTI-2 files into grids of structures, labels, masks and time series at chosen places, in slabs."""

# mypy: untyped-calls-exclude="nibabel"
# (nibabel says it is typed, and leaves most of its methods without annotations)

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.cifti2 import cifti2_axes
from nibabel.filebasedimages import ImageFileError

from brainsim.core.checks import check_file
from brainsim.core.errors import InputFileError
from brainsim.datasets.runs import Grid, Structure

SERIES, LABELS, SCALARS = ".dtseries.nii", ".dlabel.nii", ".dscalar.nii"
# Large enough that a slab's Python costs nothing beside its bytes, small beside any file.
SLAB_BYTES = 8 * 2**20
_SECONDS = "SECOND"
NO_LABELS = ("???", "unknown", "medial_wall")


def is_cifti(path: Path) -> bool:
    """Return whether a name is that of a CIFTI file with values of grayordinates."""
    return path.name.endswith((SERIES, LABELS, SCALARS))


class CiftiSignal:
    """A dense time series as a `Signal`; opening it reads its header only.

    Parameters
    ----------
    path : Path
        A .dtseries.nii file.

    Raises
    ------
    InputFileError
        No file, no CIFTI-2 file, not time by grayordinates, shorter than its header promises.
    """

    def __init__(self, path: Path) -> None:
        self.path = check_file(path, what="CIFTI file")
        image, self._grid = _open(self.path)
        series: Any = image.header.get_axis(0)
        if not isinstance(series, cifti2_axes.SeriesAxis):
            raise InputFileError(
                f"the rows of {path} are {type(series).__name__.removesuffix('Axis').lower()}s, not TRs; a dense time "
                "series is wanted.",
                hint="name the .dtseries.nii files",
            )
        size: Any = series.size
        self._n_trs = int(size)
        unit = str(series.unit).upper()
        self._tr_s = float(f"{float(series.step):.7g}") if unit == _SECONDS and series.step > 0 else None
        self._dtype, self._offset, self._slope, self._inter = _find_values(image, self.path)

    @property
    def grid(self) -> Grid:
        """Its grayordinates."""
        return self._grid

    @property
    def n_trs(self) -> int:
        """Number of rows that the header promises."""
        return self._n_trs

    @property
    def tr_s(self) -> float | None:
        """Step of the series in seconds; None where it says nothing."""
        return self._tr_s

    def read(self, places: np.ndarray) -> np.ndarray:
        """Return the time series of some grayordinates, float32 (n_trs, n_places)."""
        out = np.empty((self._n_trs, len(places)), np.float32)
        for first, slab in self._slabs():  # (n_grayordinates, n_trs)
            chosen = np.flatnonzero((places >= first) & (places < first + len(slab)))
            with np.errstate(over="ignore", invalid="ignore"):  # what overflows float32 is Inf: masked, and counted
                values = slab[places[chosen] - first].T
                out[:, chosen] = values if self._is_plain else values * np.float64(self._slope) + self._inter
        return out

    def find_varying(self) -> np.ndarray:
        """Return which grayordinates change over time, bool (n_places,)."""
        varying = np.zeros(self._grid.n_places, bool)
        for first, slab in self._slabs():
            changed = (slab != slab[:, :1]) & ~((slab != slab) & (slab[:, :1] != slab[:, :1]))
            varying[first : first + len(slab)] = changed.any(axis=1)
        return varying

    @property
    def _is_plain(self) -> bool:
        return self._slope == 1 and self._inter == 0

    def _slabs(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (first grayordinate, values (n, n_trs) in the file's dtype): each one's series lies in one piece."""
        n_bytes = self._n_trs * self._dtype.itemsize
        at_once = max(1, SLAB_BYTES // n_bytes)
        with self.path.open("rb") as file:
            file.seek(self._offset)
            for first in range(0, self._grid.n_places, at_once):
                n = min(at_once, self._grid.n_places - first)
                data = file.read(n * n_bytes)
                if len(data) < n * n_bytes:
                    raise _truncated(self.path)
                yield first, np.frombuffer(data, self._dtype).reshape(n, self._n_trs)


def read_cifti_map(path: Path, *, what: str) -> tuple[np.ndarray, Grid, Mapping[int, str]]:
    """Read the only map of a dense label or scalar file.

    Parameters
    ----------
    path : Path
        .dlabel.nii or .dscalar.nii.
    what : str
        What it should be, for errors.

    Returns
    -------
    values : ndarray of float64, (n_places,)
    grid : Grid
    names : mapping of int to str
        Label -> name, without the label of what lies outside; empty for scalars.

    Raises
    ------
    InputFileError
        No CIFTI file, a time series, or several maps.
    """
    image, grid = _open(check_file(path, what=what))
    axis = image.header.get_axis(0)
    if axis.size != 1 or isinstance(axis, cifti2_axes.SeriesAxis):
        raise InputFileError(
            f"the {what} {path} has {axis.size} rows ({type(axis).__name__.removesuffix('Axis').lower()}); one map is "
            "wanted.",
            hint="wb_command -cifti-merge takes one map out of several",
        )
    _find_values(image, path)
    values = np.asarray(image.dataobj, dtype=np.float64)[0]
    names: dict[int, str] = {}
    if isinstance(axis, cifti2_axes.LabelAxis):
        names = {int(k): str(name) for k, (name, _) in axis.label[0].items() if is_region(int(k), str(name))}
    return values, grid, names


def is_region(label: int, name: str) -> bool:
    """Return whether a label of a table stands for an area, not for what lies outside of all."""
    return label > 0 and name.strip().lower() not in NO_LABELS


def _open(path: Path) -> tuple[Any, Grid]:
    try:
        image: Any = nib.load(path)
    except (ImageFileError, OSError, ValueError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise InputFileError(f"{path} is no CIFTI-2 file: {reason}.", hint=f"file {path} says what it is") from error
    if not isinstance(image, nib.Cifti2Image) or image.ndim != 2:
        raise InputFileError(
            f"{path} is a {type(image).__name__} of shape {image.shape}; a CIFTI-2 file of two axes is wanted.",
            hint=f"wb_command -file-information {path}",
        )
    axis = image.header.get_axis(1)
    if not isinstance(axis, cifti2_axes.BrainModelAxis):
        raise InputFileError(
            f"the columns of {path} are {type(axis).__name__.removesuffix('Axis').lower()}s; grayordinates are wanted.",
            hint="dense files (.dtseries.nii, .dlabel.nii) have them; tables of parcels go in as .npy or .tsv",
        )
    return image, _grid_of(axis)


def _grid_of(axis: Any) -> Grid:
    parts = []
    for name, where, part in axis.iter_structures():
        n_vertices = axis.nvertices.get(name)
        index = part.vertex if n_vertices is not None else part.voxel
        parts.append(Structure(str(name), np.asarray(index, np.int32), None if n_vertices is None else int(n_vertices)))
        del where
    voxels = None
    if axis.volume_shape is not None:
        voxels = Grid(tuple(map(int, axis.volume_shape)), tuple(tuple(map(float, row)) for row in axis.affine))
    return Grid((int(axis.size),), structures=tuple(parts), voxels=voxels)


def _find_values(image: Any, path: Path) -> tuple[np.dtype, int, float, float]:
    """Return dtype, offset, slope and intercept of the values; the file must be long enough for them."""
    stored = image.dataobj  # an ArrayProxy: what the header says of the values, and where they begin
    dtype = stored.dtype
    if dtype.kind not in "iuf":
        raise InputFileError(
            f"{path} holds values of type {dtype}; real numbers are wanted.", hint="save it as float32"
        )
    offset = int(stored.offset)
    if path.stat().st_size < offset + int(np.prod(image.shape)) * dtype.itemsize:
        raise _truncated(path)
    return dtype, offset, float(stored.slope), float(stored.inter)


def _truncated(path: Path) -> InputFileError:
    return InputFileError(f"{path} is truncated: it is shorter than its header promises.", hint="get the file again")
