"""Turn label images, surfaces and tables into ROI labels of every place, and masks into places, on the runs' grid."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from brainsim.core.checks import check_file
from brainsim.core.errors import AlignmentError, InputFileError
from brainsim.datasets.cifti import is_cifti, read_cifti_map
from brainsim.datasets.gifti import is_surface, read_surface_map
from brainsim.datasets.runs import Grid, check_same_grid, same_grid
from brainsim.datasets.structures import carry_over
from brainsim.datasets.volumes import check_labels, is_volume, read_labels, read_mask


@dataclass(frozen=True)
class RoiLabels:
    """ROIs of every place of a grid.

    Parameters
    ----------
    grid : Grid
        Of the label image, or of the table's columns.
    labels : ndarray of int, (n_places,)
        C order; 0 outside every ROI.
    names : mapping of int to str
        Label -> name; several labels may have one name.
    path : Path
        Where they came from.
    notes : tuple of str
        Labels without a name.
    """

    grid: Grid
    labels: np.ndarray
    names: Mapping[int, str]
    path: Path
    notes: tuple[str, ...] = field(default=())


def read_rois(path: Path) -> RoiLabels:
    """Read a label image and its names; or, for tables, a TSV with one ROI name per column.

    Parameters
    ----------
    path : Path
        X.nii.gz with X.tsv (columns index and name, as BIDS has them for dseg) beside it; one of a pair of .label.gii
        or .annot files, or a .dlabel.nii file, which hold their names (an X.tsv beside them comes first); or a .tsv
        with a column `roi` (or `name`), one row per target, n/a for none.

    Raises
    ------
    InputFileError
        Files that are not there, damaged, or of another kind.
    """
    check_file(path, what="ROI label image", hint="--rois LABELS.nii.gz, in the space of the runs")
    if is_cifti(path) or is_surface(path) or is_volume(path):
        labels, grid, inside = _read_label_file(path)
        table = path.with_name(_stem(path) + ".tsv")
        there = [int(label) for label in np.unique(labels) if label > 0]
        if not there:
            raise InputFileError(f"the label image {path} has no label above 0.", hint="name another image with --rois")
        names = _read_names(table) if table.is_file() else dict(inside)
        unnamed = [label for label in there if label not in names]
        notes = []
        if unnamed:
            shown = ", ".join(map(str, unnamed[:8]))
            what = f"{table} does not name them" if table.is_file() else f"there is no {table}"
            notes.append(f"{len(unnamed)} labels of {path} have no name ({shown}): {what}; they are called label-N.")
        full = {**names, **{label: f"label-{label}" for label in unnamed}}
        return RoiLabels(grid, labels.ravel(), full, path, tuple(notes))
    column = _read_columns(path, ("roi", "name"), "ROI table")
    of_target = [name if name not in ("", "n/a") else None for name in next(iter(column.values()))]
    order = list(dict.fromkeys(name for name in of_target if name is not None))
    if not order:
        raise InputFileError(f"the ROI table {path} names no ROI.", hint="one row per column of the data, with a roi")
    labels = np.array([0 if name is None else order.index(name) + 1 for name in of_target])
    return RoiLabels(Grid((len(labels),)), labels, dict(enumerate(order, start=1)), path)


def place_rois(rois: RoiLabels, grid: Grid, *, where: str, resample: bool = False) -> RoiLabels:
    """Return ROI labels on the grid of the runs.

    Parameters
    ----------
    rois : RoiLabels
    grid : Grid
        Of the runs.
    where : str
        The run that has it, for errors.
    resample : bool
        Whether a label image on another grid is resampled: each voxel of the runs takes the label at its centre
        (nearest neighbour, as nilearn's resample_to_img does it, which leaves out the outer half of the outermost
        voxels).

    Raises
    ------
    AlignmentError
        Labels on another grid: both are printed.
    """
    what = f"the ROI labels {rois.path}"
    if rois.grid.structures and grid.structures:
        labels = rois.labels
        if not same_grid(rois.grid, grid):
            labels = carry_over(labels, rois.grid, grid, what=what, where=where)
        return replace(rois, labels=labels, grid=grid)
    if resample and rois.grid.affine is not None and grid.affine is not None and not same_grid(rois.grid, grid):
        labels = resample_nearest(rois.labels, rois.grid, grid)
        return replace(rois, labels=labels, grid=grid, notes=(*rois.notes, _tell_overlap(rois, labels, grid)))
    _check_grid(rois.grid, grid, what=what, where=where)
    return rois


def place_mask(path: Path, grid: Grid, *, where: str, resample: bool = False) -> np.ndarray:
    """Read a mask and return which places of the runs' grid lie inside, bool (n_places,).

    Raises
    ------
    InputFileError
        Damaged or empty.
    AlignmentError
        On another grid, where `resample` does not allow it: both are printed.
    """
    if is_cifti(path) or is_surface(path):
        read = read_cifti_map if is_cifti(path) else read_surface_map
        values, own, _ = read(path, what="mask")
        mask = np.nan_to_num(values, nan=0.0) > 0
        if not mask.any():
            raise InputFileError(f"the mask {path} has no place above 0.", hint="name another file with --mask")
    else:
        volume, own = read_mask(path)
        mask = volume.ravel()
    what = f"the mask {path}"
    if own.structures and grid.structures:
        return mask if same_grid(own, grid) else carry_over(mask, own, grid, what=what, where=where)
    if resample and own.affine is not None and grid.affine is not None and not same_grid(own, grid):
        return resample_nearest(mask, own, grid)
    _check_grid(own, grid, what=what, where=where)
    return np.asarray(mask)


def resample_nearest(values: np.ndarray, source: Grid, target: Grid) -> np.ndarray:
    """Return, for each voxel of `target`, the value of `source` at its centre; 0 outside.

    Parameters
    ----------
    values : ndarray, (source.n_places,)
    source, target : Grid
        Volumes.
    """
    to_source = np.linalg.inv(np.array(source.affine)) @ np.array(target.affine)
    out = np.zeros(target.n_places, values.dtype)
    n_plane = int(np.prod(target.shape[1:]))
    jk = np.array(np.unravel_index(np.arange(n_plane), target.shape[1:]))
    for i in range(target.shape[0]):  # a plane at once bounds the memory
        ijk = np.vstack([np.full(n_plane, i), jk, np.ones(n_plane)])
        # halves go up, and rounding of affines must not decide
        at = np.floor(to_source[:3] @ ijk + 0.5 + 1e-6).astype(np.int64)
        inside = (at >= 0).all(axis=0) & (at < np.array(source.shape)[:, None]).all(axis=0)
        places = np.ravel_multi_index(tuple(at[:, inside]), source.shape)
        out[i * n_plane + np.flatnonzero(inside)] = values[places]
    return out


def _tell_overlap(rois: RoiLabels, labels: np.ndarray, grid: Grid) -> str:
    """Say what resampling did to the volume of the ROIs."""
    before_mm3 = abs(np.linalg.det(np.array(rois.grid.affine)[:3, :3]))
    after_mm3 = abs(np.linalg.det(np.array(grid.affine)[:3, :3]))
    shares = {}
    for name in dict.fromkeys(rois.names.values()):
        own = [label for label, other in rois.names.items() if other == name]
        n_before = int(np.isin(rois.labels, own).sum())
        if n_before:
            shares[name] = int(np.isin(labels, own).sum()) * after_mm3 / (n_before * before_mm3)
    worst = sorted(shares, key=lambda name: shares[name])[:3]
    shown = ", ".join(f"{name} {shares[name]:.0%}" for name in worst)
    return (
        f"{rois.path} was resampled to the runs' grid (nearest neighbour); of their volume the ROIs keep "
        f"{min(shares.values(), default=0):.0%} to {max(shares.values(), default=0):.0%} (least: {shown})."
    )


def _read_label_file(path: Path) -> tuple[np.ndarray, Grid, Mapping[int, str]]:
    if is_cifti(path) or is_surface(path):
        read = read_cifti_map if is_cifti(path) else read_surface_map
        values, grid, names = read(path, what="label file")
        labels = check_labels(values, path)
        if names:
            labels = np.where(np.isin(labels, list(names)), labels, 0)
        return labels, grid, names
    volume, grid = read_labels(path)
    return volume.ravel(), grid, {}


def _stem(path: Path) -> str:
    for ending in (".nii.gz", ".dlabel.nii", ".dscalar.nii", ".label.gii", ".nii", ".gii", ".annot"):
        if path.name.endswith(ending):
            return path.name.removesuffix(ending)
    return path.stem


def _check_grid(one: Grid, grid: Grid, *, what: str, where: str) -> None:
    if len(one.shape) != len(grid.shape):
        raise AlignmentError(
            f"{what} has {one}, and {where} has {grid}.",
            hint="tables take a TSV with one ROI name per column, volumes a label image",
        )
    check_same_grid(one, grid, what=what, other_what=where)


def _read_names(path: Path) -> dict[int, str]:
    columns = _read_columns(path, ("index",), "table of ROI names")
    named = _read_columns(path, ("name",), "table of ROI names")
    names: dict[int, str] = {}
    for index, name in zip(columns["index"], named["name"], strict=True):
        if not index.isdecimal() or int(index) in names or not name:
            raise InputFileError(
                f"{path} has the row index {index!r}, name {name!r}; each whole number once, with a name, is wanted.",
                hint="several labels may share a name, one label has one name",
            )
        if int(index) > 0:
            names[int(index)] = name
    return names


def _read_columns(path: Path, either: Sequence[str], what: str) -> dict[str, list[str]]:
    """Return the first of some columns that a TSV has."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputFileError(f"the {what} {path} cannot be read: {error}.", hint=f"file {path}") from error
    rows = list(csv.DictReader(text.splitlines(), delimiter="\t"))
    for column in either:
        if rows and column in rows[0]:
            return {column: [(row[column] or "").strip() for row in rows]}
    has = ", ".join(rows[0]) if rows else "no rows"
    raise InputFileError(
        f"the {what} {path} has no column {' or '.join(either)}; it has {has}.",
        hint="a BIDS dseg.tsv has the columns index and name, with a tab between",
    )
