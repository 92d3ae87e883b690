"""Turn a partition of variance into its figures: unique parts, recovery of truth, joint and shares, shared parts."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from brainsim.report.content import Estimate, PartitionSet, Truth
from brainsim.report.figures.bars import Bars, Item, draw_grouped_bars
from brainsim.report.figures.canvas import (
    Drawing,
    draw_base,
    draw_interval,
    draw_legend,
    draw_subjects,
    draw_truth,
    finish,
    legend_height_in,
    panels,
    subject_handle,
    truth_handle,
)
from brainsim.report.palette import INK, MARKERS, SHARED_COLOUR, colour_families, order_families
from brainsim.report.reduce import estimate_of
from brainsim.report.tables import Cell, Column, Table, format_cell, format_interval
from brainsim.report.words import count

MAX_PARTS = 14  # more columns than this cannot be told apart below four panels
LONG_TABLE = 45  # rows: nine systems in five streams are still read in one go
SMALL_JOINT = 0.005  # below this R2, a share of it is noise


def family_estimate(partition: PartitionSet, quantity: str, stream: str, family: str) -> Estimate:
    """Return the group's estimate of a quantity, or the subjects' mean."""
    values = {"unique": partition.unique, "shapley": partition.shapley, "product": partition.product}[quantity]
    s, f = partition.streams.index(stream), partition.families.index(family)
    subjects = np.full(1, np.nan) if values is None else values[:, s, f]
    return estimate_of(partition.group.get((quantity, stream, family)), subjects)


def joint_estimate(partition: PartitionSet, stream: str) -> Estimate:
    """Return the group's R2 of all families together, or the subjects' mean."""
    return estimate_of(partition.group_joint.get(stream), partition.joint[:, partition.streams.index(stream)])


def stream_n(partition: PartitionSet, stream: str) -> tuple[int, int]:
    """Return how many subjects and targets (over all subjects) a stream has."""
    n_targets = partition.n_targets[:, partition.streams.index(stream)]
    return int((n_targets > 0).sum()), int(n_targets.sum())


def tabulate_unique(partition: PartitionSet, truth: Truth | None, *, key: str) -> Table:
    """Return stream x family: planted, estimated, interval, n, and each subject's value."""
    rows: list[tuple[Cell, ...]] = []
    for s, stream in enumerate(partition.streams):
        n_subjects, n_targets = stream_n(partition, stream)
        for family in order_families(partition.families):
            e = family_estimate(partition, "unique", stream, family)
            f = partition.families.index(family)
            planted = truth.unique.get((stream, family)) if truth else None
            error = None if planted is None else e.mean - planted
            values = [float(v) for v in partition.unique[:, s, f]]
            interval = (format_interval(e.low, e.high),) if partition.group else ()
            rows.append(
                (stream, family, planted, e.mean, e.low, e.high, *interval, error, n_subjects, n_targets, *values)
            )
    columns = (
        Column("stream", "Stream"),
        Column("family", "Family"),
        Column("planted_unique_r2", "Planted", where="both" if truth else "tsv"),
        Column("unique_r2", "Unique R² (mean)"),
        Column("low", where="tsv"),
        Column("high", where="tsv"),
        *((Column("interval", "[low, high]", where="page"),) if partition.group else ()),
        Column("error", "Error", where="both" if truth else "tsv"),
        Column("n_subjects", "Subjects"),
        Column("n_targets", "Targets"),
        *(Column(f"subject_{name}", where="tsv") for name in partition.subjects),
    )
    note = "Unique R² is a difference of cross-validated R² (no unit); targets are counted over all subjects."
    if partition.interval and partition.group:
        note += f" [low, high]: {partition.interval}."
    title = "Unique variance of each family in each stream"
    return Table(key, title, columns, tuple(rows), note, folded=len(rows) > LONG_TABLE)


def draw_unique(partition: PartitionSet, truth: Truth | None, *, key: str) -> Drawing:
    """Draw unique variance as stream x family bars."""
    families = order_families(partition.families)
    colours = colour_families(families)
    cells = [(s, f) for s in partition.streams for f in families]
    bars = Bars(
        streams=partition.streams,
        items=tuple(Item(f, f, colours[f]) for f in families),
        estimates={(s, f): family_estimate(partition, "unique", s, f) for s, f in cells},
        subjects={
            (s, f): partition.unique[:, partition.streams.index(s), partition.families.index(f)] for s, f in cells
        },
        y_label="Unique variance (ΔR²)",
        notes={s: _n_text(*stream_n(partition, s)) for s in partition.streams},
        truth={c: truth.unique[c] for c in cells if c in truth.unique} if truth else {},
    )
    table = tabulate_unique(partition, truth, key=key)
    best = max(cells, key=lambda c: _or_low(bars.estimates[c].mean))
    alt = (
        f"Grouped bars of unique variance for {len(families)} families in {len(partition.streams)} streams. "
        f"Largest: {best[1]} in {best[0]}, {format_cell(bars.estimates[best].mean)}."
    )
    caption = (
        "Unique variance of each family: cross-validated R² of all families minus R² of all families but this one, "
        f"mean over the stream's targets. Bars: mean over n = {count(len(partition.subjects), 'subject')}; "
        "dots: subjects"
        + (f"; whiskers: {partition.interval}" if partition.interval and partition.group else "")
        + ("; black bars: planted value" if bars.truth else "")
        + ". No unit; n of subjects and targets (all subjects) below each stream."
    )
    figure = draw_grouped_bars(bars)
    return finish(figure, key, title="Unique variance by stream and family", caption=caption, alt=alt, table=table)


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


