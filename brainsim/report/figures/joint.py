"""Turn the joint score of all families into stacked bars of its parts and shares, and a table per stream."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from brainsim.report.content import PartitionSet, Truth
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
from brainsim.report.figures.estimates import family_estimate, joint_estimate, stream_n
from brainsim.report.palette import INK, SHARED_COLOUR, colour_families, order_families
from brainsim.report.reduce import FDR_LEVEL, over_subjects
from brainsim.report.tables import Cell, Column, Table, format_cell, format_interval
from brainsim.report.words import count

SMALL_JOINT = 0.005  # below this R2, a share of it is noise


def tabulate_joint(partition: PartitionSet, *, key: str) -> Table:
    """Return per stream: joint R2, interval, p, share of significant targets, share of the noise ceiling, n."""
    shares = partition.significant.get("joint")
    rows: list[tuple[Cell, ...]] = []
    for s, stream in enumerate(partition.streams):
        e = joint_estimate(partition, stream)
        share = None if shares is None else 100 * float(over_subjects(shares)[s])
        normalised = None if partition.normalised is None else float(over_subjects(partition.normalised)[s])
        values = (float(v) for v in partition.joint[:, s])
        rows.append(
            (
                stream, e.mean, e.low, e.high, format_interval(e.low, e.high), e.p, e.q, e.p_subjects,
                e.q_subjects, e.p_null, share, normalised,
                *stream_n(partition, stream), *values,
            )
        )  # fmt: skip
    has_p, has_null = (any(row[k] == row[k] for row in rows) for k in (5, 9))
    columns = (
        Column("stream", "Stream"),
        Column("joint_r2", "Joint R² (mean)"),
        Column("low", where="tsv"),
        Column("high", where="tsv"),
        Column("interval", "[low, high]", where="page" if partition.group_joint else "none"),
        Column("p", "p", 4, where="both" if has_p else "tsv"),
        Column("q", "q", 4, where="both" if has_p else "tsv"),
        Column("p_subjects", where="tsv"),
        Column("q_subjects", where="tsv"),
        Column("p_null", "p of nulls", 4, where="both" if has_null else "tsv"),
        Column(
            "percent_significant", f"Targets with q ≤ {FDR_LEVEL:g} (%)", 1, where="tsv" if shares is None else "both"
        ),
        Column(
            "r2_over_ceiling",
            "R² / noise ceiling (median)",
            where="tsv" if partition.normalised is None else "both",
        ),
        Column("n_subjects", "Subjects"),
        Column("n_targets", "Targets", where="none" if partition.is_of_rdms else "both"),
        *(Column(f"subject_{name}", where="tsv") for name in partition.subjects),
    )
    of = "of held-out RDMs" if partition.is_of_rdms else "mean over a stream's targets"
    note = f"R² of all families together, cross-validated, {of} (no unit)."
    if partition.interval and partition.group_joint:
        note += f" [low, high]: {partition.interval}."
    if has_p:
        note += f" p: one-sided, {partition.random} as random effects; q: false discovery rate over streams."
    if has_null:
        note += " p of nulls: of what all families predict, mean over targets and subjects, by null data sets."
    if partition.normalised is not None:
        note += " R² / noise ceiling: each target's R² over its own ceiling, median over targets, mean over subjects."
    return Table(key, partition.title("R² of all families together"), columns, tuple(rows), note)


def draw_joint(partition: PartitionSet, truth: Truth | None, *, key: str) -> Drawing:
    """Draw R2 of all families together, stacked two ways: unique + shared, and Shapley shares.

    Parameters
    ----------
    partition : PartitionSet
        With unique parts.
    """
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
