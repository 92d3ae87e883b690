"""Turn the mean scores of ROIs, run by run, into rows with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def roi_rows(rois: Sequence[str], arrays: Mapping[str, np.ndarray], told: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the joint score of each ROI, and each family's unique part, with a bootstrap interval over runs.

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
                        **({} if p is None else {"p": p}),
                    }
                )
    return rows


def _partition_scores(scores: np.ndarray, told: Mapping[str, Any]) -> list[tuple[str, str | None, np.ndarray]]:
    from brainsim.variance.lattice import subset_plan, unique_parts

    families = list(told["families"])
    plan = subset_plan(len(families), str(told["options"]["subsets"]))
    found: list[tuple[str, str | None, np.ndarray]] = [("joint", None, scores[:, -1])]
    if plan.has_unique:
        unique = unique_parts(np.moveaxis(scores, 1, 0), plan)  # (n_families, n_rois, n_folds)
        found += [("unique", family, part) for family, part in zip(families, unique, strict=True)]
    return found


def _p_value(
    arrays: Mapping[str, np.ndarray], roi: int, quantity: str, family: str | None, told: Mapping[str, Any]
) -> float | None:
    """Return how often a ROI's null mean reaches its mean; None without nulls."""
    if "roi_null_joint" not in arrays:
        return None
    if quantity == "joint":
        null, observed = arrays["roi_null_joint"][roi], arrays["roi_tested_joint"][roi]
    else:
        row = list(told["families"]).index(family)
        null, observed = arrays["roi_null_unique"][roi, row], arrays["roi_tested_unique"][roi, row]
    return float((1 + (~(null < observed)).sum()) / (1 + len(null))) if np.isfinite(observed) else None
