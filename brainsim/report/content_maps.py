"""Turn values of targets that lie somewhere in space into what maps are drawn from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


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
    xyz_mm : ndarray or None, (n_targets, 3)
        World coordinates of voxels; None on surfaces.
    voxel_mm : float
        Edge of a voxel, for the size of a pixel.
    vertices : mapping of "left" or "right" to (rows of targets, vertex numbers, n_vertices)
        Places on surfaces.
    note : str
        What is not drawn, and why.
    """

    result: str
    name: str
    dataset: str
    subjects: tuple[str, ...]
    n_subjects: int
    space: str
    quantities: tuple[tuple[str, str], ...]
    values: np.ndarray
    xyz_mm: np.ndarray | None = None
    voxel_mm: float = 2.0
    vertices: Mapping[str, tuple[np.ndarray, np.ndarray, int]] = field(default_factory=dict)
    note: str = ""
