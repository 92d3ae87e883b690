"""Turn the parts of two or three families into Venn diagrams, one per stream."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle

from brainsim.report.content import Estimate, PartitionSet
from brainsim.report.figures.canvas import Drawing, finish, panels
from brainsim.report.figures.estimates import joint_estimate, tell_n
from brainsim.report.palette import INK, colour_families, order_families
from brainsim.report.reduce import estimate_of
from brainsim.report.tables import Cell, Column, Table, format_cell
from brainsim.report.words import count

MAX_FAMILIES = 3
SMALL_JOINT = 0.005  # below this R2, a share of it is noise

# Centres and radius of three circles of one size, and where the number of each part stands, by its families.
THREE = ((-0.52, 0.34), (0.52, 0.34), (0.0, -0.5))
RADIUS = 0.92
SPOTS = {
    (0,): (-0.95, 0.56), (1,): (0.95, 0.56), (2,): (0.0, -1.0),
    (0, 1): (0.0, 0.74), (0, 2): (-0.56, -0.27), (1, 2): (0.56, -0.27), (0, 1, 2): (0.0, 0.06),
}  # fmt: skip
MIN_WIDTH = 0.55  # a number needs so much room
NAMES = ((-0.98, 1.44), (0.98, 1.44), (0.0, -1.62))


def draw_venn(partition: PartitionSet, *, key: str) -> Drawing | None:
    """Draw unique and shared parts as circles that overlap; None with one family or more than three, or without "
    "parts."""
    families = order_families(partition.families)
    if partition.part_values is None or not 2 <= len(families) <= MAX_FAMILIES:
        return None
    if len(partition.parts) < 2 ** len(families) - 1:
        return None
    colours = colour_families(families)
    estimates = {
        (s, part): estimate_of(partition.group_parts.get((s, part)), partition.part_values[:, i, p])
        for i, s in enumerate(partition.streams)
        for p, part in enumerate(partition.parts)
    }
    n_columns = min(len(partition.streams), 4)
    figure, axes = panels(
        len(partition.streams), n_columns=n_columns, panel_height_in=1.75, left_in=0.1, right_in=0.1,
        gap_in=(0.1, 0.5), top_in=0.34, bottom_in=0.1, width_in=1.8 * n_columns + 0.2, share_y=False,
    )  # fmt: skip
    # All streams or none: circles are compared between panels.
    is_to_scale = len(families) == 2 and all(e.mean >= 0 for e in estimates.values())
    for axis, stream in zip(axes, partition.streams, strict=True):
        values = {tuple(sorted(families.index(f) for f in part)): estimates[stream, part] for part in partition.parts}
        whole = joint_estimate(partition, stream).mean
        axis.set_title(f"{stream}\n{tell_n(partition, stream)}", fontsize=7.8)
        tints = [colours[f] for f in families]
        if len(families) == 2:
            _draw_two(axis, values, families, tints, whole, to_scale=is_to_scale)
        else:
            _draw_three(axis, values, families, tints, whole)
        axis.set(xticks=[], yticks=[], aspect="equal")
        axis.axis("off")
    joint = {s: joint_estimate(partition, s).mean for s in partition.streams}
    rows: list[tuple[Cell, ...]] = [
        (
            s, " + ".join(part), len(part), e.mean, e.low, e.high,
            100 * e.mean / joint[s] if joint[s] > SMALL_JOINT else None,
        )
        for (s, part), e in estimates.items()
    ]  # fmt: skip
    names = ("stream", "families", "n_families", "part_r2", "low", "high", "percent_of_joint")
    table = Table(key, "Unique and shared parts", tuple(map(Column, names)), tuple(rows))
    caption = (
        f"Parts of {partition.explained} (R², no unit; below it the share of the joint R²): in one circle what the "
        "family "
        "alone explains, where circles overlap what they share. Mean over n = "
        f"{count(len(partition.subjects), 'subject')}. "
        + (
            "Areas are to scale."
            if is_to_scale
            else "Circles are of one size: areas say nothing. Parts may be negative (suppression, noise)."
        )
    )
    best = max(estimates, key=lambda k: np.nan_to_num(estimates[k].mean, nan=-9.0))
    alt = (
        f"Venn diagrams of {len(families)} families in {len(partition.streams)} streams. Largest part: "
        f"{' and '.join(best[1])} in {best[0]}, {format_cell(estimates[best].mean)}."
    )
    title = partition.title("What families share")
    return finish(figure, key, title=title, caption=caption, alt=alt, table=table)


