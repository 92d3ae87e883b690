"""Turn a seed into values of targets in the spaces that maps know: of a subject, of a template, and on surfaces."""

from __future__ import annotations

import numpy as np
from report_fakes import FAMILIES

from brainsim.report.content_maps import MapSet, SurfacePlaces, VolumePlaces

MNI_AFFINE = np.array([[-3.0, 0, 0, 90], [0, 3, 0, -126], [0, 0, 3, -72], [0, 0, 0, 1]])
QUANTITIES = (("all families (joint R²)", ""), *((f"{f} (unique R²)", f) for f in FAMILIES))


def waves(xyz: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Return values that vary slowly over space, (n_quantities, n)."""
    rng = np.random.default_rng(seed)
    out = [0.2 * np.exp(-((xyz - rng.normal(0, 30, 3)) ** 2).sum(1) / 1800) - 0.01 for _ in FAMILIES]
    return np.array([np.sum(out, axis=0), *out])


def fake_volume_map(space: str = "MNI152NLin2009cAsym") -> MapSet:
    """Return voxels in the back half of an ellipsoid, 3 mm wide."""
    ijk = np.stack(np.meshgrid(range(60), range(72), range(60), indexing="ij"), axis=-1).reshape(-1, 3)
    xyz = ijk @ MNI_AFFINE[:3, :3].T + MNI_AFFINE[:3, 3]
    radius = ((xyz - [0, -18, 10]) / [68, 86, 64]) ** 2
    ijk = ijk[(radius.sum(1) < 1) & (radius.sum(1) > 0.55) & (xyz[:, 1] < -40)]
    places = VolumePlaces(ijk, MNI_AFFINE, (60, 72, 60))
    values = waves(places.xyz_mm)
    values[:, :50] = np.nan
    subjects = ("sub-01", "sub-02") if space.startswith("MNI") else ("sub-01",)
    return MapSet("partition", "families", "planted", subjects, 2, space, QUANTITIES, values, volume=places)


def fake_surface_map(space: str = "fsaverage5", n_vertices: int = 10242) -> MapSet:
    """Return every vertex of both hemispheres."""
    n = n_vertices
    surfaces = {
        side: SurfacePlaces(np.arange(at * n, (at + 1) * n), np.arange(n), n)
        for at, side in enumerate(("left", "right"))
    }
    values = np.sin(np.arange(2 * n) / 900)[None] * np.linspace(0.3, 0.05, 6)[:, None]
    return MapSet("partition", "families", "planted", ("sub-01",), 1, space, QUANTITIES, values, surfaces=surfaces)
