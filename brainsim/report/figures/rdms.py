"""Turn RDMs of streams and systems into pictures: what is alike for the brain, and what for each system."""

from __future__ import annotations

import numpy as np
from matplotlib.colors import Colormap
from matplotlib.figure import Figure

from brainsim.report.content import RsaSet
from brainsim.report.content_rsa import GeometrySet
from brainsim.report.figures.canvas import Drawing, finish, panels
from brainsim.report.palette import INK, colour_families, order_families
from brainsim.report.tables import Cell, Column, Table
from brainsim.report.words import break_name, count

PANELS_PER_ROW = 5
COLOURS = "cividis"
EMPTY = "#ECEEF1"  # a pair that is left out
LONG_NAME = 21  # letters that fit above a picture


def draw_rdms(rsa: RsaSet, geometry: GeometrySet, *, key: str) -> Drawing:
    """Draw the RDM of every stream and of the best layer of every system, as percentiles of dissimilarity."""
    import matplotlib

    colours = matplotlib.colormaps[COLOURS].with_extremes(bad=EMPTY)
    n = len(geometry.names)
    n_columns = min(n, PANELS_PER_ROW)
    bar_in, gap = 0.66, 0.22
    side = (7.2 - 0.14 - bar_in - gap * (n_columns - 1)) / n_columns
    figure, axes = panels(
        n, n_columns=n_columns, panel_height_in=side, left_in=0.14, right_in=bar_in, gap_in=(gap, 0.52), top_in=0.48,
        bottom_in=0.1, share_y=False,
    )  # fmt: skip
    families = [kind for kind in geometry.kinds if kind != "stream"]
    hue = colour_families(families)
    rows: list[tuple[Cell, ...]] = []
    order = ["stream", *order_families(families)]
    in_order = sorted(range(n), key=lambda at: order.index(geometry.kinds[at]))
    for axis, at in zip(axes, in_order, strict=True):
        name, kind, picture = geometry.names[at], geometry.kinds[at], geometry.pictures[at]
        ranks = to_percentiles(picture)
        axis.imshow(ranks, cmap=colours, vmin=0, vmax=100, interpolation="nearest")
        axis.set_title(_break(name), fontsize=6.4, color=INK, linespacing=1.1)
        axis.set(xticks=[], yticks=[])
        for spine in axis.spines.values():
            spine.set(visible=True, color=INK if kind == "stream" else hue[kind], linewidth=1.2)
        rows += _rows(name, kind, picture, ranks)
    _draw_bar(figure, colours, side)
    step = geometry.n_per_pixel
    one = "TR" if geometry.rows == "TRs" else "stimulus"
    unit = one if step == 1 else f"{step} {geometry.rows}"
    caption = (
        f"Percentiles of dissimilarity ({rsa.distance or 'correlation'} distance, no unit) of all pairs of "
        f"{geometry.n_rows:,} {geometry.rows}"
        + (f" of {geometry.block}" if geometry.block else "")
        + f", one pixel per {unit}"
        + (", in the order of time" if geometry.rows == "TRs" else "")
        + f". First the streams (mean of the standardised RDMs of n = {count(geometry.n_subjects, 'subject')}), then "
        "each "
        "system's layer that is most like the streams. RDMs are as they are compared"
        + (": light grey pairs are left out, being too near in time" if np.isnan(_off(geometry.pictures)).any() else "")
        + (
            ", and what depends on the time between TRs alone is taken out"
            if rsa.options.get("lag_means") == "removed"
            else ""
        )
        + "."
    )
    alt = f"Pictures of {n} RDMs: {sum(k == 'stream' for k in geometry.kinds)} streams and {len(families)} systems."
    names = ("rdm", "kind", "pixel", "pixel_other", "dissimilarity_z", "percentile")
    table = Table(key, "Pixels of the RDMs", tuple(map(Column, names)), tuple(rows))
    return finish(figure, key, title="Representational dissimilarity", caption=caption, alt=alt, table=table)


def to_percentiles(picture: np.ndarray) -> np.ndarray:
    """Return a picture's values as percentiles of its pairs; the diagonal, and what is left out, is NaN."""
    from scipy.stats import rankdata

    out = np.full(picture.shape, np.nan)
    i, j = np.triu_indices(len(picture), k=1)
    values = picture[i, j]
    known = np.isfinite(values)
    if known.any():
        ranks = 100 * (rankdata(values[known]) - 0.5) / known.sum()
        out[i[known], j[known]] = out[j[known], i[known]] = ranks
    return out


def _rows(name: str, kind: str, picture: np.ndarray, ranks: np.ndarray) -> list[tuple[Cell, ...]]:
    i, j = np.triu_indices(len(picture), k=1)
    known = np.isfinite(picture[i, j])
    return [
        (name, kind, int(a), int(b), float(picture[a, b]), float(ranks[a, b]))
        for a, b in zip(i[known], j[known], strict=True)
    ]


def _draw_bar(figure: Figure, colours: Colormap, side: float) -> None:
    width, height = figure.get_size_inches()
    bar = figure.add_axes(((width - 0.54) / width, (height - 0.48 - side) / height, 0.1 / width, side / height))
    bar.imshow(np.linspace(0, 100, 128)[:, None], cmap=colours, aspect="auto", origin="lower", extent=(0, 1, 0, 100))
    bar.yaxis.tick_right()
    bar.yaxis.set_label_position("right")
    bar.set(xticks=[], yticks=[0, 50, 100], ylabel="Percentile")


def _break(name: str) -> str:
    """Return a name in lines that fit above its picture: the system, broken at a hyphen where it is long, its layer."""
    model, _, layer = name.partition(": ")
    lines = break_name(model, LONG_NAME) + (
        [layer if len(layer) <= LONG_NAME else layer[: LONG_NAME - 1] + "…"] * bool(layer)
    )
    return "\n".join(lines)


def _off(pictures: np.ndarray) -> np.ndarray:
    i, j = np.triu_indices(pictures.shape[-1], k=1)
    off: np.ndarray = pictures[:, i, j]
    return off
