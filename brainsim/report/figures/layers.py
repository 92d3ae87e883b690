"""Turn a score per layer into curves over relative depth, one panel per stream."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.lines import Line2D

from brainsim.report.content import Layer
from brainsim.report.figures.canvas import (
    Drawing,
    draw_legend,
    draw_zero,
    finish,
    legend_height_in,
    panels,
    round_ticks,
)
from brainsim.report.palette import LINE_STYLES, MARKERS, colour_families, order_families
from brainsim.report.reduce import over_subjects
from brainsim.report.tables import Cell, Column, Table, format_cell
from brainsim.report.words import count


def relative_depth(layers: tuple[Layer, ...]) -> np.ndarray:
    """Return each layer's place in its own system: 0 the first tap, 1 the last, 0.5 where there is one."""
    order = order_systems(layers)
    ranks = {model: sorted(layer.index for layer in layers if layer.model == model) for model, _ in order}
    last = {model: len(rank) - 1 for model, rank in ranks.items()}
    return np.array([ranks[y.model].index(y.index) / last[y.model] if last[y.model] else 0.5 for y in layers])


def order_systems(layers: tuple[Layer, ...]) -> tuple[tuple[str, str], ...]:
    """Return (system, family) in the fixed order of families."""
    found = dict.fromkeys((layer.model, layer.family) for layer in layers)
    families = order_families([family for _, family in found])
    return tuple(sorted(found, key=lambda pair: families.index(pair[1])))


def has_curves(layers: tuple[Layer, ...]) -> bool:
    """Return whether any system has two layers or more."""
    counts: dict[str, int] = {}
    for layer in layers:
        counts[layer.model] = counts.get(layer.model, 0) + 1
    return max(counts.values(), default=0) > 1


def draw_layer_curves(
    layers: tuple[Layer, ...],
    scores: np.ndarray,
    *,
    streams: tuple[str, ...],
    subjects: tuple[str, ...],
    key: str,
    title: str,
    y_label: str,
    what: str,
) -> Drawing:
    """Draw one line per system over relative depth.

    Parameters
    ----------
    layers : tuple of Layer
    scores : ndarray, (n_subjects, n_streams, n_layers)
    what : str
        What one point is, for the caption.
    """
    systems = order_systems(layers)
    colours = colour_families([family for _, family in systems])
    depth = relative_depth(layers)
    means = over_subjects(scores)  # (n_streams, n_layers)
    place_in_family: dict[str, int] = {}
    styles: dict[str, dict[str, Any]] = {}
    for model, family in systems:
        place_in_family[family] = place_in_family.get(family, -1) + 1
        place = place_in_family[family]
        styles[model] = {
            "color": colours[family],
            "linestyle": LINE_STYLES[place % len(LINE_STYLES)],
            "marker": MARKERS[place % len(MARKERS)],
            "markerfacecolor": colours[family] if place % 2 == 0 else "white",
            "markersize": 3.0,
            "markeredgewidth": 0.8,
        }
    handles = [Line2D([], [], label=model, **styles[model]) for model, _ in systems]
    n_columns = 4 if len(streams) >= 4 else max(len(streams), 1)
    width = 7.2 if len(streams) > 1 else 4.3
    legend_columns = 4 if width > 5 else 2
    figure, axes = panels(
        len(streams), n_columns=n_columns, panel_height_in=1.9, width_in=width, gap_in=(0.2, 0.72),
        bottom_in=0.45, legend_in=legend_height_in(len(handles), legend_columns),
    )  # fmt: skip
    for s, (axis, stream) in enumerate(zip(axes, streams, strict=True)):
        draw_zero(axis)
        for model, _ in systems:
            mine = [i for i, layer in enumerate(layers) if layer.model == model]
            mine.sort(key=lambda i: depth[i])
            axis.plot(depth[mine], means[s, mine], **styles[model])
        axis.set(title=stream, xlim=(-0.06, 1.06), xticks=[0, 0.5, 1], xlabel="Relative depth")
        if s % n_columns:
            axis.tick_params(labelleft=False)
        else:
            axis.set_ylabel(y_label)
    round_ticks(axes[0])  # all panels share it
    draw_legend(figure, handles, n_columns=legend_columns)
    best = [layers[int(np.nanargmax(row))] if np.isfinite(row).any() else None for row in means]
    found = [f"{s}: {b.model} {b.name}" for s, b in zip(streams, best, strict=True) if b is not None]
    alt = f"Curves over relative depth for {len(systems)} systems in {len(streams)} streams. Best layer: " + "; ".join(
        found
    )
    caption = (
        f"{what} Points: mean over n = {count(len(subjects), 'subject')}; lines join the layers of "
        "one system, from its first tap (0) to its last (1). Best layer: " + "; ".join(
            f"{s} {b.model} {b.name} ({format_cell(float(np.nanmax(row)))})"
            for s, b, row in zip(streams, best, means, strict=True) if b is not None
        ) + "."
    )  # fmt: skip
    rows: list[tuple[Cell, ...]] = [
        (stream, layer.model, layer.family, layer.name, layer.index, float(depth[i]), float(means[s, i]),
         *(float(v) for v in scores[:, s, i]))
        for s, stream in enumerate(streams)
        for i, layer in enumerate(layers)
    ]  # fmt: skip
    names = (
        "stream",
        "system",
        "family",
        "layer",
        "index",
        "relative_depth",
        "mean",
        *(f"subject_{n}" for n in subjects),
    )
    table = Table(key, title, tuple(Column(n) for n in names), tuple(rows))
    return finish(figure, key, title=title, caption=caption, alt=alt, table=table)
