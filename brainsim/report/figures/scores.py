"""Turn scores per target into histograms, and split scores per band into bars."""

from __future__ import annotations

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from brainsim.report.content import FitSet
from brainsim.report.figures.canvas import (
    Drawing,
    draw_base,
    draw_legend,
    draw_subjects,
    draw_zero,
    finish,
    legend_height_in,
    panels,
)
from brainsim.report.palette import INK, colour_families, order_families
from brainsim.report.reduce import FDR_LEVEL, over_subjects
from brainsim.report.tables import Cell, Column, Table, format_cell
from brainsim.report.words import count

BIN = 0.05  # of r: narrow enough to see two humps, wide enough for a few hundred targets
SHARES_ABOVE = (0.2, 0.5)


def tabulate_scores(fit: FitSet, *, key: str) -> Table:
    """Return per stream: n, median and best r, mean R2, shares of targets above 0.2 and 0.5 and of significant ones."""
    rows: list[tuple[Cell, ...]] = []
    for s, stream in enumerate(fit.streams):
        r, r2 = _pool(fit.r[stream]), _pool(fit.r2[stream])
        n_subjects = sum(bool(np.isfinite(values).any()) for values in fit.r[stream])
        if not len(r):
            rows.append((stream, n_subjects, 0, None, None, None, None, *(None for _ in SHARES_ABOVE), None, None))
            continue
        above = [100.0 * float((r > t).mean()) for t in SHARES_ABOVE]
        counts = (float(np.median(r)), float(np.quantile(r, 0.9)), float(r.max()), float(r2.mean()))
        share = None if fit.significant is None else 100 * float(over_subjects(fit.significant)[s])
        normalised = None if fit.normalised is None else float(over_subjects(fit.normalised)[s])
        rows.append((stream, n_subjects, len(r), *counts, *above, share, normalised))
    columns = (
        Column("stream", "Stream"),
        Column("n_subjects", "Subjects"),
        Column("n_targets", "Targets"),
        Column("median_r", "Median r"),
        Column("p90_r", "90th percentile r"),
        Column("max_r", "Best r"),
        Column("mean_r2", "Mean R²"),
        *(Column(f"percent_above_{t:g}", f"r > {t:g} (%)", 1) for t in SHARES_ABOVE),
        Column("percent_significant", f"q ≤ {FDR_LEVEL:g} (%)", 1, where="none" if fit.significant is None else "both"),
        Column("r2_over_ceiling", "R² / noise ceiling (median)", where="none" if fit.normalised is None else "both"),
    )
    note = "r and R² are cross-validated, per target; targets are counted over all subjects, masked targets left out."
    if fit.significant is not None:
        note += " q: false discovery rate over a subject's targets; its column is a mean over subjects."
    if fit.normalised is not None:
        note += " R² / noise ceiling: each target's R² over its own ceiling, median over targets, mean over subjects."
    return Table(key, "Prediction scores by stream", columns, tuple(rows), note)


