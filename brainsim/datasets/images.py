"""Turn values of targets back into images: NIfTI volumes, CIFTI files, or GIFTI pairs, on the places they came from."""

# mypy: untyped-calls-exclude="nibabel"
# (nibabel says it is typed, and leaves most of its methods without annotations)

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.cifti2 import cifti2_axes
from nibabel.gifti import gifti

from brainsim.core.checks import check_number
from brainsim.core.errors import InvalidValueError
from brainsim.datasets.runs import Grid
from brainsim.datasets.structures import LEFT, RIGHT, restore_grid

_HEMISPHERES = {LEFT: ("hemi-L", "CortexLeft"), RIGHT: ("hemi-R", "CortexRight")}


def grid_of_targets(attributes: Mapping[str, Any], place_index: np.ndarray | None = None) -> Grid:
    """Return the grid on which stored targets lie.

    Parameters
    ----------
    attributes : mapping
        Those of the node of type targets.
    place_index : ndarray of int32, (n_places, 3), optional
        The node's array of that name, which targets of structures have.

    Raises
    ------
    InvalidValueError
        Targets of a table, which lie nowhere in space.
    """
    if attributes.get("structures") and place_index is not None:
        return restore_grid(place_index, dict(attributes))
    if attributes.get("affine") is None:
        raise InvalidValueError(
            f"the targets of {attributes.get('dataset')} {attributes.get('subject')} are columns of a table, which lie "
            "nowhere in space.",
            hint="export them as a table",
        )
    return Grid(tuple(attributes["volume_shape"]), tuple(tuple(row) for row in attributes["affine"]))


def name_images(stem: Path, grid: Grid, *, is_series: bool) -> list[Path]:
    """Return what `write_images` calls its files: one, or two for a pair of hemispheres.

    Parameters
    ----------
    stem : Path
        As there.
    grid : Grid
        As there.
    is_series : bool
        Whether rows are TRs.

    Raises
    ------
    InvalidValueError
        A table's grid.
    """
    if grid.is_table:
        raise InvalidValueError("columns of a table lie nowhere in space.", hint="export them as a table")
    if not grid.structures:
        return [stem.with_name(f"{stem.name}.nii.gz")]
    if not _is_pair(grid):
        return [stem.with_name(f"{stem.name}{'.dtseries.nii' if is_series else '.dscalar.nii'}")]
    ending = ".func.gii" if is_series else ".shape.gii"
    words = [_HEMISPHERES[part.name][0] for part in grid.structures]
    names = [stem.name.replace("HEMI", word) if "HEMI" in stem.name else f"{stem.name}_{word}" for word in words]
    return [stem.with_name(f"{name}{ending}") for name in names]


def _is_pair(grid: Grid) -> bool:
    """Return whether a grid is whole hemispheres, as pairs of GIFTI files are."""
    is_whole = all(part.n_vertices == len(part.index) for part in grid.structures)
    return is_whole and {part.name for part in grid.structures} <= set(_HEMISPHERES)