def draw_joint(partition: PartitionSet, truth: Truth | None, *, key: str) -> Drawing:
    """Draw R2 of all families together, stacked two ways: unique + shared, and Shapley shares."""
    families = order_families(partition.families)
    colours = colour_families(families)
    handles: list[Patch | Line2D] = [Patch(facecolor=colours[f], label=f) for f in families]
    handles.append(Patch(facecolor=SHARED_COLOUR, label="shared by two or more"))
    handles.append(subject_handle(len(partition.subjects)))
    if truth and truth.joint:
        handles.append(truth_handle())
    explained = any(joint_estimate(partition, s).mean > SMALL_JOINT for s in partition.streams)
    has_shapley = partition.shapley is not None and explained
    figure, axes = panels(
        2 if has_shapley else 1, n_columns=2, panel_height_in=2.3, width_in=7.2 if has_shapley else 4.3, share_y=False,
        bottom_in=0.4, legend_in=legend_height_in(len(handles), 4), gap_in=(0.75, 0.5),
    )  # fmt: skip
    rows: list[tuple[Cell, ...]] = []
    for s, stream in enumerate(partition.streams):
        joint = joint_estimate(partition, stream)
        unique = [family_estimate(partition, "unique", stream, f).mean for f in families]
        shapley = [family_estimate(partition, "shapley", stream, f).mean for f in families]
        product = [family_estimate(partition, "product", stream, f).mean for f in families]
        shared = joint.mean - float(np.nansum(unique))
        _stack(axes[0], s, [(v, colours[f]) for v, f in zip(unique, families, strict=True)] + [(shared, SHARED_COLOUR)])
        draw_subjects(axes[0], s, partition.joint[:, s], width=0.35)
        draw_interval(axes[0], s, joint.low, joint.high)
        planted = truth.joint.get(stream, float("nan")) if truth else float("nan")
        draw_truth(axes[0], s, planted, width=0.62)
        if has_shapley and joint.mean > SMALL_JOINT:
            shares = [(100 * v / joint.mean, colours[f]) for v, f in zip(shapley, families, strict=True)]
            _stack(axes[1], s, shares, label=True)
        rows.append((stream, "(all)", joint.mean, joint.low, joint.high, None, None, None, planted))
        rows += [
            (stream, f, None, None, None, u, sh, p, None)
            for f, u, sh, p in zip(families, unique, shapley, product, strict=True)
        ]
        rows.append((stream, "(shared)", None, None, None, shared, None, None, None))
    for axis in axes:
        draw_base(axis)
        axis.set_xticks(range(len(partition.streams)), partition.streams, rotation=30 * (len(partition.streams) > 6))
        axis.set_xlim(-0.6, len(partition.streams) - 0.4)
        axis.tick_params(axis="x", length=0)
    axes[0].set(ylabel="Cross-validated R²", title="R² of all families = unique + shared")
    if has_shapley:
        axes[1].set(ylabel="Share of R² (%)", title="The same R² in Shapley shares")
    draw_legend(figure, handles, n_columns=4)
    names = ("stream", "family", "joint_r2", "low", "high", "unique_r2", "shapley_r2", "product_r2", "planted_joint_r2")
    table = Table(key, "Joint R² and shares", tuple(Column(n) for n in names), tuple(rows))
    alt = "Stacked bars per stream. R² of all families: " + ", ".join(
        f"{s} {format_cell(joint_estimate(partition, s).mean)}" for s in partition.streams
    )
    caption = (
        "Left: "
        * has_shapley
        + "R² of all families together as the sum of unique parts and everything shared by two or more families; "
        f"dots: joint R² of n = {count(len(partition.subjects), 'subject')}"
        + (f"; whiskers: {partition.interval} of the joint R²" if partition.group_joint and partition.interval else "")
        + ("; black bars: planted joint R²" if truth and truth.joint else "")
        + ". Negative parts (suppression, noise) hang below zero and are to be taken off the top."
        + (" Right: Shapley values, which divide the shared parts evenly among those that share them." * has_shapley)
    )
    return finish(figure, key, title="Joint R² and its shares", caption=caption, alt=alt, table=table)


