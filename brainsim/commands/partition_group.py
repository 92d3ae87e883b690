"""Turn subjects' partitions into the group's table: parts per stream, with intervals over subjects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from brainsim.stats.intervals import interval_row
from brainsim.variance.lattice import subset_names

# What the group's table tells of every family.
QUANTITIES = ("unique", "shapley", "product")


def group_tables(
    families: Sequence[str],
    arrays: Mapping[str, Mapping[str, np.ndarray]],
    masks: Mapping[str, Mapping[str, np.ndarray]],
) -> dict[str, Any]:
    """Average parts over the targets of each stream, then over subjects.

    Parameters
    ----------
    families : sequence of str
        In the order of the arrays' rows.
    arrays : mapping
        Subject -> array name -> array (n_rows, n_targets) as in a partition's node.
    masks : mapping
        Subject -> stream -> ndarray of bool, (n_targets,).

    Returns
    -------
    dict
        ``rows``, ``parts`` and ``joint``: lists of dicts with mean, low, high over subjects (95 % interval), n_subjects
        and n_targets.
    """
    streams = list(dict.fromkeys(stream for by_stream in masks.values() for stream in by_stream))
    subsets = subset_names(families)
    rows: list[dict[str, Any]] = []
    parts: list[dict[str, Any]] = []
    joint: list[dict[str, Any]] = []
    for stream in streams:
        for quantity in QUANTITIES:
            means = _stream_means(quantity, stream, arrays, masks)
            for family, values in zip(families, means, strict=True):
                rows.append({"stream": stream, "family": family, "quantity": quantity, **interval_row(values)})
        for members, values in zip(subsets, _stream_means("parts", stream, arrays, masks), strict=True):
            parts.append({"stream": stream, "families": members, **interval_row(values)})
        joint.append({"stream": stream, **interval_row(_stream_means("subset_r2", stream, arrays, masks)[-1])})
    counts = {stream: sum(int(by[stream].sum()) for by in masks.values() if stream in by) for stream in streams}
    for row in (*rows, *parts, *joint):
        row["n_targets"] = counts[row["stream"]]
    return {"rows": rows, "parts": parts, "joint": joint, "interval": "95 % t interval of the mean over subjects"}


def _stream_means(
    array: str,
    stream: str,
    arrays: Mapping[str, Mapping[str, np.ndarray]],
    masks: Mapping[str, Mapping[str, np.ndarray]],
) -> np.ndarray:
    """Return each row's mean over a stream's valid targets, (n_rows, n_subjects); NaN where a subject has none."""
    return np.stack(list(_subject_means(array, stream, arrays, masks)), axis=1)


def _subject_means(
    array: str,
    stream: str,
    arrays: Mapping[str, Mapping[str, np.ndarray]],
    masks: Mapping[str, Mapping[str, np.ndarray]],
) -> Iterator[np.ndarray]:
    for subject, values in arrays.items():
        inside = masks[subject].get(stream)
        part = values[array] if inside is None else values[array][:, inside]
        part = part[:, np.isfinite(part).all(axis=0)].astype(np.float64)
        empty = inside is None or part.shape[1] == 0
        yield np.full(len(values[array]), np.nan) if empty else part.mean(axis=1)