def write_images(
    stem: Path,
    values: np.ndarray,
    grid: Grid,
    ijk: np.ndarray,
    *,
    tr_s: float | None = None,
    start_s: float = 0.0,
    names: Sequence[str] = (),
) -> list[Path]:
    """Write values of targets as the kind of image that the targets came from; NaN where there is no target.

    Parameters
    ----------
    stem : Path
        What the files are called, without ending; hemi-L and hemi-R are put between its words where it says HEMI, else
        behind it. Folders above are made.
    values : ndarray, (n_targets,) or (n_rows, n_targets)
        A map, or one per row.
    grid : Grid
        As `grid_of_targets` gives it.
    ijk : ndarray of int, (n_targets, n_axes)
        The node's array of that name.
    tr_s : float, optional
        Rows are TRs of so many seconds; without it they are maps.
    start_s : float
        Time of the first row, for CIFTI series.
    names : sequence of str
        Names of the maps, for CIFTI and GIFTI files.

    Returns
    -------
    list of Path
        One file, or two for a pair of hemispheres. They are float32.

    Raises
    ------
    InvalidValueError
        A table's grid, or another number of values than of targets.
    """
    rows = np.atleast_2d(values)
    if rows.ndim != 2 or rows.shape[1] != len(ijk):
        raise InvalidValueError(f"values of shape {values.shape} are to go to {len(ijk)} targets; (n_rows, n_targets).")
    files = name_images(stem, grid, is_series=tr_s is not None)
    if tr_s is not None:
        check_number("tr_s", tr_s, above=0, unit="s")
    stem.parent.mkdir(parents=True, exist_ok=True)
    places = np.ravel_multi_index(tuple(ijk.T), grid.shape)
    filled = np.full((len(rows), grid.n_places), np.nan, np.float32)
    filled[:, places] = rows
    if not grid.structures:
        _save(_make_volume(filled, grid, tr_s, is_map=values.ndim == 1), files[0])
    elif _is_pair(grid):
        for file, image in zip(files, _make_pair(filled, grid, tr_s, names), strict=True):
            _save(image, file)
    else:
        _save(_make_cifti(filled, grid, tr_s, start_s, names), files[0])
    return files


def _make_volume(filled: np.ndarray, grid: Grid, tr_s: float | None, *, is_map: bool) -> Any:
    data = filled.T.reshape(*grid.shape, len(filled))
    image = nib.Nifti1Image(data[..., 0] if is_map else data, np.array(grid.affine), dtype=np.float32)
    image.set_sform(np.array(grid.affine), code="aligned")
    image.set_qform(np.array(grid.affine), code="aligned")
    image.header.set_xyzt_units("mm", "sec")
    if tr_s is not None and not is_map:
        image.header.set_zooms((*image.header.get_zooms()[:3], tr_s))
    return image


def _make_pair(filled: np.ndarray, grid: Grid, tr_s: float | None, names: Sequence[str]) -> list[Any]:
    images, first = [], 0
    called = list(names) or [""] * len(filled)
    for part in grid.structures:
        side = _HEMISPHERES[part.name][1]
        columns = slice(first, first + len(part.index))
        first = columns.stop
        intent = "NIFTI_INTENT_NONE" if tr_s is None else "NIFTI_INTENT_TIME_SERIES"
        arrays = [
            gifti.GiftiDataArray(
                np.ascontiguousarray(row[columns]),
                intent=intent,
                datatype="NIFTI_TYPE_FLOAT32",
                meta=gifti.GiftiMetaData(Name=name) if name else None,
            )
            for row, name in zip(filled, called, strict=True)
        ]
        images.append(gifti.GiftiImage(darrays=arrays, meta=gifti.GiftiMetaData(AnatomicalStructurePrimary=side)))
    return images


def _make_cifti(filled: np.ndarray, grid: Grid, tr_s: float | None, start_s: float, names: Sequence[str]) -> Any:
    axis = _brain_models(grid)
    rows: Any
    if tr_s is None:
        rows = cifti2_axes.ScalarAxis(list(names) or [f"map-{k + 1}" for k in range(len(filled))])
    else:
        rows = cifti2_axes.SeriesAxis(start_s, tr_s, len(filled), unit="SECOND")
    return nib.Cifti2Image(filled, (rows, axis))


def _brain_models(grid: Grid) -> Any:
    """Return the axis of a grid of structures."""
    whole: Any = None
    for part in grid.structures:
        if part.n_vertices is not None:
            one = cifti2_axes.BrainModelAxis.from_surface(part.index, part.n_vertices, name=part.name)
        else:
            assert grid.voxels is not None
            n = len(part.index)
            one = cifti2_axes.BrainModelAxis(
                name=[part.name] * n,
                voxel=part.index,
                affine=np.array(grid.voxels.affine),
                volume_shape=grid.voxels.shape,
            )
        whole = one if whole is None else whole + one
    return whole


def _save(image: Any, path: Path) -> None:
    """Write under another name first, so that a file is whole or not there."""
    partial = path.with_name(f".partial-{os.getpid()}-{path.name}")
    try:
        nib.save(image, partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
