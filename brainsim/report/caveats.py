"""Turn what happened while a result was made into the short list of things to know before reading it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from brainsim.report.content import FitSet, Options, PartitionSet, SearchNote
from brainsim.report.reduce import FDR_LEVEL
from brainsim.report.tables import format_cell
from brainsim.report.words import count, join_words

EDGE_SHARE_LIMIT = 0.05  # above this share of choices at an end of the alpha grid, the grid was too narrow
GAIN = ("inner_before", "inner_after", "r2_before", "r2_after")

WHY_MASKED = {
    "not finite": "NaN or infinite",
    "constant in a test fold": "constant in a test fold",
    "outside the chosen ROIs": "outside the chosen ROIs",
    "without any score": "that no candidate could score",
}


def list_caveats(result: FitSet | PartitionSet) -> tuple[str, ...]:
    """Return what a reader must know of a fit or a partition, the gravest first."""
    searches = result.searches
    told = [
        _tell_single_level(result.options),
        _tell_stopped(searches, result.options),
        _tell_edges(searches, result.options),
        _tell_masked(searches),
        _tell_failed(searches),
        _tell_float64(searches),
        *(_tell_subsets(result) if isinstance(result, PartitionSet) else ()),
        _tell_nulls(searches, result.options),
        _tell_gain(searches),
    ]
    return tuple(text for text in told if text)


def _tell_single_level(options: Options) -> str:
    if options.get("nested", True):
        return ""
    return (
        "Single-level cross-validation: penalties and weights were chosen by the test score itself, so every R² is too "
        "good, and the more so the more candidates there were. Do not compare with nested results."
    )


def _tell_stopped(searches: Sequence[SearchNote], options: Options) -> str:
    stopped = [s for s in searches if s.stopped is not None]
    if not stopped:
        return ""
    done = [s.stopped[0] for s in stopped if s.stopped]
    total = [s.stopped[1] for s in stopped if s.stopped]
    budget = options.get("time_budget_s")
    return (
        f"The search was stopped early{f' by the time budget of {_clock(budget)}' if budget else ''} in "
        f"{_subjects(stopped, searches)}, after {_span(done)} of {_span(total)} candidates: scores are those of the "
        "best so far, and a later run with more time may find better ones."
    )


def _tell_edges(searches: Sequence[SearchNote], options: Options) -> str:
    if options.get("solver") == "himalaya-hyper-gradient":
        return ""  # descends without a grid
    shares = [s.edge_share for s in searches if math.isfinite(s.edge_share)]
    if not shares:
        return ""
    mean, most = _percent(float(np.mean(shares))), _percent(max(shares))
    worst = f" (in one subject {most})" if mean != most else ""
    text = f"{mean} of the choices (targets x test folds) are a penalty at an end of the alpha grid{worst}"
    if max(shares) > EDGE_SHARE_LIMIT:
        return f"{text}: the grid is too narrow, and R² too low there. Widen it with --alphas."
    return f"{text}: the grid is wide enough."


def _tell_masked(searches: Sequence[SearchNote]) -> str:
    n_masked, n_fitted = sum(s.n_masked for s in searches), sum(s.n_fitted for s in searches)
    if not n_masked:
        return ""
    by_reason: dict[str, int] = {}
    for search in searches:
        for reason, n in search.masked.items():
            by_reason[reason] = by_reason.get(reason, 0) + n
    reasons = join_words(f"{n:,} {WHY_MASKED.get(reason, reason)}" for reason, n in by_reason.items())
    of_all = f" of {n_masked + n_fitted:,}" if n_fitted else ""
    return f"{n_masked:,}{of_all} targets have no score{f': {reasons}' if reasons else ''}. They are in no mean."


def _tell_failed(searches: Sequence[SearchNote]) -> str:
    failed = [s for s in searches if s.n_failed]
    if not failed:
        return ""
    most = max(s.n_failed for s in failed)
    return (
        f"{'Up to ' if len(failed) > 1 else ''}{count(most, 'candidate')} could not be factorised even in float64 at "
        f"some penalty in {_subjects(failed, searches)}, and took no part there."
    )


def _tell_float64(searches: Sequence[SearchNote]) -> str:
    n, n_all = sum(s.n_float64 for s in searches), sum(s.n_factored for s in searches)
    if not n:
        return ""
    return (
        f"{n:,} of {n_all:,} factorisations ({_percent(n / max(n_all, 1))}) were done in float64, since float32 "
        "would have lost digits or failed; no score rests on a failed one."
    )


def _tell_subsets(partition: PartitionSet) -> list[str]:
    m = len(partition.families)
    n_all = 2**m - 1
    if not partition.n_subsets or partition.n_subsets >= n_all:
        return []
    missing = [
        name
        for name, value in (("unique parts", partition.unique), ("Shapley values", partition.shapley))
        if value is None
    ]
    largest = max((len(part) for part in partition.parts), default=0) if partition.part_values is not None else 0
    if 1 < largest < m:
        missing.append(f"parts shared by more than {largest} families")
    elif partition.unique is not None and largest <= 1:
        missing.append("shared parts one by one")
    spec = partition.options.get("subsets")
    return [
        f"{partition.n_subsets:,} of the {n_all:,} subsets of families were scored"
        + (f" (--subsets {spec})" if spec else "")
        + (f": {join_words(missing)} do not follow from them." if missing else ".")
    ]


def _tell_nulls(searches: Sequence[SearchNote], options: Options) -> str:
    n = max([*(int(s.nulls.get("n_nulls", 0)) for s in searches), 0]) or int(options.get("n_nulls") or 0)
    if not n:
        return ""
    least = 1 / (1 + n)
    text = f"p values rest on {n:,} null data sets: none can be smaller than {least:.2g}."
    if least > FDR_LEVEL / 5:
        text += f" That is coarse for a false discovery rate of {100 * FDR_LEVEL:g} %; use 1,000 or more."
    return text


def _tell_gain(searches: Sequence[SearchNote]) -> str:
    gains = [s.gain for s in searches if s.gain.get("rounds")]
    if not gains:
        return ""
    mean = {name: float(np.mean([g[name] for g in gains if name in g] or [np.nan])) for name in GAIN}
    rounds, drawn = int(gains[0]["rounds"]), sum(int(g.get("n_candidates", 0)) for g in gains)
    rise = mean["r2_after"] - mean["r2_before"]
    return (
        f"{count(rounds, 'round')} of refinement ({drawn:,} more candidates) took the validation R² of all families "
        f"from {format_cell(mean['inner_before'], 4)} to {format_cell(mean['inner_after'], 4)}, and the test R², which "
        f"is what counts, from {format_cell(mean['r2_before'], 4)} to {format_cell(mean['r2_after'], 4)}"
        + (": nothing was gained." if rise <= 0 else ".")
    )


def _subjects(some: Sequence[SearchNote], everyone: Sequence[SearchNote]) -> str:
    if len(everyone) == 1:
        return "the subject"
    if len(some) == len(everyone):
        return f"all {len(everyone)} subjects"
    return join_words(s.subject for s in some) if len(some) <= 3 else count(len(some), "subject")


def _span(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 0.001 or share == 0 else "less than 0.1 %"


def _clock(seconds: float) -> str:
    return (
        f"{seconds / 3600:g} h" if seconds >= 3600 else f"{seconds / 60:g} min" if seconds >= 60 else f"{seconds:g} s"
    )
