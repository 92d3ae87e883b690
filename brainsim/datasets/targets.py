"""Turn a mask, a label image and a grouping into a subject's targets, ROIs and streams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from brainsim.core.errors import InvalidValueError
from brainsim.datasets.groupings import STREAMS, Grouping, fitting_grouping, match_streams
from brainsim.datasets.rois import RoiLabels, place_mask, place_rois
from brainsim.datasets.runs import Grid

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


def choose_targets(
    grid: Grid,
    *,
    where: str,
    mask: Path | None = None,
    rois: RoiLabels | None = None,
    grouping: Grouping | None = None,
    varying: np.ndarray | None = None,
    resample: bool = False,
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
        Where some run changes over time: the targets without mask and ROIs. Without it, every place is one.
    resample : bool
        Whether a mask or label image on another grid is resampled to that of the runs.

    Raises
    ------
    AlignmentError
        A mask or label image on another grid: both are printed.
    InvalidValueError
        Nothing left.
    """
    if rois is not None:
        rois = place_rois(rois, grid, where=where, resample=resample)
    if mask is not None:
        inside = place_mask(mask, grid, where=where, resample=resample)
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