def _draw_three(
    axis: Axes,
    values: dict[tuple[int, ...], Estimate],
    families: tuple[str, ...],
    colours: list[str],
    joint: float,
) -> None:
    for f, centre in enumerate(THREE):
        _draw_circle(axis, centre, RADIUS, colours[f])
        axis.text(*NAMES[f], families[f], ha="center", va="center", fontsize=7, fontweight="bold", color=INK)
    for part, spot in SPOTS.items():
        _tell(axis, spot, values[part], joint)
    axis.set(xlim=(-1.75, 1.75), ylim=(-1.8, 1.6))


def _draw_two(
    axis: Axes,
    values: dict[tuple[int, ...], Estimate],
    families: tuple[str, ...],
    colours: list[str],
    joint: float,
    *,
    to_scale: bool,
) -> None:
    first, second, shared = (values[k].mean for k in ((0,), (1,), (0, 1)))
    radii, apart = (0.9, 0.9), 1.0
    if to_scale and first + second + shared > 0:
        sizes = np.sqrt(
            np.array([first + shared, second + shared]) / max(first, second, shared, first + second + shared)
        )
        radii = (1.15 * float(sizes[0]), 1.15 * float(sizes[1]))
        apart = _distance(*radii, math.pi * 1.15**2 * shared / max(first, second, shared, first + second + shared))
    left, right = -apart / 2, apart / 2
    for x, radius, colour, family, side in (
        (left, radii[0], colours[0], families[0], -1), (right, radii[1], colours[1], families[1], 1),
    ):  # fmt: skip
        _draw_circle(axis, (x, 0.0), radius, colour)
        axis.text(side * 0.95, 1.46, family, ha="center", va="center", fontsize=7, fontweight="bold", color=INK)
    lens = (max(left - radii[0], right - radii[1]), min(left + radii[0], right + radii[1]))
    outer = (left - radii[0], right + radii[1])
    spots = {(0,): (outer[0] + lens[0]) / 2, (1,): (outer[1] + lens[1]) / 2, (0, 1): sum(lens) / 2}
    # In a thin crescent, or beside a thin lens, a number would be read as another part's: it stands outside.
    spots[0,] = spots[0,] if lens[0] - outer[0] > MIN_WIDTH else outer[0] - 0.34
    spots[1,] = spots[1,] if outer[1] - lens[1] > MIN_WIDTH else outer[1] + 0.34
    _tell(axis, (spots[0,], 0.0), values[0,], joint)
    _tell(axis, (spots[1,], 0.0), values[1,], joint)
    _tell(axis, (spots[0, 1], 0.0 if lens[1] - lens[0] > MIN_WIDTH else -1.3), values[0, 1], joint)
    axis.set(xlim=(-2.0, 2.0), ylim=(-1.5, 1.7))


def _distance(a: float, b: float, overlap: float) -> float:
    """Return how far apart two circles of radii a and b lie whose lens has a given area."""
    low, high = abs(a - b), a + b
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _lens(a, b, middle) > overlap else (low, middle)
    return (low + high) / 2


def _lens(a: float, b: float, d: float) -> float:
    if d >= a + b:
        return 0.0
    if d <= abs(a - b):
        return math.pi * min(a, b) ** 2
    alpha = 2 * math.acos((d * d + a * a - b * b) / (2 * d * a))
    beta = 2 * math.acos((d * d + b * b - a * a) / (2 * d * b))
    return 0.5 * (a * a * (alpha - math.sin(alpha)) + b * b * (beta - math.sin(beta)))


def _draw_circle(axis: Axes, centre: tuple[float, float], radius: float, colour: str) -> None:
    axis.add_patch(Circle(centre, radius, facecolor=colour, alpha=0.28, linewidth=0))
    axis.add_patch(Circle(centre, radius, facecolor="none", edgecolor=colour, linewidth=1.3))


def _tell(axis: Axes, spot: tuple[float, float], estimate: Estimate, joint: float) -> None:
    text = format_cell(estimate.mean)
    if joint > SMALL_JOINT and math.isfinite(estimate.mean):
        text += f"\n{format_cell(100 * estimate.mean / joint, 0)} %"
    axis.text(*spot, text, ha="center", va="center", fontsize=6.4, color=INK, linespacing=1.15)
