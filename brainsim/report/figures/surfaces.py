"""Turn values of vertices, or of voxels in a template's space, into views of an inflated cortex.

The mesh is FreeSurfer's fsaverage5, which nilearn brings; nothing is fetched.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import Colormap
from matplotlib.figure import Figure

from brainsim.report.content_maps import MapSet

N_VERTICES = 10242
# The meshes of fsaverage are nested: their first vertices are those of fsaverage5.
NESTED = {"fsaverage": 163842, "fsaverage7": 163842, "fsaverage6": 40962, "fsaverage5": N_VERTICES}
NEAR_MM = 4.0  # a voxel farther from a vertex than this is not on the cortex there

Box = tuple[float, float, float, float]
HEMISPHERES = ("left", "right")


@dataclass(frozen=True)
class Mesh:
    """One hemisphere.

    Parameters
    ----------
    inflated, middle : ndarray, (n_vertices, 3)
        Where vertices are drawn, and where they lie, half-way between white matter and pia, in mm.
    faces : ndarray of int, (n_faces, 3)
    sulcal_depth : ndarray, (n_vertices,)
        Above 0 in sulci.
    """

    inflated: np.ndarray
    middle: np.ndarray
    faces: np.ndarray
    sulcal_depth: np.ndarray


def can_draw(maps: MapSet) -> bool:
    """Return whether there is a mesh for these targets."""
    return why_not(maps) == "" and bool(maps.surfaces or (maps.volume is not None and maps.is_standard))


def why_not(maps: MapSet) -> str:
    """Return why vertices cannot be drawn, "" where they can or where there are none."""
    if not maps.surfaces:
        return ""
    n = {places.n_vertices for places in maps.surfaces.values()}
    if NESTED.get(maps.space) in n and len(n) == 1:
        return ""
    told = " and ".join(f"{k:,}" for k in sorted(n))
    return (
        f"No surface map: a mesh of {told} vertices in space {maps.space or 'unknown'} would have to be downloaded; "
        "fsaverage, fsaverage6 and fsaverage5 are drawn without. `brainsim store export` gives the numbers."
    )


@cache
def load_mesh(hemisphere: str) -> Mesh:
    """Return fsaverage5, from nilearn's own files."""
    from nilearn.datasets import fetch_surf_fsaverage
    from nilearn.surface import load_surf_data, load_surf_mesh

    files = fetch_surf_fsaverage("fsaverage5")
    meshes = {kind: load_surf_mesh(files[f"{kind}_{hemisphere}"]) for kind in ("infl", "pial", "white")}
    middle = (np.asarray(meshes["pial"].coordinates) + np.asarray(meshes["white"].coordinates)) / 2
    return Mesh(
        np.asarray(meshes["infl"].coordinates, np.float64),
        middle.astype(np.float64),
        np.asarray(meshes["infl"].faces),
        np.asarray(load_surf_data(files[f"sulc_{hemisphere}"]), np.float64),
    )


def on_vertices(maps: MapSet, values: np.ndarray, hemisphere: str) -> np.ndarray:
    """Return the value at each vertex of fsaverage5, NaN where there is none: its own, or that of the nearest voxel."""
    out = np.full(N_VERTICES, np.nan)
    if maps.surfaces:
        if hemisphere in maps.surfaces:
            places = maps.surfaces[hemisphere]
            kept = places.vertices < N_VERTICES
            out[places.vertices[kept]] = values[places.rows[kept]]
        return out
    if maps.volume is not None:
        from scipy.spatial import cKDTree

        known = np.flatnonzero(np.isfinite(values))
        if len(known):
            far, nearest = cKDTree(maps.volume.xyz_mm[known]).query(load_mesh(hemisphere).middle)
            out = np.where(far <= NEAR_MM, values[known[nearest]], np.nan)
    return out


def draw_surfaces(
    figure: Figure,
    box: Box,
    maps: MapSet,
    values: np.ndarray,
    colours: Colormap,
    top: float,
    *,
    name_views: bool,
) -> None:
    """Draw both hemispheres from outside and inside, in one row: left outside, left inside, right inside, right "
    "outside."""
    width = box[2] / 4
    for at, (hemisphere, sign) in enumerate((("left", -1), ("left", 1), ("right", -1), ("right", 1))):
        axis = figure.add_axes((box[0] + at * width, box[1], width, box[3]))
        _draw_view(axis, load_mesh(hemisphere), on_vertices(maps, values, hemisphere), sign, colours, top)
        outside = (hemisphere == "left") == (sign < 0)
        if name_views:
            name = f"{hemisphere}, {'outside' if outside else 'inside'}"
            height = figure.get_size_inches()[1]
            figure.text(
                box[0] + (at + 0.5) * width, box[1] - 0.01 / height, name, fontsize=6.5, ha="center", va="top",
                color="#565D66",
            )  # fmt: skip


def _draw_view(axis: Axes, mesh: Mesh, values: np.ndarray, sign: int, colours: Colormap, top: float) -> None:
    """Draw one hemisphere as it is seen along x, from below (-1) or above (1)."""
    corners = mesh.inflated[mesh.faces]  # (n_faces, 3, 3)
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True).clip(min=1e-12)
    centre = mesh.inflated.mean(axis=0)
    inward = ((corners.mean(axis=1) - centre) * normal).sum(axis=1).mean() < 0
    facing = normal[:, 0] * sign * (-1 if inward else 1)
    seen = facing > 0
    order = np.argsort((corners[seen].mean(axis=1)[:, 0]) * sign)
    faces, light = mesh.faces[seen][order], 0.55 + 0.45 * facing[seen][order]
    of_faces = values[faces]
    known = np.isfinite(of_faces).sum(axis=1) >= 2
    sulcus = (mesh.sulcal_depth[faces].mean(axis=1) > 0)[:, None]
    paint = np.where(sulcus, 0.70, 0.86) * np.ones(3)
    with np.errstate(invalid="ignore"):
        mean = np.where(known, np.nan_to_num(of_faces).sum(axis=1) / np.isfinite(of_faces).sum(axis=1).clip(min=1), 0)
    shown = known & (mean > 0)
    paint[shown] = colours(np.clip(mean[shown] / top, 0, 1))[:, :3]
    across, up = mesh.inflated[:, 1] * (-1 if sign < 0 else 1), mesh.inflated[:, 2]
    polygons = np.stack([across[faces], up[faces]], axis=-1)
    rgb = np.clip(paint * light[:, None], 0, 1)
    axis.add_collection(
        PolyCollection(
            list(polygons), facecolors=rgb, edgecolors=rgb, linewidths=0.3, antialiaseds=False, rasterized=True
        )
    )
    axis.set(xlim=(across.min() - 3, across.max() + 3), ylim=(up.min() - 3, up.max() + 3), aspect="equal")
    axis.axis("off")
