"""Turn GIFTI files, one per hemisphere, and FreeSurfer annotations into time series, labels and masks of vertices."""

# mypy: untyped-calls-exclude="nibabel"
# (nibabel says it is typed, and leaves most of its methods without annotations)

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.parsers.expat import ExpatError

import nibabel as nib
import numpy as np
from nibabel.freesurfer import io as freesurfer_io

from brainsim.core.checks import check_file
from brainsim.core.errors import AlignmentError, InputFileError
from brainsim.datasets.cifti import is_region
from brainsim.datasets.runs import Grid
from brainsim.datasets.structures import LEFT, RIGHT, whole_surfaces

ENDING, ANNOTATION = ".gii", ".annot"
# How names tell the hemisphere: BIDS, HCP and old fMRIPrep, FreeSurfer.
_SIDES = (
    (re.compile(r"(?<![A-Za-z0-9])hemi-L(?![A-Za-z0-9])"), "hemi-R"),
    (re.compile(r"(?<=\.)L(?=\.)"), "R"),
    (re.compile(r"(?<![A-Za-z0-9])lh(?=[._-])"), "rh"),
)
_BACK = (
    (re.compile(r"(?<![A-Za-z0-9])hemi-R(?![A-Za-z0-9])"), "hemi-L"),
    (re.compile(r"(?<=\.)R(?=\.)"), "L"),
    (re.compile(r"(?<![A-Za-z0-9])rh(?=[._-])"), "lh"),
)


def is_surface(path: Path) -> bool:
    """Return whether a name is that of a GIFTI file or of a FreeSurfer annotation."""
    return path.name.endswith((ENDING, ANNOTATION))


def other_side(path: Path) -> Path | None:
    """Return what the other hemisphere's file would be called; None where the name tells no hemisphere."""
    for pattern, other in (*_SIDES, *_BACK):
        if pattern.search(path.name):
            return path.with_name(pattern.sub(other, path.name, count=1))
    return None


def is_left(path: Path) -> bool:
    """Return whether a name is that of the left hemisphere."""
    return any(pattern.search(path.name) for pattern, _ in _SIDES)


def pair_of(path: Path, *, what: str) -> tuple[Path, Path]:
    """Return the files of the left and the right hemisphere, given one of them.

    Raises
    ------
    InputFileError
        A name that tells no hemisphere, or the other one's file is not there.
    """
    other = other_side(check_file(path, what=what))
    if other is None:
        raise InputFileError(
            f"the name of {path} does not tell its hemisphere; hemi-L, .L. or lh. is wanted in it.",
            hint="rename the pair of files, left and right alike but for that",
        )
    if not other.is_file():
        raise InputFileError(
            f"the other hemisphere of {path} is not there: {other.name} is wanted beside it.",
            hint=f"ls {path.parent}",
        )
    return (path, other) if is_left(path) else (other, path)


class GiftiSignal:
    """The time series of two hemispheres as a `Signal`; opening it reads the heads of its files only.

    Parameters
    ----------
    left, right : Path
        .func.gii files with one data array per TR, or one array (n_vertices, n_trs).

    Raises
    ------
    InputFileError
        No such file, or one that is no time series of vertices.
    AlignmentError
        Hemispheres of different length.
    """

    tr_s = None  # GIFTI has no field for it

    def __init__(self, left: Path, right: Path) -> None:
        self.paths = (check_file(left, what="GIFTI file"), check_file(right, what="GIFTI file"))
        (n_left, trs_left), (n_right, trs_right) = map(_read_size, self.paths)
        if trs_left != trs_right:
            raise AlignmentError(
                f"{left} has {trs_left} TRs, and {right} has {trs_right}; hemispheres of one run must agree.",
                hint="is one of the two cut short, or of another run?",
            )
        self._n_trs = trs_left
        self._grid = whole_surfaces({LEFT: n_left, RIGHT: n_right})

    @property
    def grid(self) -> Grid:
        """All vertices, left before right."""
        return self._grid

    @property
    def n_trs(self) -> int:
        """Number of data arrays."""
        return self._n_trs

    def read(self, places: np.ndarray) -> np.ndarray:
        """Return the time series of some vertices, float32 (n_trs, n_places); one hemisphere in memory at a time."""
        out = np.empty((self._n_trs, len(places)), np.float32)
        first = 0
        for path, part in zip(self.paths, self._grid.structures, strict=True):
            values = _read_series(path, len(part.index), self._n_trs)
            chosen = np.flatnonzero((places >= first) & (places < first + len(part.index)))
            with np.errstate(over="ignore", invalid="ignore"):
                out[:, chosen] = values[:, places[chosen] - first]
            first += len(part.index)
        return out

    def find_varying(self) -> np.ndarray:
        """Return which vertices change over time, bool (n_places,)."""
        found = []
        for path, part in zip(self.paths, self._grid.structures, strict=True):
            values = _read_series(path, len(part.index), self._n_trs)
            found.append(((values != values[:1]) & ~(np.isnan(values) & np.isnan(values[:1]))).any(axis=0))
        return np.concatenate(found)


