"""Turn scores of ROIs into dots with their intervals over runs, one panel per family, and into a table."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from brainsim.report.content import RegionRow
from brainsim.report.figures.canvas import Drawing, draw_legend, finish, legend_height_in, panels
from brainsim.report.figures.partition import JOINT_COLOUR
from brainsim.report.palette import INK, colour_families, order_families
from brainsim.report.tables import Cell, Column, Table, format_cell, format_interval
from brainsim.report.words import count

MAX_REGIONS = 40  # rows of dots that are still told apart on a page
LONG_TABLE = 30
PANELS_PER_ROW = 3  # four where that fills the row
JOINT = "joint"
INTERVAL = "95 % bootstrap interval over test folds"


def tabulate_regions(rows: Sequence[RegionRow], *, key: str) -> Table:
    """Return one row per subject, ROI, quantity and family."""
    has_p = any(math.isfinite(row.estimate.p_null) for row in rows)
    cells: tuple[tuple[Cell, ...], ...] = tuple(
        (
            row.subject,
            row.region,
            row.quantity,
            row.family or "(all)",
            row.estimate.mean,
            row.estimate.low,
            row.estimate.high,
            format_interval(row.estimate.low, row.estimate.high),
            row.estimate.p_null,
            row.n_targets,
        )
        for row in rows
    )
    columns = (
        Column("subject", "Subject"),
        Column("roi", "ROI"),
        Column("quantity", "Quantity"),
        Column("family", "Family"),
        Column("r2", "R² (mean)"),
        Column("low", where="tsv"),
        Column("high", where="tsv"),
        Column("interval", "[low, high]", where="page"),
        Column("p_null", "p of nulls", 4, where="both" if has_p else "tsv"),
        Column("n_targets", "Targets"),
    )
    note = (
        f"Means over an ROI's targets, per subject. [low, high]: {INTERVAL} (runs, where one run is left out at a "
        "time): what others of the same subject would give. With few it is too short (eight: about 90 % instead of 95)."
    )
    return Table(key, "ROIs: scores and their intervals", columns, cells, note, folded=len(cells) > LONG_TABLE)


def draw_regions(rows: Sequence[RegionRow], *, key: str) -> Drawing:
    """Draw every ROI as a row, every family's unique part (and the joint score) as a panel.

    Parameters
    ----------
    rows : sequence of RegionRow
        At least one. ROIs stand in the order in which they come, which is the atlas' own.
    """
    every_row, rows = rows, [row for row in rows if row.quantity in (JOINT, "unique")]
    regions = list(dict.fromkeys(row.region for row in rows))[:MAX_REGIONS]
    subjects = list(dict.fromkeys(row.subject for row in rows))
    n_regions = len(dict.fromkeys(row.region for row in rows))
    names = [JOINT] * any(row.family is None for row in rows)
    names += order_families([row.family for row in rows if row.family is not None])
    colours = {**colour_families(names[1:] if names[0] == JOINT else names), JOINT: JOINT_COLOUR}
    longest = max(len(region) for region in regions)
    handles = _handles(rows, len(subjects))
    row_in = 0.17 if len(subjects) == 1 else 0.25
    n_columns = 4 if len(names) in (4, 8) else min(len(names), PANELS_PER_ROW)
    legend_columns = len(handles) if n_columns > 1 else 2
    figure, axes = panels(
        len(names),
        n_columns=n_columns,
        panel_height_in=row_in * len(regions) + 0.1,
        width_in=7.2 if n_columns > 1 else 4.3,
        left_in=min(0.35 + 0.062 * longest, 2.0),
        gap_in=(0.25, 0.66),
        bottom_in=0.46,
        legend_in=legend_height_in(len(handles), legend_columns),
        share_y=True,
    )
    for i, (axis, name) in enumerate(zip(axes, names, strict=True)):
        mine = [row for row in rows if (row.family or JOINT) == name and row.region in regions]
        _draw_panel(axis, mine, regions, subjects, colours[name])
        axis.set_title("all families (joint)" if name == JOINT else name)
        axis.set_xlabel("Joint R²" if name == JOINT else "Unique variance (ΔR²)")
        axis.tick_params(labelleft=i % n_columns == 0)
    _share_scale([axis for axis, name in zip(axes, names, strict=True) if name != JOINT])
    axes[0].set_yticks(range(len(regions)), regions)
    axes[0].set_ylim(len(regions) - 0.4, -0.6)
    draw_legend(figure, handles, n_columns=legend_columns)
    n_above = sum(row.estimate.low > 0 for row in rows)
    n_known = sum(row.estimate.has_interval for row in rows)
    caption = (
        ("Joint R² and each" if names[0] == JOINT and len(names) > 1 else "Joint R²" if names[0] == JOINT else "Each")
        + (" family's unique variance" if names != [JOINT] else "")
        + " in each ROI, mean over its targets. "
        + ("Large marks: mean over subjects; small ones: " if len(subjects) > 1 else "Marks: ")
        + f"each of n = {count(len(subjects), 'subject')}"
        + (f"; lines: {INTERVAL} ({n_above} of {n_known} lie above zero)" if n_known else "")
        + (f". The first {MAX_REGIONS} of {n_regions} ROIs; all are in the TSV" if n_regions > MAX_REGIONS else "")
        + ". No unit."
    )
    best = max(rows, key=lambda row: row.estimate.mean if math.isfinite(row.estimate.mean) else -math.inf)
    alt = (
        f"Dots with intervals for {len(regions)} ROIs in {len(names)} panels. "
        f"Largest: {best.family or 'all families'} in {best.region}, {format_cell(best.estimate.mean)}."
    )
    table = tabulate_regions(every_row, key=key)
    return finish(figure, key, title="ROI by ROI", caption=caption, alt=alt, table=table)


def _draw_panel(
    axis: Axes, rows: Sequence[RegionRow], regions: Sequence[str], subjects: Sequence[str], colour: str
) -> None:
    axis.grid(axis="x")
    axis.axvline(0.0, color=INK, linewidth=0.7)
    for y in range(0, len(regions), 2):
        axis.axhspan(y - 0.5, y + 0.5, color="#F3F5F7", linewidth=0, zorder=0)
    offsets = np.linspace(-0.3, 0.3, len(subjects)) if len(subjects) > 1 else np.zeros(1)
    place = dict(zip(subjects, offsets.tolist(), strict=True))
    single = len(subjects) == 1
    # All rows at once: a study has thousands.
    heights = np.array([regions.index(row.region) + place[row.subject] for row in rows])
    mean, low, high = (np.array([getattr(row.estimate, end) for row in rows]) for end in ("mean", "low", "high"))
    known = np.array([row.estimate.has_interval for row in rows], bool)
    axis.hlines(heights[known], low[known], high[known], color=colour, linewidth=1.4 if single else 0.7, zorder=2)
    axis.plot(mean, heights, "o", color=colour, markersize=4.0 if single else 1.8, zorder=3)
    if not single:
        for y, region in enumerate(regions):
            values = np.array([row.estimate.mean for row in rows if row.region == region])
            values = values[np.isfinite(values)]
            if len(values):
                axis.plot(
                    values.mean(), y, "D", color=colour, markersize=4.6, markeredgecolor="white", markeredgewidth=0.7,
                    zorder=4,
                )  # fmt: skip
    axis.spines["left"].set_visible(False)
    axis.tick_params(axis="y", length=0)


def _share_scale(axes: Sequence[Axes]) -> None:
    """Give panels of one quantity one scale, so that they can be compared."""
    limits = [axis.get_xlim() for axis in axes]
    for axis in axes:
        axis.set_xlim(min(low for low, _ in limits), max(high for _, high in limits))


def _handles(rows: Sequence[RegionRow], n_subjects: int) -> list[Line2D]:
    handles = []
    if n_subjects > 1:
        handles.append(
            Line2D([], [], linestyle="none", color=INK, marker="D", markersize=4.6, label="mean over subjects")
        )
    size = 2.4 if n_subjects > 1 else 4.0
    handles.append(Line2D([], [], linestyle="none", color=INK, marker="o", markersize=size, label="one subject"))
    if any(row.estimate.has_interval for row in rows):
        handles.append(Line2D([], [], color=INK, linewidth=1.0, label=INTERVAL))
    return handles
