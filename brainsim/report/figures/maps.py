"""Turn values of targets that lie in space into maps: projections, glass brains and inflated surfaces, a row each."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure

from brainsim.report.content_maps import MapSet
from brainsim.report.figures.canvas import FULL_WIDTH_IN, Drawing, finish
from brainsim.report.figures.surfaces import NEAR_MM, can_draw, draw_surfaces
from brainsim.report.palette import INK, colour_families, order_families
from brainsim.report.tables import Cell, Column, Table, format_cell
from brainsim.report.words import count

MAX_ROWS = 7  # a page holds no more; the TSV has all
# The darkest colour is this share of the way through the values: one voxel does not decide it.
TOP_SHARE = 0.99
ROW_IN = {"surface": 1.02, "glass": 1.25, "projection": 1.2}
LABEL_IN, BAR_IN = 0.2, 0.75
SCORE_COLOUR = "#2B2F36"


def draw_maps(maps: MapSet, *, key: str) -> list[Drawing]:
    """Draw every map that these targets allow: through the volume, and on the surface."""
    drawings = []
    if maps.volume is not None:
        kind = "glass" if maps.is_standard else "projection"
        drawings.append(_draw(maps, kind, key=key))
    if can_draw(maps):
        drawings.append(_draw(maps, "surface", key=f"{key}-surface"))
    return drawings


def _draw(maps: MapSet, kind: str, *, key: str) -> Drawing:
    from brainsim.report.figures.projections import draw_glass_brain, draw_projections

    shown = _order(maps)[:MAX_ROWS]
    row_in, head_in = ROW_IN[kind], 0.22
    height = len(shown) * (row_in + head_in) + 0.1
    figure = Figure(figsize=(FULL_WIDTH_IN, height))
    tops = _tops(maps, shown)
    hues = colour_families([family for _, family in maps.quantities if family])
    for at, q in enumerate(shown):
        label, family = maps.quantities[q]
        y = height - (at + 1) * (row_in + head_in)
        box = (
            LABEL_IN / FULL_WIDTH_IN, (y + 0.06) / height, (FULL_WIDTH_IN - LABEL_IN - BAR_IN) / FULL_WIDTH_IN,
            (row_in - 0.06) / height,
        )  # fmt: skip
        figure.text(LABEL_IN / FULL_WIDTH_IN, (y + row_in + 0.05) / height, label, fontsize=8, va="bottom")
        colours = shade(hues[family] if family else SCORE_COLOUR)
        if kind == "surface":
            draw_surfaces(figure, box, maps, maps.values[q], colours, tops[q], name_views=q == shown[-1])
        elif maps.volume is not None:
            draw = draw_glass_brain if kind == "glass" else draw_projections
            draw(figure, box, maps.values[q], maps.volume, colours, tops[q])
        _draw_bar(figure, colours, tops[q], (y + 0.15) / height, (row_in - 0.3) / height)
    title = {"surface": "On the cortex", "glass": "Through the brain", "projection": "Where in the volume"}[kind]
    return finish(
        figure, key, title=title, caption=_caption(maps, kind), alt=_alt(maps), table=tabulate_maps(maps, key=key)
    )


def _order(maps: MapSet) -> list[int]:
    """Return the quantities, families in their fixed order."""
    families = ("", *order_families([family for _, family in maps.quantities if family]))
    return sorted(range(len(maps.quantities)), key=lambda q: families.index(maps.quantities[q][1]))


def shade(colour: str) -> Colormap:
    """Return one hue from pale to dark: it is read by lightness alone."""
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    pale = [0.82 + 0.18 * c for c in (red, green, blue)]
    dark = [0.55 * c for c in (red, green, blue)]
    return LinearSegmentedColormap.from_list("shade", [pale, (red, green, blue), dark])


def _tops(maps: MapSet, shown: list[int]) -> dict[int, float]:
    """Return the value of the darkest colour of each row; families share one, so that they can be compared."""

    def top(values: np.ndarray) -> float:
        finite = values[np.isfinite(values) & (values > 0)]
        return float(np.quantile(finite, TOP_SHARE)) if len(finite) else 1e-3

    families = [q for q in shown if maps.quantities[q][1]]
    common = max((top(maps.values[q]) for q in families), default=1e-3)
    return {q: common if q in families else top(maps.values[q]) for q in shown}


def _draw_bar(figure: Figure, colours: Colormap, top: float, y: float, height: float) -> None:
    axis = figure.add_axes(((FULL_WIDTH_IN - 0.62) / FULL_WIDTH_IN, y, 0.09 / FULL_WIDTH_IN, height))
    axis.imshow(np.linspace(0, 1, 128)[:, None], cmap=colours, origin="lower", aspect="auto", extent=(0, 1, 0, top))
    axis.yaxis.tick_right()
    axis.set(xticks=[], yticks=[0, top / 2, top])
    axis.set_yticklabels([format_cell(v, 2 if top >= 0.1 else 3) for v in (0.0, top / 2, top)], fontsize=6)
    axis.tick_params(length=2)
    for spine in axis.spines.values():
        spine.set(visible=True, linewidth=0.5, color=INK)


def _caption(maps: MapSet, kind: str) -> str:
    n_targets = int(np.isfinite(maps.values).any(axis=0).sum())
    if len(maps.subjects) > 1:
        who = f"mean over n = {count(len(maps.subjects), 'subject')}"
    else:
        who = f"{maps.subjects[0]} (n = {count(1, 'subject')}" + (
            f" of {maps.n_subjects}; each lies in a space of its own)" if maps.n_subjects > 1 else ")"
        )
    what = "R² (no unit)" if maps.result == "partition" else "cross-validated r (no unit)"
    how = {
        "surface": "Inflated cortex (fsaverage5), from outside and inside; grey: curvature, where there is no value "
        "or none above zero"
        + (f"; each vertex has the value of the nearest voxel within {NEAR_MM:g} mm" if maps.volume else ""),
        "glass": "Glass brain in MNI space: the largest value along each line of sight",
        "projection": "The largest value along each line of sight, in the space of the data "
        f"({maps.space or 'unknown'}), from the side, the front and above; grey: targets with no value above zero. "
        "Such a space has no template, so that no outline of a brain and no surface is drawn",
    }[kind]
    left_out = len(maps.quantities) - MAX_ROWS
    return (
        f"{how}. {what[0].upper()}{what[1:]} of {count(n_targets, 'target')}, {who}. Colours end at the "
        f"{100 * TOP_SHARE:.0f}th percentile"
        + (", and are the same scale for all families" if sum(bool(f) for _, f in maps.quantities) > 1 else "")
        + (f"; {left_out} more quantities are in the TSV" if left_out > 0 else "")
        + "."
    )


def _alt(maps: MapSet) -> str:
    told = []
    for (label, _), values in zip(maps.quantities, maps.values, strict=True):
        if np.isfinite(values).any():
            told.append(f"{label} up to {format_cell(float(np.nanmax(values)))}")
    return f"Maps of {len(maps.quantities)} quantities: {', '.join(told)}."


def tabulate_maps(maps: MapSet, *, key: str) -> Table:
    """Return one row per target: where it lies, and its values."""
    names = ["_".join(label.replace("(", "").replace(")", "").split()) for label, _ in maps.quantities]
    where: list[tuple[Cell, ...]]
    if maps.volume is not None:
        heads: tuple[str, ...] = ("i", "j", "k", "x_mm", "y_mm", "z_mm")
        where = [
            (*(int(v) for v in ijk), *(float(v) for v in xyz))
            for ijk, xyz in zip(maps.volume.ijk, maps.volume.xyz_mm, strict=True)
        ]
    else:
        heads = ("hemisphere", "vertex")
        found: dict[int, tuple[Cell, ...]] = {
            int(row): (hemisphere, int(vertex))
            for hemisphere, places in maps.surfaces.items()
            for row, vertex in zip(places.rows, places.vertices, strict=True)
        }
        where = [found.get(row, (None, None)) for row in range(maps.values.shape[1])]
    rows = tuple(
        (row, *place, *(None if math.isnan(v) else float(v) for v in values))
        for row, (place, values) in enumerate(zip(where, maps.values.T, strict=True))
    )
    return Table(key, "Values of targets and their places", tuple(map(Column, ("target", *heads, *names))), rows)
