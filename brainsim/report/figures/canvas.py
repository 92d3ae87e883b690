"""Turn a Matplotlib figure into SVG text: same input, same bytes; no global state left behind."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from brainsim.report.palette import INK
from brainsim.report.tables import Table

PNG_DPI = 300
IMAGE_DPI = 200  # of what is drawn as pixels inside an SVG: pictures of RDMs, maps
FULL_WIDTH_IN = 7.2  # two columns of a journal page (183 mm)

STYLE: dict[str, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 8.0,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.titlepad": 5.0,
    "axes.labelsize": 8.0,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.major.size": 3.0,
    "ytick.major.size": 3.0,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "grid.color": "#E3E6EA",
    "grid.linewidth": 0.6,
    "text.parse_math": False,  # an ROI may be called "$a$"
    "svg.fonttype": "none",  # text stays text: it can be searched, read aloud and edited
    "svg.hashsalt": "brainsim",
    "lines.linewidth": 1.3,
}
# DejaVu Sans, with which text is measured, is the widest of these: whichever the reader has, labels fit.
FONT_STACK = "Arial, Helvetica, 'Liberation Sans', 'DejaVu Sans', sans-serif"


@dataclass(frozen=True)
class Drawing:
    """One figure of the page.

    Parameters
    ----------
    key : str
        File name without its ending, and the anchor on the page.
    title, caption, alt : str
        Title in one line; what is shown with n and units; what a reader who cannot see it should know.
    svg : str
        The whole SVG element, without XML declaration.
    table : Table
        Every number that is drawn.
    width_in : float
        Natural width in inches.
    figure : Figure
        What `svg` was made from, for other formats.
    """

    key: str
    title: str
    caption: str
    alt: str
    svg: str
    table: Table
    width_in: float
    figure: Figure = field(repr=False, compare=False)

    def to_png(self) -> bytes:
        """Return the figure as PNG, for slides and manuscripts that take no SVG."""
        buffer = io.BytesIO()
        with drawing_style():
            self.figure.set_dpi(PNG_DPI)
            FigureCanvasAgg(self.figure).print_png(  # type: ignore[no-untyped-call]  # not typed there
                buffer, metadata={"Software": None}
            )
        return buffer.getvalue()


@contextmanager
def drawing_style() -> Iterator[None]:
    """Set the page's style for a `with` block and put the caller's back."""
    # A glyph that DejaVu lacks is drawn by the reader's own font, since text stays text.
    with matplotlib.rc_context(cast(Any, STYLE)), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def panels(
    n: int,
    *,
    n_columns: int,
    panel_height_in: float,
    width_in: float = FULL_WIDTH_IN,
    left_in: float = 0.74,  # room for "−0.025" and a label beside it
    right_in: float = 0.12,
    top_in: float = 0.28,
    bottom_in: float = 0.5,
    legend_in: float = 0.0,
    gap_in: tuple[float, float] = (0.5, 0.62),
    share_y: bool = True,
) -> tuple[Figure, list[Axes]]:
    """Lay `n` panels out in inches, with `legend_in` of room above them.

    Returns
    -------
    Figure, list of Axes
        Panels row by row.
    """
    n_columns = max(1, min(n, n_columns))
    n_rows = math.ceil(n / n_columns)
    gap_x, gap_y = gap_in
    panel_width = (width_in - left_in - right_in - gap_x * (n_columns - 1)) / n_columns
    height = legend_in + top_in + bottom_in + n_rows * panel_height_in + gap_y * (n_rows - 1)
    figure = Figure(figsize=(width_in, height))
    axes: list[Axes] = []
    for i in range(n):
        row, column = divmod(i, n_columns)
        x = left_in + column * (panel_width + gap_x)
        y = height - legend_in - top_in - (row + 1) * panel_height_in - row * gap_y
        box = (x / width_in, y / height, panel_width / width_in, panel_height_in / height)
        axes.append(figure.add_axes(box, sharey=axes[0] if axes and share_y else None))
    return figure, axes


def draw_legend(figure: Figure, handles: Sequence[Patch | Line2D], *, n_columns: int, left_in: float = 0.3) -> None:
    """Put one legend above all panels."""
    width, height = figure.get_size_inches()
    figure.legend(
        handles=list(handles),
        loc="upper left",
        bbox_to_anchor=(left_in / width, 1 - 0.02 / height),
        ncols=n_columns,
        handlelength=1.4,
        columnspacing=1.2,
        handletextpad=0.5,
        borderaxespad=0.0,
        labelspacing=0.35,
    )


def legend_height_in(n_handles: int, n_columns: int) -> float:
    """Return the room that `draw_legend` needs."""
    return 0.06 + 0.165 * math.ceil(n_handles / n_columns)


def round_ticks(axis: Axes) -> None:
    """Have few digits beside a vertical axis: 0.002 and 0.004 rather than 0.0025, for which there is no room."""
    axis.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))


def draw_zero(axis: Axes) -> None:
    """Draw a thin line at zero and faint horizontal guides."""
    axis.grid(axis="y")
    axis.axhline(0.0, color=INK, linewidth=0.7)


def draw_base(axis: Axes) -> None:
    """Let bars stand on the line at zero: the axis at the bottom would be a second one."""
    draw_zero(axis)
    axis.spines["bottom"].set_visible(False)


def draw_interval(axis: Axes, x: float, low: float, high: float) -> None:
    """Draw a whisker with small ends where both ends are known."""
    if math.isfinite(low) and math.isfinite(high):
        axis.plot([x, x], [low, high], color=INK, linewidth=1.1, solid_capstyle="butt", zorder=4)
        axis.plot([x, x], [low, high], color=INK, marker="_", markersize=3.2, linestyle="none", zorder=4)


def draw_subjects(axis: Axes, x: float, values: np.ndarray, *, width: float) -> None:
    """Draw one dot per subject; a subject has the same place in every bar."""
    n = len(values)
    offsets = np.linspace(-0.5, 0.5, n) * width if n > 1 else np.zeros(1)
    axis.plot(
        x + offsets,
        values,
        linestyle="none",
        marker="o",
        markersize=2.6 if n <= 8 else 1.9,
        markerfacecolor="white",
        markeredgecolor=INK,
        markeredgewidth=0.55,
        zorder=3,
    )


def draw_truth(axis: Axes, x: float, value: float, *, width: float) -> None:
    """Draw the planted value as a black bar with a white edge across `width`."""
    if math.isfinite(value):
        span = [x - width / 2, x + width / 2]
        axis.plot(span, [value, value], color="white", linewidth=3.6, solid_capstyle="butt", zorder=5)
        axis.plot(span, [value, value], color="#000000", linewidth=1.9, solid_capstyle="butt", zorder=6)


def truth_handle() -> Line2D:
    """Return the legend's entry for planted values."""
    return Line2D([], [], color="#000000", linewidth=1.9, label="planted (true) value")


