"""Turn unique and shared parts into bars over a matrix of families, as in an UpSet plot."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from brainsim.report.content import PartitionSet, Truth
from brainsim.report.figures.canvas import Drawing, draw_base, draw_interval, draw_subjects, draw_truth, finish, panels
from brainsim.report.figures.estimates import or_zero, tell_n
from brainsim.report.palette import INK, colour_families, order_families
from brainsim.report.reduce import estimate_of
from brainsim.report.tables import Cell, Column, Table
from brainsim.report.words import count

MAX_PARTS = 14  # more columns than this cannot be told apart below four panels


def draw_parts(partition: PartitionSet, truth: Truth | None, *, key: str) -> Drawing | None:
    """Draw the larger parts of the partition over a matrix of the families that share each, as in an UpSet plot."""
    if partition.part_values is None or all(len(part) < 2 for part in partition.parts):
        return None  # unique parts alone have a figure of their own
    families = order_families(partition.families)
    colours = colour_families(families)
    estimates = {
        (s, part): estimate_of(partition.group_parts.get((s, part)), partition.part_values[:, i, p])
        for i, s in enumerate(partition.streams)
        for p, part in enumerate(partition.parts)
    }
    size = {p: max(abs(or_zero(estimates[s, p].mean)) for s in partition.streams) for p in partition.parts}
    chosen = sorted(partition.parts, key=lambda p: -size[p])[:MAX_PARTS]
    chosen.sort(key=lambda p: (len(p) > 1, len(p), [families.index(f) for f in p]))
    n_streams = len(partition.streams)
    matrix_in = 0.17 * len(families) + 0.1
    figure, axes = panels(
        n_streams,
        n_columns=1,
        panel_height_in=0.95,
        left_in=1.25,
        top_in=0.25,
        bottom_in=matrix_in + 0.12,
        gap_in=(0.5, 0.32),
    )
    axes[0].yaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
    for i, (axis, stream) in enumerate(zip(axes, partition.streams, strict=True)):
        draw_base(axis)
        for x, part in enumerate(chosen):
            estimate = estimates[stream, part]
            axis.bar(x, estimate.mean, 0.62, color=colours[part[0]] if len(part) == 1 else "#9AA1AB", zorder=2)
            column = partition.parts.index(part)
            draw_subjects(axis, x, partition.part_values[:, i, column], width=0.34)
            draw_interval(axis, x, estimate.low, estimate.high)
            planted = truth.parts.get((stream, part), float("nan")) if truth else float("nan")
            draw_truth(axis, x, planted, width=0.62)
        axis.set(ylabel="R²", xlim=(-0.6, len(chosen) - 0.4), xticks=[])
        axis.set_title(f"{stream}  ({tell_n(partition, stream)})")
    width, height = figure.get_size_inches()
    matrix = figure.add_axes((1.25 / width, 0.08 / height, (width - 1.37) / width, matrix_in / height))
    _draw_matrix(matrix, families, chosen, colours)
    rows: list[tuple[Cell, ...]] = [
        (
            stream, " + ".join(part), len(part), estimates[stream, part].mean, estimates[stream, part].low,
            estimates[stream, part].high, truth.parts.get((stream, part)) if truth else None,
        )
        for stream in partition.streams
        for part in partition.parts
    ]  # fmt: skip
    names = ("stream", "families", "n_families", "part_r2", "low", "high", "planted_part_r2")
    table = Table(key, "All unique and shared parts", tuple(Column(n) for n in names), tuple(rows))
    left_out = len(partition.parts) - len(chosen)
    largest = max(map(len, partition.parts))
    is_complete = largest == len(families)
    caption = (
        f"Parts of {partition.explained}: each column is what exactly the marked families share (one mark: unique). "
        + (
            f"The {len(chosen)} of {len(partition.parts)} parts that are largest in any stream; the other {left_out} "
            "are in the TSV. "
            if left_out
            else ""
        )
        + f"Dots: n = {count(len(partition.subjects), 'subject')}"
        + (f"; whiskers: {partition.interval}" if partition.interval and partition.group_parts else "")
        + ("; black bars: planted value" if truth and truth.parts else "")
        + ". Parts may be negative (suppression, noise)"
        + (
            "; all parts sum to the joint R²."
            if is_complete
            else f"; parts of more than {largest} families were not asked for."
        )
    )
    alt = f"Bars of the {len(chosen)} largest parts in {n_streams} streams over a matrix of families."
    title = partition.title("Unique and shared parts")
    return finish(figure, key, title=title, caption=caption, alt=alt, table=table)


def _draw_matrix(axis: Axes, families: tuple[str, ...], parts: list[tuple[str, ...]], colours: dict[str, str]) -> None:
    for y in range(0, len(families), 2):
        axis.axhspan(y - 0.5, y + 0.5, color="#F3F5F7", linewidth=0)
    for x, part in enumerate(parts):
        inside = [families.index(f) for f in part]
        axis.plot([x] * len(families), range(len(families)), "o", color="#D5D9DE", markersize=3.2)
        axis.plot([x, x], [min(inside), max(inside)], color=INK, linewidth=1.1)
        for y in inside:
            axis.plot(x, y, "o", color=colours[families[y]], markersize=5.2, markeredgecolor=INK, markeredgewidth=0.5)
    axis.set(xlim=(-0.6, len(parts) - 0.4), ylim=(len(families) - 0.5, -0.5), xticks=[])
    axis.set_yticks(range(len(families)), families)
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)
