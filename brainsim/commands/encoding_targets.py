"""Turn a range of one subject's targets into those that can be fitted: BOLD, regions, and why others are not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from brainsim.commands.encoding_data import Subject, SubjectGroup, roi_names_of
from brainsim.core.errors import AlignmentError, InvalidValueError
from brainsim.core.runs import Fold, RunLayout

if TYPE_CHECKING:
    from brainsim.store import Store

# Why a target has no scores; 0 is fitted.
REASONS = ("fitted", "not finite", "constant in a test fold", "outside the chosen ROIs", "without any score")

# Targets whose BOLD is read at once: few may be left of a range of which one ROI is fitted.
BLOCK_TARGETS = 8192


@dataclass(frozen=True)
class TaskPart:
    """Some targets of one subject.

    Parameters
    ----------
    subject : str
        Its label.
    targets : str
        Node of its targets.
    bold : tuple of str
        Nodes of its runs.
    start, stop : int
        Range of targets, by their place in the node.
    rois : tuple of str
        The only ROIs whose targets are fitted; empty for all.
    """

    subject: str
    targets: str
    bold: tuple[str, ...]
    start: int
    stop: int
    rois: tuple[str, ...] = ()

    @property
    def n_targets(self) -> int:
        """Number of targets."""
        return self.stop - self.start


def pack_parts(
    store: Store, group: SubjectGroup, *, rois: Sequence[str], n_targets_batch: int
) -> Iterator[tuple[TaskPart, ...]]:
    """Pack small subjects together and cut large ones into ranges; each pack has at most a batch that can be fitted.

    Targets that are known not to be fitted belong to some range, too, but cost no task.

    Parameters
    ----------
    store : Store
        Where the targets and the BOLD are.
    group : SubjectGroup
        Subjects of the same timing.
    rois : sequence of str
        Globs over ROIs or streams: only their targets are fitted; empty for all.
    n_targets_batch : int
        Targets that a task fits.

    Raises
    ------
    AlignmentError
        A run whose number of targets differs from the subject's.
    InvalidValueError
        A subject of which no target can be fitted.
    """
    pack: list[TaskPart] = []
    n_packed = 0
    for subject in group.subjects:
        whole = TaskPart(
            subject.name,
            subject.targets.path,
            tuple(node.path for node in subject.bold),
            0,
            _n_targets(subject),
            tuple(roi_names_of(subject.targets, rois)) if rois else (),
        )
        reason = known_reasons(store, whole)
        can_fit = np.flatnonzero(reason == 0)
        if not len(can_fit):
            raise nothing_fitted(subject.targets.path, reason)
        if pack and n_packed + len(can_fit) > n_targets_batch:
            yield tuple(pack)
            pack, n_packed = [], 0
        if len(can_fit) <= n_targets_batch:
            pack, n_packed = [*pack, whole], n_packed + len(can_fit)
            continue
        bounds = [0, *can_fit[n_targets_batch::n_targets_batch].tolist(), whole.n_targets]
        for start, stop in pairwise(bounds):
            yield (TaskPart(whole.subject, whole.targets, whole.bold, start, stop, whole.rois),)
    if pack:
        yield tuple(pack)


def _n_targets(subject: Subject) -> int:
    n_targets = int(subject.targets.attributes["n_targets"])
    for node in subject.bold:
        n_columns = int(node.arrays["values"][0][1])
        if n_columns != n_targets:
            raise AlignmentError(
                f"{node.path} has {n_columns} targets; {subject.targets.path} has {n_targets}.",
                hint="ingest the subject again with --overwrite",
            )
    return n_targets


def known_reasons(store: Store, part: TaskPart) -> np.ndarray:
    """Return what is known of a part's targets without their BOLD: a place in `REASONS` each, uint8 (n_targets,)."""
    columns = slice(part.start, part.stop)
    is_valid = np.ones(part.n_targets, bool)
    for node in part.bold:
        is_valid &= store.read(node, "valid", rows=columns).astype(bool)
    reason = np.where(is_valid, 0, 1).astype(np.uint8)
    if part.rois:
        names = list(store.info(part.targets).attributes["roi_names"])
        chosen = [names.index(roi) for roi in part.rois]
        is_inside = store.read(part.targets, "membership", rows=chosen, columns=columns).astype(bool).any(axis=0)
        reason[~is_inside] = 3
    return reason


