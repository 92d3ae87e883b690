"""Turn values of targets that lie somewhere in space into what maps are drawn from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class VolumePlaces:
    """Where voxels lie.

    Parameters
    ----------
    ijk : ndarray of int, (n_targets, 3)
    affine : ndarray, (4, 4)
        From voxel indices to mm.
    shape : tuple of int
        Of the volume.
    """

    ijk: np.ndarray
    affine: np.ndarray
    shape: tuple[int, int, int]

    @property
    def xyz_mm(self) -> np.ndarray:
        """World coordinates, (n_targets, 3)."""
        xyz: np.ndarray = self.ijk @ self.affine[:3, :3].T + self.affine[:3, 3]
        return xyz


@dataclass(frozen=True)
class SurfacePlaces:
    """Where vertices of one hemisphere lie.

    Parameters
    ----------
    rows : ndarray of int, (n,)
        Targets.
    vertices : ndarray of int, (n,)
        The vertex of each.
    n_vertices : int
        Of the whole surface.
    """

    rows: np.ndarray
    vertices: np.ndarray
    n_vertices: int


@dataclass(frozen=True)
class MapSet:
    """Values of one result's targets, and where these lie.

    Parameters
    ----------
    result : str
        "fit" or "partition".
    name, dataset : str
    subjects : tuple of str
        Whose mean the values are: all subjects where they share one list of targets, else the one that is shown.
    n_subjects : int
        How many subjects the result has.
    space : str
    quantities : tuple of (label, family or "")
        What is mapped.
    values : ndarray, (n_quantities, n_targets)
        NaN where masked.
    volume : VolumePlaces or None
    surfaces : mapping of "left" or "right" to SurfacePlaces
    """

    result: str
    name: str
    dataset: str
    subjects: tuple[str, ...]
    n_subjects: int
    space: str
    quantities: tuple[tuple[str, str], ...]
    values: np.ndarray
    volume: VolumePlaces | None = None
    surfaces: Mapping[str, SurfacePlaces] = field(default_factory=dict)

    @property
    def is_standard(self) -> bool:
        """Whether the space is a template's, whose outlines and surfaces are known."""
        return self.space.lower().startswith("mni")
