"""Turn estimates per stream and item into grouped bars with whiskers, one dot per subject, truth and ceilings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.transforms import ScaledTranslation

from brainsim.report.content import Estimate
from brainsim.report.figures.canvas import (
    FULL_WIDTH_IN,
    draw_base,
    draw_interval,
    draw_legend,
    draw_subjects,
    draw_truth,
    legend_height_in,
    panels,
    round_ticks,
    subject_handle,
    truth_handle,
)
from brainsim.report.palette import INK

NARROW_WIDTH_IN = 4.6  # one group of bars needs no more
BARS_PER_ROW = 40  # narrower bars than 7.2 in / 40 leave no room for a subject's dot
CEILING_COLOUR = "#DADDE1"
STAR: dict[str, Any] = {"marker": (6, 2, 0), "color": INK, "markersize": 4.2, "markeredgewidth": 0.8}
STAR_ABOVE_IN = 0.06


@dataclass(frozen=True)
class Item:
    """What one bar of every group stands for."""

    name: str
    label: str
    colour: str
    tint: float = 0.0


@dataclass(frozen=True)
class Bars:
    """Everything a grouped bar figure shows.

    Parameters
    ----------
    streams : tuple of str
    items : tuple of Item
    estimates : mapping of (stream, item name) to Estimate
    subjects : mapping of (stream, item name) to ndarray, (n_subjects,)
    notes : mapping of stream to str
        A second line below the stream's name (its n).
    truth : mapping of (stream, item name) to float
    ceilings : mapping of stream to (lower, upper)
    marks : set of (stream, item name)
        Bars with a star above.
    mark_label : str
        What a star is.
    """

    streams: tuple[str, ...]
    items: tuple[Item, ...]
    estimates: Mapping[tuple[str, str], Estimate]
    subjects: Mapping[tuple[str, str], np.ndarray]
    y_label: str
    notes: Mapping[str, str] = field(default_factory=dict)
    truth: Mapping[tuple[str, str], float] = field(default_factory=dict)
    ceilings: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    marks: Set[tuple[str, str]] = frozenset()
    mark_label: str = ""


def tint(colour: str, share: float) -> tuple[float, float, float]:
    """Return a colour mixed with `share` of white."""
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return (red + (1 - red) * share, green + (1 - green) * share, blue + (1 - blue) * share)


def draw_grouped_bars(bars: Bars, *, panel_height_in: float = 2.15, legend_columns: int = 5) -> Figure:
    """Draw one group of bars per stream, in as many rows of panels as keep the bars wide enough."""
    per_row = max(1, BARS_PER_ROW // max(len(bars.items), 1))
    n_rows = math.ceil(len(bars.streams) / per_row)
    per_row = math.ceil(len(bars.streams) / n_rows)
    rows = [bars.streams[i : i + per_row] for i in range(0, len(bars.streams), per_row)]
    handles = _handles(bars)
    legend_columns = legend_columns if len(bars.streams) > 1 else 3
    figure, axes = panels(
        len(rows),
        n_columns=1,
        width_in=FULL_WIDTH_IN if len(bars.streams) > 1 or len(bars.items) > 12 else NARROW_WIDTH_IN,
        panel_height_in=panel_height_in,
        top_in=0.14,
        bottom_in=0.46,
        gap_in=(0.5, 0.56),
        legend_in=legend_height_in(len(handles), legend_columns),
    )
    for axis, streams in zip(axes, rows, strict=True):
        _draw_row(axis, bars, streams, n_slots=per_row)
        axis.set_ylabel(bars.y_label)
    round_ticks(axes[0])  # all rows share it
    draw_legend(figure, handles, n_columns=legend_columns)
    return figure


def _draw_row(axis: Axes, bars: Bars, streams: Sequence[str], *, n_slots: int) -> None:
    step = 0.84 / len(bars.items)
    width = min(step * 0.86, 0.16)
    step = min(step, width / 0.86)
    draw_base(axis)
    for s, stream in enumerate(streams):
        if stream in bars.ceilings:
            lower, upper = bars.ceilings[stream]
            half = step * len(bars.items) / 2 + 0.03
            axis.fill_between([s - half, s + half], lower, upper, color=CEILING_COLOUR, linewidth=0, zorder=0.5)
        for i, item in enumerate(bars.items):
            x = s + (i - (len(bars.items) - 1) / 2) * step
            estimate = bars.estimates.get((stream, item.name), Estimate(float("nan")))
            axis.bar(
                x,
                estimate.mean,
                width,
                color=tint(item.colour, item.tint),
                edgecolor=item.colour,
                linewidth=0.7,
                zorder=2,
            )
            draw_subjects(axis, x, bars.subjects.get((stream, item.name), np.empty(0)), width=width * 0.6)
            draw_interval(axis, x, estimate.low, estimate.high)
            draw_truth(axis, x, bars.truth.get((stream, item.name), float("nan")), width=width)
            if (stream, item.name) in bars.marks:
                values = [estimate.mean, estimate.high, 0.0, *bars.subjects.get((stream, item.name), np.empty(0))]
                top = max(v for v in values if math.isfinite(v))
                above = ScaledTranslation(0, STAR_ABOVE_IN, axis.figure.dpi_scale_trans)
                axis.plot(x, top, transform=axis.transData + above, clip_on=False, zorder=6, **STAR)
    labels = [stream + (f"\n{bars.notes[stream]}" if stream in bars.notes else "") for stream in streams]
    axis.set_xticks(range(len(streams)), labels)
    axis.tick_params(axis="x", length=0, pad=5)
    axis.set_xlim(-0.55, n_slots - 0.45)


def _handles(bars: Bars) -> list[Patch | Line2D]:
    handles: list[Patch | Line2D] = [
        Patch(facecolor=tint(i.colour, i.tint), edgecolor=i.colour, label=i.label) for i in bars.items
    ]
    n_subjects = max((len(v) for v in bars.subjects.values()), default=0)
    if n_subjects:
        handles.append(subject_handle(n_subjects))
    if any(e.has_interval for e in bars.estimates.values()):
        handles.append(Line2D([], [], color="#1A1D21", linewidth=1.1, label="interval"))
    if bars.truth:
        handles.append(truth_handle())
    if bars.marks:
        handles.append(Line2D([], [], linestyle="none", label=bars.mark_label, **STAR))
    if bars.ceilings:
        handles.append(Patch(facecolor=CEILING_COLOUR, label="noise ceiling (lower–upper)"))
    return handles