def subject_handle(n: int) -> Line2D:
    """Return the legend's entry for subjects."""
    return Line2D(
        [], [], linestyle="none", marker="o", markersize=3, markerfacecolor="white", markeredgecolor=INK,
        markeredgewidth=0.55, label="one subject" if n != 1 else "the subject",
    )  # fmt: skip


def finish(figure: Figure, key: str, *, title: str, caption: str, alt: str, table: Table) -> Drawing:
    """Render a figure and put its words and numbers beside it."""
    return Drawing(
        key, title, caption, alt, render(figure, key, alt), table, float(figure.get_size_inches()[0]), figure
    )


def render(figure: Figure, key: str, alt: str) -> str:
    """Return the figure as one SVG element whose ids start with `key`, so that many fit in one page."""
    buffer = io.StringIO()
    figure.set_dpi(IMAGE_DPI)
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    FigureCanvasSVG(figure).print_svg(buffer, metadata=nothing)  # type: ignore[no-untyped-call]  # not typed there
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{key}-\1"', svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{key}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{key}-\1)", svg)
    svg = svg.replace("'DejaVu Sans'", FONT_STACK)
    head = f'<svg role="img" aria-label="{_attribute(alt)}"'
    return head + svg[len("<svg") :] + "\n"


def _attribute(text: str) -> str:
    for raw, safe in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        text = text.replace(raw, safe)
    return text
