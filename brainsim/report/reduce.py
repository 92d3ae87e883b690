"""Turn per-target results into means per stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from brainsim.report.content import Estimate

# The streams of the study in the order of the visual hierarchy; others follow in the order they come.
STREAM_ORDER = ("early", "ventral", "lateral", "dorsal", "parietal_frontal")

# Share of false discoveries among what is called significant.
FDR_LEVEL = 0.05


def order_streams(names: Sequence[str]) -> tuple[str, ...]:
    """Return each name once: the study's streams first, in the order of the hierarchy, then the others as they come."""
    found = list(dict.fromkeys(names))
    return tuple([s for s in STREAM_ORDER if s in found] + [s for s in found if s not in STREAM_ORDER])


def stream_masks(
    roi_names: Sequence[str], membership: np.ndarray | None, streams: Mapping[str, Sequence[str]], n_targets: int
) -> dict[str, np.ndarray]:
    """Return which targets each stream holds.

    Parameters
    ----------
    roi_names : sequence of str
        One name per row of `membership`.
    membership : ndarray or None, (n_rois, n_targets)
        Non-zero where a target belongs to an ROI.
    streams : mapping of stream to ROI names
        Where empty, every ROI is a stream of its own; where there are no ROIs either, "all" holds every target.
    n_targets : int

    Returns
    -------
    dict of str to ndarray of bool, (n_targets,)
    """
    if membership is None or not len(roi_names):
        return {"all": np.ones(n_targets, bool)}
    row = {name: membership[i] != 0 for i, name in enumerate(roi_names)}
    groups = streams or {name: (name,) for name in roi_names}
    masks = {}
    for stream, rois in groups.items():
        inside = [row[roi] for roi in rois if roi in row]
        masks[stream] = np.any(inside, axis=0) if inside else np.zeros(n_targets, bool)
    return masks


def mean_over(values: np.ndarray) -> np.ndarray:
    """Return the mean over the last axis without NaN; NaN where nothing is left. Sums are float64."""
    finite = np.isfinite(values)
    n = finite.sum(axis=-1)
    total = np.where(finite, values, 0.0).sum(axis=-1, dtype=np.float64)
    mean: np.ndarray = np.where(n > 0, total / np.maximum(n, 1), np.nan)
    return mean


def stream_means(values: np.ndarray, masks: Mapping[str, np.ndarray], streams: Sequence[str]) -> np.ndarray:
    """Return the mean of (…, n_targets) over each stream's targets: (n_streams, …), NaN for a stream not there."""
    empty = np.zeros(values.shape[-1], bool)
    return np.stack([mean_over(values[..., masks.get(stream, empty)]) for stream in streams])


def stream_medians(values: np.ndarray, masks: Mapping[str, np.ndarray], streams: Sequence[str]) -> np.ndarray:
    """Return the median of (n_targets,) over each stream's targets: (n_streams,), NaN where there are none.

    For ratios: where the divisor comes near zero, a mean over targets says nothing.
    """
    empty = np.zeros(values.shape[-1], bool)
    inside = [values[masks.get(stream, empty)] for stream in streams]
    finite = [v[np.isfinite(v)] for v in inside]
    return np.array([np.median(v) if len(v) else np.nan for v in finite], np.float64)


def significant(q: np.ndarray) -> np.ndarray:
    """Return 1 where q is at most `FDR_LEVEL`, 0 where it is larger, NaN where there is none."""
    told: np.ndarray = np.where(np.isfinite(q), (q <= FDR_LEVEL).astype(np.float64), np.nan)
    return told


def over_subjects(values: np.ndarray) -> np.ndarray:
    """Return the mean over the first axis without NaN."""
    return mean_over(np.moveaxis(values, 0, -1))


def estimate_of(known: Estimate | None, values: np.ndarray) -> Estimate:
    """Return the group's estimate where there is one, else the mean of the subjects' values without an interval."""
    return known if known is not None else Estimate(float(mean_over(values)))
