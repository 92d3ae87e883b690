"""Turn subjects' partitions into the group's table: parts per stream, with intervals over subjects and runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from brainsim.commands.encoding_plan import EncodingPlan, result_is_done, stream_masks
from brainsim.stats.intervals import crossed_row, interval_row
from brainsim.variance.lattice import commonality_parts, shapley_values, subset_names, unique_parts

if TYPE_CHECKING:
    from brainsim.store import Store

INTERVAL = (
    "95 % interval of the mean, subjects and runs as random effects (product measure: subjects alone, Student's t)"
)


def group_tables(
    families: Sequence[str],
    arrays: Mapping[str, Mapping[str, np.ndarray]],
    masks: Mapping[str, Mapping[str, np.ndarray]],
) -> dict[str, Any]:
    """Average parts over the targets of each stream, then over subjects and runs.

    Parameters
    ----------
    families : sequence of str
        In the order of the arrays' rows.
    arrays : mapping
        Subject -> array name -> array as in a partition's node.
    masks : mapping
        Subject -> stream -> ndarray of bool, (n_targets,).

    Returns
    -------
    dict
        ``rows``, ``parts`` and ``joint``: lists of dicts with mean, low, high, n_subjects and n_targets.
    """
    streams = list(dict.fromkeys(stream for by_stream in masks.values() for stream in by_stream))
    subsets = subset_names(families)
    rows: list[dict[str, Any]] = []
    parts: list[dict[str, Any]] = []
    joint: list[dict[str, Any]] = []
    for stream in streams:
        scores = _fold_scores(stream, arrays, masks)  # (n_subsets, n_subjects, n_runs)
        for quantity, values in (("unique", unique_parts(scores)), ("shapley", shapley_values(scores))):
            for family, value in zip(families, values, strict=True):
                rows.append({"stream": stream, "family": family, "quantity": quantity, **crossed_row(value)})
        for family, value in zip(families, _product_means(stream, arrays, masks), strict=True):
            rows.append({"stream": stream, "family": family, "quantity": "product", **interval_row(value)})
        for members, value in zip(subsets, commonality_parts(scores), strict=True):
            parts.append({"stream": stream, "families": members, **crossed_row(value)})
        joint.append({"stream": stream, **crossed_row(scores[-1])})
    counts = {stream: sum(_n_valid(s, stream, arrays, masks) for s in masks) for stream in streams}
    for row in (*rows, *parts, *joint):
        row["n_targets"] = counts[row["stream"]]
    return {"rows": rows, "parts": parts, "joint": joint, "interval": INTERVAL}


def _fold_scores(
    stream: str, arrays: Mapping[str, Mapping[str, np.ndarray]], masks: Mapping[str, Mapping[str, np.ndarray]]
) -> np.ndarray:
    """Return a stream's mean score of every subset, subject and run; NaN where a subject has no such stream.

    Subjects with other numbers of runs than the first are averaged over runs first: then runs have no rows in common.
    """
    by_subject = {
        subject: values["stream_subset_r2"][list(masks[subject]).index(stream)]
        for subject, values in arrays.items()
        if stream in masks[subject]
    }
    if len({scores.shape[1] for scores in by_subject.values()}) > 1:
        by_subject = {subject: scores.mean(axis=1, keepdims=True) for subject, scores in by_subject.items()}
    empty = np.full_like(next(iter(by_subject.values())), np.nan)
    return np.stack([by_subject.get(subject, empty) for subject in arrays], axis=1).astype(np.float64)


def _product_means(
    stream: str, arrays: Mapping[str, Mapping[str, np.ndarray]], masks: Mapping[str, Mapping[str, np.ndarray]]
) -> np.ndarray:
    """Return each family's mean product measure over a stream's valid targets, (n_families, n_subjects)."""
    means = []
    for subject, values in arrays.items():
        product = values["product"]
        inside = masks[subject].get(stream, np.zeros(product.shape[1], bool)) & np.isfinite(product).all(axis=0)
        means.append(product[:, inside].mean(axis=1) if inside.any() else np.full(len(product), np.nan))
    return np.stack(means, axis=1)


def _n_valid(
    subject: str,
    stream: str,
    arrays: Mapping[str, Mapping[str, np.ndarray]],
    masks: Mapping[str, Mapping[str, np.ndarray]],
) -> int:
    mask = masks[subject].get(stream)
    return 0 if mask is None else int((mask & np.isfinite(arrays[subject]["unique"]).all(axis=0)).sum())


def group_key(keys: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Return what makes the group's table: what made each subject's partition."""
    return {"kind": "partition-group", "subjects": keys}


def write_group(
    store: Store,
    plan: EncodingPlan,
    path: str,
    paths: Mapping[str, str],
    keys: Mapping[str, dict[str, Any]],
    *,
    entry_z: float,
    overwrite: bool,
) -> dict[str, Any]:
    """Average the parts over targets and subjects, and keep the table."""
    key = group_key(keys)
    if result_is_done(store, path, key, overwrite=overwrite):
        return dict(store.info(path).attributes)
    subjects = [s for group in plan.groups for s in group.subjects]
    nodes = {s.name: store.info(paths[s.name]) for s in subjects}
    arrays = {name: {a: store.read(node.path, a) for a in node.arrays} for name, node in nodes.items()}
    attributes = {
        **group_tables(plan.families, arrays, {s.name: stream_masks(store, s) for s in subjects}),
        "families": list(plan.families),
        "dataset": plan.options.dataset,
        "subjects": list(paths),
        "warnings": [f"{name}: {w}" for name, node in nodes.items() for w in node.attributes["warnings"]],
        "options": {**plan.options.record(), "entry_z": entry_z},
        "sources": list(paths.values()),
    }
    store.write(path, type="partition-group", key=key, arrays={}, attributes=attributes, overwrite=overwrite)
    return attributes
