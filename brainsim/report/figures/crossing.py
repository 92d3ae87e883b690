"""Turn scores of two systems at a time into heat maps: together, one beside the other, one against the other."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from brainsim.report.content import Estimate, RsaSet
from brainsim.report.figures.canvas import Drawing, finish
from brainsim.report.figures.heat import draw_heat_maps
from brainsim.report.palette import order_families
from brainsim.report.reduce import FDR_LEVEL, estimate_of
from brainsim.report.tables import Cell, Column, Table, format_cell
from brainsim.report.words import count


def order_models(models: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """Return (system, family) in the fixed order of families."""
    families = order_families([family for _, family in models])
    return tuple(sorted(models, key=lambda pair: families.index(pair[1])))


def draw_pairs(rsa: RsaSet, *, key: str) -> Drawing:
    """Draw what every two systems predict together; the diagonal holds single systems."""
    models = order_models(rsa.models)
    names = [m for m, _ in models]
    place = {m: i for i, (m, _) in enumerate(rsa.models)}
    found: dict[tuple[str, str, str], Estimate] = {}
    for (stream, a, b), estimate in rsa.pairs.items():
        found[stream, a, b] = found[stream, b, a] = estimate
    for s, stream in enumerate(rsa.streams):
        for m in names:
            found[stream, m, m] = estimate_of(rsa.group.get((stream, m)), rsa.model_score[:, s, place[m]])
    squares = _squares(rsa, found)
    figure = draw_heat_maps(
        squares, names, [f for _, f in models], row_label="", column_label="System (number)", bar_label="r"
    )
    rows = _rows(found, ("system", "and_system"), rsa, names, triangle=True)
    together = {s: e for s, e in rsa.together.items() if np.isfinite(e.mean)}
    all_layers = ", ".join(f"{s} {format_cell(together[s].mean)}" for s in rsa.streams if s in together)
    caption = (
        "Pearson's r (no unit) between a held-out run's RDM and what the layers of two systems together predict of it; "
        f"diagonal: one system. Mean over n = {count(len(rsa.subjects), 'subject')} and all runs"
        + (f". All layers of all systems: {all_layers}" if together else "")
        + ". Intervals are in the TSV."
    )
    best = max(((k, e) for k, e in found.items() if k[1] != k[2]), key=lambda kv: np.nan_to_num(kv[1].mean, nan=-9.0))
    alt = (
        f"Heat maps of {len(names)} × {len(names)} pairs of systems. Largest: {' and '.join(best[0][1:])} in "
        f"{best[0][0]}."
    )
    return finish(
        figure, key, title="Two systems together", caption=caption, alt=alt,
        table=Table(key, "Scores of every two systems together", _columns("system", "and_system"), tuple(rows)),
    )  # fmt: skip


def draw_residuals(rsa: RsaSet, *, key: str) -> Drawing:
    """Draw what each system predicts of what another leaves."""
    models = order_models(rsa.models)
    names = [m for m, _ in models]
    found = dict(rsa.residuals)
    figure = draw_heat_maps(
        _squares(rsa, found), names, [f for _, f in models], row_label="Control", column_label="Target (number)",
        bar_label="r with the residual",
    )  # fmt: skip
    rows = _rows(found, ("control", "target"), rsa, names)
    off = {k: e for k, e in found.items() if k[1] != k[2] and np.isfinite(e.mean)}
    best = max(off, key=lambda k: off[k].mean) if off else ("", "", "")
    n_above = sum(e.low > 0 for e in off.values())
    caption = (
        "Pearson's r (no unit) between what a control system (rows) leaves of a held-out run's RDM and what a target "
        "system (columns), fitted to the residuals of the other runs, predicts of it. Mean over "
        f"n = {count(len(rsa.subjects), 'subject')} and all runs; {n_above} of {len(off)} intervals off the diagonal "
        "lie "
        "above zero. A residual correlation is not a part of variance."
    )
    alt = (
        f"Heat maps of {len(names)} × {len(names)} residual correlations. Largest: {best[2]} beside {best[1]} in "
        f"{best[0]}."
    )
    return finish(
        figure, key, title="One system beside another: residual correlation", caption=caption, alt=alt,
        table=Table(key, "Residual correlations", _columns("control", "target"), tuple(rows)),
    )  # fmt: skip


def draw_comparisons(rsa: RsaSet, *, key: str) -> Drawing | None:
    """Draw every two systems' difference; numbers stand where it is significant over all pairs and streams."""
    if len(rsa.models) < 2 or not rsa.comparisons:
        return None
    models = order_models(rsa.models)
    names = [m for m, _ in models]
    place = {m: i for i, m in enumerate(names)}
    squares = {s: np.full((len(names), len(names)), np.nan) for s in rsa.streams}
    marks = {s: np.zeros((len(names), len(names)), bool) for s in rsa.streams}
    rows: list[tuple[Cell, ...]] = []
    n_clear = 0
    for row in rsa.comparisons:
        stream, a, b = row["stream"], row["a"], row["b"]
        if stream not in squares or a not in place or b not in place or row["mean"] is None:
            continue
        clear = row["q"] is not None and row["q"] <= FDR_LEVEL
        n_clear += clear
        squares[stream][place[a], place[b]], squares[stream][place[b], place[a]] = row["mean"], -row["mean"]
        marks[stream][place[a], place[b]] = marks[stream][place[b], place[a]] = clear
        rows.append((stream, a, b, *(row.get(n) for n in ("mean", "low", "high", "p", "q", "n_subjects"))))
    figure = draw_heat_maps(
        squares, names, [f for _, f in models], row_label="", column_label="Less system (number)",
        bar_label="Difference of scores", marks=marks,
    )  # fmt: skip
    columns = ("stream", "a", "b", "a_less_b", "low", "high", "p", "q", "n_subjects")
    caption = (
        f"Score ({rsa.comparison or 'similarity'}, no unit) of the system at the row less that of the system at the "
        f"column, mean over n = {count(len(rsa.subjects), 'subject')}. Numbers: where q ≤ {FDR_LEVEL:g}, two-sided, "
        "false "
        "discovery "
        f"rate over all {len(rows)} pairs of systems and streams; {n_clear} are. Subjects and runs are random effects."
    )
    alt = (
        f"Heat maps of differences between {len(names)} systems in {len(rsa.streams)} streams; {n_clear} of "
        f"{len(rows)} are significant."
    )
    return finish(
        figure, key, title="Which system is more like the brain: paired comparisons", caption=caption, alt=alt,
        table=Table(key, "Differences between systems", tuple(map(Column, columns)), tuple(rows)),
    )  # fmt: skip


def _squares(rsa: RsaSet, found: Mapping[tuple[str, str, str], Estimate]) -> dict[str, np.ndarray]:
    names = [m for m, _ in order_models(rsa.models)]
    nothing = Estimate(float("nan"))
    return {s: np.array([[found.get((s, a, b), nothing).mean for b in names] for a in names]) for s in rsa.streams}


def _rows(
    found: Mapping[tuple[str, str, str], Estimate],
    heads: tuple[str, str],
    rsa: RsaSet,
    names: list[str],
    *,
    triangle: bool = False,
) -> list[tuple[Cell, ...]]:
    return [
        (stream, a, b, found[stream, a, b].mean, found[stream, a, b].low, found[stream, a, b].high)
        for stream in rsa.streams
        for i, a in enumerate(names)
        for b in (names[i:] if triangle else names)
        if (stream, a, b) in found
    ]


def _columns(first: str, second: str) -> tuple[Column, ...]:
    return tuple(map(Column, ("stream", first, second, "r", "low", "high")))
