"""Turn values on one list of vertices and voxels into values on another, by structure and vertex."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from brainsim.core.errors import AlignmentError
from brainsim.datasets.runs import Grid, Structure, same_grid

# Spaces of runs that name none.
SURFACE, GRAYORDINATES = "surface", "grayordinates"
LEFT, RIGHT = "CIFTI_STRUCTURE_CORTEX_LEFT", "CIFTI_STRUCTURE_CORTEX_RIGHT"


def whole_surfaces(n_vertices: dict[str, int]) -> Grid:
    """Return the grid of whole surfaces, one after the other: name -> number of vertices."""
    parts = tuple(Structure(name, np.arange(n, dtype=np.int32), n) for name, n in n_vertices.items())
    return Grid((sum(n_vertices.values()),), structures=parts)


def carry_over(values: np.ndarray, source: Grid, target: Grid, *, what: str, where: str) -> np.ndarray:
    """Return what each place of `target` has in `source`; 0 where `source` does not have it.

    Label files often cover the whole cortex, or the cortex alone, where runs have it without its medial wall, or with
    the subcortical structures.

    Parameters
    ----------
    values : ndarray, (source.n_places,)
    source, target : Grid
        Both of structures.
    what, where : str
        Whose they are, for the error.

    Raises
    ------
    AlignmentError
        Surfaces of another number of vertices, voxels of another volume, or nothing in common: both are printed.
    """
    out = np.zeros(target.n_places, values.dtype)
    found = {s.name: (start, s) for start, s in _with_starts(source)}
    n_shared = 0
    for start, part in _with_starts(target):
        if part.name not in found:
            continue
        from_start, other = found[part.name]
        if other.n_vertices != part.n_vertices or (part.n_vertices is None and not _same_volume(source, target)):
            raise _not_the_same(source, target, what, where)
        n_shared += 1
        place_of = {_key(row): k for k, row in enumerate(other.index)}
        matched = np.array([place_of.get(_key(row), -1) for row in part.index])
        there = np.flatnonzero(matched >= 0)
        out[start + there] = values[from_start + matched[there]]
    if n_shared == 0:
        raise _not_the_same(source, target, what, where)
    return out


def describe_structures(grid: Grid) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return a grid of structures as arrays and as a JSON-able record, from which `restore_grid` makes it again.

    Returns
    -------
    arrays : dict
        place_index: vertex number or voxel indices of every place, int32 (n_places, 3), -1 where there is none.
    record : dict
        structures: name, number of places and vertices of each; voxel_shape and voxel_affine, or null.
    """
    index = np.full((grid.n_places, 3), -1, np.int32)
    for start, part in _with_starts(grid):
        rows = slice(start, start + len(part.index))
        if part.n_vertices is None:
            index[rows] = part.index
        else:
            index[rows, 0] = part.index
    record = {
        "structures": [{"name": s.name, "n_places": len(s.index), "n_vertices": s.n_vertices} for s in grid.structures],
        "voxel_shape": None if grid.voxels is None else list(grid.voxels.shape),
        "voxel_affine": None if grid.voxels is None else grid.voxels.affine,
    }
    return {"place_index": index}, record


def restore_grid(place_index: np.ndarray, record: dict[str, Any]) -> Grid:
    """Return the grid that `describe_structures` described."""
    parts, start = [], 0
    for row in record["structures"]:
        index = place_index[start : start + row["n_places"]]
        start += row["n_places"]
        parts.append(Structure(row["name"], index if row["n_vertices"] is None else index[:, 0], row["n_vertices"]))
    voxels = None
    if record["voxel_shape"] is not None:
        voxels = Grid(tuple(record["voxel_shape"]), tuple(tuple(row) for row in record["voxel_affine"]))
    return Grid((len(place_index),), structures=tuple(parts), voxels=voxels)


def _with_starts(grid: Grid) -> Sequence[tuple[int, Structure]]:
    starts = np.cumsum([0, *(len(s.index) for s in grid.structures)])
    return list(zip(map(int, starts), grid.structures, strict=False))


def _key(row: Any) -> Any:
    return tuple(map(int, row)) if np.ndim(row) else int(row)


def _same_volume(one: Grid, other: Grid) -> bool:
    return one.voxels is not None and other.voxels is not None and same_grid(one.voxels, other.voxels)


def _not_the_same(source: Grid, target: Grid, what: str, where: str) -> AlignmentError:
    return AlignmentError(
        f"{what} and {where} are not on the same surfaces: {source}; {target}.",
        hint="resample one to the other's mesh first (wb_command -label-resample, mri_surf2surf)",
    )
