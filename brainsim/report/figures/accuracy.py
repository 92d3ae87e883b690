"""Turn accuracies and scores of systems into a scatter per stream, with intervals and numbered systems."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from brainsim.report.content import AccuracySet
from brainsim.report.figures.canvas import Drawing, draw_legend, draw_zero, finish, legend_height_in, panels
from brainsim.report.palette import INK, MARKERS
from brainsim.report.tables import Cell, Column, Table, format_cell, format_interval
from brainsim.report.words import count, join_words

Row = Mapping[str, Any]
LETTERS = {"kendall": "τ", "spearman": "ρ"}
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
SCORE_NAMES = {"encoding": "R²", "geometry": "RDM similarity"}

# Whiskers behind a number are faint. (An outline would turn the letters into shapes.)
LABEL_BOX = {"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 0.2}
LEGEND_COLUMNS = 3


def draw_accuracy(a: AccuracySet, measure: str, *, key: str) -> Drawing:
    """Draw each model's accuracy against its score, one panel per stream."""
    rows = [row for row in a.rows if row["measure"] == measure]
    streams = list(dict.fromkeys(str(row["stream"]) for row in rows))
    tasks = list(dict.fromkeys(str(row["task"] or "no task given") for row in rows))
    found = {str(row["stream"]): row for row in a.correlations if row["measure"] == measure}
    has_ceiling = all(row["normalised"] is not None for row in rows)
    score = "normalised" if has_ceiling else "score"
    handles = [
        Line2D([], [], linestyle="none", marker=MARKERS[i % len(MARKERS)], color=COLOURS[i % len(COLOURS)], label=task)
        for i, task in enumerate(tasks)
    ]
    accuracies = {str(row["model"]): float(row["accuracy"]) for row in rows}
    number = {model: i + 1 for i, model in enumerate(sorted(accuracies, key=lambda model: (accuracies[model], model)))}
    handles += [Line2D([], [], linestyle="none", label=f"{n}  {m}") for m, n in number.items()]
    figure, axes = panels(
        len(streams), n_columns=2, panel_height_in=2.1, gap_in=(0.75, 0.72), share_y=False,
        legend_in=legend_height_in(len(handles), LEGEND_COLUMNS),
    )  # fmt: skip
    low, high = min(float(row["accuracy"]) for row in rows), max(float(row["accuracy"]) for row in rows)
    span = max(high - low, 5.0)
    ticks = [
        float(tick)
        for tick in MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(low, high)
        if low - 0.1 * span <= tick <= 100
    ]
    for axis, stream in zip(axes, streams, strict=True):
        inside = [row for row in rows if row["stream"] == stream]
        for row in inside:
            task = tasks.index(str(row["task"] or "no task given"))
            _draw_model(axis, row, float(row[score]), task)
        axis.margins(y=0.16)
        axis.set_title(f"{stream}{_tell(found.get(stream), a.method)}")
        axis.set_xlim(low - 0.08 * span, high + 0.12 * span)
        axis.set_xticks([tick for tick in ticks if tick <= high + 0.1 * span])
        draw_zero(axis)
        axis.set_xlabel("Published top-1 accuracy (%)")
        axis.set_ylabel(f"{SCORE_NAMES.get(measure, 'Score')}{' / noise ceiling' if has_ceiling else ''}")
        _number_models(axis, inside, score, number)
    draw_legend(figure, handles, n_columns=LEGEND_COLUMNS)
    n_models, n_subjects = len({row["model"] for row in rows}), max(int(row["n_subjects"]) for row in rows)
    mean = found.get("mean of streams") or found.get(streams[0])
    what = SCORE_NAMES.get(measure, "score")
    alt = f"Scatter of accuracy against {what} of {n_models} models in {len(streams)} streams{_tell(mean, a.method)}."
    caption = (
        f"Each point is one model, numbered in order of accuracy: its published top-1 accuracy, and its own {what}"
        f"{' as a share of the noise ceiling' if has_ceiling else ' (no noise ceiling is known)'}, mean over "
        f"n = {count(n_subjects, 'subject')}; whiskers: 95 % interval over subjects. Rank correlation "
        f"({a.method}) with its 95 % bootstrap interval over subjects; p: over orders of the {n_models} models. "
        f"Scores: {join_words(dict.fromkeys(str(row['source']) for row in rows))}."
    )
    return finish(
        figure, key, title="Accuracy and similarity with the brain", caption=caption, alt=alt,
        table=_tabulate(rows, key=key),
    )  # fmt: skip


def tabulate_correlations(a: AccuracySet, *, key: str) -> Table:
    """Return one row per measure and stream."""
    columns = (
        Column("measure", "Measure"),
        Column("stream", "Stream"),
        Column("correlation", f"Rank correlation ({a.method})"),
        Column("interval", "95 % interval over subjects", where="page"),
        Column("low", where="tsv"),
        Column("high", where="tsv"),
        Column("p", "p over models"),
        Column("n_models", "Models"),
        Column("n_subjects", "Subjects"),
        Column("source", "From"),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            row["measure"], row["stream"], row["correlation"],
            format_interval(_number(row["low"]), _number(row["high"])), row["low"], row["high"], row["p"],
            row["n_models"], row["n_subjects"], row["source"],
        )
        for row in a.correlations
    ]  # fmt: skip
    note = (
        "The interval says how sure the order of these models is; p asks whether another set of so many models would "
        "show it too (all orders counted up to 8 models). Few models cannot give a small p."
    )
    return Table(key, "Rank correlation of accuracy and score", columns, tuple(rows), note)


def _tabulate(rows: Sequence[Row], *, key: str) -> Table:
    names = ("stream", "model", "accuracy", "task", "accuracy_source", "score", "ceiling", "normalised", "low", "high",
             "n_subjects", "source")  # fmt: skip
    cells: tuple[tuple[Cell, ...], ...] = tuple(
        tuple(None if row[name] == "" else row[name] for name in names) for row in rows
    )
    return Table(key, "Accuracy and score of each model", tuple(Column(name) for name in names), cells)


def _draw_model(axis: Axes, row: Row, value: float, task: int) -> None:
    x, colour = float(row["accuracy"]), COLOURS[task % len(COLOURS)]
    if row["low"] is not None and row["high"] is not None:
        axis.plot([x, x], [row["low"], row["high"]], color=colour, linewidth=1.0, zorder=2)
    axis.plot(
        [x], [value], marker=MARKERS[task % len(MARKERS)], color=colour, markersize=4.5, linestyle="none", zorder=3
    )


def _number_models(axis: Axes, rows: Sequence[Row], score: str, number: Mapping[str, int]) -> None:
    """Write each model's number beside its point: names would not be told apart where points are near."""
    for row in rows:
        axis.annotate(
            str(number[str(row["model"])]), (float(row["accuracy"]), float(row[score])), xytext=(4, 4),
            textcoords="offset points", fontsize=6.8, color=INK, zorder=5, bbox=LABEL_BOX,
        )  # fmt: skip


def _tell(row: Row | None, method: str) -> str:
    if row is None or row["correlation"] is None:
        return ""
    interval = format_interval(_number(row["low"]), _number(row["high"]), 2)
    return f": {LETTERS.get(method, 'r')} = {format_cell(float(row['correlation']), 2)} {interval}{_tell_p(row['p'])}"


def _tell_p(p: float | None) -> str:
    return "" if p is None else f", p = {p:.2g}"


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
