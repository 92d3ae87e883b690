"""Turn a mask, a label image and a grouping into a subject's targets, ROIs and streams."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from brainsim.core.checks import check_file
from brainsim.core.errors import AlignmentError, InputFileError, InvalidValueError
from brainsim.datasets.groupings import STREAMS, Grouping, fitting_grouping, match_streams
from brainsim.datasets.runs import Grid, check_same_grid
from brainsim.datasets.volumes import is_volume, read_labels, read_mask

ALL = "all"


@dataclass(frozen=True)
class Targets:
    """A subject's targets.

    Parameters
    ----------
    grid : Grid
        Where they lie.
    places : ndarray of int64, (n_targets,)
        Positions in the flattened (C-order) grid, increasing.
    roi_names : tuple of str
        One per row of `membership`.
    membership : ndarray of uint8, (n_rois, n_targets)
        1 where a target belongs to a ROI.
    streams : mapping of str to list of str
        Stream -> ROI names.
    notes : tuple of str
        What a user should know: empty ROIs, ROIs that a grouping has and the image has not.
    """

    grid: Grid
    places: np.ndarray
    roi_names: tuple[str, ...]
    membership: np.ndarray
    streams: Mapping[str, list[str]]
    notes: tuple[str, ...] = ()

    @property
    def n_targets(self) -> int:
        """Number of targets."""
        return len(self.places)

    @property
    def ijk(self) -> np.ndarray:
        """Indices on each axis of the grid, int32 (n_targets, n_axes)."""
        return np.stack(np.unravel_index(self.places, self.grid.shape), axis=1).astype(np.int32)

    def count_rois(self) -> dict[str, int]:
        """Return ROI -> number of targets."""
        return {n: int(k) for n, k in zip(self.roi_names, self.membership.sum(axis=1, dtype=np.int64), strict=True)}

    def count_streams(self) -> dict[str, int]:
        """Return stream -> number of targets."""
        rows = {name: index for index, name in enumerate(self.roi_names)}
        return {
            stream: int(self.membership[[rows[name] for name in names]].any(axis=0).sum())
            for stream, names in self.streams.items()
        }


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
    """Read a label image and the TSV of its names beside it; or, for tables, a TSV with one ROI name per column.

    Parameters
    ----------
    path : Path
        X.nii.gz with X.tsv (columns index and name, as BIDS has them for dseg) beside it; or a .tsv with a column `roi`
        (or `name`), one row per target, n/a for none.

    Raises
    ------
    InputFileError
        Files that are not there, damaged, or of another kind.
    """
    check_file(path, what="ROI label image", hint="--rois LABELS.nii.gz, in the space of the runs")
    if is_volume(path):
        labels, grid = read_labels(path)
        table = path.with_name(path.name.removesuffix(".gz").removesuffix(".nii") + ".tsv")
        there = [int(label) for label in np.unique(labels) if label > 0]
        if not there:
            raise InputFileError(f"the label image {path} has no label above 0.", hint="name another image with --rois")
        names = _read_names(table) if table.is_file() else {}
        unnamed = [label for label in there if label not in names]
        notes = []
        if unnamed:
            shown = ", ".join(map(str, unnamed[:8]))
            what = f"{table} does not name them" if names else f"there is no {table}"
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


def choose_targets(
    grid: Grid,
    *,
    where: str,
    mask: Path | None = None,
    rois: RoiLabels | None = None,
    grouping: Grouping | None = None,
    varying: np.ndarray | None = None,
) -> Targets:
    """Choose a subject's targets.

    Parameters
    ----------
    grid : Grid
        Of the subject's runs.
    where : str
        The run that has it, for errors.
    mask : Path, optional
        Image whose voxels above 0 are targets. Without it: the voxels of the ROIs; without these: `varying`.
    rois : RoiLabels, optional
        Without it there is one ROI, "all".
    grouping : Grouping, optional
        Without it the ROIs are the streams.
    varying : ndarray of bool, (n_places,)
        Where some run changes over time: the targets of volumes without mask and ROIs. Without it, every place is one.

    Raises
    ------
    AlignmentError
        A mask or label image on another grid: both are printed.
    InvalidValueError
        Nothing left.
    """
    if rois is not None:
        _check_grid(rois.grid, grid, what=f"the ROI labels {rois.path}", where=where)
    if mask is not None:
        inside = _read_mask(mask, grid, where)
    elif rois is not None:
        inside = rois.labels > 0
    elif varying is not None:
        inside = varying
    else:
        inside = np.ones(grid.n_places, bool)
    places = np.flatnonzero(inside)
    if len(places) == 0:
        raise InvalidValueError(f"{where} has no voxel that changes over time.", hint="is it the right image?")
    if rois is None:
        if grouping is not None:
            raise InvalidValueError(
                f"streams ({grouping.name}) are unions of ROIs, and there are no ROIs.", hint="--rois LABELS.nii.gz"
            )
        return Targets(grid, places, (ALL,), np.ones((1, len(places)), np.uint8), {ALL: [ALL]})
    names = tuple(dict.fromkeys(rois.names.values()))
    labels = rois.labels[places]
    membership = np.zeros((len(names), len(places)), np.uint8)
    for label, name in rois.names.items():
        membership[names.index(name)] |= labels == label
    if not membership.any():
        raise InvalidValueError(
            f"no voxel of the mask {mask} lies in an ROI of {rois.path}.", hint="leave --mask out, or name another"
        )
    streams, notes = _make_streams(grouping, names)
    empty = [name for name, row in zip(names, membership, strict=True) if not row.any()]
    if empty:
        notes.append(f"{len(empty)} ROIs have no voxel and stay as empty rows: {', '.join(empty)}.")
    return Targets(grid, places, names, membership, streams, (*rois.notes, *notes))


def _make_streams(grouping: Grouping | None, names: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    if grouping is not None:
        streams, lacking = match_streams(grouping, names)
        lost = [stream for stream in grouping.streams if stream not in streams]
        notes = [f"streams without any ROI are left out: {', '.join(lost)}."] if lost else []
        if lacking:
            notes.append(f"{len(lacking)} ROIs of grouping {grouping.name} are not there: {', '.join(lacking)}.")
        return streams, notes
    notes = []
    if not set(names) & set(STREAMS) and (fitting := fitting_grouping(names)) is not None:
        notes.append(f"every ROI is a stream of its own; --stream {fitting} makes {', '.join(STREAMS)} of them.")
    return {name: [name] for name in names}, notes


def _check_grid(one: Grid, grid: Grid, *, what: str, where: str) -> None:
    if len(one.shape) != len(grid.shape):
        raise AlignmentError(
            f"{what} has {one}, and {where} has {grid}.",
            hint="tables take a TSV with one ROI name per column, volumes a label image",
        )
    check_same_grid(one, grid, what=what, other_what=where)


def _read_mask(path: Path, grid: Grid, where: str) -> np.ndarray:
    mask, own = read_mask(path)
    _check_grid(own, grid, what=f"the mask {path}", where=where)
    return mask.ravel()


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
