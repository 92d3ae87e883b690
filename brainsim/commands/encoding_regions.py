"""Turn the mean scores of ROIs, run by run, into rows with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# With more families than this nobody reads a row for every part of every ROI.
MAX_SHARED_FAMILIES = 5


def roi_rows(rois: Sequence[str], arrays: Mapping[str, np.ndarray], told: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what a ROI's targets score, with a bootstrap interval over runs.

    Of a partition: the joint score, each family's unique part and Shapley value, and with up to five families all parts
    that some of them share (of nine there are 502 for every ROI; ``roi_subset_r2`` has what they are made of).

    Parameters
    ----------
    rois : sequence of str
        Names, in the order of the arrays' rows.
    arrays : mapping of str to ndarray
        ``roi_n_targets`` (n_rois,), and ``roi_r2_folds`` (n_rois, n_folds) or ``roi_subset_r2``
        (n_rois, n_subsets, n_folds).
    told : mapping
        A partition's ``families`` and ``subset_spec``.
    """
    from brainsim.stats.bootstrap import bootstrap_runs

    by_quantity: list[tuple[str, str | None, np.ndarray]] = []
    if "roi_r2_folds" in arrays:
        by_quantity.append(("joint", None, arrays["roi_r2_folds"]))
    if "roi_subset_r2" in arrays:
        by_quantity += _partition_scores(arrays["roi_subset_r2"], told)
    rows = []
    for quantity, family, scores in by_quantity:
        low, high = bootstrap_runs(scores) if scores.shape[-1] >= 3 else (None, None)
        for index, roi in enumerate(rois):
            n_targets = int(arrays["roi_n_targets"][index])
            if n_targets:
                p = _p_value(arrays, index, quantity, family, told)
                rows.append(
                    {
                        "roi": roi,
                        "family": family,
                        "quantity": quantity,
                        "mean": float(scores[index].mean()),
                        "low": None if low is None else float(low[index]),
                        "high": None if high is None else float(high[index]),
                        "n_targets": n_targets,
                        **({} if p is None else {"p_null": p}),
                    }
                )
    return rows


def _partition_scores(scores: np.ndarray, told: Mapping[str, Any]) -> list[tuple[str, str | None, np.ndarray]]:
    from brainsim.variance.lattice import commonality_parts, shapley_values, subset_names, subset_plan, unique_parts

    families = list(told["families"])
    plan = subset_plan(len(families), str(told["options"]["subsets"]))
    found: list[tuple[str, str | None, np.ndarray]] = [("joint", None, scores[:, -1])]
    by_subset = np.moveaxis(scores, 1, 0)  # (n_subsets, n_rois, n_folds)
    if plan.has_unique:
        found += [("unique", *one) for one in zip(families, unique_parts(by_subset, plan), strict=True)]
    if plan.is_complete:
        found += [("shapley", *one) for one in zip(families, shapley_values(by_subset, plan), strict=True)]
    if plan.has_unique and len(families) <= MAX_SHARED_FAMILIES:
        parts = zip(subset_names(families, plan.part_masks), commonality_parts(by_subset, plan), strict=True)
        found += [("shared", " & ".join(members), part) for members, part in parts if len(members) > 1]
    return found


def _p_value(
    arrays: Mapping[str, np.ndarray], roi: int, quantity: str, family: str | None, told: Mapping[str, Any]
) -> float | None:
    """Return how often a ROI's null mean reaches its mean; None without nulls."""
    if "roi_null_joint" not in arrays or quantity not in ("joint", "unique"):
        return None
    if quantity == "joint":
        null, observed = arrays["roi_null_joint"][roi], arrays["roi_tested_joint"][roi]
    else:
        row = list(told["families"]).index(family)
        null, observed = arrays["roi_null_unique"][roi, row], arrays["roi_tested_unique"][roi, row]
    return float((1 + (~(null < observed)).sum()) / (1 + len(null))) if np.isfinite(observed) else None
