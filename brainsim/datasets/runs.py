"""Turn what a format finds on disk into runs that every later step understands: source, signal, grid, clean run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from brainsim.core.errors import AlignmentError, UnknownNameError
from brainsim.core.registry import suggest

# Two grids are the same where no corner of the volume moves by more than this part of the smallest voxel: far above the
# float32 rounding of stored affines, far below what would put a voxel's centre into its neighbour.
SAME_GRID_VOXELS = 0.01


@dataclass(frozen=True, eq=False)
class Structure:
    """A part of a brain that a surface or a list of voxels stands for.

    Parameters
    ----------
    name : str
        As CIFTI calls it: "CIFTI_STRUCTURE_CORTEX_LEFT".
    index : ndarray of int32, (n_places,) or (n_places, 3)
        Vertex numbers, or voxel indices.
    n_vertices : int, optional
        Vertices of the whole surface; None for voxels.
    """

    name: str
    index: np.ndarray
    n_vertices: int | None = None


@dataclass(frozen=True, eq=False)
class Grid:
    """Where targets can lie.

    Parameters
    ----------
    shape : tuple of int
        (x, y, z) of a volume, (n_places,) of a table or of structures.
    affine : tuple of tuple of float, optional
        4 x 4, voxel to millimetres; None for tables and structures.
    structures : tuple of Structure
        What surfaces and CIFTI files are made of, in order; empty for volumes and tables.
    voxels : Grid, optional
        The volume in which the voxels of structures lie.
    """

    shape: tuple[int, ...]
    affine: tuple[tuple[float, ...], ...] | None = None
    structures: tuple[Structure, ...] = ()
    voxels: Grid | None = None

    @property
    def n_places(self) -> int:
        """Number of voxels, of columns, or of vertices and voxels."""
        return int(np.prod(self.shape))

    @property
    def is_table(self) -> bool:
        """Whether places are columns that lie nowhere in space."""
        return self.affine is None and not self.structures

    def __str__(self) -> str:
        size = " x ".join(map(str, self.shape))
        if self.structures:
            parts = ", ".join(
                f"{s.name.removeprefix('CIFTI_STRUCTURE_')} {len(s.index)}"
                + (f" of {s.n_vertices} vertices" if s.n_vertices else " voxels")
                for s in self.structures[:3]
            )
            more = f", and {len(self.structures) - 3} more" if len(self.structures) > 3 else ""
            return f"{size} places ({parts}{more})"
        if self.affine is None:
            return f"{size} columns"
        rows = "; ".join(" ".join(f"{value:.6g}" for value in row) for row in self.affine[:3])
        return f"{size} voxels with affine [{rows}]"


def same_grid(one: Grid, other: Grid) -> bool:
    """Return whether two grids have the same shape and put every voxel, or vertex, at the same place."""
    if one.shape != other.shape or len(one.structures) != len(other.structures):
        return False
    if one.structures:
        if (one.voxels is None) != (other.voxels is None):
            return False
        same_voxels = one.voxels is None or other.voxels is None or same_grid(one.voxels, other.voxels)
        return same_voxels and all(
            (a.name, a.n_vertices) == (b.name, b.n_vertices) and np.array_equal(a.index, b.index)
            for a, b in zip(one.structures, other.structures, strict=True)
        )
    if one.affine is None or other.affine is None:
        return one.affine is other.affine
    ends = np.array(np.meshgrid(*[(0, n - 1) for n in one.shape], indexing="ij")).reshape(len(one.shape), -1)
    corners = np.vstack([ends, np.ones(ends.shape[1])])  # (4, 8)
    a, b = np.array(one.affine), np.array(other.affine)
    moved = np.abs(a @ corners - b @ corners).max()
    voxel = np.linalg.norm(a[:3, :3], axis=0).min()
    return bool(moved <= SAME_GRID_VOXELS * voxel)


def check_same_grid(one: Grid, other: Grid, *, what: str, other_what: str) -> None:
    """Raise AlignmentError, both grids printed, where they differ."""
    if not same_grid(one, other):
        raise AlignmentError(
            f"{what} and {other_what} are not on the same grid: {one}; {other}.",
            hint="resample one to the other first (nilearn.image.resample_to_img; labels with interpolation='nearest')",
        )


class Signal(Protocol):
    """One run's numbers, not yet read.

    Attributes
    ----------
    grid : Grid
        Where its places lie.
    n_trs : int
        Number of volumes or rows.
    tr_s : float or None
        Repetition time by the file's own account, seconds.
    """

    @property
    def grid(self) -> Grid: ...

    @property
    def n_trs(self) -> int: ...

    @property
    def tr_s(self) -> float | None: ...

    def read(self, places: np.ndarray) -> np.ndarray:
        """Return the time series at `places` (C-order positions in the grid), float32 (n_trs, n_places).

        The file is read to its end, so that a damaged one is found.
        """

    def find_varying(self) -> np.ndarray:
        """Return where values change over time (NaN counts as change), bool (grid.n_places,)."""


@dataclass(frozen=True)
class RunSource:
    """One run as a format found it.

    Parameters
    ----------
    subject, run : str
        Labels: "sub-01", "run-1".
    path : Path
        The file.
    open : callable
        Opens it: reads headers only where the file has any.
    item : str
        Name inside a container file.
    entities : mapping of str to str
        BIDS entities of its name: {"task": "movie", …}.
    space : str
        Space of the values: "native", "surface" or "grayordinates" where none is named; "table" for tables.
    confounds : Path, optional
        Its confounds table.
    sidecar : mapping
        Its JSON metadata.
    sidecar_path : Path, optional
        Where those came from.
    events : Path, optional
        Its events table.
    beside : tuple of Path
        Further files that hold its values: the other hemisphere.
    repeat_of : str
        What the format knows of the stimulus' name, the same for repeats of it; empty where it knows none.
    """

    subject: str
    run: str
    path: Path
    open: Callable[[], Signal]
    item: str = ""
    entities: Mapping[str, str] = field(default_factory=dict)
    space: str = "native"
    confounds: Path | None = None
    sidecar: Mapping[str, Any] = field(default_factory=dict)
    sidecar_path: Path | None = None
    events: Path | None = None
    beside: tuple[Path, ...] = ()
    repeat_of: str = ""

    @property
    def where(self) -> str:
        """The file, and the item in it, as an error should name it."""
        return f"{self.path}[{self.item}]" if self.item else str(self.path)


@dataclass(frozen=True)
class Selection:
    """Which runs are wanted; None and empty mean all.

    Parameters
    ----------
    subjects : sequence of str
        With or without "sub-".
    task : str, optional
        With or without "task-".
    space : str, optional
        With or without "space-"; "native" for files that name none.
    session, desc : str, optional
        With or without "ses-" and "desc-".
    run : str, optional
        With or without "run-".
    default_task : str, optional
        Task that is taken where there are several and none is named.
    """

    subjects: Sequence[str] = ()
    task: str | None = None
    space: str | None = None
    session: str | None = None
    run: str | None = None
    desc: str | None = None
    default_task: str | None = None


@dataclass(frozen=True)
class FoundRuns:
    """What a format found.

    Parameters
    ----------
    runs : tuple of RunSource
        At least one; sorted by subject and run.
    notes : tuple of str
        What a user should know about what was left out.
    """

    runs: tuple[RunSource, ...]
    notes: tuple[str, ...] = ()

    @property
    def subjects(self) -> tuple[str, ...]:
        """Subjects in order."""
        return tuple(dict.fromkeys(run.subject for run in self.runs))

    def of(self, subject: str) -> tuple[RunSource, ...]:
        """Return one subject's runs."""
        return tuple(run for run in self.runs if run.subject == subject)