def draw_histograms(fit: FitSet, *, key: str) -> Drawing:
    """Draw how cross-validated r is spread over targets, one panel per stream."""
    pooled = {stream: _pool(fit.r[stream]) for stream in fit.streams}
    everything = np.concatenate(list(pooled.values())) if pooled else np.zeros(1)
    low = min(-0.2, float(np.floor(everything.min() / BIN) * BIN)) if len(everything) else -0.2
    edges = np.arange(low, 1.0 + BIN, BIN)
    edges = edges[edges <= max(1.0, low) + 1e-9]
    single = len(fit.streams) == 1
    n_columns = 1 if single else min(4, len(fit.streams))
    width = 5.0 if single else 7.2
    figure, axes = panels(
        len(fit.streams), n_columns=n_columns, panel_height_in=2.1 if single else 1.5, width_in=width,
        gap_in=(0.2, 0.75), top_in=0.3, bottom_in=0.45,
    )  # fmt: skip
    rows: list[tuple[Cell, ...]] = []
    for s, (axis, stream) in enumerate(zip(axes, fit.streams, strict=True)):
        r = pooled[stream]
        counts, _ = np.histogram(np.clip(r, edges[0], edges[-1]), edges)
        share = 100 * counts / max(len(r), 1)
        draw_zero(axis)
        axis.bar(edges[:-1], share, BIN * 0.94, align="edge", color="#5B7FA6", zorder=2)
        axis.set(title=f"{stream}  ({len(r):,} targets)", xlabel="Cross-validated r", xlim=(edges[0], edges[-1]))
        axis.set_ylim(
            0, 1.14 * max(float(np.max(np.histogram(v, edges)[0])) * 100 / max(len(v), 1) for v in pooled.values())
        )
        if len(r):
            median = float(np.median(r))
            axis.axvline(median, color=INK, linewidth=1.0, linestyle=(0, (3, 2)), zorder=3)
            on_right = median < (edges[0] + edges[-1]) / 2  # where there is room for it
            axis.annotate(
                f"median {format_cell(median, 2)}", (median, 1.0), xycoords=("data", "axes fraction"),
                xytext=(4 if on_right else -4, -2), textcoords="offset points", va="top",
                ha="left" if on_right else "right", fontsize=7.5,
            )  # fmt: skip
        if s % n_columns:
            axis.tick_params(labelleft=False)
        else:
            axis.set_ylabel("Targets (%)")
        rows += [(stream, float(edges[i]), float(edges[i + 1]), int(counts[i])) for i in range(len(counts))]
    names = ("stream", "r_from", "r_to", "n_targets")
    medians = ", ".join(f"{s} {format_cell(float(np.median(r)))}" for s, r in pooled.items() if len(r))
    table = Table(key, "Histogram of r over targets", tuple(Column(n) for n in names), tuple(rows))
    alt = f"Histograms of cross-validated r over targets. Median: {medians}."
    caption = (
        "Cross-validated correlation between predicted and measured responses, over the targets of "
        f"n = {count(len(fit.subjects), 'subject')} (number of targets in each title); "
        f"bins of {BIN:g}. Dashed: median ({medians})."
    )
    return finish(figure, key, title="Prediction scores over targets", caption=caption, alt=alt, table=table)


def draw_split(fit: FitSet, *, key: str) -> Drawing | None:
    """Draw the fitted model's split score, summed over the bands of each family."""
    if fit.split_r2 is None or len(fit.bands) < 2:
        return None
    families = order_families(fit.band_families or fit.bands)
    colours = colour_families(families)
    of_band = fit.band_families or fit.bands
    summed = np.stack(
        [fit.split_r2[..., [b for b, name in enumerate(of_band) if name == f]].sum(axis=-1) for f in families], axis=-1
    )  # (n_subjects, n_streams, n_families)
    means = over_subjects(summed)
    handles: list[Patch | Line2D] = [Patch(facecolor=colours[f], label=f) for f in families]
    figure, (axis,) = panels(
        1, n_columns=1, panel_height_in=1.7, top_in=0.12, bottom_in=0.32, legend_in=legend_height_in(len(handles), 6)
    )  # fmt: skip
    draw_base(axis)
    step = min(0.84 / len(families), 0.186)
    for s in range(len(fit.streams)):
        for f, family in enumerate(families):
            x = s + (f - (len(families) - 1) / 2) * step
            axis.bar(x, means[s, f], step * 0.86, color=colours[family], zorder=2)
            draw_subjects(axis, x, summed[:, s, f], width=step * 0.5)
    axis.set_xticks(range(len(fit.streams)), fit.streams)
    axis.tick_params(axis="x", length=0)
    axis.set(ylabel="Split R² (product measure)", xlim=(-0.55, len(fit.streams) - 0.45))
    draw_legend(figure, handles, n_columns=6)
    rows: list[tuple[Cell, ...]] = [
        (stream, band, of_band[b], float(v), *(float(x) for x in fit.split_r2[:, s, b]))
        for s, stream in enumerate(fit.streams)
        for b, (band, v) in enumerate(zip(fit.bands, over_subjects(fit.split_r2)[s], strict=True))
    ]
    names = ("stream", "band", "family", "split_r2", *(f"subject_{n}" for n in fit.subjects))
    table = Table(key, "Split score of each band", tuple(Column(n) for n in names), tuple(rows))
    alt = f"Bars of the split R² of {len(families)} families in {len(fit.streams)} streams."
    caption = (
        "The fitted model's R² split over its bands (product measure of the partial predictions), summed per family; "
        f"dots: n = {count(len(fit.subjects), 'subject')}. This says how the model uses its bands; it "
        "is not unique variance: what bands share is divided between them by the penalty."
    )
    return finish(figure, key, title="How the fitted model uses its families", caption=caption, alt=alt, table=table)


def _pool(parts: tuple[np.ndarray, ...]) -> np.ndarray:
    values: np.ndarray = np.concatenate([np.asarray(p, np.float64) for p in parts]) if parts else np.zeros(0)
    finite: np.ndarray = values[np.isfinite(values)]
    return finite
