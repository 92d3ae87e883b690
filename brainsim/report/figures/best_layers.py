"""Turn the best layer of every system into dots over its relative depth, and its score into a table."""

from __future__ import annotations

import numpy as np
from matplotlib.lines import Line2D

from brainsim.report.content import Estimate, RsaSet
from brainsim.report.figures.canvas import Drawing, draw_legend, finish, legend_height_in, panels
from brainsim.report.figures.crossing import order_models
from brainsim.report.figures.layers import relative_depth
from brainsim.report.palette import INK, colour_families
from brainsim.report.reduce import estimate_of
from brainsim.report.tables import Cell, Column, Table, format_interval
from brainsim.report.words import count

LONG_TABLE = 20


def draw_best_layers(rsa: RsaSet, *, key: str) -> Drawing | None:
    """Draw where each system's best layer lies, one dot per subject; None where no system has several layers."""
    if rsa.best_layer is None or not rsa.layers or len(rsa.layers) == len(rsa.models):
        return None
    models = order_models(rsa.models)
    colours = colour_families([family for _, family in models])
    depth = relative_depth(rsa.layers)
    column = {m: i for i, (m, _) in enumerate(rsa.models)}
    row = np.where(np.isfinite(rsa.best_layer), rsa.best_layer, -1).astype(int)  # (n_subjects, n_streams, n_models)
    places = np.where(row >= 0, depth[row], np.nan)
    n_columns = min(len(rsa.streams), 4)
    handles = [
        Line2D([], [], linestyle="none", marker="o", color=INK, markersize=2.6, label="one subject"),
        Line2D([], [], linestyle="none", marker="D", color=INK, markersize=4.6, label="median"),
    ]
    longest = max(len(m) for m, _ in models)
    figure, axes = panels(
        len(rsa.streams), n_columns=n_columns, panel_height_in=0.19 * len(models) + 0.1,
        left_in=0.35 + 0.058 * longest, gap_in=(0.16, 0.66), bottom_in=0.46, legend_in=legend_height_in(2, 2),
    )  # fmt: skip
    for s, (axis, stream) in enumerate(zip(axes, rsa.streams, strict=True)):
        axis.grid(axis="x")
        for y, (model, family) in enumerate(models):
            mine = places[:, s, column[model]]
            mine = mine[np.isfinite(mine)]
            spread = np.linspace(-0.22, 0.22, len(mine)) if len(mine) > 1 else np.zeros(len(mine))
            axis.plot(mine, y + spread, "o", color=colours[family], markersize=2.4, zorder=2)
            if len(mine):
                axis.plot(
                    np.median(mine), y, "D", color=colours[family], markersize=4.8, markeredgecolor="white",
                    markeredgewidth=0.7, zorder=3,
                )  # fmt: skip
        axis.set(title=stream, xlim=(-0.08, 1.08), xticks=[0, 0.5, 1], xlabel="Relative depth")
        axis.spines["left"].set_visible(False)
        axis.tick_params(axis="y", length=0, labelleft=s % n_columns == 0)
    axes[0].set_yticks(range(len(models)), [m for m, _ in models])
    axes[0].set_ylim(len(models) - 0.4, -0.6)
    draw_legend(figure, handles, n_columns=2)
    medians = {
        s: float(np.nanmedian(places[:, i])) for i, s in enumerate(rsa.streams) if np.isfinite(places[:, i]).any()
    }
    caption = (
        "Relative depth (0: first tap, 1: last; no unit) of the layer whose RDM is most like the stream's over all "
        "runs, "
        f"n = {count(len(rsa.subjects), 'subject')}. Median over systems and subjects: "
        + ", ".join(f"{s} {m:.2f}" for s, m in medians.items())
        + ". Scores of best layers, chosen on other runs than they are scored on, are in the table below."
    )
    alt = f"Dots of the best layer's relative depth for {len(models)} systems in {len(rsa.streams)} streams."
    rows: list[tuple[Cell, ...]] = []
    for s, stream in enumerate(rsa.streams):
        for model, family in models:
            of_subjects = row[:, s, column[model]]
            names = [None if r < 0 else rsa.layers[r].name for r in of_subjects]
            rows.append((stream, model, family, float(np.nanmedian(places[:, s, column[model]]))
                         if np.isfinite(places[:, s, column[model]]).any() else None, *names))  # fmt: skip
    heads = ("stream", "system", "family", "median_relative_depth", *(f"layer_{n}" for n in rsa.subjects))
    table = Table(key, "Best layer of each system", tuple(map(Column, heads)), tuple(rows))
    return finish(figure, key, title="Where the best layer lies", caption=caption, alt=alt, table=table)


def tabulate_best_layers(rsa: RsaSet, *, key: str) -> Table | None:
    """Return the score of each system's best layer beside that of its layers combined."""
    if rsa.best_score is None or not np.isfinite(rsa.best_score).any() or len(rsa.layers) == len(rsa.models):
        return None
    column = {m: i for i, (m, _) in enumerate(rsa.models)}
    rows: list[tuple[Cell, ...]] = []
    for s, stream in enumerate(rsa.streams):
        for model, family in order_models(rsa.models):
            best: Estimate = estimate_of(rsa.best.get((stream, model)), rsa.best_score[:, s, column[model]])
            whole = estimate_of(rsa.group.get((stream, model)), rsa.model_score[:, s, column[model]])
            n = int(np.isfinite(rsa.best_score[:, s, column[model]]).sum())
            rows.append(
                (
                    stream, model, family, best.mean, format_interval(best.low, best.high), best.low, best.high,
                    whole.mean, n,
                )
            )  # fmt: skip
    columns = (
        Column("stream", "Stream"),
        Column("system", "System"),
        Column("family", "Family"),
        Column("best_layer_score", "Best layer"),
        Column("interval", "[low, high]", where="page"),
        Column("low", where="tsv"),
        Column("high", where="tsv"),
        Column("combined_score", "Layers combined"),
        Column("n_subjects", "Subjects"),
    )
    note = (
        f"Score ({rsa.comparison or 'similarity'}, no unit) of the layer that is best on the other runs, and of all "
        f"layers combined. [low, high]: {rsa.interval or 'interval over subjects'}."
    )
    return Table(key, "Best layer and layers combined", columns, tuple(rows), note, folded=len(rows) > LONG_TABLE)