@dataclass(frozen=True)
class Run:
    """One clean run.

    Parameters
    ----------
    subject, run, stimulus : str
        Labels.
    bold : ndarray of float32, (n_trs, n_targets)
        NaN in the columns that are not valid.
    valid : ndarray of bool, (n_targets,)
        Targets that have values.
    tr_s, start_s : float
        Repetition time, and the stimulus time at which TR 0 begins; seconds.
    masked : mapping of str to int
        Reason -> number of targets masked for it.
    quality : mapping
        Quality figures, see `brainsim.datasets.quality`.
    scrubbed : ndarray of bool, (n_trs,), optional
        TRs that fits must not see; None where nothing was to be scrubbed.
    traces : mapping of str to ndarray, (n_trs,)
        What was measured at every TR: dvars, outlier, displacement_mm.
    """

    subject: str
    run: str
    stimulus: str
    bold: np.ndarray
    valid: np.ndarray
    tr_s: float
    start_s: float
    masked: Mapping[str, int]
    quality: Mapping[str, float | int | None]
    scrubbed: np.ndarray | None = None
    traces: Mapping[str, np.ndarray] = field(default_factory=dict)


def choose_subjects(subjects: Sequence[str], wanted: Sequence[str], *, where: Path) -> tuple[str, ...]:
    """Return the subjects of `subjects` that are wanted.

    Raises
    ------
    UnknownNameError
        For a wanted subject that is not there.
    """
    there = sorted(set(subjects))
    if not wanted:
        return tuple(there)
    labels = [f"sub-{label.removeprefix('sub-')}" for label in wanted]
    for label in labels:
        if label not in there:
            raise UnknownNameError(
                f"no runs of subject {label!r} in {where}; {suggest(label, there)}",
                hint=f"--subjects {there[0]}, or leave it out for all",
            )
    return tuple(label for label in there if label in labels)


def plain_number(label: str) -> str:
    """Return a label without the zeros in front of its number: "01" -> "1"."""
    return str(int(label)) if label.isdecimal() else label
