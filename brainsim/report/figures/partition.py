"""Turn what a partition tells of each family into bars and a table, and into a comparison with planted truth."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from brainsim.report.content import Estimate, PartitionSet, Truth
from brainsim.report.figures.bars import Bars, Item, draw_grouped_bars
from brainsim.report.figures.canvas import Drawing, draw_legend, finish, legend_height_in, panels
from brainsim.report.figures.estimates import (
    QUANTITIES,
    family_estimate,
    found,
    joint_estimate,
    or_low,
    stream_n,
    subject_values,
    tell_n,
)
from brainsim.report.palette import INK, MARKERS, colour_families, order_families
from brainsim.report.reduce import FDR_LEVEL, over_subjects
from brainsim.report.tables import Cell, Column, Table, format_cell, format_interval
from brainsim.report.words import count

LONG_TABLE = 45  # rows: nine systems in five streams are still read in one go

WHAT = {
    "unique": "Unique variance of each family: cross-validated R² of all families minus R² of all but this one",
    "alone": "Cross-validated R² of each family alone. What several families can explain is counted for each of them",
    "shapley": "Shapley value of each family: what it adds to R², averaged over all orders in which families enter",
    "product": "Product measure of each family: its share of the joint model's R². It is not unique variance: families "
    "that resemble one another divide what they share as the penalty divides their weights",
}
MEAN_OF_TARGETS = "; mean over the stream's targets"
JOINT = "all families"  # the last bar of each stream where families are shown alone
JOINT_COLOUR = "#2B2F36"


def tabulate_families(partition: PartitionSet, truth: Truth | None, quantity: str, *, key: str) -> Table:
    """Return stream x family: planted, estimated, interval, chances, share of significant targets, n, each subject."""
    planted_values = truth.unique if truth and quantity == "unique" else {}
    values = subject_values(partition, quantity)
    shares = partition.significant.get(quantity)
    rows: list[tuple[Cell, ...]] = []
    for s, stream in enumerate(partition.streams):
        n_subjects, n_targets = stream_n(partition, stream)
        for family in order_families(partition.families):
            e = family_estimate(partition, quantity, stream, family)
            f = partition.families.index(family)
            planted = planted_values.get((stream, family))
            share = None if shares is None else 100 * float(over_subjects(shares)[s, f])
            of_subjects = [] if values is None else [float(v) for v in values[:, s, f]]
            rows.append(
                (
                    stream, family, planted, e.mean, e.low, e.high, format_interval(e.low, e.high),
                    e.p, e.q, e.p_subjects, e.q_subjects, e.p_null,
                    None if planted is None else e.mean - planted, share, n_subjects, n_targets, *of_subjects,
                )
            )  # fmt: skip
    name = QUANTITIES[quantity][0]
    has_p, has_null = (any(row[k] == row[k] for row in rows) for k in (7, 11))
    columns = (
        Column("stream", "Stream"),
        Column("family", "Family"),
        Column("planted_unique_r2", "Planted", where="both" if planted_values else "tsv"),
        Column(f"{quantity}_r2", "Unique R² (mean)" if quantity == "unique" else "R² (mean)"),
        Column("low", where="tsv"),
        Column("high", where="tsv"),
        Column("interval", "[low, high]", where="page" if partition.group else "none"),
        Column("p", "p", 4, where="both" if has_p else "tsv"),
        Column("q", "q", 4, where="both" if has_p else "tsv"),
        Column("p_subjects", where="tsv"),
        Column("q_subjects", where="tsv"),
        Column("p_null", "p of nulls", 4, where="both" if has_null else "tsv"),
        Column("error", "Error", where="both" if planted_values else "tsv"),
        Column(
            "percent_significant",
            f"Targets with q ≤ {FDR_LEVEL:g} (%)",
            1,
            where="tsv" if shares is None else "both",
        ),
        Column("n_subjects", "Subjects"),
        Column("n_targets", "Targets", where="none" if partition.is_of_rdms else "both"),
        *(Column(f"subject_{name}", where="tsv") for name in partition.subjects if values is not None),
    )
    note = {
        "unique": "Unique R² is a difference of cross-validated R² (no unit)",
        "alone": "R² is cross-validated (no unit)",
    }.get(quantity, "No unit") + ("." if partition.is_of_rdms else "; targets are counted over all subjects.")
    if partition.interval and partition.group:
        note += f" [low, high]: {partition.interval}."
    if has_p:
        note += (
            f" p: one-sided, {partition.random} as random effects; q: false discovery rate over all families and "
            "streams."
        )
    if has_null:
        note += (
            " p of nulls: of what the family adds, mean over targets and subjects, by null data sets; not corrected for"
        )
        note += " the number of rows."
    if shares is not None:
        note += " Targets: false discovery rate over a subject's targets; a mean over subjects."
    title = f"{name} in each stream" if quantity == "alone" else f"{name} of each family in each stream"
    return Table(key, partition.title(title), columns, tuple(rows), note, folded=len(rows) > LONG_TABLE)


def draw_families(partition: PartitionSet, truth: Truth | None, quantity: str, *, key: str) -> Drawing:
    """Draw a quantity of every family as stream x family bars; beside each family alone, all of them together."""
    families = order_families(partition.families)
    colours = colour_families(families)
    cells = [(s, f) for s in partition.streams for f in families]
    values = subject_values(partition, quantity)
    items = [Item(f, f, colours[f]) for f in families]
    estimates = {(s, f): family_estimate(partition, quantity, s, f) for s, f in cells}
    subjects = {
        (s, f): np.zeros(0) if values is None else values[:, partition.streams.index(s), partition.families.index(f)]
        for s, f in cells
    }
    if quantity == "alone":
        items.append(Item(JOINT, JOINT, JOINT_COLOUR, 0.35))
        estimates |= {(s, JOINT): joint_estimate(partition, s) for s in partition.streams}
        subjects |= {(s, JOINT): partition.joint[:, i] for i, s in enumerate(partition.streams)}
    planted = truth.unique if truth and quantity == "unique" else {}
    marks = found({cell: estimates[cell] for cell in cells})
    bars = Bars(
        streams=partition.streams,
        items=tuple(items),
        estimates=estimates,
        subjects=subjects,
        y_label=QUANTITIES[quantity][1],
        notes={s: tell_n(partition, s) for s in partition.streams},
        truth={c: planted[c] for c in cells if c in planted},
        marks=marks,
        mark_label=f"q ≤ {FDR_LEVEL:g}",
    )
    name, of_rdms = QUANTITIES[quantity][0], partition.is_of_rdms
    best = max(cells, key=lambda c: or_low(bars.estimates[c].mean))
    alt = (
        f"Grouped bars for {len(families)} families in {len(partition.streams)} streams: {name.lower()}. "
        f"Largest: {best[1]} in {best[0]}, {format_cell(bars.estimates[best].mean)}."
    )
    caption = (
        f"{'Of held-out RDMs. ' * of_rdms}{WHAT[quantity]}{'' if of_rdms else MEAN_OF_TARGETS}. "
        f"Bars: mean over n = {count(len(partition.subjects), 'subject')}; dots: subjects"
        + (f"; whiskers: {partition.interval}" if partition.interval and partition.group else "")
        + ("; black bars: planted value" if bars.truth else "")
        + _tell_stars(partition, [estimates[cell] for cell in cells], len(marks))
        + f". No unit; n of subjects{'' if of_rdms else ' and targets (all subjects)'} below each stream."
    )
    title = "Each family alone, and all together" if quantity == "alone" else f"{name} by stream and family"
    table = tabulate_families(partition, truth, quantity, key=key)
    return finish(draw_grouped_bars(bars), key, title=partition.title(title), caption=caption, alt=alt, table=table)


def _tell_stars(partition: PartitionSet, estimates: Sequence[Estimate], n_found: int) -> str:
    """Return what stars are, as the end of a sentence; nothing where no family was tested."""
    n_tested = sum(math.isfinite(e.q) for e in estimates)
    if not n_tested:
        return ""
    return (
        f"; stars: q ≤ {FDR_LEVEL:g}, the false discovery rate over {n_tested} families and streams, one-sided, "
        f"{partition.random} as random effects ({n_found} are)"
    )


def draw_recovery(partition: PartitionSet, truth: Truth, *, key: str) -> Drawing:
    """Draw estimated against planted unique variance, one mark per stream and family."""
    families = order_families(partition.families)
    colours = colour_families(families)
    points = [
        (s, f, truth.unique[s, f], family_estimate(partition, "unique", s, f))
        for s in partition.streams
        for f in families
        if (s, f) in truth.unique
    ]
    handles: list[Patch | Line2D] = [Patch(facecolor=colours[f], label=f) for f in families]
    handles += [
        Line2D([], [], linestyle="none", marker=MARKERS[i % len(MARKERS)], color=INK, markersize=4, label=s)
        for i, s in enumerate(partition.streams)
    ]
    figure, (axis,) = panels(
        1,
        n_columns=1,
        panel_height_in=2.9,
        width_in=4.3,
        top_in=0.1,
        right_in=0.5,
        legend_in=legend_height_in(len(handles), 3),
    )
    finite = [v for _, _, p, e in points for v in (p, e.mean, e.low, e.high) if math.isfinite(v)]
    low, high = min([0.0, *finite]), max([0.01, *finite])
    low, high = low - 0.05 * (high - low), high + 0.05 * (high - low)
    axis.plot([low, high], [low, high], color=INK, linewidth=0.7, zorder=1)
    for stream, family, planted, estimate in points:
        if estimate.has_interval:
            axis.plot([planted, planted], [estimate.low, estimate.high], color=colours[family], linewidth=0.9, zorder=2)
        marker = MARKERS[partition.streams.index(stream) % len(MARKERS)]
        axis.plot(
            planted, estimate.mean, marker=marker, markersize=4.4, color=colours[family], linestyle="none",
            markeredgecolor="white", markeredgewidth=0.4, zorder=3,
        )  # fmt: skip
    axis.set(xlim=(low, high), ylim=(low, high), xlabel="Planted unique variance (ΔR²)", ylabel="Estimated (ΔR²)")
    axis.grid(True)
    draw_legend(figure, handles, n_columns=3)
    errors = np.array([e.mean - p for _, _, p, e in points])
    worst = points[int(np.nanargmax(np.abs(errors)))] if np.isfinite(errors).any() else points[0]
    rows: tuple[tuple[Cell, ...], ...] = tuple((s, f, p, e.mean, e.low, e.high, e.mean - p) for s, f, p, e in points)
    columns = ("stream", "family", "planted_unique_r2", "unique_r2", "low", "high", "error")
    caption = (
        f"Estimated against planted unique variance, one mark per stream and family (n = {len(points)}); the line is "
        f"equality. Mean absolute error {format_cell(float(np.nanmean(np.abs(errors))), 4)}, largest "
        f"{format_cell(abs(worst[3].mean - worst[2]), 4)} ({worst[1]} in {worst[0]})."
    )
    alt = f"Scatter of estimated against planted unique variance; {caption.split('. ', 1)[1]}"
    table = Table(key, "Planted and estimated unique variance", tuple(Column(c) for c in columns), rows)
    return finish(figure, key, title="Recovery of the planted values", caption=caption, alt=alt, table=table)
