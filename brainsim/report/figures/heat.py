"""Turn one square of numbers per stream into heat maps whose numbers can be read, with one scale for all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize, TwoSlopeNorm
from matplotlib.figure import Figure

from brainsim.report.figures.canvas import FULL_WIDTH_IN, panels
from brainsim.report.palette import INK, colour_families
from brainsim.report.tables import format_cell

# Blue to white to orange: told apart by colour-blind readers, and by lightness on paper.
DIVERGING = LinearSegmentedColormap.from_list(
    "brainsim-diverging", ["#08519C", "#6BAED6", "#F7F7F7", "#FDAE6B", "#A63603"]
)
SEQUENTIAL = "cividis"

# More rows than this leave no room for numbers in cells.
MAX_NUMBERED = 12
# A cell as dark as this has white letters.
DARK = 0.5


def scale_colours(values: Sequence[np.ndarray]) -> tuple[Colormap, Normalize]:
    """Return colours for numbers of all panels: diverging about zero where some lie clearly below it."""
    import matplotlib

    finite = np.concatenate([v[np.isfinite(v)].ravel() for v in values])
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    if low < -0.1 * max(high, 1e-9):
        most = max(-low, high, 1e-9)
        return DIVERGING, TwoSlopeNorm(0.0, -most, most)
    return matplotlib.colormaps[SEQUENTIAL], Normalize(min(0.0, low), max(high, min(0.0, low) + 1e-9))


def draw_heat_maps(
    squares: Mapping[str, np.ndarray],
    names: Sequence[str],
    families: Sequence[str],
    *,
    row_label: str,
    column_label: str,
    bar_label: str,
    marks: Mapping[str, np.ndarray] | None = None,
) -> Figure:
    """Draw one square per stream: rows and columns are systems, numbered; names stand at the rows of the first column.

    Parameters
    ----------
    squares : mapping of stream to ndarray, (n, n)
        NaN stays empty.
    names, families : sequence of str, (n,)
        Systems, in the order of rows.
    row_label, column_label, bar_label : str
        What rows, columns and colours are.
    marks : mapping of stream to ndarray of bool, (n, n), optional
        The only cells that have their number written: those that are significant.
    """
    streams = list(squares)
    n_columns = 1 if len(streams) == 1 else 2
    name_in = 0.059 * max(map(len, names)) + (0.62 if row_label else 0.44)
    width = FULL_WIDTH_IN if n_columns == 2 else 5.4
    bar_in, gap = 0.95, 0.3  # room for ticks like "−0.025" and the label beside them
    panel_in = (width - name_in - bar_in - gap * (n_columns - 1)) / n_columns
    figure, axes = panels(
        len(streams), n_columns=n_columns, panel_height_in=panel_in, width_in=width, left_in=name_in, right_in=bar_in,
        gap_in=(gap, 0.62), top_in=0.26, bottom_in=0.5, share_y=False,
    )  # fmt: skip
    colours, norm = scale_colours(list(squares.values()))
    hue = colour_families(families)
    for at, (axis, stream) in enumerate(zip(axes, streams, strict=True)):
        axis.imshow(squares[stream], cmap=colours, norm=norm, interpolation="nearest", aspect="auto")
        axis.set_title(stream)
        _label(axis, names, [hue[f] for f in families], named=at % n_columns == 0)
        axis.set_xlabel(column_label)
        if at % n_columns == 0:
            axis.set_ylabel(row_label)
        if len(names) <= MAX_NUMBERED:
            _number_cells(axis, squares[stream], colours, norm, None if marks is None else marks[stream])
    height = figure.get_size_inches()[1]
    box = ((width - bar_in + 0.12) / width, (height - 0.26 - panel_in) / height, 0.1 / width, panel_in / height)
    bar_axis = figure.add_axes(box)
    steps = np.linspace(norm.vmin or 0.0, norm.vmax or 1.0, 128)[:, None]
    extent = (0.0, 1.0, float(steps[0, 0]), float(steps[-1, 0]))
    bar_axis.imshow(steps, cmap=colours, norm=norm, aspect="auto", origin="lower", extent=extent)
    bar_axis.yaxis.tick_right()
    bar_axis.yaxis.set_label_position("right")
    bar_axis.set(xticks=[], ylabel=bar_label)
    return figure


def _label(axis: Axes, names: Sequence[str], colours: Sequence[str], *, named: bool) -> None:
    numbers = [str(i + 1) for i in range(len(names))]
    axis.set_xticks(range(len(names)), numbers)
    axis.set_yticks(range(len(names)), [f"{n}  {i}" for n, i in zip(names, numbers, strict=True)] if named else numbers)
    axis.tick_params(length=0, pad=3)
    axis.set(xlim=(-0.5, len(names) - 0.5), ylim=(len(names) - 0.5, -0.5))
    for spine in axis.spines.values():
        spine.set_visible(False)
    for row, colour in enumerate(colours):  # a stripe in the family's colour beside every row and below every column
        axis.plot([-0.5, -0.5], [row - 0.42, row + 0.42], color=colour, linewidth=2.4, clip_on=False, zorder=5)
        y = len(names) - 0.5
        axis.plot([row - 0.42, row + 0.42], [y, y], color=colour, linewidth=2.4, clip_on=False, zorder=5)


def _number_cells(axis: Axes, square: np.ndarray, colours: Colormap, norm: Normalize, marks: np.ndarray | None) -> None:
    for row, column in np.ndindex(square.shape):
        value = float(square[row, column])
        if not math.isfinite(value) or (marks is not None and not marks[row, column]):
            continue
        red, green, blue, _ = colours(norm(value))
        light = 0.299 * red + 0.587 * green + 0.114 * blue
        told = format_cell(value, 2).replace("0.", ".", 1) if abs(value) < 1 else format_cell(value, 1)
        axis.text(
            column, row, told, ha="center", va="center", fontsize=5.6, color="white" if light < DARK else INK,
        )  # fmt: skip