def has_column(reason: np.ndarray) -> np.ndarray:
    """Return which targets a task's arrays have a column for: also those that were fitted and got no score."""
    return np.isin(reason, (0, 4))


def count_reasons(reason: np.ndarray) -> dict[str, int]:
    """Return how many targets have no scores for each reason that occurs, in the order of `REASONS`."""
    counts = {name: int((reason == code).sum()) for code, name in enumerate(REASONS) if code}
    return {name: n for name, n in counts.items() if n}


def nothing_fitted(targets: str, reason: np.ndarray) -> InvalidValueError:
    """Return the error that says why none of a subject's targets has scores.

    Parameters
    ----------
    targets : str
        Node of the targets.
    reason : ndarray of uint8, (n_targets,)
        Places in `REASONS`, none of them 0.
    """
    counts = count_reasons(reason)
    told = ", ".join(f"{n:,} {name}" for name, n in counts.items())
    hints = {
        REASONS[3]: "--rois with ROIs that hold targets; brainsim store show tells their names",
        REASONS[4]: "every factorisation failed, or no fold could be scored: larger --alphas",
    }
    # What is outside the ROIs was asked for; anything else is what went wrong.
    cause = max(counts, key=lambda name: (name != REASONS[3], counts[name]))
    hint = hints.get(cause, "brainsim report shows the runs' quality; --subjects leaves the subject out")
    return InvalidValueError(f"none of the {len(reason):,} targets of {targets} has a score: {told}.", hint=hint)


def read_part(
    store: Store,
    part: TaskPart,
    *,
    layout: RunLayout,
    folds: Sequence[Fold],
) -> tuple[np.ndarray, np.ndarray]:
    """Read the BOLD of a part's targets that can be fitted, runs stacked without the rows left out.

    Parameters
    ----------
    store : Store
        Where the BOLD is.
    part : TaskPart
        Which targets.
    layout : RunLayout
        Rows of each run, without those left out.
    folds : sequence of Fold
        A target that does not vary in some test fold has nothing to explain there.

    Returns
    -------
    Y : ndarray of float32, (n_rows, n_fitted)
        No NaN.
    reason : ndarray of uint8, (n_targets,)
        Why each target is fitted or not: a place in `REASONS`.
    """
    reason = known_reasons(store, part)
    kept = [store.read(node, "kept").astype(bool) if "kept" in store.info(node).arrays else None for node in part.bold]
    blocks = [np.empty((layout.n_rows, 0), np.float32)]
    for start in range(0, part.n_targets, BLOCK_TARGETS):
        known = reason[start : start + BLOCK_TARGETS]  # a view: what is found here is noted there
        if known.all():
            continue
        columns = slice(part.start + start, part.start + start + len(known))
        Y = np.empty((layout.n_rows, len(known)), np.float32)
        for node, keep, rows in zip(part.bold, kept, layout.slices, strict=True):
            values = store.read(node, "values", columns=columns)
            Y[rows] = values if keep is None else values[keep]
        varies = np.ones(len(known), bool)
        for fold in folds:
            varies &= np.ptp(Y[fold.test], axis=0) > 0
        known[(known == 0) & ~varies] = 2
        known[(known != 3) & ~np.isfinite(Y).all(axis=0)] = 1
        blocks.append(Y[:, known == 0])
    return np.concatenate(blocks, axis=1), reason


def regions_of(store: Store, part: TaskPart) -> np.ndarray:
    """Return which of a part's targets lie in its ROIs and then its streams, float32 (n_regions, n_targets)."""
    membership = store.read(part.targets, "membership", columns=slice(part.start, part.stop)).astype(bool)
    attributes = store.info(part.targets).attributes
    names = list(attributes["roi_names"])
    streams = [membership[[names.index(roi) for roi in rois]].any(axis=0) for rois in attributes["streams"].values()]
    return np.concatenate([membership, np.array(streams).reshape(len(streams), -1)]).astype(np.float32)