def read_surface_map(path: Path, *, what: str) -> tuple[np.ndarray, Grid, Mapping[int, str]]:
    """Read a label or a value per vertex, of both hemispheres.

    Parameters
    ----------
    path : Path
        One of a pair of .gii or .annot files; the other lies beside it.
    what : str
        What it should be, for errors.

    Returns
    -------
    values : ndarray of float64, (n_places,)
        Labels of the right hemisphere continue after those of the left.
    grid : Grid
    names : mapping of int to str
        Label -> name; empty where the files name none.
    """
    values: list[np.ndarray] = []
    names: dict[int, str] = {}
    offset = 0
    for side in pair_of(path, what=what):
        one, table = _read_annotation(side) if side.name.endswith(ANNOTATION) else _read_one(side, what)
        if table:
            one = np.where(np.isin(one, list(table)), one + offset, 0)
            names |= {label + offset: name for label, name in table.items()}
            offset += max(table)
        values.append(one)
    grid = whole_surfaces({LEFT: len(values[0]), RIGHT: len(values[1])})
    return np.concatenate(values), grid, names


def _read_size(path: Path) -> tuple[int, int]:
    """Return numbers of vertices and of TRs, from the head of a file."""
    n_arrays = 0
    try:
        # Our own handle: one that iterparse opens stays open when its loop is left early.
        with path.open("rb") as file:
            for _, element in ElementTree.iterparse(file, events=("start",)):
                if element.tag == "GIFTI":
                    n_arrays = int(element.attrib["NumberOfDataArrays"])
                if element.tag == "DataArray":
                    n_axes = int(element.attrib.get("Dimensionality", 1))
                    n_vertices = int(element.attrib["Dim0"])
                    if n_axes == 1:
                        return n_vertices, n_arrays
                    return n_vertices, int(element.attrib["Dim1"]) * n_arrays
    except (ElementTree.ParseError, KeyError, ValueError, OSError) as error:
        raise _damaged(path, error) from error
    raise InputFileError(f"{path} holds no data array.", hint="name .func.gii files, not .surf.gii")


def _load(path: Path) -> Any:
    try:
        return nib.load(path)
    except (ExpatError, nib.filebasedimages.ImageFileError, OSError, ValueError) as error:
        raise _damaged(path, error) from error
    except Exception as error:  # zlib, binascii and expat all have errors of their own here
        raise _damaged(path, error) from error


def _read_series(path: Path, n_vertices: int, n_trs: int) -> np.ndarray:
    """Return (n_trs, n_vertices)."""
    arrays = [np.asarray(array.data) for array in _load(path).darrays]
    values = np.stack(arrays) if arrays and arrays[0].ndim == 1 else np.concatenate(arrays, axis=1).T
    if values.shape != (n_trs, n_vertices):
        raise InputFileError(
            f"{path} holds {values.shape[0]} TRs of {values.shape[1]} vertices, and its head promises {n_trs} of "
            f"{n_vertices}.",
            hint="get the file again",
        )
    return values


def _read_one(path: Path, what: str) -> tuple[np.ndarray, dict[int, str]]:
    image = _load(path)
    if len(image.darrays) != 1 or np.ndim(image.darrays[0].data) != 1:
        raise InputFileError(
            f"the {what} {path} holds {len(image.darrays)} arrays; one value per vertex is wanted.",
            hint="name a .label.gii or .shape.gii file of one map",
        )
    table = {int(k): str(v) for k, v in image.labeltable.get_labels_as_dict().items() if is_region(int(k), str(v))}
    return np.asarray(image.darrays[0].data, np.float64), table


def _read_annotation(path: Path) -> tuple[np.ndarray, dict[int, str]]:
    try:
        labels, _, names = freesurfer_io.read_annot(path)
    except Exception as error:  # whatever numpy makes of bytes that are no annotation
        raise _damaged(path, error) from error
    table = {k + 1: name.decode(errors="replace") for k, name in enumerate(names)}
    return np.asarray(labels, np.float64) + 1, {k: name for k, name in table.items() if is_region(k, name)}


def _damaged(path: Path, error: BaseException) -> InputFileError:
    reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return InputFileError(f"{path} is damaged or is not what its name says: {reason}.", hint=f"file {path}")
