"""Turn the rows of a learning curve into a table (.tsv) and a picture (.png)."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.lines import Line2D

from brainsim.report.figures.canvas import draw_legend, drawing_style, legend_height_in, panels
from brainsim.report.palette import FAINT, FAMILY_COLOURS, INK

FIRST_COLUMNS = ("epoch", "seconds", "part")
# What each panel shows, the first name first, and the words on its axis.
PANELS = (
    (("loss",), "Loss"),
    (("top1", "top5"), "Clips named right, %"),
    (("epe_px", "epe_zero_px"), "End-point error, px"),
)
WORDS = {"loss": "loss", "top1": "top 1", "top5": "top 5", "epe_px": "network", "epe_zero_px": "no flow"}
PART_COLOURS = {"train": FAINT, "val": FAMILY_COLOURS["static-cnn"], "test": FAMILY_COLOURS["dynamic-cnn"]}
PART_WORDS = {"train": "clips that are learned from", "val": "held-out clips", "test": "held-out clips (test)"}
STYLES: tuple[Any, ...] = ("-", (0, (2.5, 1.5)))
DPI = 200


def write_learning_curves(table: Path, figure: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the points of a learning curve.

    Parameters
    ----------
    table : Path
        One row per point: epoch, seconds, part of the split, then whatever was measured; empty where it was not.
    figure : Path
        One panel per sort of measure.
    rows : sequence of mapping
        {epoch, seconds, part, loss, …}.
    """
    measures = list(dict.fromkeys(name for row in rows for name in row if name not in FIRST_COLUMNS))
    table.parent.mkdir(parents=True, exist_ok=True)
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*FIRST_COLUMNS, *measures], delimiter="\t", restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(dict(row) for row in rows)
    shown = [(names, words) for names, words in PANELS if any(name in measures for name in names)]
    parts = [part for part in PART_COLOURS if any(row["part"] == part for row in rows)]
    with drawing_style():
        drawing, axes = panels(
            len(shown), n_columns=3, panel_height_in=1.9, share_y=False, legend_in=legend_height_in(len(parts), 3)
        )
        for axis, (names, words) in zip(axes, shown, strict=True):
            _draw_panel(axis, names, words, rows)
        handles = [Line2D([], [], color=PART_COLOURS[part], label=PART_WORDS[part]) for part in parts]
        draw_legend(drawing, handles, n_columns=3)
        FigureCanvasAgg(drawing)
        drawing.savefig(figure, dpi=DPI)


def _draw_panel(axis: Axes, names: Sequence[str], words: str, rows: Sequence[Mapping[str, Any]]) -> None:
    axis.grid(axis="y")
    drawn = [name for name in names if any(name in row for row in rows)]
    for part, colour in PART_COLOURS.items():
        for name in drawn:
            points = [(row["epoch"], row[name]) for row in rows if row["part"] == part and name in row]
            if points:
                x, y = zip(*points, strict=True)
                marker = "o" if part != "train" else ""
                axis.plot(x, y, color=colour, linestyle=STYLES[names.index(name)], marker=marker, markersize=3)
    if len(drawn) > 1:
        lines = [Line2D([], [], color=INK, linestyle=STYLES[names.index(name)], label=WORDS[name]) for name in drawn]
        axis.legend(handles=lines, loc="lower right" if "top1" in drawn else "best")
        axis.set_ylim(bottom=0)  # shares and ratios are read from zero
    axis.set_xlabel("Epoch")
    axis.set_ylabel(words)
    axis.set_xlim(left=0)
