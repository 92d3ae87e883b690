"""Turn what happened in the searches of a subject's tasks into what its result tells, and its user must know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from brainsim.commands.encoding_data import Subject, SubjectGroup, tell_shared
from brainsim.commands.encoding_plan import EncodingPlan, make_folds
from brainsim.commands.encoding_targets import REASONS, count_reasons

if TYPE_CHECKING:
    from brainsim.store import Store

# Above this share of choices at an edge of the alpha grid a user must be told.
EDGE_WARNING_SHARE = 0.05


def describe_result(
    plan: EncodingPlan,
    group: SubjectGroup,
    subject: Subject,
    reasons: np.ndarray,
    at_edge: np.ndarray,
    logs: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Return what a result tells of one subject beside its arrays."""
    searches = [log["log"] for log in logs if log["n_fitted"]]
    failed = sorted({candidate for search in searches for candidate in search["failed"]})
    n_done = min(search["n_candidates_done"] for search in searches)
    n_candidates = searches[0]["n_candidates"]
    summary = {
        "edge_share": _mean_known(at_edge[reasons == 0]),
        "n_fitted": int((reasons == 0).sum()),
        "n_masked": int((reasons != 0).sum()),
        "masked": count_reasons(reasons),
        "n_factored": sum(search["n_factored"] for search in searches),
        "n_float64": sum(search["n_float64"] for search in searches),
        "n_failed": len(failed),
    }
    told: dict[str, Any] = {
        "bands": [band.name for band in plan.bands],
        "band_families": [band.family for band in plan.bands],
        "folds": [fold.name for fold in make_folds(plan.options, group.fit_layout)],
        "runs": [[name, n_trs] for name, n_trs in zip(group.fit_layout.names, group.fit_layout.n_trs, strict=True)],
        "alphas": list(plan.options.grid),
        "roi_names": subject.targets.attributes["roi_names"],
        "streams": subject.targets.attributes["streams"],
        "summary": summary,
        "sources": plan.sources(group, subject),
    }
    if n_done < n_candidates:
        told["stopped"] = {"n_candidates_done": n_done, "n_candidates": n_candidates}
    for name in ("gain", "nulls", "overrun", "unrefined"):
        found = [log["notes"][name] for log in logs if name in log["notes"]]
        if found:
            told[name] = found[0] if len(found) == 1 else _mean_note(found)
    told["warnings"] = [*tell_shared(group), *_warnings(plan, told, len(reasons))]
    return told


def _mean_known(values: np.ndarray) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else None


def _mean_note(notes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the mean of numbers that tasks noted; what is the same in all stays."""
    first = notes[0]
    return {
        key: float(np.mean([note[key] for note in notes])) if isinstance(value, float) else value
        for key, value in first.items()
    }


def _warnings(plan: EncodingPlan, told: Mapping[str, Any], n_targets: int) -> list[str]:
    """Return the sentences that a user must see with a result."""
    summary: Mapping[str, Any] = told["summary"]
    warnings = []
    if (summary["edge_share"] or 0) > EDGE_WARNING_SHARE:
        warnings.append(
            f"{summary['edge_share']:.0%} of the choices (targets x test folds) are an alpha at an edge of the grid; "
            "widen it with --alphas."
        )
    unasked = {reason: n for reason, n in summary["masked"].items() if reason != REASONS[3]}
    if unasked:
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in unasked.items())
        warnings.append(f"{sum(unasked.values()):,} of {n_targets:,} targets were masked: {reasons}.")
    if summary["n_failed"]:
        warnings.append(
            f"{summary['n_failed']:,} candidates could not be factorised even in float64 at some alphas, and took no "
            "part there."
        )
    return [*warnings, *_time_warnings(told), *_nesting_warnings(plan)]


def _time_warnings(told: Mapping[str, Any]) -> list[str]:
    """Return what the time budget cost, and where it was not kept."""
    warnings = []
    if stopped := told.get("stopped"):
        warnings.append(
            f"the time budget ended the search after {stopped['n_candidates_done']:,} of "
            f"{stopped['n_candidates']:,} candidates; scores are those of the best so far."
        )
    if overrun := told.get("overrun"):
        warnings.append(
            f"a task's share of the time budget, {overrun['budget_s']:.3g} s, became {overrun['took_s']:.3g} s: each "
            f"subset needs a mixture, so that at least {overrun['n_least']:,} are scored."
        )
    if unrefined := told.get("unrefined"):
        warnings.append(
            f"the time budget left room for {unrefined['rounds']} of {unrefined['asked']} rounds of refinement."
        )
    return warnings


def _nesting_warnings(plan: EncodingPlan) -> list[str]:
    if plan.options.nested:
        return []
    return ["hyperparameters were chosen by the test score itself (--no-nested): scores are too good."]


def tell_searches(store: Store, paths: Sequence[str]) -> dict[str, Any]:
    """Return what happened in the searches behind some results, for a summary.

    Parameters
    ----------
    store : Store
        Where the results are.
    paths : sequence of str
        Result nodes.

    Returns
    -------
    dict
        ``n_factored`` and ``n_float64``: factorisations, and those in float64; ``edge_share``: share of choices at an
        edge of the grid of alphas, None without a grid; ``gain``: R2 that refinement gained, None without it.
    """
    told = [store.info(path).attributes for path in paths]
    shares = [attributes["summary"]["edge_share"] for attributes in told]
    gains = [a["gain"]["r2_after"] - a["gain"]["r2_before"] for a in told if a.get("gain", {}).get("rounds")]
    return {
        "n_factored": sum(attributes["summary"]["n_factored"] for attributes in told),
        "n_float64": sum(attributes["summary"]["n_float64"] for attributes in told),
        "edge_share": _mean_known(np.array([np.nan if share is None else share for share in shares])),
        "gain": float(np.mean(gains)) if gains else None,
    }