def draw_parts(partition: PartitionSet, truth: Truth | None, *, key: str) -> Drawing | None:
    """Draw the larger parts of the partition over a matrix of the families that share each, as in an UpSet plot."""
    if partition.part_values is None or not partition.parts:
        return None
    families = order_families(partition.families)
    colours = colour_families(families)
    estimates = {
        (s, part): estimate_of(partition.group_parts.get((s, part)), partition.part_values[:, i, p])
        for i, s in enumerate(partition.streams)
        for p, part in enumerate(partition.parts)
    }
    size = {p: max(abs(_or_zero(estimates[s, p].mean)) for s in partition.streams) for p in partition.parts}
    chosen = sorted(partition.parts, key=lambda p: -size[p])[:MAX_PARTS]
    chosen.sort(key=lambda p: (len(p) > 1, len(p), [families.index(f) for f in p]))
    n_streams = len(partition.streams)
    matrix_in = 0.17 * len(families) + 0.1
    figure, axes = panels(
        n_streams,
        n_columns=1,
        panel_height_in=0.95,
        left_in=1.25,
        top_in=0.25,
        bottom_in=matrix_in + 0.12,
        gap_in=(0.5, 0.32),
    )
    axes[0].yaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
    for i, (axis, stream) in enumerate(zip(axes, partition.streams, strict=True)):
        draw_base(axis)
        for x, part in enumerate(chosen):
            estimate = estimates[stream, part]
            axis.bar(x, estimate.mean, 0.62, color=colours[part[0]] if len(part) == 1 else "#9AA1AB", zorder=2)
            column = partition.parts.index(part)
            draw_subjects(axis, x, partition.part_values[:, i, column], width=0.34)
            draw_interval(axis, x, estimate.low, estimate.high)
            planted = truth.parts.get((stream, part), float("nan")) if truth else float("nan")
            draw_truth(axis, x, planted, width=0.62)
        axis.set(ylabel="R²", xlim=(-0.6, len(chosen) - 0.4), xticks=[])
        axis.set_title(f"{stream}  ({_n_text(*stream_n(partition, stream))})")
    width, height = figure.get_size_inches()
    matrix = figure.add_axes((1.25 / width, 0.08 / height, (width - 1.37) / width, matrix_in / height))
    _draw_matrix(matrix, families, chosen, colours)
    rows: list[tuple[Cell, ...]] = [
        (
            stream, " + ".join(part), len(part), estimates[stream, part].mean, estimates[stream, part].low,
            estimates[stream, part].high, truth.parts.get((stream, part)) if truth else None,
        )
        for stream in partition.streams
        for part in partition.parts
    ]  # fmt: skip
    names = ("stream", "families", "n_families", "part_r2", "low", "high", "planted_part_r2")
    table = Table(key, "All unique and shared parts", tuple(Column(n) for n in names), tuple(rows))
    left_out = len(partition.parts) - len(chosen)
    caption = (
        "Parts of the explained variance: each column is what exactly the marked families share (one mark: unique). "
        f"The {len(chosen)} of {len(partition.parts)} parts that are largest in any stream"
        + (f"; the other {left_out} are in the TSV" if left_out else "")
        + f". Dots: n = {count(len(partition.subjects), 'subject')}"
        + (f"; whiskers: {partition.interval}" if partition.interval and partition.group_parts else "")
        + ("; black bars: planted value" if truth and truth.parts else "")
        + ". Parts may be negative (suppression, noise); all parts sum to the joint R²."
    )
    alt = f"Bars of the {len(chosen)} largest parts in {n_streams} streams over a matrix of families."
    return finish(figure, key, title="Unique and shared parts", caption=caption, alt=alt, table=table)


def _draw_matrix(axis: Axes, families: tuple[str, ...], parts: list[tuple[str, ...]], colours: dict[str, str]) -> None:
    for y in range(0, len(families), 2):
        axis.axhspan(y - 0.5, y + 0.5, color="#F3F5F7", linewidth=0)
    for x, part in enumerate(parts):
        inside = [families.index(f) for f in part]
        axis.plot([x] * len(families), range(len(families)), "o", color="#D5D9DE", markersize=3.2)
        axis.plot([x, x], [min(inside), max(inside)], color=INK, linewidth=1.1)
        for y in inside:
            axis.plot(x, y, "o", color=colours[families[y]], markersize=5.2, markeredgecolor=INK, markeredgewidth=0.5)
    axis.set(xlim=(-0.6, len(parts) - 0.4), ylim=(len(families) - 0.5, -0.5), xticks=[])
    axis.set_yticks(range(len(families)), families)
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)


def _stack(axis: Axes, x: float, values: list[tuple[float, str]], *, label: bool = False) -> None:
    above = below = 0.0
    for value, colour in values:
        if not math.isfinite(value):
            continue
        base = above if value >= 0 else below
        axis.bar(x, value, 0.62, bottom=base, color=colour, edgecolor="white", linewidth=0.4, zorder=2)
        if label and abs(value) >= 8:  # a smaller share has no room for its number
            dark = colour in ("#0072B2", "#000000", "#4D4D4D", "#009E73", "#D55E00", "#7F7F7F")
            axis.text(
                x,
                base + value / 2,
                f"{value:.0f}",
                ha="center",
                va="center",
                fontsize=7,
                color="white" if dark else INK,
            )
        above, below = (above + value, below) if value >= 0 else (above, below + value)


def _n_text(n_subjects: int, n_targets: int) -> str:
    return f"n = {n_subjects}; {n_targets:,} targets"


def _or_zero(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def _or_low(value: float) -> float:
    return value if math.isfinite(value) else -math.inf
